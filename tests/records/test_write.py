from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings, strategies as st

from pomona.errors import PomonaError, ResourceError
from pomona.records import read, write

TEXT = st.text(st.characters(codec="utf-8"))
COLUMNS = {
    "text": (pa.string(), TEXT),
    "n": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "x": (pa.float64(), st.floats(allow_nan=False, allow_infinity=False)),
    "b": (pa.bool_(), st.booleans()),
}
NESTED = {
    "tags": (pa.list_(pa.string()), st.lists(TEXT)),
    "meta": (
        pa.struct([("a", pa.int64()), ("ü", pa.string())]),
        st.fixed_dictionaries({"a": st.integers(0, 9), "ü": TEXT}),
    ),
}


def _tables(columns: dict) -> st.SearchStrategy[pa.Table]:
    row = st.fixed_dictionaries({name: st.none() | values for name, (_, values) in columns.items()})
    schema = pa.schema([(name, kind) for name, (kind, _) in columns.items()])
    return st.lists(row, max_size=8).map(lambda rows: pa.Table.from_pylist(rows, schema=schema))


def _again(table: pa.Table, name: str) -> pa.Table:
    with tempfile.TemporaryDirectory() as folder:
        return read(write(table, Path(folder) / name), columns=table.schema).to_table()


@settings(max_examples=40, deadline=None)
@given(
    _tables(COLUMNS | NESTED),
    st.sampled_from(["a.parquet", "a.jsonl", "a.jsonl.gz", "a.jsonl.zst"]),
)
def test_what_is_written_is_read_back(table: pa.Table, name: str) -> None:
    if table.num_rows or name == "a.parquet":
        assert _again(table, name) == table


@settings(max_examples=60, deadline=None)
@given(
    _tables(COLUMNS) | _tables({"only": COLUMNS["text"]}), st.sampled_from(["a.csv", "a.csv.gz"])
)
def test_what_is_written_as_csv_is_read_back(table: pa.Table, name: str) -> None:
    assert _again(table, name) == table


def test_writing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    table = pa.table({"a": ["x", "y"]})
    for name in ("a.parquet", "a.jsonl.gz", "a.csv.gz"):
        once = write(table, tmp_path / name).read_bytes()
        assert write(table, tmp_path / name).read_bytes() == once


def test_records_can_replace_the_file_they_come_from(tmp_path: Path) -> None:
    path = write(pa.table({"n": range(5)}), tmp_path / "a.jsonl")
    assert read(path).where(n=[1, 2]).write(path) == path
    assert path.read_text() == '{"n": 1}\n{"n": 2}\n'


def test_the_format_can_be_named(tmp_path: Path) -> None:
    assert write(pa.table({"n": [1]}), tmp_path / "out", format="jsonl").read_text() == '{"n": 1}\n'
    with pytest.raises(
        PomonaError, match=r"out: not a table Pomona can name the format of — use \.parquet"
    ):
        write(pa.table({"n": [1]}), tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "column", "message"),
    [
        (
            "a.jsonl",
            pa.array([b"x"]),
            r'column "c" is binary, which jsonl cannot hold and give back — write Parquet',
        ),
        (
            "a.jsonl",
            pa.array([0], pa.timestamp("s")),
            r"is timestamp\[s\], which jsonl cannot hold",
        ),
        ("a.csv", pa.array([["x"]]), r"is list<item: string>, which csv cannot hold"),
        ("a.parquet", pa.array([{}], pa.struct([])), r"is struct<>, which parquet cannot hold"),
        (
            "a.jsonl",
            pa.array([[1.0, math.nan]]),
            r'row 1, column "c": NaN and infinity have no JSON form — write Parquet',
        ),
    ],
)
def test_what_a_format_cannot_hold_is_refused(
    tmp_path: Path, name: str, column: pa.Array, message: str
) -> None:
    with pytest.raises(PomonaError, match=message):
        write(pa.table({"c": column}), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_failing_source_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"a": 1}\n' * 10_000 + "oops\n")
    (tmp_path / "out.parquet").write_text("old")
    with pytest.raises(PomonaError, match="line 10001"):
        read(tmp_path / "in.jsonl").write(tmp_path / "out.parquet")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.parquet"]
    assert (tmp_path / "out.parquet").read_text() == "old"


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl", "a.jsonl.gz", "a.csv"])
def test_a_full_disk_is_a_failed_gate(small_disk: Path, name: str) -> None:
    table = pa.table({"text": [os.urandom(500).hex() for _ in range(2000)]})
    (small_disk / name).write_text("old")
    with pytest.raises(ResourceError) as caught:
        write(table, small_disk / name)
    assert str(caught.value).startswith(
        f"{small_disk / name}: the disk is full — free some space or write elsewhere; "
        "nothing was left behind"
    )
    assert caught.value.exit_code == 1
    assert [(path.name, path.read_text()) for path in small_disk.iterdir()] == [(name, "old")]


def test_a_full_disk_stops_the_rejects_too(small_disk: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n' + f"{'x' * 1000}\n" * 500)
    with pytest.raises(ResourceError, match=r"disk/r\.jsonl: the disk is full"):
        read(tmp_path / "a.jsonl", on_error="reject", rejects=small_disk / "r.jsonl")
    assert list(small_disk.iterdir()) == []


def test_an_unwritable_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PomonaError, match=r"file/a\.jsonl: cannot be written: .* — check the path"):
        write(pa.table({"n": [1]}), tmp_path / "file" / "a.jsonl")


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    path = write(pa.table({"n": [1]}), tmp_path / "a.jsonl")
    code = (
        f"import pyarrow as pa; from pomona.records import write; write(pa.table({{'n': "
        f"pa.repeat(1, 10**7)}}), {str(path)!r})"
    )
    writer = subprocess.Popen([sys.executable, "-c", code])
    try:
        until = time.monotonic() + 30
        while (
            not any(file.stat().st_size for file in tmp_path.glob(".*.partial"))
            and time.monotonic() < until
        ):
            time.sleep(0.02)
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    assert list(tmp_path.glob(".*.partial"))
    assert path.read_text() == '{"n": 1}\n'
    assert read(tmp_path).count() == 1
