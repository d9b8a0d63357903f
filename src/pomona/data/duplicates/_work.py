"""The work folder: what a run needs to continue after a kill, tied to its parameters and inputs."""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyarrow import fs

from pomona.data.duplicates._options import Options
from pomona.data.duplicates._sign import Job, parts_of, sign_part
from pomona.errors import PomonaError
from pomona.files import read_json, write_json
from pomona.records import Records
from pomona.records._spread import spread
from pomona.records._store import info, is_remote
from pomona.records._write import disk_guard

Progress = Callable[[int, int], None]


@dataclass
class Bench:
    """An open work folder, and how far the run is."""

    folder: Path
    plan: dict[str, Any]
    total: int
    progress: Progress | None = None
    done: int = 0

    @property
    def state(self) -> Path:
        """Where finished bands are kept."""
        return self.folder / "bands"

    @property
    def name(self) -> str:
        """A name for these inputs with these parameters."""
        return hashlib.sha256(json.dumps(self.plan, sort_keys=True).encode()).hexdigest()[:16]

    def step(self, *_: int) -> None:
        """Note that one more step is done."""
        self.done += 1
        if self.progress:
            self.progress(min(self.done, self.total), self.total)

    def sign(self, records: Records, name: str, options: Options, engine: str | None, rows: int) -> list[tuple[str, int]]:
        """Sign every file of `records` into the folder `name`. Returns the files and their rows."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        jobs = [Job(part, folder, number, options, rows) for number, part in enumerate(parts_of(records))]
        return list(spread(sign_part, jobs, engine, progress=self.step))


def stamps(records: Records) -> list[Any]:
    """Name, size and time of every file; something new each time for tables in memory."""
    found = []
    for part in parts_of(records):
        name = part._source.where
        what = info(name)
        if what.type != fs.FileType.File:
            return [uuid.uuid4().hex]
        found.append([name if is_remote(name) else str(Path(name).resolve()), what.size, what.mtime_ns])
    return [*found, [[column, values.to_pylist()] for column, values in records._filters], records._limit]


@contextmanager
def bench(folder: Path, plan: dict[str, Any], total: int, progress: Progress | None) -> Iterator[Bench]:
    """Open the work folder, continuing what is there if it has the same plan; it is removed when the block ends well.

    Raises PomonaError when the folder holds something else.
    """
    plan, note = json.loads(json.dumps(plan)), folder / "plan.json"
    if folder.exists() and any(folder.iterdir()) and not note.exists():
        raise PomonaError("is not a work folder", where=folder, remedy="give work= an empty or a new folder")
    if note.exists() and read_json(note) != plan:
        shutil.rmtree(folder)
    with disk_guard(str(folder)):
        (folder / "bands").mkdir(parents=True, exist_ok=True)
        if not note.exists():
            write_json(note, plan)
    for stale in [*folder.glob("**/.*.partial"), *folder.glob("**/.*.old")]:
        shutil.rmtree(stale, ignore_errors=True) if stale.is_dir() else stale.unlink()
    yield Bench(folder, plan, total, progress)
    shutil.rmtree(folder)


def steps(options: Options, many: Sequence[Records], against: bool) -> int:
    """How many steps a run has: a file, a band, and the writing."""
    return sum(len(parts_of(records)) for records in many) + (options.n_bands or 0) * (2 if against else 1) + 1
