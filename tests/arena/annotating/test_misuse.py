"""What people get wrong, and what the curious and the dishonest try."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pyarrow as pa
import pytest
from sqlalchemy import update
from sqlalchemy.exc import OperationalError

from pomona.arena import fit
from pomona.arena.annotating import export, serve
from pomona.arena.annotating.app import ArenaSettings
from pomona.arena.annotating.board import Board
from pomona.arena.annotating.items import add_items, read_answers, read_pairs
from pomona.arena.annotating.progress import Progress
from pomona.arena.annotating.queue import Queue, Said
from pomona.arena.annotating.schema import answers
from pomona.arena.annotating.store import Store
from pomona.errors import PomonaError

from .conftest import Running, pairs, person, unique


@pytest.fixture
def arena(tmp_path: Path) -> Iterator[Running]:
    """Served from SQLite: nothing here is about the database."""
    running = Running(f"sqlite:///{tmp_path / 'arena.db'}", ArenaSettings(needed=0))
    yield running
    running.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty arena in SQLite."""
    store = Store(str(tmp_path / "arena.db"))
    yield store
    store.close()


def test_an_export_does_not_say_whose_an_answer_in_another_pair_is(arena: Running) -> None:
    """Of three systems, each answer stands in two pairs."""
    three = pairs(3, prompt=["Why?"] * 3, completion_a=list("xyz"), completion_b=list("yzx"))
    arena.add(three)
    ada, grace = arena.browser("Ada"), arena.browser("Grace", "lead")
    asked = grace.get("/").text
    for _ in range(2):
        ada.submit("/answer", outcome="a")
    with arena.store.writing() as to:
        to.execute(update(answers).values(time=answers.c.time - 3600))
    votes = "/lead/export?what=votes&format=jsonl"
    assert grace.get(votes).text == ""
    grace.submit("/skip", asked)
    assert len(grace.get(votes).text.splitlines()) == 2


def test_origins_that_are_no_address_are_refused(arena: Running) -> None:
    ada = arena.browser("Ada")
    token = ada.field(ada.get("/settings").text, "csrf")
    for origin in ("http://[", "x", "://", "null", arena.url + "/x", arena.url.upper() + "."):
        answer = ada.post("/undo", data={"csrf": token}, headers={"origin": origin})
        assert answer.status_code == 403
    own = {"origin": arena.url, "content-type": "Application/x-www-form-URLencoded"}
    assert ada.post("/undo", content=f"csrf={token}", headers=own).status_code == 409
    assert ada.get("/lead/").status_code == 404  # led on, it would be to http behind a proxy


def test_old_cookies_of_a_class_behind_one_address_keep_nobody_out(arena: Running) -> None:
    arena.add(pairs(1))
    link = arena.link("Ada")
    old = dict.fromkeys(arena.browser("Bea").cookies, "old")
    assert old
    with httpx.Client(base_url=arena.url, cookies=old) as client:
        assert {client.get("/").status_code for _ in range(25)} == {200}
        assert client.post(link).status_code == 303


def test_two_arenas_on_one_machine_keep_their_sessions_apart(
    arena: Running, tmp_path: Path
) -> None:
    other = Running(f"sqlite:///{tmp_path / 'other.db'}")
    with httpx.Client(follow_redirects=True) as browser:  # cookies know no ports
        for each in (arena, other):
            browser.post(each.link("Ada"))
        assert [browser.get(f"{each.url}/board").status_code for each in (arena, other)] == [
            200
        ] * 2
    other.close()


def test_long_answers_can_be_edited_and_rated_without_javascript(arena: Running) -> None:
    """Then the whole text comes back, edited or not."""
    long = "书" * 115_000
    rows = pa.table({"prompt": ["Why?", "How?"], "completion": [long, long]})
    add_items(arena.store, read_answers(rows), 1)
    ada = arena.browser("Ada")
    page = ada.get("/").text
    assert ada.submit("/answer", page, rating=3, edit=long).status_code == 200
    assert ada.submit("/answer", rating=3, edit=long + "!").status_code == 200
    with arena.store.reading() as source:
        edits = source.execute(answers.select().order_by(answers.c.id)).all()
    assert [row.edit and len(row.edit) for row in edits] == [None, 115_001]


def test_a_conversation_is_shown_as_one(arena: Running) -> None:
    said = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    prompts = [json.dumps(said), "[" * 5000, '[{"role": "user"}]']
    arena.add(pairs(3, prompt=prompts))
    ada = arena.browser("Ada")
    page = ada.get("/")
    assert "system:\nBe brief.\n\nuser:\nWhy?</div>" in page.text
    for _ in range(3):
        assert page.status_code == 200
        page = ada.submit("/answer", page.text, outcome="tie")


def test_what_nobody_could_be_asked_is_refused() -> None:
    """Nobody can declare such a language."""
    with pytest.raises(PomonaError, match=r'row 2: lang is "Chinese \(simplified\)", no tag'):
        read_pairs(pairs(2, lang=["i-klingon", "Chinese (simplified)"]))


def test_more_people_for_what_is_there(store: Store) -> None:
    table = read_pairs(pairs(1))
    assert add_items(store, table, 1) == 1
    ada, bea, queue = person(store, "Ada"), person(store, "Bea"), Queue(store, 60)
    task = queue.next(ada)
    assert task is not None and queue.next(bea) is None
    queue.answer(ada, task.id, unique(), Said(outcome=0))
    assert add_items(store, table, 2) == 0 and queue.next(bea) is not None
    assert add_items(store, table, 1) == 0  # as when a server is started again without --overlap
    assert queue.next(bea) is not None and queue.next(person(store, "Eve")) is None
    assert add_items(store, table, 3) == 0 and queue.next(person(store, "Zoe")) is not None


def test_a_pair_that_stands_there_twice_is_one_for_each_and_they_agree(store: Store) -> None:
    add_items(store, read_pairs(pairs(2, **{name: [same] * 2 for name, same in _SAME.items()})), 1)
    queue = Queue(store, 60)
    for name, outcome in (("Ada", 0), ("Bea", 0)):
        who = person(store, name)
        task = queue.next(who)
        assert task is not None
        left = Progress(store)
        assert left.of(who) == {"done": 0, "total": 1}
        outcome = Said(outcome=outcome ^ (task.completions[0] != "x"))
        queue.answer(who, task.id, unique(), outcome)
        for progress in (left, Progress(store)):
            assert progress.of(who) == {"done": 1, "total": 1}
    assert left.by_language()[0]["agreement"] == 1.0


_SAME = {"prompt": "?", "item": None, "completion_a": "x", "completion_b": "y"} | {
    "model_a": "apple",
    "model_b": "pear",
}


def test_the_board_is_the_fit_of_the_export(store: Store, tmp_path: Path) -> None:
    """Also where errors are those of prompts, since no item has two votes."""
    add_items(store, read_pairs(pairs(60, prompt=[f"{n // 6}?" for n in range(60)])), 1)
    queue, ada, bea = Queue(store, 60), person(store, "Ada"), person(store, "Bea", role="lead")
    for n in range(60):
        who = (ada, bea)[n % 2]
        task = queue.next(who)
        assert task is not None
        queue.answer(who, task.id, unique(), Said(outcome=(0, 1, 2, 0, 1)[n % 5]))
    with store.writing() as to:
        to.execute(update(answers).values(time=answers.c.time - 3600))
    export(db=str(tmp_path / "arena.db"), out=tmp_path / "votes.csv")
    board, found = Board(store, 0).of(bea), fit(tmp_path / "votes.csv")
    assert board["signature"] == found.signature and "prompt" in found.signature
    assert [(row["model"], row["rank"]) for row in board["rows"]] == [
        (row.model, row.rank) for row in found.rows
    ]
    # Votes come in another order: sums differ by their rounding.
    assert [row["low"] for row in board["rows"]] == pytest.approx(
        [row.ci_low for row in found.rows], rel=1e-12
    )


def test_what_is_left_to_do_before_others_can_come(tmp_path: Path) -> None:
    db = str(tmp_path / "a.db")
    with serve(pairs(1), db=db, host="0.0.0.0", port=0) as server:
        nobody, tls = server.notes
    assert "--lead NAME" in nobody and "TLS" in tls
    with serve(db=db, host="0.0.0.0", port=0, url="https://a.example", lead="Ada") as server:
        assert server.notes == []


def test_a_database_that_is_gone_is_for_who_runs_the_server(
    arena: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its address is no business of those who annotate."""
    ada = arena.browser("Ada")
    page = ada.get("/settings").text
    assert ada.submit("/lead/people/%00/link", page).status_code == 404
    with monkeypatch.context() as broken:
        broken.setattr(arena.store, "_engine", _Gone())
        for _ in range(3):
            answer = ada.get("/")
            assert answer.status_code == 503 and "secret.example" not in answer.text
            assert answer.headers["retry-after"] == "2"
    assert [record.message.count("secret.example") for record in caplog.records] == [1]
    assert ada.get("/").status_code == 200


class _Gone:
    def connect(self) -> None:
        raise OperationalError("select", {}, Exception("secret.example does not answer"))
