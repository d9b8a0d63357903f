"""Best of n: the candidate with the highest reward. Stiennon et al. 2020 (arXiv 2009.01325), §3."""

from __future__ import annotations

import asyncio
import inspect
import math
import threading
from collections.abc import Sequence
from dataclasses import replace

from pomona.errors import PomonaError
from pomona.models.chat.protocol import Reply
from pomona.sample.selection.choice import Choice, Desk, conversation, highest, text_of
from pomona.sample.selection.function import function
from pomona.sample.strategy import REWARDS

_ONE_AT_A_TIME = threading.Lock()


async def best(desk: Desk, pool: Sequence[Reply]) -> Choice:
    """Scores are rewards; the first of equals wins.

    "mean" and "sum" are of the log-probabilities of a candidate's tokens under the judge, or
    without one under the model that drew it. `module:function` is called with prompt and answer and
    returns a number (or an awaitable of one); one call runs at a time. An http address is a reward
    model, see `pomona.sample.selection.remote`. A PomonaError when a reward is not finite.
    """
    reward, texts = desk.strategy.reward, [text_of(reply) for reply in pool]
    if reward in REWARDS:
        scores = await _likelihoods(desk, pool, texts)
    elif reward.startswith(("http:", "https:")):
        from pomona.sample.selection.remote import rewards

        scores = await rewards(reward, conversation(desk.request), texts)
    else:
        scores = [await _called(reward, conversation(desk.request), text) for text in texts]
    for at, score in enumerate(scores):
        if not math.isfinite(score):
            raise PomonaError(
                f"the reward of candidate {at} is {score}",
                where=reward,
                remedy="return a finite number for every answer",
            )
    return Choice(highest(scores), tuple(scores))


async def _called(name: str, prompt: str, answer: str) -> float:
    def call() -> object:
        with _ONE_AT_A_TIME:
            return function(name)(prompt, answer)

    try:
        value = await asyncio.to_thread(call)
        value = await value if inspect.isawaitable(value) else value
    except PomonaError:
        raise
    except Exception as error:
        remedy = "it is called with the prompt and an answer"
        raise PomonaError(
            f"raised {type(error).__name__}: {error}", where=name, remedy=remedy
        ) from error
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise PomonaError(
            f"returned {value!r}", where=name, remedy="return a number for every answer"
        ) from error


async def _likelihoods(desk: Desk, pool: Sequence[Reply], texts: Sequence[str]) -> list[float]:
    mean = desk.strategy.reward == "mean"
    if (
        desk.judge is None
        and (known := [reply.logprob for reply in pool if reply.logprob is not None])
        and len(known) == len(pool)
    ):
        tokens = [max(1, reply.spent.completion_tokens) if mean else 1 for reply in pool]
        return [total / count for total, count in zip(known, tokens, strict=True)]
    model = (
        desk.judge
        if desk.judge is not None and "score" in desk.judge.abilities
        else desk.able("score")
    )
    if model is None:
        remedy = "use a torch model as judge, or another reward"
        raise PomonaError(
            "no model gives log-probabilities",
            where=f'strategy "{desk.strategy.name}"',
            remedy=remedy,
        )
    steer = None if model is desk.judge else desk.request.steer
    scored = await desk.score(
        model, replace(desk.request, options=(), tools=(), steer=steer), texts
    )
    return [
        float(logs.sum(dtype="float64")) / (max(1, len(logs)) if mean else 1) for logs in scored
    ]
