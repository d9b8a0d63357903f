"""What every reward is: a number for each answer, higher for better, NaN where it says nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from pomona.errors import PomonaError, first_line
from pomona.synth.teachers import Candidate, Usage

Floats = NDArray[np.float64]
Key = tuple[str, str, int]  # of a candidate: row, teacher, draw


class Reward(Protocol):
    """Says how good answers are. Numbers are compared within a row; their unit is the reward's own.

    `name` is what tables call it, `signature` has every choice that changes its numbers.
    """

    @property
    def name(self) -> str:
        """What tables call it."""
        ...

    @property
    def signature(self) -> str:
        """Every choice that changes its numbers, with a version."""
        ...

    @property
    def usage(self) -> Usage:
        """What its numbers cost when they were made, whenever that was; None is not known."""
        ...

    @property
    def failures(self) -> Mapping[Key, str]:
        """Why candidates have no number, of those where something failed."""
        ...

    def fit(self, candidates: Sequence[Candidate]) -> Reward:
        """The reward with what it learns from candidates on validation rows; itself where it learns
        nothing. Rows with a human `reference` teach most.
        """
        ...

    def score(self, candidates: Sequence[Candidate]) -> Floats:
        """One number each, float64 `[n]`; NaN is not known. The candidates of a row must all be
        there, in any order. What failed for one candidate is NaN and a failure; only settings that
        nothing could be scored with raise a PomonaError.
        """
        ...


class Computed:
    """Rewards that are computed here and now: they cost nothing, do not fail and learn nothing."""

    @property
    def usage(self) -> Usage:
        """Nothing: strings are compared, in less time than is counted."""
        return Usage(flops=0.0, money=0.0, cpu_seconds=0.0)

    @property
    def failures(self) -> Mapping[Key, str]:
        """None."""
        return {}

    def fit(self, candidates: Sequence[Candidate]) -> Self:
        """Itself."""
        return self


def key_of(candidate: Candidate) -> Key:
    """What tells a candidate from all others."""
    return candidate.row.id, candidate.lesson.teacher, candidate.lesson.sample


def by_row(candidates: Sequence[Candidate]) -> list[list[int]]:
    """The places of the candidates of each row, rows in order of their first."""
    rows: dict[str, list[int]] = {}
    for at, candidate in enumerate(candidates):
        rows.setdefault(candidate.row.id, []).append(at)
    return list(rows.values())


def numbers(named: str, make: Callable[[], object], count: int) -> Floats:
    """What a user's code gives, float64 `[count]`, NaN allowed. PomonaError where it fails, or
    gives anything else.
    """
    try:
        values = np.asarray(make(), np.float64)
    except PomonaError:
        raise
    except Exception as error:  # a function of the user's may fail in any way
        raise PomonaError(f"failed: {first_line(error)}", where=named, remedy="mend it") from error
    if values.shape != (count,):
        message = f"gave the shape {values.shape} for {count} candidates"
        raise PomonaError(message, where=named, remedy="return one number for every candidate")
    if np.isinf(values).any():
        message = f"gave {values[np.isinf(values)][0]}"
        raise PomonaError(message, where=named, remedy="give finite numbers, NaN for unknown")
    return values
