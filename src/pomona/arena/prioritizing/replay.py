"""`replay`: what a queue would have saved on votes that are there already."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pomona.arena.prioritizing.measures import Measures, change, measure
from pomona.arena.prioritizing.page import check_page, write_replay
from pomona.arena.prioritizing.pairs import (
    COLUMNS,
    Floats,
    Ints,
    Observed,
    Pairs,
    observed,
    read_pairs,
)
from pomona.arena.prioritizing.queue import By, Goal, State, draw
from pomona.arena.prioritizing.results import RankingReplayed, Replay, TiesReplayed
from pomona.arena.prioritizing.run import measured
from pomona.arena.prioritizing.strengths import Strengths, averages, believe, counts_on
from pomona.arena.prioritizing.ties import design_of, p_tie
from pomona.arena.vote_columns import VoteColumns
from pomona.arena.votes import Votes, read_votes
from pomona.errors import PomonaError
from pomona.records import Where

_KINDS = ("all", "prompt", "answers")
_Policy = tuple[By, str | None]  # what pairs are drawn by, and what P(tie) is told from for it
_POLICIES: Sequence[_Policy] = (
    ("random", None),
    ("information", None),
    ("ties", "all"),
    ("ties", "prompt"),
)
_Ties = Sequence[dict[str, float]]  # of each pilot, by what P(tie) is told from
_LEAST = 200  # votes, and
_FEWEST = 20  # pairs with votes below which a replay says nothing


def replay(
    votes: Where | Votes,
    *,
    share: float = 0.1,
    pilots: int = 20,
    columns: VoteColumns | None = None,
    seed: int = 0,
    page: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Replay:
    """What a queue would have saved, on recorded votes with both answers: ties among the pairs that
    a pilot says have fewest, and votes for the same ranking, against random order and against
    knowing the prompts alone.

    Rankings are compared with that of half of the pairs, whose votes no queue may draw.

    Args:
        votes: Table of votes with prompt, completion_a and completion_b.
        share: Share of the pairs, or of the votes that may be drawn, that is the pilot; and of the
            votes after which a queue is made anew.
        pilots: Random pilots to average over.
        columns: Which columns of the votes hold what.
        seed: Seed of the pilots.
        page: Folder for a page with pictures.
        progress: Called with pilots done and in all.

    Raises:
        PomonaError: the table has no prompts or answers, too few votes, or a number is out of
            range.
    """
    if not 0 < share <= 0.5:
        raise PomonaError(f"share is {share}", where="share", remedy="give above 0, at most 0.5")
    if pilots < 2:
        raise PomonaError(f"pilots is {pilots}", where="pilots", remedy="give 2 or more")
    check_page(page, [votes] if isinstance(votes, str | Path) else [], {})
    past = _Past(read_votes(votes, columns))
    ties, curves = [], []
    for pilot in range(pilots):
        ties.append(past.ties(share, seed, pilot))
        curves.append(past.curves(share, seed, pilot))
        if progress is not None:
            progress(pilot + 1, pilots)
    result = past.result(share, ties, curves, seed)
    if page is not None:
        write_replay(result, page)
    return result


@dataclass(frozen=True)
class _Curve:
    """Kendall's tau after so many votes [steps], rated by votes alone and with the prior."""

    votes: Ints
    tau: Floats
    believed: Floats


class _Past:
    """Recorded votes, each on a pair."""

    def __init__(self, votes: Votes) -> None:
        missing = [one for one in ("prompt", *COLUMNS[3:]) if one not in votes.columns.column_names]
        if missing:
            message = f'there is no column "{missing[0]}"'
            remedy = "a replay needs the prompt and both answers of each vote"
            raise PomonaError(message, where=votes.where, remedy=remedy)
        names = np.array(votes.models, object)
        table = votes.columns.select(["prompt", "completion_a", "completion_b"])
        table = table.append_column("model_a", pa.array(names[votes.a], pa.string()))
        table = table.append_column("model_b", pa.array(names[votes.b], pa.string()))
        self.votes = votes
        self.pairs: Pairs = read_pairs(table)
        self.seen: Observed = observed(self.pairs, votes)
        if self.seen.votes.sum() < _LEAST or len(self.pairs) < _FEWEST:
            message = f"{votes.n:,} votes on {len(self.pairs):,} pairs are too few for a replay"
            remedy = f"give {_LEAST} votes on {_FEWEST} pairs or more"
            raise PomonaError(message, where=votes.where, remedy=remedy)
        self.measures: Measures = measure(self.pairs)
        self.designs = {kind: design_of(self.pairs, self.measures, kind) for kind in _KINDS}
        self.told = averages(self.pairs, self.measures.answers, list(votes.models))
        self.rows = np.repeat(np.arange(len(votes)), votes.count)  # one for each single vote
        self.on = self.seen.pair[self.rows]

    def ties(self, share: float, seed: int, pilot: int) -> dict[str, float]:
        """The change in ties among the fifth of the other pairs said to have fewest, by a pilot of
        random pairs.
        """
        rng = np.random.default_rng([seed, 3, pilot])
        n = len(self.pairs)
        chosen = np.zeros(n, bool)
        chosen[rng.permutation(n)[: max(2, round(share * n))]] = True
        seen = self.seen
        known = Observed(seen.pair, np.where(chosen, seen.votes, 0), np.where(chosen, seen.ties, 0))
        rest = ~chosen
        found: dict[str, float] = {}
        for kind, design in self.designs.items():
            said = p_tie(design, known, len(self.pairs.prompts))
            of = change(-said[rest], seen.votes[rest], seen.ties[rest])
            found[kind] = 0.0 if of is None else of[0]
        return found

    def result(
        self, share: float, ties: _Ties, curves: Sequence[dict[_Policy, _Curve]], seed: int
    ) -> Replay:
        """What pilots together say."""
        votes, pilots = self.votes, len(curves)
        parts = ["arena-replay", f"votes:{votes.n}:{votes.digest}", f"share:{share:g}"]
        parts += [f"pilots:{pilots}", f"seed:{seed}", f"pomona:{version('pomona')}"]
        return Replay(
            int(self.seen.votes.sum()),
            len(self.pairs),
            share,
            pilots,
            [_ties(kind, ties) for kind in _KINDS],
            _rankings(curves, seed),
            measured(self.measures, self.seen),
            list(votes.notes),
            "|".join(parts),
            seed,
        )

    def curves(self, share: float, seed: int, pilot: int) -> dict[_Policy, _Curve]:
        """How the ranking nears that of a random half of the pairs, by votes on the others."""
        rng = np.random.default_rng([seed, 4, pilot])
        held = rng.random(len(self.pairs)) < 0.5
        out = held[self.on]
        reference = self._believed(np.flatnonzero(out), prior=False).mean
        order = rng.permutation(np.flatnonzero(~out))
        return {
            policy: self._curve(policy, order, reference, share, [seed, 5, pilot])
            for policy in _POLICIES
        }

    def _curve(
        self,
        policy: _Policy,
        order: Ints,
        reference: Floats,
        share: float,
        seed: Sequence[int],
    ) -> _Curve:
        """`order` are the single votes that may be drawn; those of a pair come in that order."""
        size = max(1, round(share * len(order)))
        queues: dict[int, list[int]] = {}
        for vote in order[size:].tolist():
            queues.setdefault(int(self.on[vote]), []).append(vote)
        taken, points = list(order[:size].tolist()), []
        while True:
            ranked = [self._tau(taken, reference, prior) for prior in (False, True)]
            points.append((len(taken), *ranked))
            if len(taken) + size > len(order):
                break
            pairs = self._next(policy, taken, queues, size, [*seed, len(taken)])
            taken += [queues[pair].pop(0) for pair in pairs]
        votes, tau, believed = zip(*points, strict=True)
        return _Curve(np.array(votes), np.array(tau), np.array(believed))

    def _next(
        self,
        policy: _Policy,
        taken: Sequence[int],
        queues: dict[int, list[int]],
        size: int,
        seed: Sequence[int],
    ) -> list[int]:
        left = np.zeros(len(self.pairs), np.int64)
        for pair, waiting in queues.items():
            left[pair] = len(waiting)
        on, tied = self.on[taken], self.votes.outcome[self.rows[taken]] >= 2
        shown = np.bincount(on, minlength=len(left)).astype(np.float64)
        seen = Observed(on, shown, np.bincount(on, tied, len(left)))
        goal = Goal(budget=size)
        said, strengths = None, self._believed(taken, prior=True)
        by, kind = policy
        if kind is not None:
            said = p_tie(self.designs[kind], seen, len(self.pairs.prompts))
        a, b = self.pairs.a, self.pairs.b
        state = State(strengths, a, b, said, goal, 1.0)
        number = int(np.random.SeedSequence(list(seed)).generate_state(1)[0])
        drawn = draw(state, said, goal, by=by, random=0.1, shown=shown, left=left, seed=number)
        return drawn.pair.tolist()

    def _believed(self, votes: Sequence[int] | Ints, *, prior: bool) -> Strengths:
        rows = np.bincount(self.rows[votes], minlength=len(self.votes))
        part = self.votes.take(np.flatnonzero(rows))
        weights = rows[rows > 0] / part.count
        names = list(self.votes.models)
        told = self.told if prior else self.told[:, :0]
        columns = list(self.measures.answers) if prior else []
        return believe(counts_on(names, part, weights), told, columns)

    def _tau(self, votes: Sequence[int], reference: Floats, prior: bool) -> float:
        from scipy.stats import kendalltau

        found: Any = kendalltau(self._believed(votes, prior=prior).mean, reference)
        return float(found.statistic)


def _ties(kind: str, ties: _Ties) -> TiesReplayed:
    values = np.array([one[kind] for one in ties])
    low, high = np.quantile(values, [0.025, 0.975])
    off = None
    if kind != "prompt":
        apart = values - np.array([one["prompt"] for one in ties])
        ends = np.quantile(apart, [0.025, 0.975])
        off = (float(apart.mean()), float(ends[0]), float(ends[1]))
    spread = float(values.std(ddof=1))
    return TiesReplayed(kind, float(values.mean()), spread, float(low), float(high), off)


def _rankings(curves: Sequence[dict[_Policy, _Curve]], seed: int) -> list[RankingReplayed]:
    """Mean curves; and votes for the tau that half of the votes at random give, over resampled
    pilots.
    """
    steps = min(len(one.votes) for curve in curves for one in curve.values())
    stacked = {
        (policy, rated): np.array([getattr(curve[policy], rated)[:steps] for curve in curves])
        for policy in curves[0]
        for rated in ("tau", "believed")
    }
    votes = np.mean([curve["random", None].votes[:steps] for curve in curves], 0)
    at = (steps - 1) // 2
    rng = np.random.default_rng([seed, 6])
    draws = rng.integers(0, len(curves), (400, len(curves)))
    plain = stacked[("random", None), "tau"][:, at]
    found = []
    for ((by, kind), rated), of in stacked.items():
        needed = _reached(votes, of.mean(0), float(plain.mean()))
        drawn = [_reached(votes, of[d].mean(0), float(plain[d].mean())) for d in draws]
        ends = [np.inf if one is None else one for one in drawn]
        low, high = (
            float(end) if needed is not None and np.isfinite(end) else None
            for end in np.quantile(ends, [0.025, 0.975], method="inverted_cdf")
        )
        found.append(
            RankingReplayed(
                by, kind, "votes" if rated == "tau" else "believed",
                [round(float(one)) for one in votes], of.mean(0).tolist(), round(float(votes[at])),
                needed, low, high,
            )
        )  # fmt: skip
    return found


def _reached(votes: Floats, tau: Floats, wanted: float) -> float | None:
    """Votes at which a curve first reaches a tau, on the straight line between two points; those of
    the pilot at the least.
    """
    above = np.flatnonzero(tau >= wanted - 1e-12)
    if not len(above):
        return None
    place = int(above[0])
    if place == 0:
        return float(votes[0])
    part = (wanted - tau[place - 1]) / (tau[place] - tau[place - 1])
    return float(votes[place - 1] + part * (votes[place] - votes[place - 1]))
