from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pomona.errors import PomonaError, ResourceError
from pomona.merge import merge, merge_many
from pomona.merge.engine import writing
from pomona.models.tensors import output

SLOW = """
import json, sys, time
from pathlib import Path
from pomona.merge import merge
from pomona.merge.report import card
from pomona.models.tensors import output
output.INTERVAL = 0
card._cache_file = lambda: Path(sys.argv[2]) / "hashes.json"
end = output.FileTarget.end
def slow(self, start, values):
    time.sleep(0.01)
    end(self, start, values)
output.FileTarget.end = slow
recipe, out = json.loads(sys.argv[1]), sys.argv[3]
print("ready", flush=True)
merge(recipe, out, threads=2)
"""


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def journal(tmp_path: Path) -> Path:
    """The journal of the merge that goes on, or the name of none."""
    return next(tmp_path.glob(".out.partial/work-*/journal"), tmp_path / "none")


def start(recipe: dict[str, Any], tmp_path: Path) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-c",
        SLOW,
        json.dumps(recipe),
        str(tmp_path / "cache"),
        str(tmp_path / "out"),
    ]
    child = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    return child


def test_killed_anywhere_and_called_again_gives_the_same_bytes(
    recipe: dict[str, Any], tmp_path: Path
) -> None:
    whole = merge(recipe, tmp_path / "whole")
    assert whole.found == 0
    found = []
    for tensors in (1, 9):
        child = start(recipe, tmp_path)
        while child.poll() is None and (
            not (lines := journal(tmp_path)).exists()
            or len(lines.read_text().splitlines()) <= tensors
        ):
            time.sleep(0.002)
        os.kill(child.pid, signal.SIGKILL)
        child.communicate()
        assert not (tmp_path / "out").exists()
        found.append(len(lines.read_text().splitlines()) - 1)
    result = merge(recipe, tmp_path / "out")
    assert result.found >= found[1] > found[0] >= 1
    mine, theirs = contents(tmp_path / "out"), contents(tmp_path / "whole")
    for files in (mine, theirs):
        files["README.md"] = files["README.md"].replace(b"# whole", b"# out")
        files["report.html"] = files["report.html"].replace(b"whole", b"out")
    assert mine == theirs
    assert not (tmp_path / ".out.partial").exists()


def left_behind(
    recipe: dict[str, Any], out: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """What a merge leaves that is interrupted after some tensors."""
    monkeypatch.setattr(output, "INTERVAL", 0)
    finished, count = writing.Result.finished, 0

    def interrupted(self: writing.Result, piece: Any) -> None:
        nonlocal count
        finished(self, piece)
        count += 1
        if count == after:
            raise KeyboardInterrupt

    monkeypatch.setattr(writing.Result, "finished", interrupted)
    with pytest.raises(KeyboardInterrupt):
        merge(recipe, out, threads=1)
    monkeypatch.undo()


def test_an_interrupted_merge_goes_on_and_another_recipe_starts_anew(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    merge(recipe, tmp_path / "whole", report=False)
    left_behind(recipe, tmp_path / "out", monkeypatch, 5)
    assert (tmp_path / ".out.partial").exists()
    other = {**recipe, "parameters": {"lambda": 0.5}}
    assert merge(other, tmp_path / "out").found == 0
    merge(other, tmp_path / "other")
    assert (
        contents(tmp_path / "out")["model.safetensors"]
        == contents(tmp_path / "other")["model.safetensors"]
    )
    left_behind(recipe, tmp_path / "next", monkeypatch, 5)
    file = Path(recipe["base_model"]) / "model.safetensors"
    os.utime(file, (1, 1))  # an input that may have changed
    assert merge(recipe, tmp_path / "next").found == 0
    left_behind(recipe, tmp_path / "last", monkeypatch, 7)
    assert merge(recipe, tmp_path / "last").found == 7
    assert (
        contents(tmp_path / "last")["model.safetensors"]
        == contents(tmp_path / "whole")["model.safetensors"]
    )


def test_a_torn_journal_counts_up_to_the_tear(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_behind(recipe, tmp_path / "out", monkeypatch, 5)
    lines = journal(tmp_path)
    lines.write_text(lines.read_text()[:-9])
    assert merge(recipe, tmp_path / "out").found == 4


def test_two_processes_cannot_work_on_one_result(recipe: dict[str, Any], tmp_path: Path) -> None:
    space = output.ResultWorkspace(tmp_path / "out", "a merged model", "merging")
    with pytest.raises(
        PomonaError,
        match="out: another process is merging into it — wait for it, or choose another folder",
    ):
        merge(recipe, tmp_path / "out")
    space.remove()
    assert merge(recipe, tmp_path / "out").written


def test_a_full_disk_is_told_before_anything_is_merged_and_nothing_stays(
    recipe: dict[str, Any], small_disk: Path
) -> None:
    with pytest.raises(
        ResourceError,
        match=(
            r"disk/out: the disk is full: .*disk has 0 MB free and the result takes 0 MB — "
            r"free some space"
        ),
    ) as caught:
        merge(recipe, small_disk / "out")
    assert caught.value.exit_code == 1
    assert list(small_disk.iterdir()) == []
    subprocess.run(["mount", "-o", "remount,size=448k", str(small_disk)], check=True)
    with pytest.raises(
        ResourceError, match="the disk is full"
    ):  # room for the tensors, none for the tokenizer
        merge(recipe, small_disk / "out")
    assert list(small_disk.iterdir()) == []
    subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
    assert merge(recipe, small_disk / "out").written


def test_when_one_of_many_merges_fails_nothing_stays_of_any(
    recipe: dict[str, Any], tmp_path: Path
) -> None:
    from pomona.merge import plan_merge

    before = {path.name for path in tmp_path.iterdir()}
    (tmp_path / "b").mkdir()
    with pytest.raises(PomonaError, match="b: is there already"):
        merge_many([plan_merge(recipe)] * 2, [tmp_path / "a", tmp_path / "b"])
    with pytest.raises(PomonaError, match="2 merges need as many folders, all different"):
        merge_many([plan_merge(recipe)] * 2, [tmp_path / "a", tmp_path / "a"])
    assert {path.name for path in tmp_path.iterdir()} == before | {"b"}
