"""Added votes give the ratings of all votes, and nearly their errors, in milliseconds."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pytest

from pomona.arena import OUTCOMES, LiveRatings, Standing, Votes, fit, read_votes
from pomona.arena.ratings.bradley_terry import Ties
from pomona.errors import PomonaError


def made(n: int, k: int = 5, seed: int = 3) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        a, b = rng.choice(k, 2, replace=False)
        lead = (b - a) / 2 + rng.logistic()
        tied = OUTCOMES[rng.integers(2, 4)]
        winner = tied if abs(lead) < 0.5 else "model_a" if lead > 0 else "model_b"
        rows.append({"model_a": f"m{a}", "model_b": f"m{b}", "winner": winner})
    return rows


@pytest.mark.parametrize("ties", get_args(Ties))
def test_added_votes_are_as_if_they_had_been_there(ties: Ties) -> None:
    rows = made(330)
    live = LiveRatings(read_votes(pa.Table.from_pylist(rows[:300])), ties=ties)
    for row in rows[300:]:
        live.add(row["model_a"], row["model_b"], row["winner"])
    same(live, rows, ties, 0.05)
    late = {"model_a": "m9", "model_b": "m0", "winner": "model_a"}
    new = [late, {**late, "winner": "model_b"}, late, {**late, "model_b": "m8"}]
    for row in new:
        live.add(row["model_a"], row["model_b"], row["winner"])
    # Of few votes errors are far off in any case, and change where they are counted from.
    *_, last = same(live, rows + new, ties, 0.1)
    assert (last.model, last.rating, last.votes) == ("m8", None, 1)


def same(live: LiveRatings, rows: list[Any], ties: Ties, near: float) -> list[Standing]:
    got, whole = live.standings(), fit(pa.Table.from_pylist(rows), ties=ties)
    assert [row.model for row in got] == [row.model for row in whole.rows]
    for row, wanted in zip(got, whole.rows, strict=True):
        assert row.rating == pytest.approx(wanted.rating, abs=1e-6)
        if row.rating is not None and wanted.rating is not None:
            assert row.ci_low is not None and wanted.ci_low is not None
            width = wanted.rating - wanted.ci_low
            assert row.rating - row.ci_low == pytest.approx(width, rel=near)
            assert row.votes == wanted.votes
    return got


def test_clustered_errors_are_kept() -> None:
    rows = [{**row, "voter": str(place // 30)} for place, row in enumerate(made(300))]
    votes = read_votes(pa.Table.from_pylist(rows))
    live, start = LiveRatings(votes), fit(votes)
    told = {row.model: row.ci_low for row in start.rows}
    assert {row.model: row.ci_low for row in live.standings()} == pytest.approx(told)
    live.add("m0", "m1", "tie")
    for row in live.standings():
        assert row.ci_low == pytest.approx(told[row.model], abs=10)


def test_a_vote_leaves_many_others_solved(leaderbot: Votes) -> None:
    live = LiveRatings(leaderbot)
    names = list(leaderbot.models)
    for place in range(10):
        live.add(names[place], names[place + 40], OUTCOMES[place % 3])
    assert live.solution.converged and live.solution.gradient_norm < 1e-10


def test_votes_that_are_none_are_refused() -> None:
    live = LiveRatings(read_votes(pa.Table.from_pylist(made(60))))
    for vote, text in (
        (("m0", "m0", "tie"), '"m0" is on both sides'),
        (("m0", "m1", "left"), '"left" is unknown'),
        (("m0", "m1", "tie", 0), "n is 0"),
    ):
        with pytest.raises(PomonaError, match=text):
            live.add(*vote)
