"""Votes that hang together: what of them is drawn, and counted for errors, as one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pomona.arena.ratings.bradley_terry import pairs_of
from pomona.arena.votes import Votes
from pomona.errors import PomonaError, nearest

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

    @property
    def units(self) -> int:
        """Clusters, those of single votes among them."""
        return int(self.codes.max(initial=-1)) + 1 + int(self.count[self.codes < 0].sum())


def units_of(votes: Votes) -> list[str]:
    """The units by which the votes can be clustered, from the finest on: those that the columns
    name and of which one has two votes. Where prompts are named and items are not, an item is a
    prompt with a pair of models.
    """
    found = []
    for unit in UNITS:
        if _column(votes, unit) is not None:
            codes = row_codes(votes, unit)
            if codes.max(initial=-1) + 1 < votes.count[codes >= 0].sum():
                found.append(unit)
    return found


def clustered(votes: Votes, by: str | None) -> Clusters:
    """The votes by item, prompt, voter or another column; None: each is one.

    Raises:
        PomonaError: there is no such column.
    """
    pair, turned, _, _ = pairs_of(votes)
    outcome = np.minimum(votes.outcome, 2).astype(np.int64)
    place = pair * 3 + np.where(turned & (outcome < 2), 1 - outcome, outcome)
    codes = np.full(len(votes), -1) if by is None else row_codes(votes, by)
    return Clusters(by or "vote", codes, place, votes.count)


def row_codes(votes: Votes, by: str) -> Ints:
    """The cluster of each row [n], from 0 on without gaps, -1 where it is not known.

    Raises:
        PomonaError: there is no such column.
    """
    column = _column(votes, by) or by
    if column not in votes.columns.column_names:
        known = [*(unit for unit in UNITS if _column(votes, unit)), *votes.columns.column_names]
        remedy = nearest(by, known) if known else "give --cluster none: no column names any"
        message = f'there is no column "{by}" to cluster by'
        raise PomonaError(message, where=votes.where, remedy=remedy)
    return votes.groups(column, pairs=by == "item" and column == "prompt")


def _column(votes: Votes, unit: str) -> str | None:
    names = votes.columns.column_names
    if unit in names:
        return unit
    return "prompt" if unit == "item" and "prompt" in names else None
