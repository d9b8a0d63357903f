"""The live leaderboard: of votes that nobody can take back, for those who have voted."""

from __future__ import annotations

import pyarrow as pa
import pytest
from sqlalchemy import update

from pomona.arena import fit
from pomona.arena.annotating import board as boards
from pomona.arena.annotating.board import Board
from pomona.arena.annotating.items import add_items, read_pairs
from pomona.arena.annotating.people import Person
from pomona.arena.annotating.queue import Queue, Said
from pomona.arena.annotating.schema import answers
from pomona.arena.annotating.store import Store

from .conftest import pairs, person, unique


@pytest.fixture
def board(store: Store, monkeypatch: pytest.MonkeyPatch) -> Board:
    monkeypatch.setattr(boards, "_LASTS", 0.0)
    return Board(store, needed=3)


def vote(store: Store, who: Person, n: int, right: int = 0) -> None:
    """Votes for the item's a, the last `right` of them for its b."""
    queue = Queue(store, 600)
    for place in range(n):
        task = queue.next(who)
        assert task is not None
        first = int(not task.completions[0].startswith("An "))
        outcome = 1 - first if place >= n - right else first
        queue.answer(who, task.id, unique(), Said(outcome=outcome))


def test_votes_of_ones_own_come_first(store: Store, board: Board) -> None:
    add_items(store, read_pairs(pairs(12)), 2)
    ada, grace = person(store, "Ada"), person(store, "Grace", role="lead")
    assert board.of(grace)["note"] == "there are no votes yet"
    vote(store, ada, 3)
    shown = board.of(ada)  # the third one could still be undone
    assert (shown["votes"], shown["own"], shown["needed"], shown["rows"]) == (2, 2, 1, [])
    assert board.of(grace)["needed"] == 0
    vote(store, ada, 1)
    assert board.of(ada)["needed"] == 0


def test_it_is_what_arena_fit_says(store: Store, board: Board) -> None:
    add_items(store, read_pairs(pairs(12)), 2)
    for name, right in (("Ada", 3), ("Bea", 5)):
        vote(store, person(store, name), 12, right)
    with store.writing() as to:
        to.execute(update(answers).values(settled=True))
    a, b = ([f"{m}" for m in names] for names in zip(*[("apple", "pear"), ("pear", "quince"), ("quince", "apple")] * 4, strict=True))  # fmt: skip
    winners = ["model_b" if n >= 12 - right else "model_a" for right in (3, 5) for n in range(12)]
    items = [f"item-{n}" for n in range(12)] * 2
    voters = ["Ada"] * 12 + ["Bea"] * 12
    table = {"model_a": a * 2, "model_b": b * 2, "winner": winners, "item": items, "voter": voters}
    expected = fit(pa.table(table))
    shown = board.of(person(store, "Grace", role="lead"))
    assert shown["votes"] == 24 and shown["signature"].startswith("bt|ties:davidson|ci:")
    for row, one in zip(shown["rows"], expected.rows, strict=True):
        assert (row["model"], row["votes"], row["rank"]) == (one.model, one.votes, one.rank)
        assert row["rating"] == pytest.approx(one.rating, abs=1e-6)
        assert row["low"] < row["rating"] < row["high"]


def test_votes_that_connect_nothing_have_a_note(store: Store, board: Board) -> None:
    two = {"model_a": ["a", "c"], "model_b": ["b", "d"]}
    add_items(store, read_pairs(pairs(2, **two)), 1)
    vote(store, person(store, "Ada"), 2, 1)
    with store.writing() as to:
        to.execute(update(answers).values(settled=True))
    shown = board.of(person(store, "Grace", role="lead"))
    assert shown["rows"] == [] and shown["note"]
