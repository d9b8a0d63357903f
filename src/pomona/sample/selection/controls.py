"""What every selection must beat: the first candidate, and one at random."""

from __future__ import annotations

from collections.abc import Sequence

from pomona.models.chat.protocol import Reply
from pomona.sample.selection.choice import Choice, Desk, highest


async def first(desk: Desk, pool: Sequence[Reply]) -> Choice:
    """The first candidate, which in pools with a greedy answer is that."""
    return Choice(0, tuple(float(at == 0) for at in range(len(pool))))


async def at_random(desk: Desk, pool: Sequence[Reply]) -> Choice:
    """One candidate at random by seed and prompt; the scores are the numbers drawn."""
    chance = desk.chance("random")
    scores = tuple(chance.random() for _ in pool)
    return Choice(highest(scores), scores)
