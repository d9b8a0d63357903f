"""Substring and semantic: a killed run or a full disk leaves what was there, and the next run gives
the result of a calm one.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pomona.data.duplicates import dedup, semantic, substring_passes
from pomona.errors import ResourceError

OPTIONS: dict[str, dict[str, Any]] = {
    "substring": {"min_length": 5},
    "semantic": {"model": "ui-xs", "threshold": 0.9999},
}
ENDS = {
    "substring": ("", ".spans.parquet"),
    "semantic": ("", ".pairs.parquet"),
}
MOMENTS = {
    "substring": ("kept.json:2", "passes.json:2", "out.parquet.spans.parquet:1"),
    "semantic": ("kept.json:2",),
}
KILLED = """
import os, signal, sys
from pomona import files
from pomona.records import results
from pomona.data.duplicates import semantic, substring_passes, dedup
from pomona.data.duplicates.substring_memory import MemoryBudget

out, method, (name, left), options = sys.argv[1], sys.argv[2], sys.argv[3].split(":"), eval(sys.argv[4])
semantic.BLOCK_ROWS, substring_passes._KEEP_BYTES, MemoryBudget.table = 2, 1, lambda self: 1
left = int(left)
def sync(path):
    global left
    left -= path.name.startswith(f".{name}.")
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
files.sync = results.sync = sync
dedup("in*.parquet", out, method=method, **options)
"""


def killed(python: Path, method: str, moment: str, folder: Path) -> None:
    """Run until it ends with SIGKILL, when it is about to put a file of a name in its place for the
    nth time.
    """
    command = [
        str(python),
        "-c",
        KILLED,
        str(folder / "out.parquet"),
        method,
        moment,
        repr(OPTIONS[method]),
    ]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL


def seen(folder: Path) -> dict[str, str]:
    return {
        path.name: path.read_text()
        for path in folder.iterdir()
        if path.is_file() and not path.name.endswith((".partial", ".lock"))
    }


def refuse(*_: object) -> None:
    raise AssertionError("was done before")


@pytest.mark.parametrize("method", OPTIONS)
def test_killed_runs_continue_to_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: Any, earlier_results: Any, forked: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(semantic, "BLOCK_ROWS", 2)
    many = " ".join(map(str, range(30)))
    texts = [many, f"a {many}", "other words", "one two three", "other words", "Open the file"]
    for number in range(3):
        pq.write_table(pa.table({"text": texts[2 * number :][:2]}), f"in{number}.parquet")
    dedup("in*.parquet", "calm/out.parquet", method=method, **OPTIONS[method])
    folder, root = tmp_path / "rough", tmp_path / "rough" / ".out.parquet.work"
    old = earlier_results(folder / "out.parquet", *ENDS[method])
    for moment in MOMENTS[method]:
        assert seen(folder) == old
        killed(forked / "python", method, moment, folder)
        (work,) = root.glob("work-*")
        kept = json.loads((work / "kept.json").read_text())["rows"]
        assert kept == (2 if moment == "kept.json:2" else 6)
    embed, embedded = semantic._embed, list[int]()
    with monkeypatch.context() as patch:
        patch.setattr(
            semantic,
            "_embed",
            lambda block: embedded.append(len(block.texts)) or embed(block),
        )
        patch.setattr(substring_passes, "mark_part", refuse)
        dedup("in*.parquet", folder / "out.parquet", method=method, **OPTIONS[method])
    assert not root.exists() and embedded == {"substring": [], "semantic": [2, 1]}[method]
    assert (folder / "out.parquet").read_bytes() == Path("calm/out.parquet").read_bytes()
    rough, calm = (
        pq.read_table(place / f"out.parquet{ENDS[method][1]}").to_pylist()
        for place in (folder, Path("calm"))
    )
    assert rough == [
        row | ({"cosine": pytest.approx(row["cosine"], abs=1e-6)} if "cosine" in row else {})
        for row in calm
    ]


def test_other_settings_take_over_what_does_not_depend_on_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq.write_table(
        pa.table({"text": ["one two three four five", "one two three four", "a b c", "a b c d"]}),
        tmp_path / "in.parquet",
    )
    out, root = tmp_path / "out.parquet", tmp_path / ".out.parquet.work"

    def run(length: int, place: Path) -> list[dict[str, Any]]:
        dedup(tmp_path / "in.parquet", place, method="substring", min_length=length)
        return pq.read_table(place).to_pylist()

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    for length in (4, 4, 3):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr("pomona.records.results.Results.write", stop)
            run(length, out)
        (work,) = root.glob("work-*")
        assert (work / "passes.json").exists()
        if length == 4:
            (work / "text").write_bytes(b"")  # lost by a crash: made again
    monkeypatch.setattr(substring_passes, "_bytes", refuse)
    with monkeypatch.context() as patch:
        patch.setattr(substring_passes, "mark_part", refuse)
        merged = run(3, out)
    monkeypatch.undo()
    assert merged == run(3, tmp_path / "calm.parquet") and not root.exists()


@pytest.mark.parametrize("method", OPTIONS)
def test_a_full_disk_is_named_and_leaves_what_was_there(
    small_disk: Path, tmp_path: Path, method: Any, earlier_results: Any
) -> None:
    draw = random.Random(0)
    rows = [
        {"text": f"{draw.randbytes(20).hex(' ')} {row}", "more": draw.randbytes(5000).hex()}
        for row in range(100)
    ]
    path, work = tmp_path / "in.parquet", tmp_path / "work"
    pq.write_table(pa.Table.from_pylist(rows), path)
    old = earlier_results(small_disk / "out.parquet", *ENDS[method])
    with pytest.raises(
        ResourceError,
        match=r"disk/out\.parquet: the disk is full — .* a file that was there is as it was",
    ):
        dedup(path, small_disk / "out.parquet", method=method, work=work, **OPTIONS[method])
    assert seen(small_disk) == old
    (small_disk / "ballast").write_bytes(bytes(shutil.disk_usage(small_disk).free))
    with pytest.raises(ResourceError, match=r"disk/work: the disk is full"):
        dedup(
            path,
            tmp_path / "out.parquet",
            method=method,
            work=small_disk / "work",
            **OPTIONS[method],
        )
    with pytest.raises(
        ResourceError, match=rf"disk/out\.parquet{ENDS[method][1]}: the disk is full"
    ):
        dedup(path, small_disk / "out.parquet", method=method, work=work, **OPTIONS[method])
    (small_disk / "ballast").unlink()
    assert seen(small_disk) == old and not list(tmp_path.glob("out*"))
    dedup(path, tmp_path / "out.parquet", method=method, work=work, **OPTIONS[method])
    assert not work.exists()
