"""The work folder: what a run needs to continue after a kill, tied to its parameters and inputs."""

from __future__ import annotations

import hashlib
import json
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyarrow import fs

from pomona.data.duplicates._options import Options
from pomona.data.duplicates._sign import Job, sign_part
from pomona.records import Piece, Records, info, is_remote, rows_by_file, spread
from pomona.workspace import Workspace

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

    def sign(
        self, pieces: Sequence[Piece], name: str, options: Options, engine: str | None, rows: int
    ) -> list[tuple[str, int]]:
        """Sign every piece into the folder `name`. Returns the files and their rows."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        jobs = [Job(piece, folder, number, options, rows) for number, piece in enumerate(pieces)]
        counts: list[int] = []
        for count in spread(sign_part, jobs, engine):
            counts.append(count)
            self.step()
        return rows_by_file(pieces, counts)


def stamps(records: Records) -> list[Any]:
    """Name, size and time of every file; something new each time for tables in memory."""
    found = []
    for part in records._source.parts():
        name = part.where
        what = info(name)
        if what.type != fs.FileType.File:
            return [uuid.uuid4().hex]
        found.append(
            [name if is_remote(name) else str(Path(name).resolve()), what.size, what.mtime_ns]
        )
    return [
        *found,
        [[column, values.to_pylist()] for column, values in records._filters],
        records._limit,
    ]


@contextmanager
def work_at(out: str | Path, work: str | Path | None, dry_run: bool) -> Iterator[Path]:
    """The work folder: `work`, or a hidden one beside `out`; for a dry run a temporary one."""
    if work is not None or not dry_run:
        name = Path(str(out).rpartition("/")[2] if is_remote(str(out)) else out)
        yield Path(work) if work is not None else name.with_name(f".{name.name}.work")
        return
    with tempfile.TemporaryDirectory(prefix="pomona-") as folder:
        yield Path(folder) / "work"


@contextmanager
def bench(
    folder: Path, plan: dict[str, Any], total: int, progress: Progress | None
) -> Iterator[Bench]:
    """Open the work folder of exact and minhash; see `Workspace`."""
    workspace = Workspace(folder, plan)
    with workspace.resumed():
        opened = Bench(folder, workspace.plan, total, progress)
        opened.state.mkdir(exist_ok=True)
        yield opened


def steps(options: Options, many: Sequence[Sequence[Piece]], against: bool) -> int:
    """How many steps a run has: a piece, a band, and the writing."""
    return sum(map(len, many)) + (options.n_bands or 0) * (2 if against else 1) + 1
