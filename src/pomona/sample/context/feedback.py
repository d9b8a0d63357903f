"""What users said about answers, kept in SQLite: corrections, complaints, which strategy did well,
and what a user likes.
"""

from __future__ import annotations

import functools
import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pomona.errors import PomonaError
from pomona.sample.context._words import words
from pomona.sample.context.bandit import Arm, thompson

_APPLICATION = 0x504F4D46  # "POMF"
_VERSION = 1
_PATIENCE = 60.0
_TABLES = (
    """create table said (
        id integer primary key, prompt text not null, chosen text not null, rejected text,
        edited text, complaint text, good integer,
        strategy text, user text, "group" text, time real not null)""",
    'create index by_strategy on said ("group", strategy, good)',
    "create index by_user on said (user)",
    (
        "create table defaults (user text not null, name text not null, value text not null, "
        "primary key (user, name)) without rowid"
    ),
)


@dataclass(frozen=True)
class Said:
    """One row. `good` is None where nobody said."""

    id: int
    prompt: str
    chosen: str
    rejected: str | None
    edited: str | None
    complaint: str | None
    good: bool | None
    strategy: str | None
    user: str | None
    group: str | None
    time: float

    @property
    def better(self) -> str | None:
        """The answer as it should have been: the edited one, or one that was called good or
        preferred to another.
        """
        if self.edited is not None:
            return self.edited
        return (
            self.chosen if self.good or (self.good is None and self.rejected is not None) else None
        )


class Feedback:
    """The file at `path`, made when it is not there. Several threads and processes may use it; each
    row is on disk when `add` returns.

    A PomonaError when the file is damaged, or a database of something else.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._guarded():
            self._file = sqlite3.connect(
                self.path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False
            )
            try:
                self._prepare()
            except BaseException:
                self._file.close()
                raise

    def add(
        self,
        *,
        prompt: str,
        chosen: str,
        rejected: str | None = None,
        edited: str | None = None,
        complaint: str | None = None,
        good: bool | None = None,
        strategy: str | None = None,
        user: str | None = None,
        group: str | None = None,
    ) -> int:
        """Keep what was said about the answer `chosen` and give back the number of the row.

        rejected: an answer that was not taken. edited: the answer as the user corrected it. good:
            thumbs up or down; where it is not given,
        an edit or a complaint counts as not good, and a choice over a rejected answer as good.
        A PomonaError when the prompt is empty, or a text is not valid Unicode.
        """
        if not prompt.strip():
            raise PomonaError(
                "feedback without a prompt", where=self.path, remedy="say which prompt was answered"
            )
        if good is None and any(given is not None for given in (rejected, edited, complaint)):
            good = edited is None and complaint is None
        values = (
            prompt,
            chosen,
            rejected,
            edited,
            complaint,
            good,
            strategy,
            user,
            group,
            time.time(),
        )
        with self._guarded():
            places = ", ".join("?" * len(values))
            row = self._file.execute(f"insert into said values (null, {places})", values).lastrowid
        assert row is not None
        return row

    def forget(self, user: str) -> int:
        """Remove all that names this user, from the file's free pages and its log too, and say how
        many rows that was.
        """
        with self._guarded():
            self._file.execute("begin immediate")
            removed = sum(
                self._file.execute(f"delete from {table} where user = ?", (user,)).rowcount
                for table in ("said", "defaults")
            )
            self._file.execute("commit")
            self._file.execute("pragma wal_checkpoint(truncate)").fetchone()
        return removed

    def rows(self, *, user: str | None = None) -> list[Said]:
        """Every row of this user, oldest first; without a user the rows that name nobody."""
        with self._guarded():
            found = self._file.execute(
                "select * from said where user is ? order by id", (user,)
            ).fetchall()
        return [_said(*row) for row in found]

    def arms(self, strategies: Sequence[str], *, group: str | None = None) -> list[Arm]:
        """How often each strategy was called good and not good, in this group, by all users."""
        with self._guarded():
            query = (
                'select strategy, sum(good), sum(1 - good) from said where "group" is ? and '
                "good is not null group by strategy"
            )
            counts = {name: (good, bad) for name, good, bad in self._file.execute(query, (group,))}
        return [Arm(name, *counts.get(name, (0, 0))) for name in strategies]

    def choose(self, strategies: Sequence[str], *, group: str | None = None, seed: int) -> str:
        """The strategy to answer with: see `bandit.thompson`. The same seed and the same feedback
        give the same one.
        """
        return thompson(self.arms(strategies, group=group), seed=seed).name

    def similar(
        self, prompt: str, k: int = 3, *, user: str | None = None, least: float = 0.0
    ) -> list[tuple[Said, float]]:
        """The `k` rows of this user (as in `rows`) whose prompts are most like this one, and how
        much: the share of their words in common.

        The share is Jaccard's, in [0, 1], and must be over `least`; of equals the latest comes
        first.
        """
        asked = _terms(prompt)
        scored = [(row, _jaccard(asked, _terms(row.prompt))) for row in self.rows(user=user)]
        return sorted(
            (pair for pair in scored if pair[1] > least), key=lambda pair: (-pair[1], -pair[0].id)
        )[:k]

    def checklist(self, prompt: str, n: int = 4, *, user: str | None = None) -> list[str]:
        """At most `n` complaints of this user (as in `rows`), as items of a checklist: on similar
        prompts first, then the latest.
        """
        asked = _terms(prompt)
        ranked = sorted(
            self.rows(user=user), key=lambda row: (-_jaccard(asked, _terms(row.prompt)), -row.id)
        )
        items: dict[str, str] = {}
        for row in ranked:
            if row.complaint and row.complaint.strip():
                items.setdefault(" ".join(words(row.complaint)), " ".join(row.complaint.split()))
        return list(items.values())[:n]

    def set_defaults(self, user: str, values: Mapping[str, Any]) -> None:
        """What holds for this user where a request says nothing: strategy, markers, anything JSON
        can hold. None removes a value.
        """
        with self._guarded():
            self._file.execute("begin immediate")
            for name, value in values.items():
                self._file.execute("delete from defaults where user = ? and name = ?", (user, name))
                if value is not None:
                    self._file.execute(
                        "insert into defaults values (?, ?, ?)",
                        (user, name, json.dumps(value, ensure_ascii=False)),
                    )
            self._file.execute("commit")

    def defaults(self, user: str) -> dict[str, Any]:
        """What `set_defaults` keeps for this user."""
        with self._guarded():
            found = self._file.execute(
                "select name, value from defaults where user = ?", (user,)
            ).fetchall()
        return {name: json.loads(value) for name, value in found}

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _prepare(self) -> None:
        for setting in ("journal_mode = wal", "synchronous = full", "secure_delete = on"):
            self._file.execute(f"pragma {setting}").fetchone()
        self._file.execute("begin immediate")
        tables = self._file.execute("select count(*) from sqlite_master").fetchone()[0]
        found = tuple(
            self._file.execute(f"pragma {name}").fetchone()[0]
            for name in ("application_id", "user_version")
        )
        if tables and found != (_APPLICATION, _VERSION):
            raise PomonaError(
                "is a database, but not feedback of this version",
                where=self.path,
                remedy="give another path",
            )
        if not tables:
            self._file.execute(f"pragma application_id = {_APPLICATION}")
            self._file.execute(f"pragma user_version = {_VERSION}")
            for table in _TABLES:
                self._file.execute(table)
        self._file.execute("commit")

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """One thread at a time, and SQLite's errors with the name of the file; a transaction that
        fails is undone.
        """
        with self._lock:
            try:
                yield
            except UnicodeEncodeError as error:
                raise PomonaError(
                    "a text has half a character in it",
                    where=self.path,
                    remedy="give valid Unicode",
                ) from error
            except sqlite3.OperationalError as error:
                raise PomonaError(
                    f"SQLite says: {error}",
                    where=self.path,
                    remedy="is it writable, on a local disk, with room?",
                ) from error
            except sqlite3.DatabaseError as error:
                raise PomonaError(
                    f"is damaged: {error}",
                    where=self.path,
                    remedy="move it away, or restore a copy",
                ) from error
            finally:
                self._undo()

    def _undo(self) -> None:
        """End a transaction that failed half-way."""
        with suppress(AttributeError, sqlite3.Error):
            if self._file.in_transaction:
                self._file.execute("rollback")


def _said(
    row: int,
    prompt: str,
    chosen: str,
    rejected: Any,
    edited: Any,
    complaint: Any,
    good: Any,
    *others: Any,
) -> Said:
    return Said(
        row,
        prompt,
        chosen,
        rejected,
        edited,
        complaint,
        None if good is None else bool(good),
        *others,
    )


@functools.lru_cache(maxsize=1 << 14)
def _terms(text: str) -> frozenset[str]:
    return frozenset(words(text))


def _jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / len(one | other) if one or other else 0.0
