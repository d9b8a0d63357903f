"""Reward models behind HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pomona.errors import PomonaError
from pomona.models.chat.errors import ModelError
from pomona.models.chat.retry import Ladder, retrying

_TIMEOUT = 120.0


async def rewards(address: str, prompt: str, answers: Sequence[str]) -> list[float]:
    """The reward of each answer, from one POST to `http(s)://HOST/PATH`, or `…#MODEL` where the
    server wants a model's name.

    A path that ends in `/rerank` is asked as rerankers are (vLLM, llama.cpp, Jina: query, documents
    → results with index and relevance_score). Any other gets `{"prompt": …, "answers": […]}` and
    answers `{"scores": […]}`. POMONA_API_KEY is sent where it is set. A ModelError when all retries
    failed or the answer does not score every answer.
    """
    import os

    from pomona.models.chat._wire import Wire

    url, _, model = address.partition("#")
    base, _, path = url.rpartition("/")
    if base.count("/") < 2:
        raise PomonaError(
            "names no path", where=address, remedy="write http://HOST/PATH of the reward model"
        )
    rerank = path == "rerank"
    body: dict[str, Any] = (
        {"query": prompt, "documents": list(answers)}
        if rerank
        else {"prompt": prompt, "answers": list(answers)}
    )
    wire = Wire(
        base + "/", key=os.environ.get("POMONA_API_KEY") or None, timeout=_TIMEOUT, connections=1
    )
    try:
        answer = await retrying(
            lambda: wire.post(path, {**body, **({"model": model} if model else {})}),
            Ladder(),
            where=url,
        )
    finally:
        await wire.close()
    try:
        scores = (
            _ranked(answer["results"]) if rerank else [float(score) for score in answer["scores"]]
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"its answer holds no scores: {str(answer)[:200]}", status=502, where=url
        ) from error
    if len(scores) != len(answers):
        raise ModelError(f"{len(scores)} scores for {len(answers)} answers", status=502, where=url)
    return scores


def _ranked(results: Sequence[Any]) -> list[float]:
    found = {int(result["index"]): float(result["relevance_score"]) for result in results}
    return [found[at] for at in range(len(found))]
