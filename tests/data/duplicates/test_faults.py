"""Substring and semantic: a killed run or a full disk leaves what was there, and the next run gives the result of a calm one."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pomona.data.duplicates import dedup
from pomona.errors import GateFailed

OPTIONS: dict[str, dict[str, Any]] = {"substring": {"min_length": 5}, "semantic": {"model": "ui-xs", "threshold": 0.9999}}
ENDS = {"substring": ("", ".spans.parquet", ".card.json"), "semantic": ("", ".pairs.parquet", ".card.json")}
KILLED = """
import itertools, os, signal, sys
from pomona import files
from pomona.data.duplicates import dedup

out, method, moment, options = sys.argv[1], sys.argv[2], sys.argv[3], eval(sys.argv[4])
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
calls = itertools.count(1)
files._sync = lambda _: die() if str(next(calls)) == moment else None
dedup("in.parquet", out, method=method, progress=die if moment == "search" else None, **options)
"""


def killed(method: str, moment: str, folder: Path) -> None:
    """Run until it ends with SIGKILL: at the first report of progress, or when it is about to finish its `moment`th file."""
    command = [sys.executable, "-c", KILLED, str(folder / "out.parquet"), method, moment, repr(OPTIONS[method])]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL


def old_files(folder: Path, method: str) -> dict[str, str]:
    folder.mkdir(exist_ok=True)
    found = {f"out.parquet{end}": f"old {end}" for end in ENDS[method]}
    for name, text in found.items():
        (folder / name).write_text(text)
    return found


def seen(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if not path.name.endswith(".partial")}


@pytest.mark.parametrize("method", OPTIONS)
def test_a_killed_run_leaves_what_was_there_and_runs_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: Any) -> None:
    monkeypatch.chdir(tmp_path)
    pq.write_table(pa.table({"text": ["one two three four five six", "a one two three four five", "other words"]}), "in.parquet")
    dedup("in.parquet", "calm/out.parquet", method=method, **OPTIONS[method])
    for moment in ("search", "2", "3"):
        folder = tmp_path / moment
        old = old_files(folder, method)
        killed(method, moment, folder)
        if moment != "3":  # then the rows are in their place and the evidence is not
            assert seen(folder) == old
        dedup("in.parquet", folder / "out.parquet", method=method, **OPTIONS[method])
        for end in ENDS[method]:
            assert (folder / f"out.parquet{end}").read_bytes() == Path(f"calm/out.parquet{end}").read_bytes()


@pytest.mark.parametrize("method", OPTIONS)
def test_a_full_disk_is_named_and_leaves_what_was_there(small_disk: Path, tmp_path: Path, method: Any) -> None:
    draw = random.Random(0)
    rows = [{"text": f"{draw.randbytes(20).hex(' ')} {row}", "more": draw.randbytes(5000).hex()} for row in range(100)]
    table, work = pa.Table.from_pylist(rows), tmp_path / "work"
    old = old_files(small_disk, method)
    with pytest.raises(GateFailed, match=r"disk/out\.parquet: the disk is full — .* a file that was there is as it was"):
        dedup(table, small_disk / "out.parquet", method=method, work=work, **OPTIONS[method])
    assert seen(small_disk) == old
    (small_disk / "ballast").write_bytes(bytes(shutil.disk_usage(small_disk).free))
    with pytest.raises(GateFailed, match=r"the work folder .*disk: the disk is full"):
        dedup(table, tmp_path / "out.parquet", method=method, work=small_disk, **OPTIONS[method])
    with pytest.raises(GateFailed, match=rf"disk/out\.parquet{ENDS[method][1]}: the disk is full"):
        dedup(table, small_disk / "out.parquet", method=method, work=work, **OPTIONS[method])
    (small_disk / "ballast").unlink()
    assert seen(small_disk) == old and list(work.iterdir()) == []
    assert not list(tmp_path.glob("out*")) and not list(small_disk.glob(".*"))
