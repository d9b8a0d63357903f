"""Spoilt copies of pairs, beside which the real ones are seen to be learnt."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pomona.errors import PomonaError


@dataclass(frozen=True)
class Probes:
    """Spoilt copies of pairs: `rows` int64 `[m]` they were made from, ascending, with their
    `inputs` and `completions`.
    """

    rows: NDArray[np.int64]
    inputs: list[str]
    completions: list[str]


def make_probes(
    inputs: Sequence[str],
    completions: Sequence[str],
    *,
    n: int = 250,
    rate: float = 0.3,
    groups: Sequence[str] | None = None,
    seed: int = 0,
) -> dict[str, Probes]:
    """`n` pairs each whose input is "corrupted" and whose completion is a "random label"; no row is
    used twice.

    Corrupted: each letter, with probability `rate`, becomes another letter of the inputs. Random
        label: the completion of another row (of
    the same group, where `groups` `[rows]` are given) with another text; rows of a group with a
    single text are not chosen for it. Give the raw text: a template is filled afterwards. Raises
    PomonaError when there are too few rows, or too few with another text.
    """
    if 2 * n > len(inputs):
        raise PomonaError(
            f"{2 * n} probes of {len(inputs)} rows", where="make_probes", remedy="use a smaller n"
        )
    draw = random.Random(seed)
    members: dict[str, list[int]] = {}
    for row in range(len(inputs)):
        members.setdefault(groups[row] if groups else "", []).append(row)
    able = [
        row
        for rows in members.values()
        if any(completions[row] != completions[rows[0]] for row in rows)
        for row in rows
    ]
    if len(able) < n:
        message = f"{len(able)} rows have another completion in their group, and {n} are wanted"
        raise PomonaError(message, where="make_probes", remedy="use a smaller n, or larger groups")
    second = sorted(draw.sample(able, n))
    first = sorted(draw.sample(sorted({*range(len(inputs))} - {*second}), n))
    letters = sorted({letter for text in inputs for letter in text if letter.isalpha()})
    corrupted = [_corrupt(inputs[row], letters, rate, draw) for row in first]
    labels = [
        _another(row, completions, members[groups[row] if groups else ""], draw) for row in second
    ]
    return {
        "corrupted": Probes(
            np.array(first, np.int64), corrupted, [completions[row] for row in first]
        ),
        "random label": Probes(np.array(second, np.int64), [inputs[row] for row in second], labels),
    }


def _corrupt(text: str, letters: Sequence[str], rate: float, draw: random.Random) -> str:
    def other(letter: str) -> str:
        while (found := draw.choice(letters)) == letter and len(letters) > 1:
            pass
        return found

    return "".join(
        other(letter) if letter.isalpha() and draw.random() < rate else letter for letter in text
    )


def _another(
    row: int, completions: Sequence[str], members: Sequence[int], draw: random.Random
) -> str:
    for _ in range(20):
        found = completions[draw.choice(members)]
        if found != completions[row]:
            return found
    return draw.choice(
        [completions[member] for member in members if completions[member] != completions[row]]
    )
