from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pomona.data.scores import job, score
from pomona.errors import PomonaError

OPTIONS: dict[str, object] = {
    "scores": ["perplexity", "mtld"],
    "models": ["ui-xs", "ui-s@10"],
    "column": "english",
}


def run(python: Path, source: Path, out: Path, call: int, log: Path) -> int:
    command = [
        str(python),
        str(Path(__file__).parent / "killed.py"),
        str(source),
        str(out),
        str(call),
        str(log),
    ]
    return subprocess.run(command, check=False, timeout=300).returncode


def test_a_killed_run_goes_on_where_it_was(
    pairs: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forked: Path
) -> None:
    monkeypatch.setattr(job, "CHUNK_ROWS", 4)
    source, out, log = tmp_path / "in.parquet", tmp_path / "out.parquet", tmp_path / "log"
    pq.write_table(pairs.slice(0, 20), source)  # 5 chunks, 3 passes
    score(source, tmp_path / "whole.parquet", **OPTIONS)  # pyright: ignore[reportArgumentType]
    assert run(forked / "python", source, out, 7, log) == -signal.SIGKILL
    assert not out.exists()
    work = Path(f"{out}.work")
    kept = {path: path.stat().st_mtime_ns for path in work.rglob("*.parquet")}
    assert len(kept) == 7
    with pytest.raises(
        PomonaError,
        match=(
            r"out.parquet.work: holds the beginning of another scoring \(models differ\) — "
            r"finish that one"
        ),
    ):
        score(source, out, **{**OPTIONS, "models": ["ui-xs", "ui-s"]})  # pyright: ignore[reportArgumentType]
    assert {path: path.stat().st_mtime_ns for path in work.rglob("*.parquet")} == kept
    loaded: list[str] = []
    from pomona import models

    real = models.load
    monkeypatch.setattr(
        models, "load", lambda uri, **options: loaded.append(uri) or real(uri, **options)
    )
    score(source, out, **OPTIONS)  # pyright: ignore[reportArgumentType]
    assert loaded == ["ui-s@10"]
    found, whole = pq.read_table(out), pq.read_table(tmp_path / "whole.parquet")
    assert found.schema == whole.schema
    for name in whole.column_names:
        if name.startswith("perplexity"):  # another process may round otherwise
            assert found[name].to_pylist() == pytest.approx(whole[name].to_pylist(), rel=1e-4)
        else:
            assert found[name] == whole[name]
    assert not work.exists()
