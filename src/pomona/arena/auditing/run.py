"""`audit`: what a leaderboard owes its readers, from its votes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from pomona.arena.auditing.board import Board, Codes, board_of
from pomona.arena.auditing.effects import length, position
from pomona.arena.auditing.fragility import first_place, neighbours
from pomona.arena.auditing.orders import drift, repetition, times
from pomona.arena.auditing.providers import PERMUTATIONS, providers
from pomona.arena.auditing.results import ArenaAudit
from pomona.arena.auditing.retired import graph, retired
from pomona.arena.auditing.twins import twins
from pomona.arena.auditing.voters import voters
from pomona.arena.auditing.winners import winners
from pomona.arena.models import known_models
from pomona.arena.ratings.bradley_terry import Ties
from pomona.arena.ratings.clusters import row_codes, units_of
from pomona.arena.vote_columns import VoteColumns
from pomona.arena.votes import Votes, read_votes
from pomona.errors import PomonaError
from pomona.records import Where

Progress = Callable[[int, int], None]
NOBODY = "the votes name no voters"


def audit(
    votes: Where | Votes,
    columns: VoteColumns | None = None,
    *,
    models: Where | None = None,
    twins_given: Sequence[str] = (),
    places: int | None = None,
    ties: Ties = "davidson",
    seed: int = 0,
    page: Path | None = None,
    progress: Progress | None = None,
) -> ArenaAudit:
    """Ask what a leaderboard owes its readers: the fewest votes that change it, whose models are
    shown more, what the best of many variants is worth, and what moves votes beside the models.

    Every audit has a null and a p-value or an interval. What the votes cannot tell is unknown, with
    the reason.

    Args:
        votes: Votes as `fit` reads them.
        columns: Which of their columns hold what.
        models: Table of models (column model), with any of organisation, family (variants the
            best was chosen from), checkpoint, submitted (variants tried), and retired.
        twins_given: Two names of one checkpoint, NAME=NAME; several times for more.
        places: Neighbours are audited from the first place down to this one, all of them when left
            out: each takes some refits, which are slow on boards of a thousand models.
        ties: What a tie says: davidson, half, rao_kupper or drop.
        seed: Seed of permutations and draws.
        page: Folder to write a page into, with pictures.

    Raises:
        PomonaError: the votes or the table of models cannot be read, the votes do not connect the
            models, or the page would replace what is none of ours.
    """
    if page is not None:
        from pomona.arena.auditing.page import check_page

        check_page(page, votes, models)
    if seed < 0:
        raise PomonaError(f"{seed} is below 0", where="seed", remedy="use 0 or more")
    if places is not None and places < 2:
        raise PomonaError(f"{places} has no neighbours", where="places", remedy="use 2 or more")
    read = read_votes(votes, columns)
    result = _Audit(read, ties, seed).result(models, twins_given, places, progress)
    if page is not None:
        from pomona.arena.auditing.page import write_page

        write_page(result, page)
    return result


class _Audit:
    """The board, and why what is unknown is so."""

    def __init__(self, votes: Votes, ties: Ties, seed: int) -> None:
        self.all, self.seed = votes, seed
        board = board_of(votes, ties)
        self.board: Board = replace(board, units=shared(board.votes))

    def result(
        self,
        models: Where | None,
        given: Sequence[str],
        places: int | None,
        progress: Progress | None,
    ) -> ArenaAudit:
        """All that is said."""
        board, every = self.board, self.all
        known = known_models(every, models)
        fragile = neighbours(board, None if places is None else places - 1, progress)
        found = {
            "position": position(board),
            "length": length(board),
            **self._by_voters_and_times(),
            "providers": providers(every, known.organisation, times(every), self.seed),
            "twins": twins(board, given, known.checkpoint, every.models),
            "best_of_n": winners(board, known, self.seed),
            "retired": retired(board, known.retired, times(board.votes)),
        }
        told: dict[str, Any] = {
            name: None if isinstance(one, str) else one for name, one in found.items()
        }
        return ArenaAudit(
            models=board.k,
            votes=board.votes.n,
            ties=board.solution.ties,
            clusters=list(board.units),
            first_place=first_place(board, fragile[0]),
            neighbours=fragile,
            **told,
            graph=graph(board.counts, board.votes.models),
            unknown={name: one for name, one in found.items() if isinstance(one, str)},
            left_out=board.left_out,
            notes=self._notes(),
            signature=self._signature(models, given),
            seed=self.seed,
        )

    def _by_voters_and_times(self) -> dict[str, Any]:
        """What needs to know who voted, or when."""
        board, moments = self.board, times(self.board.votes)
        if "voter" not in board.votes.columns.column_names:
            found: dict[str, Any] = dict.fromkeys(("voters", "repetition"), NOBODY)
        else:
            who, names = board.votes.codes("voter")
            told = moments if isinstance(moments, str) else repetition(board, moments, who)
            found = {"voters": voters(board, who, names, board.units.get("item"))}
            found["repetition"] = told
        found["drift"] = moments if isinstance(moments, str) else drift(board, moments)
        return found

    def _notes(self) -> list[str]:
        notes = list(self.all.notes)
        if self.board.left_out:
            names = ", ".join(self.board.left_out[:5])
            more = len(self.board.left_out) - 5
            notes.append(
                f"without a finite rating, and left out: {names}"
                + (f" and {more} more" if more > 0 else "")
            )
        if not self.board.units:
            notes.append("no column says what votes share: each counts as independent")
        return notes

    def _signature(self, models: Where | None, given: Sequence[str]) -> str:
        votes = self.all
        parts = ["arena-audit", f"votes:{votes.digest}", f"n:{votes.n}", f"k:{len(votes.models)}"]
        parts += [f"ties:{self.board.solution.ties}"]
        parts += [f"clusters:{'+'.join(self.board.units) or 'none'}"]
        parts += ["models:given"] if models is not None else []
        parts += [f"twins:{len(given)}"] if given else []
        parts += [f"permutations:{PERMUTATIONS}", f"seed:{self.seed}"]
        return "|".join([*parts, f"pomona:{version('pomona')}"])


def shared(votes: Votes) -> dict[str, Codes]:
    """What several votes share, finest first, with the number of each vote's [n]; a vote of which
    it is not known is alone.
    """
    found = {}
    for unit in units_of(votes):
        codes = row_codes(votes, unit)
        alone = codes.max() + 1 + np.arange(len(codes))
        found[unit] = np.unique(np.where(codes < 0, alone, codes), return_inverse=True)[1]
    return found
