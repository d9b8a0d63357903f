"""Votes that hang together: what of them is drawn, and counted for errors, as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pomona.arena.loops import FAMILY
from pomona.arena.votes import Votes
from pomona.errors import PomonaError, nearest

VOTERS = 10  # fewer do not stand for others
UNITS = ("item", "prompt", "voter")  # from the finest on
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Clusters:
    """Which votes hang together; rows as those of the votes, [n] each.

    by: item, prompt, voter, or the column that names the clusters; vote where each is one.
    codes: of the clusters, from 0 on without gaps, -1 where a vote is one by itself.
    place: the cell of `Counts`, pair times three plus outcome.
    count: votes of the row.
    """

    by: str
    codes: Ints
    place: Ints
    count: Ints

    @cached_property
    def units(self) -> int:
        """Clusters, those of single votes among them."""
        alone = int(self.count[self.codes < 0].sum()) if self.alone else 0
        return int(self.codes.max(initial=-1)) + 1 + alone

    @cached_property
    def alone(self) -> bool:
        """Whether any vote is one by itself."""
        return int(self.codes.min(initial=0)) < 0

    @cached_property
    def rows(self) -> Rows:
        """The rows by their clusters, those of neighbouring cells after each other: what is kept of
        a cell, or of all resamples of it, is then near.
        """
        codes, place = (np.ascontiguousarray(of, np.int64) for of in (self.codes, self.place))
        found = np.zeros((int(codes.max(initial=-1)) + 1, 2), np.int32)
        alone = FAMILY.loop("survey")(codes, place, found)
        order, _ = grouped(found[:, 1].astype(np.int64))
        starts = np.append(0, np.cumsum(found[order, 0], dtype=np.int64)) + alone
        begin = np.empty(len(found), np.int64)
        begin[order] = starts[:-1]
        many = bool((self.count != 1).any())
        count = np.ascontiguousarray(self.count, np.float64) if many else np.empty(0)
        placed, counted = np.empty(len(codes), np.int32), np.empty(len(count))
        FAMILY.loop("arrange")(codes, place, count, begin, placed, counted)
        return Rows(starts, placed, counted)


@dataclass(frozen=True)
class Rows:
    """Rows in the order of their clusters, of which the order is no other than that of their cells.

    starts: [clusters + 1] where each begins, with the end after the last; before the first stand
        the rows without one.
    place, count: [n] as of `Clusters`; no count where each is 1.
    """

    starts: Ints
    place: NDArray[np.int32]
    count: NDArray[np.float64]


def grouped(codes: Ints) -> tuple[Ints, Ints]:
    """Rows [n] in order of their codes, those of -1 (none) first, and where each code begins, with
    the end after the last.
    """
    order = np.empty(len(codes), np.int64)
    starts = np.zeros(int(codes.max(initial=-1)) + 3, np.int64)
    FAMILY.loop("group")(codes, starts, order)
    return order, starts[:-1]


def units_of(votes: Votes) -> list[str]:
    """The units by which the votes can be clustered, from the finest on: those that the columns
    name and of which one has two votes. Where prompts are named and items are not, an item is a
    prompt with a pair of models.
    """
    found = []
    for unit in UNITS:
        if _column(votes, unit) is not None:
            codes = row_codes(votes, unit)
            known = votes.count[codes >= 0] if codes.min(initial=0) < 0 else votes.count
            if codes.max(initial=-1) + 1 < known.sum():
                found.append(unit)
    return found


def clustered(votes: Votes, by: str | None) -> Clusters:
    """The votes by item, prompt, voter or another column; None: each is one.

    Raises:
        PomonaError: there is no such column.
    """
    codes = np.full(len(votes), -1) if by is None else row_codes(votes, by)
    return Clusters(by or "vote", codes, votes.cells[0], votes.count)


def row_codes(votes: Votes, by: str) -> Ints:
    """The cluster of each row [n], from 0 on without gaps, -1 where it is not known.

    Raises:
        PomonaError: there is no such column.
    """
    column = _column(votes, by) or by
    if column not in votes.columns.column_names:
        known = {*(unit for unit in UNITS if _column(votes, unit)), *votes.columns.column_names}
        remedy = nearest(by, known) if known else "give --cluster none: no column names any"
        message = f'there is no column "{by}" to cluster by'
        raise PomonaError(message, where=votes.where, remedy=remedy)
    return votes.groups(column, pairs=by == "item" and column == "prompt")


def usual(votes: Votes, units: Sequence[str]) -> list[str]:
    """What of `units_of` votes are clustered by where nothing is asked: the finest unit, and voters
    beside it where they are enough; the coarser alone where the clusters of one lie in the other's.
    """
    if "voter" not in units[1:] or voters_of(votes) < VOTERS:
        return list(units[:1])
    kinds = [units[0], "voter"]
    if lie_in(votes, *kinds):
        return kinds[1:]
    return kinds[:1] if lie_in(votes, *reversed(kinds)) else kinds


def voters_of(votes: Votes) -> int:
    """Voters who are named."""
    return int(votes.groups("voter").max(initial=-1)) + 1


def lie_in(votes: Votes, fine: str, coarse: str) -> bool:
    """Whether each cluster of one kind lies within one of another, so that the two do not cross.

    Raises:
        PomonaError: there is no such column.
    """
    parts, wholes = row_codes(votes, fine), row_codes(votes, coarse)
    home = np.zeros(int(parts.max(initial=-1)) + 2, np.int64)
    for rows in (slice(1000), slice(None)):  # few votes tell where many cross
        some, of = parts[rows], wholes[rows]
        home[some] = of
        if not bool(np.all((some < 0) | ((of >= 0) & (home[some] == of)))):
            return False
    return True


def _column(votes: Votes, unit: str) -> str | None:
    names = votes.columns.column_names
    if unit in names:
        return unit
    return "prompt" if unit == "item" and "prompt" in names else None
