"""How much one answer is worth if another is the truth: the utilities of minimum-Bayes-risk
choice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pomona.errors import PomonaError
from pomona.models.chat.protocol import Request
from pomona.sample.selection.bleu import pairwise_bleu
from pomona.sample.selection.choice import Desk, conversation
from pomona.sample.selection.judging import fenced, pick
from pomona.tasks import pairwise

_GRADES = ("1", "2", "3", "4", "5")
_AT_ONCE = 1024  # pairs compared in the event loop's own thread


def textual(name: str, candidates: Sequence[str], evidence: Sequence[str]) -> NDArray[np.float64]:
    """chrF or BLEU of every candidate against every piece of evidence, float64
    `[candidates, evidence]`, in [0, 100], as sacreBLEU.
    """
    return pairwise(candidates, evidence) if name == "chrf" else pairwise_bleu(candidates, evidence)


async def utilities(
    desk: Desk, candidates: Sequence[str], evidence: Sequence[str]
) -> NDArray[np.float64]:
    """The strategy's utility of every candidate against every piece of evidence, float64
    `[candidates, evidence]`.

    chrF and BLEU are in [0, 100], the cosine of embeddings in [-1, 1], a judge's grade of how far
    two answers say the same in [0, 1]. A PomonaError when no model embeds.
    """
    name = desk.strategy.utility
    if name == "embedding":
        return await _cosines(desk, candidates, evidence)
    if name == "judge":
        return await _judged(desk, candidates, evidence)
    if len(candidates) * len(evidence) > _AT_ONCE:  # other requests go on meanwhile
        return await asyncio.to_thread(textual, name, candidates, evidence)
    return textual(name, candidates, evidence)


async def _cosines(
    desk: Desk, candidates: Sequence[str], evidence: Sequence[str]
) -> NDArray[np.float64]:
    model = desk.able("embed")
    if model is None:
        raise PomonaError(
            "no model gives embeddings",
            where=f'strategy "{desk.strategy.name}"',
            remedy="give a judge that embeds, or use chrf",
        )
    texts = list(dict.fromkeys([*candidates, *evidence]))
    place = {text: at for at, text in enumerate(texts)}
    vectors = (await desk.embed(model, texts)).astype(np.float64)
    return (
        vectors[[place[text] for text in candidates]]
        @ vectors[[place[text] for text in evidence]].T
    )


async def _judged(
    desk: Desk, candidates: Sequence[str], evidence: Sequence[str]
) -> NDArray[np.float64]:
    """Each unordered pair of different texts is judged once, its order drawn by seed; equal texts
    have utility 1.
    """
    pairs = dict.fromkeys((min(a, b), max(a, b)) for a in candidates for b in evidence if a != b)
    chance = desk.chance("pairs")
    asked = [pair if chance.random() < 0.5 else pair[::-1] for pair in pairs]
    grades = await asyncio.gather(*(_grade(desk, *pair) for pair in asked), return_exceptions=True)
    for grade in grades:
        if isinstance(grade, BaseException):
            raise grade
    values = dict(zip(pairs, grades, strict=True))
    return np.array(
        [[1.0 if a == b else values[min(a, b), max(a, b)] for b in evidence] for a in candidates],
        np.float64,
    )


async def _grade(desk: Desk, one: str, other: str) -> float:
    text = (
        f"A request and two answers to it follow.\n\n"
        f"{fenced('request', conversation(desk.request))}\n{fenced('answer-A', one)}\n"
        f"{fenced('answer-B', other)}\n\nHow far do the two answers say the same? 1: nothing in "
        "common. 5: the same. "
        "Reply with one digit from 1 to 5."
    )
    request = Request(
        messages=({"role": "user", "content": text},), max_tokens=8, options=_GRADES, seed=desk.seed
    )
    grade = await pick(desk, request)
    return 0.0 if grade is None else grade / (len(_GRADES) - 1)
