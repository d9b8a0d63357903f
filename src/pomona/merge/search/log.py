"""The log of a search: every scored candidate is a line of JSON, on disk before the next one is
tried.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pomona.errors import PomonaError
from pomona.workspace import disk_guard


@dataclass(frozen=True)
class Trial:
    """A candidate and what it scored. `value` is None when it could not be merged, and `problem`
    says why.

    `seconds` are CPU seconds of merging and scoring it, `flops` the operations of scoring, `tokens`
    what the model read and wrote.
    """

    values: Mapping[str, float | bool]
    value: float | None
    seconds: float = 0.0
    flops: float = 0.0
    tokens: int = 0
    problem: str = ""


class Log:
    """Trials by their values, in `path`. The first line says what a score depends on.

    A line cut short by a kill is dropped. Raises PomonaError when the file is of another search,
    and ResourceError when the disk is full.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self.path = path
        self._known: dict[str, Trial] = {}
        head = {"pomona_search": 1, **json.loads(json.dumps(about))}
        whole = self._whole_lines()
        if whole:
            self._check(json.loads(whole[0]), head)
        for line in whole[1:]:
            trial = Trial(**json.loads(line))
            self._known[_key(trial.values)] = trial
        if not whole:
            self._append(head)

    def _whole_lines(self) -> list[bytes]:
        if not self.path.is_file():
            return []
        text = self.path.read_bytes()
        end = text.rfind(b"\n") + 1
        if end < len(text):
            os.truncate(self.path, end)
        return text[:end].splitlines()

    def _check(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        if old != new:
            names = ", ".join(
                sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
            )
            remedy = "go on with the settings of that one, or delete the file"
            raise PomonaError(
                f"holds the beginning of another search ({names} differ)",
                where=self.path,
                remedy=remedy,
            )

    def find(self, values: Mapping[str, Any]) -> Trial | None:
        """The trial with these values, when there was one."""
        return self._known.get(_key(values))

    def add(self, trial: Trial) -> None:
        """Keep a trial; it is on disk when this returns."""
        self._append(asdict(trial))
        self._known[_key(trial.values)] = trial

    def _append(self, row: Mapping[str, Any]) -> None:
        with disk_guard(str(self.path)):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as stream:
                stream.write(json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n")
                stream.flush()
                os.fsync(stream.fileno())


def _key(values: Mapping[str, Any]) -> str:
    return json.dumps(dict(values), sort_keys=True)
