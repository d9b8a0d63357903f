"""The work folder beside an output: what is scored already, chunk by chunk, so that a killed run
goes on where it was.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pomona.documents import read_json
from pomona.errors import PomonaError
from pomona.files import atomic_file, write_json
from pomona.records._write import disk_guard


class Work:
    """`OUT.work/`: `plan.json`, and a Parquet file for each pass and chunk, each whole or absent.
    Made when the first chunk is done.

    Raises PomonaError when the folder holds the beginning of another scoring.
    """

    def __init__(self, out: Path, plan: dict[str, Any]) -> None:
        self.folder, self._plan = Path(f"{out}.work"), plan
        known = self.folder / "plan.json"
        old = read_json(known) if known.is_file() else plan
        if old != plan:
            names = ", ".join(
                sorted(name for name in {*old, *plan} if old.get(name) != plan.get(name))
            )
            message = f"holds the beginning of another scoring ({names} differ)"
            raise PomonaError(
                message,
                where=self.folder,
                remedy="finish that one with its own settings, or delete the folder",
            )

    def has(self, step: str, chunk: int) -> bool:
        """Whether a chunk of a pass is done."""
        return self._path(step, chunk).is_file()

    def save(self, step: str, chunk: int, table: pa.Table) -> None:
        """Keep a chunk of a pass. Raises ResourceError when the disk is full."""
        path = self._path(step, chunk)
        with disk_guard(str(path)):
            if not (self.folder / "plan.json").is_file():
                self.folder.mkdir(parents=True, exist_ok=True)
                write_json(self.folder / "plan.json", self._plan)
            with atomic_file(path) as partial:
                pq.write_table(table, partial)

    def load(self, step: str, chunk: int) -> pa.Table:
        """A chunk of a pass that is done."""
        return pq.read_table(self._path(step, chunk))

    def remove(self) -> None:
        """The result is written: nothing here is needed any more."""
        shutil.rmtree(self.folder)

    def _path(self, step: str, chunk: int) -> Path:
        return self.folder / step / f"{chunk:06d}.parquet"
