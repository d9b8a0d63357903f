"""The queue of an arena: who is shown what, on which side, for how long it is theirs; what they
answer, take back and pass over.

Each item has as many places as people are to judge it. A task is an item that somebody was shown;
it holds a place while its lease lasts and for good once it is answered, and there is one for an
item and a person, whatever happens. What comes after the lease has ended is taken all the same: no
work is lost, and the item then has one answer more.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, exists, or_, select, update

from pomona.arena.annotating.people import Person
from pomona.arena.annotating.schema import answers, items, people, tasks
from pomona.arena.annotating.store import Store
from pomona.errors import PomonaError

KINDS = ("pair", "rate")
DRAWN = ("rank", "propensity", "available")  # how a queue came to an item
UNDO = 600.0  # seconds in which the last answer can be taken back
_SWEEP = 15.0  # seconds between two looks for leases that have ended
_AT_ONCE = 100


class Conflict(PomonaError):
    """The request is right, but what it is about is no longer as it supposes."""


@dataclass(frozen=True)
class Said:
    """What somebody answered, as they saw it: outcome is 0 or 1 for what stood on the left or the
    right, 2 for a tie, 3 for both bad; edited is 0 or 1 for the answer that was edited.
    """

    outcome: int | None = None
    rating: int | None = None
    comment: str | None = None
    edit: str | None = None
    edited: int | None = None
    prompt: str | None = None
    answer: str | None = None
    language: str | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Task:
    """What somebody is asked to judge: nothing in it says whose the answers are. `said` is what
    they answered before they took it back.
    """

    id: str
    kind: str
    language: str | None
    prompt: str
    completions: tuple[str, ...]  # from left to right
    said: Said | None


class Queue:
    """The tasks in a store. `lease` is in seconds."""

    def __init__(self, store: Store, lease: float) -> None:
        self.store, self.lease = store, lease
        self._swept = 0.0
        self._sweeping = threading.Lock()

    def next(self, person: Person, kind: str | None = None) -> Task | None:
        """What this person is to judge now: what they were shown and have not answered, else the
        first item in one of their languages that has a free place; of one kind, or any. None where
        nothing is left.
        """
        kinds = KINDS if kind is None else (kind,)
        self._sweep(every=_SWEEP)
        task = self._next(person, kinds)
        if task is None and self._sweep():
            task = self._next(person, kinds)
        return task

    def task(self, person: Person, task: str) -> Task:
        """A task of this person, whatever became of it. Raises Conflict when there is none."""
        with self.store.reading() as source:
            row = _task(source, tasks.c.id == task, tasks.c.person == person.id)
            if row is None:
                raise Conflict("there is no such task", remedy="go on with the next one")
            return _shown(source, row)

    def answer(self, person: Person, task: str, key: str, said: Said) -> bool:
        """Keep what somebody says of a task. False where this `key` has come before: then it is
        there already. Raises Conflict when the task is no longer theirs to answer.
        """
        with self.store.writing() as to:
            lock(to, person)
            if _has_key(to, person, key):
                return False
            row = _task(to, tasks.c.id == task, tasks.c.person == person.id)
            if row is None:
                raise Conflict("there is no such task", remedy="go on with the next one")
            if row.state != "open":
                remedy = "undo that first, or go on with the next one"
                raise Conflict("you have answered or passed over this one", remedy=remedy)
            values = {"state": "done", "placed": row.placed or _take_place(to, row.item)}
            to.execute(update(tasks).where(tasks.c.id == task).values(values))
            _keep(to, person, key, row.kind, said, task=task, swapped=row.swapped)
        return True

    def write(self, person: Person, key: str, said: Said) -> bool:
        """Keep a new prompt with its answer; False where this `key` has come before."""
        with self.store.writing() as to:
            lock(to, person)
            if _has_key(to, person, key):
                return False
            _keep(to, person, key, "write", said)
        return True

    def skip(self, person: Person, task: str) -> None:
        """Pass over a task: its place is free, and this person is not asked again."""
        with self.store.writing() as to:
            lock(to, person)
            row = _task(to, tasks.c.id == task, tasks.c.person == person.id)
            if row is None or row.state != "open":
                return
            if row.placed:
                _count_place(to, row.item, -1)
            values = {"state": "skipped", "placed": False}
            to.execute(update(tasks).where(tasks.c.id == task).values(values))

    def undo(self, person: Person) -> str:
        """Take back the last answer and give its kind; its task is open again. Raises Conflict
        when there is none that can be taken back.
        """
        with self.store.writing() as to:
            lock(to, person)
            row = to.execute(_undoable(person)).first()
            if row is None:
                remedy = f"only the last one can be taken back, for {UNDO / 60:.0f} minutes"
                raise Conflict("there is nothing to take back", remedy=remedy)
            now = time.time()
            to.execute(update(answers).where(answers.c.id == row.id).values(undone=now))
            back = {"state": "open", "ends": now + self.lease}
            to.execute(update(tasks).where(tasks.c.id == row.task).values(back))
        return row.kind

    def can_undo(self, person: Person) -> bool:
        """Whether there is an answer that can be taken back."""
        with self.store.reading() as source:
            return source.execute(_undoable(person)).first() is not None

    def written_back(self, person: Person) -> Said | None:
        """The prompt and answer that this person wrote and took back last, if nothing came after
        them.
        """
        last = select(answers).where(answers.c.person == person.id)
        with self.store.reading() as source:
            row = source.execute(last.order_by(answers.c.id.desc()).limit(1)).first()
        if row is None or row.kind != "write" or row.undone is None:
            return None
        return _said(row, False)

    def _next(self, person: Person, kinds: Sequence[str]) -> Task | None:
        with self.store.writing() as to:
            lock(to, person)
            mine = tasks.c.person == person.id, tasks.c.state == "open", items.c.kind.in_(kinds)
            row = _task(to, *mine)
            if row is None:
                row = self._claimed(to, person, kinds)
            elif row.ends < time.time() + self.lease / 2:
                ends = time.time() + self.lease
                to.execute(update(tasks).where(tasks.c.id == row.id).values(ends=ends))
            return None if row is None else _shown(to, row)

    def _claimed(self, to: Connection, person: Person, kinds: Sequence[str]) -> Row[Any] | None:
        # What others are being given at this moment is passed over, and waited for only where
        # nothing else is left: it may have another place. (SQLite has one writer anyway.)
        free = _free(person, kinds).limit(1)
        item = to.execute(free.with_for_update(skip_locked=True)).first()
        item = item or to.execute(free.with_for_update()).first()
        if item is None:
            return None
        task, now = secrets.token_urlsafe(16), time.time()
        values = {"id": task, "item": item.id, "person": person.id, "state": "open"}
        values |= {"placed": True, "ends": now + self.lease, "made": now}
        values |= {"swapped": item.kind == "pair" and self._swapped(person, item.same)}
        values |= {name: getattr(item, name) for name in ("same", *DRAWN)}
        to.execute(tasks.insert().values(values))
        _count_place(to, item.id, 1)
        return _task(to, tasks.c.id == task)

    def _swapped(self, person: Person, item: str) -> bool:
        """The side of b: as good as a coin, and the same whenever it is asked."""
        parts = "\0".join([self.store.seed, person.id, item])
        return bool(hashlib.sha256(parts.encode()).digest()[0] & 1)

    def _sweep(self, every: float = 0.0) -> int:
        """Free the places of leases that have ended, and say how many."""
        with self._sweeping:
            now = time.time()
            if every and now - self._swept < every:
                return 0
            self._swept = now
        ended = select(tasks.c.id, tasks.c.item).where(
            tasks.c.placed, tasks.c.state == "open", tasks.c.ends < now
        )
        with self.store.writing() as to:
            found = to.execute(ended.limit(_AT_ONCE).with_for_update(skip_locked=True)).all()
            for row in sorted(found, key=lambda row: row.item):  # all servers in one order
                to.execute(update(tasks).where(tasks.c.id == row.id).values(placed=False))
                _count_place(to, row.item, -1)
        return len(found)


def speaks(person: Person) -> ColumnElement[bool]:
    """Of items: those in one of this person's languages, or in none."""
    tags = list(person.languages)
    return or_(items.c.tag.is_(None), items.c.tag.in_(tags), items.c.base.in_(tags))


def _free(person: Person, kinds: Sequence[str]) -> Any:
    """Items with a free place that this person was never shown, in the order of the queue."""
    shown = exists().where(tasks.c.same == items.c.same, tasks.c.person == person.id)
    drawn = (items.c[name] for name in DRAWN)
    wanted = select(items.c.id, items.c.same, items.c.kind, *drawn)
    wanted = wanted.where(items.c.open, items.c.kind.in_(kinds), speaks(person), ~shown)
    return wanted.order_by(items.c.kind, items.c.rank, items.c.id)


def lock(to: Connection, person: Person) -> None:
    """One request of a person after the other, on all servers."""
    to.execute(select(people.c.id).where(people.c.id == person.id).with_for_update())


def _task(to: Connection, *which: ColumnElement[bool]) -> Row[Any] | None:
    wanted = select(tasks, items.c.kind, items.c.language, items.c.prompt).add_columns(
        items.c.completion_a, items.c.completion_b
    )
    found = wanted.join_from(tasks, items).where(*which).order_by(tasks.c.made)
    return to.execute(found.limit(1).with_for_update(of=tasks)).first()


def _shown(to: Connection, row: Row[Any]) -> Task:
    completions = (row.completion_a, *([row.completion_b] if row.kind == "pair" else []))
    completions = completions[::-1] if row.swapped else completions
    before = select(answers).where(answers.c.task == row.id).order_by(answers.c.id.desc()).limit(1)
    said = to.execute(before).first()
    return Task(
        row.id,
        row.kind,
        row.language,
        row.prompt,
        completions,
        None if said is None else _said(said, row.swapped),
    )


def _has_key(to: Connection, person: Person, key: str) -> bool:
    same = answers.c.person == person.id, answers.c.key == key
    return to.scalar(select(answers.c.id).where(*same)) is not None


def _keep(
    to: Connection,
    person: Person,
    key: str,
    kind: str,
    said: Said,
    task: str | None = None,
    swapped: bool = False,
) -> None:
    mine = answers.c.person == person.id, answers.c.undone.is_(None), ~answers.c.settled
    to.execute(update(answers).where(*mine).values(settled=True))
    values = asdict(said) | {"outcome": _turned(said.outcome, swapped)}
    edited = _turned(said.edited, swapped)
    values |= {"edited": None if edited is None else "ab"[edited]}
    values |= {"task": task, "person": person.id, "key": key, "kind": kind}
    to.execute(answers.insert().values(values | {"time": time.time(), "settled": False}))


def _said(row: Row[Any], swapped: bool) -> Said:
    given = {field.name: getattr(row, field.name) for field in fields(Said)}
    given["outcome"] = _turned(row.outcome, swapped)
    given["edited"] = None if row.edited is None else _turned("ab".index(row.edited), swapped)
    return Said(**given)


def _turned(side: int | None, swapped: bool) -> int | None:
    """Left and right as the item's a and b, or the other way round; the rest as it is."""
    return 1 - side if swapped and side in (0, 1) else side


def _take_place(to: Connection, item: int) -> bool:
    """A place for an answer whose lease has ended, where there is one left."""
    free = select(items.c.id).where(items.c.id == item, items.c.open).with_for_update()
    if to.scalar(free) is None:
        return False
    _count_place(to, item, 1)
    return True


def _count_place(to: Connection, item: int, places: int) -> None:
    taken = items.c.taken + places
    values = {"taken": taken, "open": taken < items.c.overlap}
    to.execute(update(items).where(items.c.id == item).values(values))


def _undoable(person: Person) -> Any:
    mine = answers.c.person == person.id, answers.c.undone.is_(None), ~answers.c.settled
    last = select(answers.c.id, answers.c.task, answers.c.kind)
    return last.where(*mine, answers.c.time > time.time() - UNDO)


def settled() -> ColumnElement[bool]:
    """Of answers: those that nobody can take back any more."""
    old = answers.c.time < time.time() - UNDO
    return and_(answers.c.undone.is_(None), or_(answers.c.settled, old))
