"""What people said, as tables: votes that `arena fit` reads, texts to train on, and ratings."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
from sqlalchemy import ColumnElement, Connection, Row, and_, exists, func, or_, select

from pomona.arena.annotating.people import Person
from pomona.arena.annotating.queue import DRAWN, lock, settled
from pomona.arena.annotating.schema import answers, items, tasks
from pomona.arena.annotating.store import Store
from pomona.arena.votes import OUTCOMES
from pomona.records import Card, Results, as_records, write_partial

FORMATS = {
    "csv": "text/csv; charset=utf-8",
    "jsonl": "application/jsonl; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}
_AT_ONCE = 10_000
_TEXT, _NUMBER = pa.string(), pa.float64()
_ANSWER = [("voter", _TEXT), ("comment", _TEXT), ("seconds", _NUMBER), ("time", _NUMBER)]
_SHOWN = [(name, _NUMBER) for name in DRAWN]
_ROW = [("id", _TEXT), ("item", _TEXT), ("lang", _TEXT), ("prompt", _TEXT)]
_SIDES = ("model_a", "model_b", "completion_a", "completion_b")
SCHEMAS = {
    "votes": pa.schema(
        [*_ROW, *((name, _TEXT) for name in (*_SIDES, "winner")), *_ANSWER, *_SHOWN]
    ),
    "records": pa.schema(
        [
            *(("kind", _TEXT), *_ROW, ("completion", _TEXT), ("original", _TEXT)),
            *(("rejected", _TEXT), ("model", _TEXT), *_ANSWER),
        ]
    ),
    "ratings": pa.schema(
        [*_ROW, ("model", _TEXT), ("completion", _TEXT), ("rating", pa.int64()), *_ANSWER, *_SHOWN]
    ),
}


def export(
    *,
    db: str,
    out: str | Path,
    records: str | Path | None = None,
    ratings: str | Path | None = None,
) -> Card:
    """Write the votes that an arena has collected to a table that `arena fit` reads.

    model_a is whose answer stood on the left, voter who voted, without their name.

    What was undone is left out. The card beside OUT says how many answers there were.

    Args:
        db: The arena's database: sqlite:///FILE or postgresql://USER@HOST/DATABASE.
        out: File of the votes: .csv, .jsonl or .parquet.
        records: File for texts to train on: answers as people edited them, with what they preferred
            them to, and prompts that they wrote with an answer.
        ratings: File for the ratings of single answers.

    Raises:
        PomonaError: there is no arena in the database, or an output is not ours to replace.
    """
    store = Store(db, new=False)
    try:
        files: dict[str, str | Path | None] = {
            "--out": out,
            "--records": records,
            "--ratings": ratings,
        }
        whats = ("votes", "records", "ratings")
        with Results(files, inputs=store.files) as results:
            counts = {}
            with store.reading() as source:
                for name, what in zip(files, whats, strict=True):
                    if files[name] is not None:
                        table = table_of(source, what, answers.c.undone.is_(None))
                        results.write(name, as_records(table))
                        counts[what] = table.num_rows
                live = select(func.count()).where(answers.c.undone.is_(None))
                total = source.scalar(live) or 0
            card = Card(
                "arena export", {"db": store.where}, (), total, counts["votes"], details=counts
            )
            return results.publish(card)
    finally:
        store.close()


def download(store: Store, person: Person, what: str, form: str) -> Path:
    """A file, to be removed by who asked for it, of what is closed for a person: prompts of which
    they have judged or passed over all items, or all people have, and which they are then never
    shown. (Another pair of a prompt may have one of the same answers.)
    """
    _close_whole(store, person)
    taken_back_no_more = exists().where(answers.c.task == tasks.c.id, settled())
    closed = (
        select(tasks.c.same)
        .where(
            tasks.c.person == person.id,
            or_(
                tasks.c.state.in_(["skipped", "closed"]),
                and_(tasks.c.state == "done", taken_back_no_more),
            ),
        )
        .subquery()
    )
    whole = select(items.c.prompt).outerjoin(closed, closed.c.same == items.c.same)
    whole = whole.group_by(items.c.prompt).having(func.count() == func.count(closed.c.same))
    with store.reading() as source:
        wanted = and_(settled(), or_(answers.c.task.is_(None), items.c.prompt.in_(whole)))
        table = table_of(source, what, wanted)
    with tempfile.NamedTemporaryFile(suffix=f".{form}", delete=False) as file:
        path = Path(file.name)
    write_partial(as_records(table), path, f"{what}.{form}")
    return path


def table_of(source: Connection, what: str, wanted: ColumnElement[bool]) -> pa.Table:
    """The answers of one kind (a key of `SCHEMAS`) of which `wanted` is true, in the order in which
    they came.
    """
    kind, select_rows = _OF[what]
    rows = source.execution_options(yield_per=_AT_ONCE).execute(
        select(*_COLUMNS)
        .select_from(answers.outerjoin(tasks).outerjoin(items))
        .where(wanted, kind)
        .order_by(answers.c.id)
    )
    schema = SCHEMAS[what]
    batches = [
        pa.RecordBatch.from_pylist([select_rows(row) for row in part], schema)
        for part in rows.partitions()
    ]
    return pa.Table.from_batches(batches, schema)


def _close_whole(store: Store, person: Person) -> None:
    mine = exists().where(tasks.c.same == items.c.same, tasks.c.person == person.id)
    counted = select(func.count()).select_from(answers.join(tasks))
    n = counted.where(tasks.c.item == items.c.id, settled()).scalar_subquery()
    with store.writing() as to:
        lock(to, person)
        found = to.execute(select(items.c.id, items.c.same).where(~mine, n >= items.c.overlap))
        same = {"person": person.id, "swapped": False, "placed": False, "state": "closed"}
        same |= {"ends": 0.0, "made": 0.0}
        whole = {row.same: row.id for row in found}
        rows = [
            {"id": secrets.token_urlsafe(16), "item": item, "same": one, **same}
            for one, item in whole.items()
        ]
        if rows:
            to.execute(tasks.insert(), rows)


def _voted(row: Row[Any]) -> dict[str, Any]:
    """A vote as it was seen: model_a stood on the left."""
    sides = [(row.model_a, row.completion_a), (row.model_b, row.completion_b)]
    outcome = row.outcome
    if row.swapped:
        sides.reverse()
        outcome = 1 - outcome if outcome < 2 else outcome
    (model_a, completion_a), (model_b, completion_b) = sides
    return {
        **_common(row),
        "model_a": model_a,
        "model_b": model_b,
        "completion_a": completion_a,
        "completion_b": completion_b,
        "winner": OUTCOMES[outcome],
    }


def _written(row: Row[Any]) -> dict[str, Any]:
    """A text to train on: an edit, with the answer that the edited one was preferred to, or what
    somebody wrote.
    """
    if row.kind == "write":
        new = {"prompt": row.written, "completion": row.answer, "lang": row.spoken}
        return {**_common(row), "kind": "write", **new}
    a, b = (row.model_a, row.completion_a), (row.model_b, row.completion_b)
    (model, original), (_, other) = (a, b) if row.edited == "a" else (b, a)
    won = row.outcome == "ab".index(row.edited)
    return {
        **_common(row),
        "kind": "edit",
        "completion": row.edit,
        "original": original,
        "rejected": other if won else None,
        "model": model,
    }


def _rated(row: Row[Any]) -> dict[str, Any]:
    return {
        **_common(row),
        "model": row.model_a,
        "completion": row.completion_a,
        "rating": row.rating,
    }


def _common(row: Row[Any]) -> dict[str, Any]:
    return {
        "id": str(row.id),
        "item": row.item,
        "lang": row.lang,
        "prompt": row.asked,
        "voter": row.person,
        **{name: getattr(row, name) for name in ("comment", "seconds", "time")},
        **{name: getattr(row, name) for name in DRAWN},
    }


_COLUMNS = (
    *(answers.c[name] for name in ("id", "person", "kind", "outcome", "rating", "comment")),
    *(answers.c[name] for name in ("edit", "edited", "answer", "seconds", "time")),
    answers.c.prompt.label("written"),
    answers.c.language.label("spoken"),
    tasks.c.swapped,
    *(tasks.c[name] for name in DRAWN),
    items.c.name.label("item"),
    items.c.language.label("lang"),
    items.c.prompt.label("asked"),
    items.c.model_a,
    items.c.model_b,
    items.c.completion_a,
    items.c.completion_b,
)
_OF: dict[str, tuple[ColumnElement[bool], Callable[[Row[Any]], dict[str, Any]]]] = {
    "votes": (answers.c.kind == "pair", _voted),
    "records": (or_(answers.c.kind == "write", answers.c.edit.is_not(None)), _written),
    "ratings": (answers.c.kind == "rate", _rated),
}
