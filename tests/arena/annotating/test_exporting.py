"""What people said, as tables that the rest of the house reads."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from pomona.arena import read_votes
from pomona.arena.annotating import export
from pomona.arena.annotating.items import add_items, read_answers, read_pairs
from pomona.arena.annotating.queue import Queue, Said
from pomona.arena.annotating.store import Store
from pomona.cli import main
from pomona.errors import PomonaError
from pomona.records import read
from pomona.sample.context import Feedback

from .conftest import pairs, person, unique


@pytest.fixture
def voted(store: Store, database: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Ada and Bea prefer the item's a, which Ada edits; Cleo says both are bad and writes anew."""
    add_items(store, read_pairs(pairs(4, rank=[4, 3, 2, 1], propensity=[0.5] * 4)), 3)
    rows = pa.table({"prompt": ["Why?"], "completion": ["Because"], "model": ["pear"]})
    add_items(store, read_answers(rows), 1)
    monkeypatch.setattr(Queue, "_swapped", lambda _, who, __: who.name == "Bea")
    queue = Queue(store, 600)
    for name in ("Ada", "Bea", "Cleo"):
        who = person(store, name)
        while (task := queue.next(who)) is not None:
            first = int(not task.completions[0].startswith("An "))
            edit = Said(outcome=first, edit="Best", edited=first, comment="so\nthere", seconds=2.5)
            said = {"Ada": edit, "Bea": Said(outcome=first), "Cleo": Said(outcome=3)}[name]
            said = Said(rating=4, edit="Just so", edited=0) if task.kind == "rate" else said
            queue.answer(who, task.id, unique(), said)
        if name == "Cleo":
            queue.write(who, unique(), Said(prompt="Who?", answer="Me", language="en"))
            queue.undo(who)
            queue.write(who, unique(), Said(prompt="Who else?", answer="You", language="en"))
    return database


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_votes_are_those_that_arena_fit_reads(voted: str, tmp_path: Path, form: str) -> None:
    out = tmp_path / f"votes.{form}"
    card = export(db=voted, out=out)
    assert (card.rows_in, card.rows_out) == (14, 12)
    votes = read_votes(str(out))
    assert votes.models == ("apple", "pear", "quince") and votes.n == 12
    assert {*votes.columns["voter"].to_pylist()}.isdisjoint({"Ada", "Bea", "Cleo"})
    table = read(str(out)).to_table()
    assert [*dict.fromkeys(table["item"].to_pylist())] == [f"item-{n}" for n in (3, 2, 1, 0)]
    won = [
        row["completion_a" if row["winner"] == "model_a" else "completion_b"]
        for row in table.to_pylist()
        if row["winner"] != "tie (bothbad)"
    ]
    assert len(won) == 8 and all(text.startswith("An answer") for text in won)
    assert {*map(float, table["propensity"].to_pylist())} == {0.5}
    assert {*table["winner"].to_pylist()} == {"model_a", "model_b", "tie (bothbad)"}  # both sides


def test_edits_feed_training_and_feedback(voted: str, tmp_path: Path) -> None:
    out, texts, ratings = (tmp_path / f"{name}.parquet" for name in ("votes", "texts", "ratings"))
    export(db=voted, out=out, records=texts, ratings=ratings)
    rows = read(str(texts)).to_table().to_pylist()
    edits, rated, written = rows[:4], rows[4], rows[5:]
    assert [row["completion"] for row in edits] == ["Best"] * 4
    assert all(row["original"].startswith("An answer") for row in edits)
    assert all(row["rejected"].startswith("Another answer") for row in edits)
    assert (rated["completion"], rated["original"], rated["rejected"]) == (
        "Just so",
        "Because",
        None,
    )
    assert [(row["kind"], row["prompt"], row["completion"]) for row in written] == [
        ("write", "Who else?", "You")
    ]
    (rating,) = read(str(ratings)).to_table().to_pylist()
    assert (rating["model"], rating["rating"], rating["completion"]) == ("pear", 4, "Because")
    feedback = Feedback(tmp_path / "feedback.db")
    for row in edits:
        feedback.add(
            prompt=row["prompt"],
            chosen=row["original"],
            rejected=row["rejected"],
            edited=row["completion"],
            user=row["voter"],
        )
    feedback.close()


def test_the_command_and_what_it_refuses(
    voted: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "votes.csv"
    line = ["arena", "export", "--db", voted, "--out", str(out)]
    assert main([*line, "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["details"] == {"votes": 12} and told["signature"].startswith("arena export|db:")
    assert main(line) == 0  # its own is replaced
    out.write_text("mine")
    assert main(line) == 2
    assert "is not what Pomona wrote there" in capsys.readouterr().err
    with pytest.raises(PomonaError, match="there is no arena"):
        export(db=f"sqlite:///{tmp_path / 'none.db'}", out=tmp_path / "o.csv")
