"""From the name of a selection to its choice, the simple ones among them: first, random, the answer
that most candidates arrive at (self-consistency: Wang et al. 2023, arXiv 2203.11171, §2), and the
candidate with the highest reward (best of n: Stiennon et al. 2020, arXiv 2009.01325, §3).
"""

from __future__ import annotations

import asyncio
import inspect
import math
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import numpy as np

from pomona._lazy import function_named
from pomona.answers import Exhausted, conversation, text_of
from pomona.errors import PomonaError
from pomona.models import Model, Reply, able
from pomona.sample.selection.choice import Choice, SelectionContext, highest
from pomona.sample.selection.judging import chops
from pomona.sample.selection.mbr import embedder, mbr, textual, xmbr
from pomona.sample.strategy import KEPT, REWARDS, Strategy
from pomona.tasks import extractor

_GRACE = 1.0  # seconds
_ONE_AT_A_TIME = threading.Lock()  # reward functions of users need not be safe in threads


async def first(context: SelectionContext, pool: Sequence[Reply]) -> Choice:
    """The first candidate, which in pools with a greedy answer is that."""
    return Choice(0, tuple(float(at == 0) for at in range(len(pool))))


async def at_random(context: SelectionContext, pool: Sequence[Reply]) -> Choice:
    """One candidate at random by seed and prompt; the scores are the numbers drawn."""
    chance = context.chance("random")
    scores = tuple(chance.random() for _ in pool)
    return Choice(highest(scores), scores)


async def vote(context: SelectionContext, pool: Sequence[Reply]) -> Choice:
    """Scores are shares of the votes. Ties go to the greedy candidate, else to the first; without
    any answer the first is taken.
    """
    answers = extracted(context.strategy.extract, [text_of(reply) for reply in pool])
    counts = Counter(answer for answer in answers if answer is not None)
    scores = tuple(counts[answer] / len(pool) if answer is not None else 0.0 for answer in answers)
    chosen = max(range(len(pool)), key=lambda at: (scores[at], pool[at].temperature == 0, -at))
    return Choice(chosen, scores, {"answers": answers})


def extracted(how: str, texts: Sequence[str]) -> list[str | None]:
    """The answer in each text."""
    find = extractor(how)
    return [find(text) for text in texts]


async def best(context: SelectionContext, pool: Sequence[Reply]) -> Choice:
    """Scores are rewards; the first of equals wins.

    "mean" and "sum" are of the log-probabilities of a candidate's tokens under the judge, or
    without one under the model that drew it. `module:function` is called with prompt and answer and
    returns a number (or an awaitable of one); one call runs at a time. An http address is a reward
    model, see `models.http.RewardModel`. "kept" and "within": see `_keeping`. A PomonaError when a
    reward is not finite.
    """
    texts = [text_of(reply) for reply in pool]
    if context.strategy.checked:
        scores = await rewards(context, texts)
    else:
        scores = await _likelihoods(context, pool, texts)
        _finite(context.strategy.reward, scores)
    return Choice(highest(scores), tuple(scores))


async def rewards(context: SelectionContext, texts: Sequence[str]) -> list[float]:
    """The reward of each answer. Equal ones are asked about once, also where a pool comes in
    rounds. A PomonaError when one is not finite.
    """
    reward, known = context.strategy.reward, context.rewards
    if new := [text for text in dict.fromkeys(texts) if text not in known]:
        asked = conversation(context.request)
        if reward in KEPT:
            scores = await _keeping(context, new)
        elif reward.startswith(("http:", "https:")):
            scores = await _rewards(reward, asked, new)
        else:
            scores = [await _called(reward, asked, text) for text in new]
        known |= dict(zip(new, scores, strict=True))
    found = [known[text] for text in texts]
    _finite(reward, found)
    return found


def _finite(reward: str, scores: Sequence[float]) -> None:
    for at, score in enumerate(scores):
        if not math.isfinite(score):
            message = f"the reward of candidate {at + 1} is {score}"
            remedy = "return a finite number for every answer"
            raise PomonaError(message, where=reward, remedy=remedy)


async def _keeping(context: SelectionContext, texts: Sequence[str]) -> list[float]:
    """The share of wishes that can be measured on an answer and are kept; "within" takes less for
    kept too. 0 where nothing can be measured.
    """
    model = context.able("check")
    assert model is not None
    fits = (0, -1) if context.strategy.reward == "within" else (0,)
    every = [[how in fits for how in told.values()] for told in await model.kept(texts)]
    return [sum(held) / len(held) if held else 0.0 for held in every]


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
    request = replace(context.request, options=(), tools=(), must_call=(), schema=None, steer=steer)
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


Selector = Callable[[SelectionContext, Sequence[Reply]], Awaitable[Choice]]
_SELECTORS: dict[str, Selector] = {
    "first": first,
    "random": at_random,
    "best": best,
    "vote": vote,
    "mbr": mbr,
    "xmbr": xmbr,
    "chops": chops,
}


async def choose(
    context: SelectionContext,
    pool: Sequence[Reply],
    before: Callable[[], Awaitable[Choice | None]] | None = None,
) -> Choice:
    """One candidate of a pool of at least one, by the strategy, unless what is asked `before` it
    has one. When the budget ends before the judge has spoken, the first; of time, comparing has a
    second more, since the pool may have used it up.
    """
    left = context.account.left
    timer = asyncio.timeout(None if left is None else max(left, _GRACE))
    try:
        async with timer:
            chosen = None if before is None else await before()
            return chosen or await _SELECTORS[context.strategy.select](context, pool)
    except (Exhausted, TimeoutError) as met:
        if isinstance(met, TimeoutError) and not timer.expired():
            raise
        limit = met.limit if isinstance(met, Exhausted) else "seconds"
        fallback = f"first: the budget of {limit} was spent before the choice"
        return replace(await first(context, pool), notes={"fallback": fallback})


def check(strategy: Strategy, models: Sequence[Model], judge: Model | None) -> None:
    """Raise PomonaError, before anything is paid for, where the selection needs what no model can
    do.
    """
    if strategy.reward in KEPT and able(models, "check") is None:
        message = f'"{strategy.reward}" is of markers, and none is given that can be measured'
        remedy = "give one to a model that was trained with markers, --markers NAME=VALUE"
        raise PomonaError(message, where=f'strategy "{strategy.name}"', remedy=remedy)
    if strategy.utility == "embedding":
        embedder(strategy, able([judge, *models], "embed"))


def needs_logprobs(strategy: Strategy, models: Sequence[Model]) -> bool:
    """Whether models must be asked to tell log-probabilities with their answers: those that cannot
    score text afterwards.
    """
    return (
        strategy.select == "best"
        and strategy.reward in REWARDS
        and not all("score" in model.abilities for model in models)
    )


def agreement(strategy: Strategy, pool: Sequence[Reply]) -> float:
    """How far a pool agrees on its leading answer, from 0 to 1.

    For vote the leader's share of the votes; for mbr and xmbr with chrF or BLEU the mean utility of
    the leader to all others; for every other selection the share of the most frequent text.
    """
    texts = [text_of(reply) for reply in pool]
    if strategy.select == "vote":
        answers = [answer for answer in extracted(strategy.extract, texts) if answer is not None]
        return max(Counter(answers).values(), default=0) / len(texts)
    by_text = strategy.select in {"mbr", "xmbr"} and strategy.utility in {"chrf", "bleu"}
    if by_text and len(texts) > 1:
        utility = textual(strategy.utility, texts, texts)
        others = (utility.sum(axis=1) - np.diag(utility)) / (len(texts) - 1)
        return float(others.max()) / 100
    return max(Counter(texts).values()) / len(texts)
