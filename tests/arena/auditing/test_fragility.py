"""The fewest votes that change a board."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings, strategies as st

from pomona.arena import Votes, read_votes
from pomona.arena.auditing.board import Board, board_of
from pomona.arena.auditing.fragility import Fragility, first_place, neighbours
from pomona.arena.ratings.bradley_terry import counts_from, solve


@pytest.fixture(scope="module")
def told(leaderbot: Votes) -> dict[str, tuple[Board, list[Fragility]]]:
    boards = {ties: board_of(leaderbot, ties) for ties in ("half", "davidson")}
    # The six best of 129 are enough for the golden values
    return {ties: (board, neighbours(board, 6)) for ties, board in boards.items()}


def test_golden(told: dict[str, tuple[Board, list[Fragility]]]) -> None:
    half = told["half"][1]
    assert [half[place].with_margin for place in (0, 3, 5)] == [503, 155, 103]
    davidson = told["davidson"][1]
    assert [davidson[place].with_margin for place in (0, 3, 5)] == [503, 156, 103]
    assert [davidson[place].votes for place in (0, 3, 5)] == [462, 150, 100]
    assert (davidson[0].model, davidson[0].by) == ("chatgpt-4o-latest", "gemini-1.5-pro-exp-0801")
    assert davidson[0].share == pytest.approx(0.000277, abs=1e-6)
    assert davidson[3].share == pytest.approx(0.00009, abs=1e-5)


def test_the_first_place_is_the_second_best_s(
    told: dict[str, tuple[Board, list[Fragility]]],
) -> None:
    board, found = told["davidson"]
    assert first_place(board, found[0]) == found[0]
    # Two models of many votes that all votes tell apart, and two that they do not
    assert found[0].p_value is not None and found[0].p_value < 1e-6
    assert found[5].low is not None and found[5].low < 0 < (found[5].high or 0)


def _table(wins: Any, ties: Any) -> pa.Table:
    rows = [
        {"model_a": f"m{i}", "model_b": f"m{j}", "win_a": int(wins[i][j]), "win_b": int(wins[j][i]),
         "tie_1": int(ties[i][j]), "tie_2": 0}
        for i in range(len(wins)) for j in range(i + 1, len(wins))
    ]  # fmt: skip
    return pa.Table.from_pylist(rows)


def _without(wins: Any, ties: Any, one: Fragility) -> tuple[Any, Any]:
    wins, ties = wins.copy(), ties.copy()
    for gone in one.dropped:
        i, j = int(gone.winner[1:]), int(gone.loser[1:])
        if gone.tie:
            ties[min(i, j), max(i, j)] -= gone.votes
        else:
            wins[i, j] -= gone.votes
    return wins, ties


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["davidson", "half", "rao_kupper", "drop"]))
def test_dropping_the_named_votes_changes_the_order(seed: int, ties: Any) -> None:
    rng = np.random.default_rng(seed)
    wins = rng.integers(3, 30, (4, 4))
    np.fill_diagonal(wins, 0)
    tied = np.triu(rng.integers(1, 20, (4, 4)), 1)
    board = board_of(read_votes(_table(wins, tied)), ties)
    for one in neighbours(board):
        if one.votes is None or sum(gone.votes for gone in one.dropped) < one.votes:
            continue  # more kinds of votes than are named
        left = solve(counts_from(*_without(wins, tied, one)), ties)
        above, below = int(one.model[1:]), int(one.by[1:])
        assert left.strengths[below] > left.strengths[above]
        assert one.share == one.votes / board.votes.n


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6))
def test_of_two_models_it_is_the_difference_of_wins_and_one_more(seed: int) -> None:
    wins = np.random.default_rng(seed).integers(1, 40, (2, 2))
    np.fill_diagonal(wins, 0)
    board = board_of(read_votes(_table(wins, np.zeros((2, 2)))), "half")
    (one,) = neighbours(board)
    more, less = max(wins[0, 1], wins[1, 0]), min(wins[0, 1], wins[1, 0])
    # Without its last win the better one would have no finite rating
    assert one.votes == (more - less + 1 if less > 1 else None)


def test_where_nothing_changes_it_the_reason_is_told() -> None:
    wins = np.array([[0, 9, 1], [0, 0, 1], [1, 9, 0]])
    board = board_of(read_votes(_table(wins, np.zeros((3, 3)))), "half")
    for one in neighbours(board):
        assert (one.votes is None) == (one.reason is not None)
        assert (one.votes is None) == (one.share is None)


def test_places_go_down(told: dict[str, tuple[Board, list[Fragility]]]) -> None:
    found = told["half"][1]
    assert [one.rank for one in found] == [1, 2, 3, 4, 5, 6]
    assert all(upper.by == lower.model for upper, lower in pairwise(found))


@pytest.mark.parametrize("ties", ["davidson", "half", "rao_kupper", "drop"])
def test_steps_from_the_whole_fit_say_what_refits_say(
    ties: Any, board: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted = board_of(board(models=9, items=400, seed=3), ties)
    refits: list[int] = []

    def counted(*given: Any) -> Any:
        refits.append(1)
        return solve(*given)

    monkeypatch.setattr("pomona.arena.auditing.fragility.solve", counted)
    found = neighbours(fitted)
    first, few = first_place(fitted, found[0]), len(refits)
    monkeypatch.setattr("pomona.arena.auditing.fragility._TOUCHED", 0)
    assert neighbours(fitted) == found and first_place(fitted, found[0]) == first
    assert few < (len(refits) - few) / 2
