"""Rows of a memory that grows while it is used, in SQLite: each is on disk when it is told."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from pomona.db import Database
from pomona.errors import PomonaError

MOST = 100_000
_TABLES = (
    """create table row (
        id integer primary key autoincrement, owner text not null, "group" text not null,
        source text not null, answer text not null, time real not null)""",
    'create index by_group on row (owner, "group")',
)


@dataclass(frozen=True)
class KeptRow:
    """What was asked, its answer, and the group it is searched in."""

    id: int
    source: str
    answer: str
    group: str


class KeptRows:
    """The file at `path`, made when it is not there, with at most `most` rows of each owner.
    Several threads and processes may use it.

    A PomonaError when the file is damaged, or a database of something else.
    """

    def __init__(self, path: str | Path, *, most: int = MOST) -> None:
        self.path, self.most = Path(path), most
        # What a user takes back must not stay in free pages, and a row is on disk when it is told.
        self.file = Database(
            path,
            _TABLES,
            what="a memory of rows",
            application=b"POMR",
            settings=("synchronous = full", "secure_delete = on"),
        )

    def add(self, source: str, answer: str, group: str = "", *, owner: str = "") -> int:
        """Keep a row and give back its number. A PomonaError when a text is empty or the owner's
        part is full.
        """
        for name, text in (("source", source), ("answer", answer)):
            if not text.strip():
                remedy = "give some text"
                raise PomonaError(f"the {name} is empty", where="memory", remedy=remedy)
        with self.file.writing() as file:
            count = file.execute("select count(*) from row where owner = ?", (owner,)).fetchone()
            if count[0] >= self.most:
                message = f"there are {count[0]:,} rows, as many as are kept"
                raise PomonaError(message, where="memory", remedy="delete some, or keep more")
            values = (None, owner, group, source, answer, time.time())
            row = file.execute("insert into row values (?, ?, ?, ?, ?, ?)", values).lastrowid
        assert row is not None
        return row

    def delete(self, row: int, *, owner: str = "") -> bool:
        """Remove a row, from the file's free pages and its log too; whether the owner had it."""
        with self.file.writing() as file:
            where = (row, owner)
            gone = file.execute("delete from row where id = ? and owner = ?", where).rowcount
        with self.file.reading() as file:  # the log holds what was deleted until it is emptied
            file.execute("pragma wal_checkpoint(truncate)").fetchone()
        return gone > 0

    def version(self, group: str, *, owner: str = "") -> tuple[int, int]:
        """Changes with every row that is added or removed there, by other processes too: numbers
        are never given twice.
        """
        query = 'select count(*), max(id) from row where owner = ? and "group" = ?'
        with self.file.reading() as file:
            count, last = file.execute(query, (owner, group)).fetchone()
        return count, last or 0

    def rows(self, group: str, *, owner: str = "") -> list[KeptRow]:
        """The rows of a group, the latest first."""
        query = (
            'select id, source, answer, "group" from row where owner = ? and "group" = ? '
            "order by id desc"
        )
        with self.file.reading() as file:
            return [KeptRow(*row) for row in file.execute(query, (owner, group))]

    def close(self) -> None:
        """Close the file."""
        self.file.close()
