"""`prioritize`: a queue of pairs for people, from what is known of them so far."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pomona.arena.battles import is_list
from pomona.arena.prioritizing.inverse import Board, board, weights_of
from pomona.arena.prioritizing.likelihoods import ScoreStore, forecast, likelihoods, systems_of
from pomona.arena.prioritizing.measures import TEXTS, Measures, change, measure
from pomona.arena.prioritizing.page import check_page, write_page
from pomona.arena.prioritizing.pairs import Floats, Ints, Observed, Pairs, observed, read_pairs
from pomona.arena.prioritizing.queue import By, Drawn, Goal, State, draw
from pomona.arena.prioritizing.results import (
    ADDED,
    BelievedModel,
    Measured,
    PilotFit,
    Priorities,
)
from pomona.arena.prioritizing.strengths import Strengths, averages, believe, counts_on
from pomona.arena.prioritizing.ties import Learnt, learn
from pomona.arena.ratings.bradley_terry import ELO, MEAN
from pomona.arena.vote_columns import VoteColumns
from pomona.arena.votes import Votes, read_votes
from pomona.errors import PomonaError, quantity
from pomona.records import Card, Results, Where, card_of, check_types, format_of, inputs_of, read

Progress = Callable[[int, int], None]
_LEAST = 20  # ties, and votes that are none, from which P(tie) is learnt


def prioritize(
    pairs: Where,
    votes: Where | Votes | None = None,
    *,
    out: str | Path | None = None,
    by: By = "information",
    budget: int | None = None,
    resolution: float | None = None,
    order: float | None = None,
    top: int | None = None,
    overlap: int = 1,
    random: float = 0.1,
    scorer: str | None = None,
    system: Sequence[str] = (),
    store: str | Path | None = None,
    columns: VoteColumns | None = None,
    seed: int = 0,
    page: Path | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Priorities:
    """Which pairs of answers people should see next: what a vote is expected to tell about the
    ratings, and how likely a tie is, learnt from the votes so far.

    Pairs have the columns prompt, model_a, model_b, completion_a and completion_b; votes name their
    prompts and models alike. Without votes the queue is random, for a pilot.

    Args:
        pairs: Table of pairs of answers.
        votes: Table of the votes so far; where a queue logged rank, propensity and available beside
            them, ratings by inverse propensity stand beside the plain ones.
        out: Table for the queue: Parquet, JSONL or CSV.
        by: information (on models of which least is known), ties (where they are least likely), or
            random.
        budget: Votes there may be.
        resolution: Stop where 95 % intervals of all ratings that matter are expected to be no wider
            than so many points of Elo to either side.
        order: Stop where such a share of the pairs of models is expected to be in the right order.
        top: So many first models matter; all, unless given.
        overlap: Votes on one pair at most, with those it has.
        random: Share of the queue that is drawn evenly, so that every pair may come.
        scorer: Model whose bits a byte of each answer are measures too: hf:PATH, gguf:PATH, ui-s.
        system: NAME=URI of a model of the pairs that can be asked itself, for KL both ways and
            cross-entropies between each two that are named; NAME alone where it is its URI.
        store: SQLite file for the models' scores, so that none is made twice.
        columns: Which columns of the votes hold what.
        seed: Seed of the draws.
        page: Folder for a page with pictures.
        dry_run: Say what scoring would cost; ask no model and write nothing.
        progress: Called with what is done and in all.

    Raises:
        PomonaError: a table cannot be read or lacks a column, no vote is on a pair, a number is out
            of range, or `out` is not ours to replace.
    """
    goal = Goal(top, resolution, order, budget)
    _check(goal, by, overlap, random)
    inputs = [path for one in (pairs, votes) for path in _paths(one)]
    card = None if out is None else card_of(out)
    check_page(page, inputs, {"--out": out, "the card": card, "--store": store})
    known = read_pairs(pairs)
    if out is not None:  # before anything is paid for
        check_types(known.table.schema, format_of(str(out))[0], str(out))
    told = None if votes is None else read_votes(votes, columns)
    if told is None and (resolution or order):
        message, remedy = "nothing is known before there are votes", "give a budget"
        raise PomonaError(message, where="resolution", remedy=remedy)
    systems = systems_of(system, known.models)
    study = _Study(known, told, goal, by, overlap, random, seed)
    if dry_run:
        spent = asdict(forecast(known, scorer, systems))
        return study.planned(scorer, systems, spent)
    with _Output(out, inputs) as output:
        with closing(ScoreStore(store)) as scores:
            more = likelihoods(known, scorer, systems, scores, progress)
        result = study.result(more, scorer, systems, progress, output.where)
        output.write(result)
    if page is not None:
        write_page(result, page)
    return result


def _check(goal: Goal, by: str, overlap: int, random: float) -> None:
    asked = {
        "by": (by, by in ("information", "ties", "random"), "information, ties or random"),
        "budget": (goal.budget, goal.budget is None or goal.budget >= 1, "1 or more"),
        "resolution": (goal.resolution, goal.resolution is None or goal.resolution > 0, "above 0"),
        "order": (goal.order, goal.order is None or 0.5 < goal.order < 1, "between 0.5 and 1"),
        "top": (goal.top, goal.top is None or goal.top >= 1, "1 or more"),
        "overlap": (overlap, overlap >= 1, "1 or more"),
        "random": (random, 0 < random <= 1, "above 0, at most 1: else some pairs could never come"),
    }
    for name, (value, right, remedy) in asked.items():
        if not right:
            raise PomonaError(f"{name} is {value}", where=name, remedy=f"give {remedy}")


class _Output:
    """The queue's file, where one is wanted."""

    def __init__(self, out: str | Path | None, inputs: Sequence[str]) -> None:
        self.where, self._inputs = None if out is None else str(out), inputs
        self._results = None if out is None else Results({"out": out}, inputs=inputs)

    def __enter__(self) -> _Output:
        if self._results is not None:
            self._results.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if self._results is not None:
            self._results.__exit__(*error)

    def write(self, found: Priorities) -> None:
        """Write the queue with its card."""
        if self._results is None:
            return
        self._results.write("out", read(found.queue))
        parameters = {"by": found.by, "seed": found.seed}
        details = {"reached": found.reached, "signature": found.signature}
        inputs = inputs_of((path, None) for path in self._inputs)
        card = Card(
            "arena prioritize",
            parameters,
            inputs,
            found.pairs,
            len(found.queue),
            details=details,
        )
        self._results.publish(card)


def _paths(source: Any) -> list[str]:
    if source is None or isinstance(source, Votes | pa.Table):
        return []
    if isinstance(source, str | Path) and is_list(source):
        return [str(source)]
    return read(source).paths


class _Study:
    """Pairs, votes, and all that is said of them."""

    def __init__(
        self,
        pairs: Pairs,
        votes: Votes | None,
        goal: Goal,
        by: By,
        overlap: int,
        random: float,
        seed: int,
    ) -> None:
        self.pairs, self.votes, self.goal, self.seed = pairs, votes, goal, seed
        self.overlap, self.random = overlap, random
        self.by: By = "random" if votes is None else by
        self.notes: list[str] = []
        self.seen: Observed | None = None
        self.names = pairs.models
        if votes is not None:
            self.notes += votes.notes
            self.seen = observed(pairs, votes)
            self.names = sorted({*pairs.models, *votes.models})
            lost = int(votes.count[self.seen.pair < 0].sum())
            if lost:
                self.notes.append(
                    f"{quantity(lost, 'vote is', 'votes are')}"
                    " on none of the pairs: they count in ratings"
                )
        else:
            self.notes.append("there are no votes yet: a random queue, for a pilot")
        place = {name: at for at, name in enumerate(self.names)}
        number = np.array([place[name] for name in pairs.models], np.int64)
        self.a, self.b = number[pairs.a], number[pairs.b]

    def planned(self, scorer: Any, systems: Any, spent: dict[str, Any]) -> Priorities:
        """What a dry run says."""
        empty = self._queue(None, None, None).slice(0, 0)
        notes = [*self.notes, "a dry run: no model was asked"]
        told = (notes, self._signature(scorer, systems), self.seed, spent)
        return Priorities(empty, len(self.pairs), self.by, "", [], None, [], None, [], *told)

    def result(
        self,
        more: tuple[dict[str, Floats], dict[str, Floats]],
        scorer: str | None,
        systems: Any,
        progress: Progress | None,
        out: str | None,
    ) -> Priorities:
        """All that is said."""
        texts = measure(self.pairs)
        measures = Measures({**texts.values, **more[0]}, {**texts.answers, **more[1]})
        boards = self._boards()
        effect = 1.0 if boards[0] is None else max(boards[0].design_effect, 1.0)
        strengths = self._strengths(measures, effect)
        learnt = self._learnt(measures)
        p_tie = None if learnt is None else learnt.p_tie
        state = State(strengths, self.a, self.b, p_tie, self.goal, effect)
        drawn = self._drawn(state, p_tie, progress)
        at_random = self._at_random(state, drawn)
        return Priorities(
            self._queue(drawn, p_tie, strengths),
            len(self.pairs),
            self.by,
            drawn.reached,
            drawn.path,
            at_random,
            self._measured(measures),
            self._pilot(learnt),
            [] if self.votes is None else self._ratings(strengths, *boards),
            self.notes,
            self._signature(scorer, systems),
            self.seed,
            out=out,
        )

    def _boards(self) -> tuple[Board | None, Board | None]:
        """Ratings of all votes alike, and by inverse propensity; None where there are none."""
        if self.votes is None or self.seen is None:
            return None, None
        clusters: Ints = np.where(
            self.seen.pair >= 0, self.seen.pair, len(self.pairs) + np.arange(len(self.votes))
        )
        try:
            plain = board(self.votes, None, clusters)
        except PomonaError as error:
            self.notes.append(f"no plain ratings yet: {error.message}")
            return None, None
        weights = weights_of(self.votes)
        if weights is None:
            return plain, None
        try:
            inverse = board(self.votes, weights, clusters)
        except PomonaError as error:
            self.notes.append(f"no ratings by inverse propensity yet: {error.message}")
            return plain, None
        self.notes.append(
            f"by inverse propensity {self.votes.n:,} votes tell as much as "
            f"{inverse.effective:,.0f} of equal weight"
        )
        return plain, inverse

    def _strengths(self, measures: Measures, effect: float) -> Strengths:
        told = averages(self.pairs, measures.answers, self.names)
        if self.votes is None:
            k = len(self.names)
            return Strengths(np.zeros(k), np.eye(k), np.zeros(k), 1.0, {}, -np.inf, np.eye(k))
        return believe(counts_on(self.names, self.votes), told, list(measures.answers), effect)

    def _learnt(self, measures: Measures) -> Learnt | None:
        if self.seen is None:
            return None
        ties = self.seen.ties.sum()
        few = min(ties, self.seen.votes.sum() - ties)
        if few < _LEAST:
            which = "ties" if few == ties else "votes that are no ties"
            self.notes.append(
                f"{few:.0f} {which} are too few to learn from (there must be {_LEAST}): ties are "
                "taken to depend on ratings alone"
            )
            if self.by == "ties":
                self.by = "random"
            return None
        return learn(self.pairs, measures, self.seen, self.seed)

    def _pilot(self, learnt: Learnt | None) -> PilotFit | None:
        if learnt is None or self.seen is None:
            return None
        votes = self.seen.votes
        return PilotFit(
            int(votes.sum()),
            int((votes > 0).sum()),
            float(self.seen.ties.sum() / votes.sum()),
            learnt.slope,
            learnt.slope_low,
            learnt.slope_high,
            learnt.loss,
            learnt.plain_loss,
            learnt.fewest,
            learnt.reliability,
        )

    def _measured(self, measures: Measures) -> list[Measured]:
        return measured(measures, self.seen)

    def _drawn(self, state: State, p_tie: Floats | None, progress: Progress | None) -> Drawn:
        shown = np.zeros(len(self.pairs)) if self.seen is None else self.seen.votes
        left = np.maximum(self.overlap - shown, 0).astype(np.int64)
        return draw(
            state, p_tie, self.goal, by=self.by, random=self.random, shown=shown, left=left,
            seed=self.seed, progress=progress,
        )  # fmt: skip

    def _at_random(self, state: State, drawn: Drawn) -> int | None:
        """Votes at random that are expected to give what the queue does at its end."""
        if self.by == "random" or not len(drawn.pair):
            return None
        wanted, low, high = drawn.path[-1].half_width, 0, 100 * max(len(drawn.pair), 1)
        if state.random(high).half_width > wanted:
            return None
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (
                (low, middle) if state.random(middle).half_width <= wanted else (middle, high)
            )
        self.notes.append(
            f"by Fisher's information as many as {high:,} votes at random would do the same; what "
            "is saved in fact may be less: replay votes to see"
        )
        return high

    def _ratings(
        self, strengths: Strengths, plain: Board | None, inverse: Board | None
    ) -> list[BelievedModel]:
        assert self.votes is not None
        votes = np.bincount(self.votes.a, self.votes.count, len(self.votes.models)) + np.bincount(
            self.votes.b, self.votes.count, len(self.votes.models)
        )
        many = dict(zip(self.votes.models, votes.astype(int), strict=True))
        boards = [_ends(one.models, one.strengths, one.covariance) if one else {} for one in
                  (plain, inverse)]  # fmt: skip
        believed = _ends(self.names, strengths.mean, strengths.covariance)
        none = (None, None, None)
        rows = [
            BelievedModel(
                name,
                int(many.get(name, 0)),
                *boards[0].get(name, none),
                *boards[1].get(name, none),
                *believed[name],
            )
            for name in self.names
        ]
        return sorted(rows, key=lambda row: (-row.believed, row.model))

    def _queue(
        self, drawn: Drawn | None, p_tie: Floats | None, strengths: Strengths | None
    ) -> pa.Table:
        """The pairs in their order, with what is said of each."""
        pair = np.zeros(0, np.int64) if drawn is None else drawn.pair
        table = self.pairs.table.take(pa.array(pair))
        for name in set(ADDED) & set(table.column_names):
            table = table.drop_columns([name])
        unknown = pa.nulls(len(pair), pa.float64())
        p_a = None
        if strengths is not None and self.votes is not None:
            gap = strengths.mean[self.a[pair]] - strengths.mean[self.b[pair]]
            p_a = pa.array(1 / (1 + np.exp(-gap)))
        told = drawn is not None and self.votes is not None
        of: dict[str, Any] = {
            "rank": np.arange(1, len(pair) + 1),
            "p_tie": unknown if p_tie is None else p_tie[pair],
            "p_a": unknown if p_a is None else p_a,
            "information": drawn.information if told and drawn else unknown,
            "propensity": unknown if drawn is None else drawn.propensity,
            "available": pair if drawn is None else drawn.available,
            "random": np.zeros(len(pair), bool) if drawn is None else drawn.random,
        }
        for name in ADDED:
            table = table.append_column(name, pa.array(of[name]))
        return table

    def _signature(self, scorer: str | None, systems: Any) -> str:
        goal = self.goal
        parts = ["arena-prioritize", f"by:{self.by}", f"pairs:{len(self.pairs)}"]
        parts += (
            ["votes:0"] if self.votes is None else [f"votes:{self.votes.n}:{self.votes.digest}"]
        )
        for name in ("budget", "resolution", "order", "top"):
            if getattr(goal, name) is not None:
                parts.append(f"{name}:{getattr(goal, name):g}")
        parts += [f"overlap:{self.overlap}", f"random:{self.random:g}"]
        parts += [] if scorer is None else [f"scorer:{scorer}"]
        parts += [f"systems:{','.join(sorted(systems.values()))}"] if systems else []
        return "|".join([*parts, f"seed:{self.seed}", f"pomona:{version('pomona')}"])


def measured(measures: Measures, seen: Observed | None) -> list[Measured]:
    """Each measure with what votes say of it, the one that tells most of fewer ties first."""

    def both(values: Floats) -> tuple[Any, Any]:
        if seen is None:
            return None, None
        there = (seen.votes > 0) & np.isfinite(values)
        votes, ties = seen.votes[there], seen.ties[there]
        if not there.any() or np.ptp(values[there]) == 0:
            return None, None
        return change(values[there], votes, ties), change(-values[there], votes, ties)

    rows = [Measured(name, TEXTS[name], *both(of)) for name, of in measures.values.items()]

    def best(row: Measured) -> float:
        return min((one[0] for one in (row.largest, row.smallest) if one), default=1.0)

    return sorted(rows, key=best)


def _ends(
    names: Sequence[str], strengths: Floats, covariance: Floats
) -> dict[str, tuple[float, float, float]]:
    """Ratings of mean 1000 with 95 % intervals."""
    centred = covariance - covariance.mean(0) - covariance.mean(1)[:, None] + covariance.mean()
    half = 1.96 * ELO * np.sqrt(np.maximum(np.diag(centred), 0))
    rating = (strengths - strengths.mean()) * ELO + MEAN
    return {
        name: (float(at), float(at - far), float(at + far))
        for name, at, far in zip(names, rating, half, strict=True)
    }
