"""Best of n: the candidate with the highest reward. Stiennon et al. 2020 (arXiv 2009.01325), §3."""

from __future__ import annotations

import asyncio
import inspect
import math
import threading
from collections.abc import Sequence
from dataclasses import replace

from pomona._lazy import function_named
from pomona.answers import conversation, text_of
from pomona.errors import PomonaError
from pomona.models import Reply
from pomona.sample.selection.choice import Choice, SelectionContext, highest
from pomona.sample.strategy import REWARDS

_ONE_AT_A_TIME = threading.Lock()  # reward functions of users need not be safe in threads


async def best(context: SelectionContext, pool: Sequence[Reply]) -> Choice:
    """Scores are rewards; the first of equals wins.

    "mean" and "sum" are of the log-probabilities of a candidate's tokens under the judge, or
    without one under the model that drew it. `module:function` is called with prompt and answer and
    returns a number (or an awaitable of one); one call runs at a time. An http address is a reward
    model, see `models.http.RewardModel`. A PomonaError when a reward is not finite.
    """
    reward, texts = context.strategy.reward, [text_of(reply) for reply in pool]
    if reward in REWARDS:
        scores = await _likelihoods(context, pool, texts)
    elif reward.startswith(("http:", "https:")):
        scores = await _rewards(reward, conversation(context.request), texts)
    else:
        scores = [await _called(reward, conversation(context.request), text) for text in texts]
    for at, score in enumerate(scores):
        if not math.isfinite(score):
            message = f"the reward of candidate {at} is {score}"
            remedy = "return a finite number for every answer"
            raise PomonaError(message, where=reward, remedy=remedy)
    return Choice(highest(scores), tuple(scores))


async def _called(name: str, prompt: str, answer: str) -> float:
    def call() -> object:
        with _ONE_AT_A_TIME:
            return function_named(name)(prompt, answer)

    try:
        value = await asyncio.to_thread(call)
        value = await value if inspect.isawaitable(value) else value
    except PomonaError:
        raise
    except Exception as error:
        message = f"raised {type(error).__name__}: {error}"
        remedy = "it is called with the prompt and an answer"
        raise PomonaError(message, where=name, remedy=remedy) from error
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        remedy = "return a number for every answer"
        raise PomonaError(f"returned {value!r}", where=name, remedy=remedy) from error


async def _likelihoods(
    context: SelectionContext, pool: Sequence[Reply], texts: Sequence[str]
) -> list[float]:
    mean = context.strategy.reward == "mean"
    known = [reply.logprob for reply in pool if reply.logprob is not None]
    if context.judge is None and len(known) == len(pool):
        tokens = [max(1, reply.spent.completion_tokens) if mean else 1 for reply in pool]
        return [total / count for total, count in zip(known, tokens, strict=True)]
    model = context.able("score")  # the judge, where it scores
    if model is None:
        where = f'strategy "{context.strategy.name}"'
        remedy = "use a torch model as judge, or another reward"
        raise PomonaError("no model gives log-probabilities", where=where, remedy=remedy)
    steer = None if model is context.judge else context.request.steer
    request = replace(context.request, options=(), tools=(), steer=steer)
    scored = await context.score(model, request, texts)
    counts = [max(1, len(logs)) if mean else 1 for logs in scored]
    sums = (float(logs.sum(dtype="float64")) for logs in scored)
    return [total / count for total, count in zip(sums, counts, strict=True)]


async def _rewards(address: str, prompt: str, answers: Sequence[str]) -> list[float]:
    from pomona.models.http import RewardModel

    model = RewardModel(address)
    try:
        return await model.scores(prompt, answers)
    finally:
        await model.close()
