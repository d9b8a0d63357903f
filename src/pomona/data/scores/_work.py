"""The work folder beside an output: what is scored already, chunk by chunk, so that a killed run
goes on where it was.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pomona.files import atomic_file
from pomona.workspace import Workspace, disk_guard


class Work:
    """`OUT.work/`: `plan.json`, and a Parquet file for each pass and chunk, each whole or absent.
    Made when the first chunk is done.

    Raises PomonaError when the folder holds the beginning of another scoring.
    """

    def __init__(self, out: Path, plan: dict[str, Any]) -> None:
        self._workspace = Workspace(Path(f"{out}.work"), plan)
        self._workspace.refuse_another("scoring")

    def has(self, step: str, chunk: int) -> bool:
        """Whether a chunk of a pass is done."""
        return self._path(step, chunk).is_file()

    def save(self, step: str, chunk: int, table: pa.Table) -> None:
        """Keep a chunk of a pass. Raises ResourceError when the disk is full."""
        path = self._path(step, chunk)
        self._workspace.begin()
        with disk_guard(path), atomic_file(path) as partial:
            pq.write_table(table, partial)

    def load(self, step: str, chunk: int) -> pa.Table:
        """A chunk of a pass that is done."""
        return pq.read_table(self._path(step, chunk))

    def remove(self) -> None:
        """The result is written: nothing here is needed any more."""
        self._workspace.remove()

    def _path(self, step: str, chunk: int) -> Path:
        return self._workspace.folder / step / f"{chunk:06d}.parquet"
