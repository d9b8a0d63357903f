"""Minimum Bayes risk: the candidate closest to all the evidence, and how much one answer is worth
if another is the truth. Kumar & Byrne 2004; Khairi et al. 2025 (arXiv 2506.20544), §5.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pomona.answers import text_of
from pomona.errors import PomonaError
from pomona.models import Model, Reply, Request
from pomona.sample.selection.choice import Choice, SelectionContext, highest
from pomona.sample.selection.judging import judged
from pomona.sample.strategy import TEMPERATURE, Strategy
from pomona.tasks import pairwise, pairwise_bleu

Result = TypeVar("Result")
# Threads of their own: the first comparison compiles for many seconds, and what needs a thread of
# those that all share must not wait for that.
_threads = ThreadPoolExecutor(2, thread_name_prefix="pomona compares")


async def beside(work: Callable[[], Result]) -> Result:
    """What `work` returns, which compares texts, while the event loop goes on."""
    return await asyncio.get_running_loop().run_in_executor(_threads, work)


async def mbr(context: SelectionContext, pool: Sequence[Reply]) -> Choice:
    """Scores are mean utilities to the whole pool, the candidate itself included, by the weights of
    the context where it has some; the first of equals wins.
    """
    return await _closest(context, pool, [])


async def xmbr(context: SelectionContext, pool: Sequence[Reply]) -> Choice:
    """As mbr, with the pool and `evidence` further samples in another language as evidence. The
    further ones cannot be chosen.

    The cost of the further samples is in the selection's; where the budget ends before them there
    is less evidence, as the notes say.
    """
    temperature = context.strategy.temperature or context.request.temperature or TEMPERATURE
    samples = [(at, temperature) for at in range(context.strategy.evidence)]
    replies = await context.draw(in_language(context.request, context.strategy.language), samples)
    return await _closest(context, pool, [text_of(reply) for reply in replies])


def in_language(request: Request, language: str) -> Request:
    """The same request, asking for an answer in another language."""
    wish = f"\n\nAnswer in {language}."
    if request.prompt is not None:
        return replace(request, prompt=request.prompt + wish)
    messages = list(request.messages)
    users = [at for at, message in enumerate(messages) if message.get("role") == "user"]
    if not users:
        return replace(request, messages=(*messages, {"role": "user", "content": wish.strip()}))
    last, content = users[-1], messages[users[-1]].get("content")
    parts = isinstance(content, list | tuple)
    longer = [*content, {"type": "text", "text": wish}] if parts else (content or "") + wish
    messages[last] = {**messages[last], "content": longer}
    return replace(request, messages=tuple(messages))


async def _closest(context: SelectionContext, pool: Sequence[Reply], further: list[str]) -> Choice:
    texts = [text_of(reply) for reply in pool]
    table = await utilities(context, texts, [*texts, *further])
    if weights := [*context.weights, *([1.0] * len(further) if context.weights else ())]:
        scores = table @ np.array(weights) / (sum(weights) or 1.0)
    else:
        scores = table.mean(axis=1)
    notes: dict[str, Any] = {"evidence": further} if context.strategy.select == "xmbr" else {}
    return Choice(highest(scores), tuple(float(score) for score in scores), notes)


def textual(name: str, candidates: Sequence[str], evidence: Sequence[str]) -> NDArray[np.float64]:
    """chrF or BLEU of every candidate against every piece of evidence, float64
    `[candidates, evidence]`, in [0, 100], as sacreBLEU.
    """
    return pairwise(candidates, evidence) if name == "chrf" else pairwise_bleu(candidates, evidence)


async def utilities(
    context: SelectionContext, candidates: Sequence[str], evidence: Sequence[str]
) -> NDArray[np.float64]:
    """The strategy's utility of every candidate against every piece of evidence, float64
    `[candidates, evidence]`.

    chrF and BLEU are in [0, 100], the cosine of embeddings in [-1, 1], a judge's grade of how far
    two answers say the same in [0, 1]. A PomonaError when no model embeds.
    """
    name = context.strategy.utility
    if name == "embedding":
        return await _cosines(context, candidates, evidence)
    if name == "judge":
        return await judged(context, candidates, evidence)
    return await beside(partial(textual, name, candidates, evidence))


async def _cosines(
    context: SelectionContext, candidates: Sequence[str], evidence: Sequence[str]
) -> NDArray[np.float64]:
    model = embedder(context.strategy, context.able("embed"))
    texts = list(dict.fromkeys([*candidates, *evidence]))
    place = {text: at for at, text in enumerate(texts)}
    vectors = (await context.embed(model, texts)).astype(np.float64)
    one, other = (vectors[[place[text] for text in side]] for side in (candidates, evidence))
    return one @ other.T


def embedder(strategy: Strategy, model: Model | None) -> Model:
    """The model that embeds. A PomonaError when there is none."""
    if model is None:
        where, remedy = f'strategy "{strategy.name}"', "give a judge that embeds, or use chrf"
        raise PomonaError("no model gives embeddings", where=where, remedy=remedy)
    return model


def chrf_mbr(candidates: Sequence[str]) -> int:
    """Index of the candidate with the highest mean sentence chrF to the whole pool (itself
    included); the first of equals.

    With the greedy answer first, ties go to it.
    """
    utility = pairwise(list(candidates), list(candidates)).mean(axis=1)
    return int(np.argmax(np.round(utility, 9)))


def extremes(
    utilities: Sequence[NDArray[np.float64]],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Index of the best and of the worst answer of each pool, by utility against the reference
    (`[n]` a pool).

    The best is the pool's *hope*, the worst its *risk*: bounds on what any selection from the pool
    can win or lose.
    """
    best = np.array([int(np.argmax(row)) for row in utilities], np.int64)
    worst = np.array([int(np.argmin(row)) for row in utilities], np.int64)
    return best, worst
