"""From the name of a selection to its choice, the simple ones among them: first, random, and the
answer that most candidates arrive at (self-consistency: Wang et al. 2023, arXiv 2203.11171, §2).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import numpy as np

from pomona.answers import Exhausted, text_of
from pomona.models import Model, Reply, able
from pomona.sample.selection.best import best
from pomona.sample.selection.choice import Choice, SelectionContext, highest
from pomona.sample.selection.judging import chops
from pomona.sample.selection.mbr import embedder, mbr, textual, xmbr
from pomona.sample.strategy import REWARDS, Strategy
from pomona.tasks import extractor

_GRACE = 1.0  # seconds


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
