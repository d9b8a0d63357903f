"""Who answers which row."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from pomona.errors import PomonaError
from pomona.synth.pipeline.inputs import InputRow
from pomona.synth.pipeline.pool import Pool
from pomona.synth.pipeline.recipe import SynthRecipe

Route = Callable[[Sequence[InputRow]], list[tuple[str, ...]]]


def route_of(recipe: SynthRecipe, pool: Pool) -> Route:
    """The names of each row's teachers, in order. What a row gets depends on the row alone."""
    by = recipe.route.by
    single = recipe.route.teacher or next(iter(pool.teachers))
    if by == "single" and single not in pool.teachers:
        reason = pool.absent[single]
        remedy = "choose another, or install it"
        raise PomonaError(f'"{single}" {reason}', where="route", remedy=remedy)

    def one(row: InputRow) -> tuple[str, ...]:
        known = tuple(name for name, one in pool.teachers.items() if one.knows(row.asked))
        if by == "all" or not known:
            return known
        if by == "single":
            return (single,) if single in known else ()
        digest = hashlib.sha256(f"{recipe.seed}\0{row.asked.id}".encode()).digest()
        return (known[int.from_bytes(digest[:8]) % len(known)],)

    return lambda rows: [one(row) for row in rows]
