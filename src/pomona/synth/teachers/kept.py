"""What programs wrote, kept in a SQLite file so that nothing runs twice."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from pomona.db import Database

_TABLE = """create table answers (
    key blob primary key, program text not null, answer text not null,
    cpu_seconds real not null) without rowid"""


class ProgramStore:
    """Answers of programs by program, version and text. Raises PomonaError when the file is damaged
    or something else.
    """

    def __init__(self, path: str | Path) -> None:
        self._file = Database(
            path,
            [_TABLE],
            what="a store of programs' answers",
            application=b"POMT",
            lost="move it away; the programs write it again",
        )

    def held(self, identity: str, texts: Sequence[str]) -> dict[str, tuple[str, float]]:
        """Answers and their CPU seconds, of those texts that are there."""
        query, found = "select answer, cpu_seconds from answers where key = ?", {}
        with self._file.reading() as file:
            for text in texts:
                row = file.execute(query, (_key(identity, text),)).fetchone()
                if row is not None:
                    found[text] = (row[0], row[1])
        return found

    def keep(self, identity: str, answers: Mapping[str, tuple[str, float]]) -> None:
        """Write answers, all of them or none."""
        rows = [(_key(identity, text), identity, *given) for text, given in answers.items()]
        with self._file.writing() as file:
            file.executemany("insert or ignore into answers values (?, ?, ?, ?)", rows)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _key(identity: str, text: str) -> bytes:
    return hashlib.sha256(f"{identity}\0{text}".encode("utf-8", "surrogatepass")).digest()
