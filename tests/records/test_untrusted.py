"""Files that nobody here wrote: whatever they hold is read, or refused in a sentence."""

from __future__ import annotations

import gzip
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings, strategies as st

from pomona.errors import PomonaError
from pomona.places import check_outputs
from pomona.records import parsing, read, store, write


def _told(path: Path | str) -> str:
    with pytest.raises(PomonaError) as caught:
        read(path).to_table()
    assert caught.value.remedy
    return f"{caught.value.where}: {caught.value.message}"


@pytest.mark.parametrize("ending", ["jsonl", "parquet", "csv", "arrow"])
def test_what_only_looks_like_a_file_is_named(tmp_path: Path, ending: str) -> None:
    os.mkfifo(tmp_path / f"pipe.{ending}")
    assert _told(tmp_path / f"pipe.{ending}").endswith("is a pipe, not a file")
    assert _told(tmp_path).endswith("is a pipe, not a file")
    (tmp_path / f"zero.{ending}").symlink_to("/dev/zero")
    assert _told(tmp_path / f"zero.{ending}").endswith("is a device, not a file")
    (tmp_path / f"loop.{ending}").symlink_to(tmp_path / f"loop.{ending}")
    assert _told(tmp_path / f"loop.{ending}").endswith("is a link to what is not there")


def test_a_socket_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as served:
        served.bind("s.jsonl")
        assert _told("s.jsonl") == "s.jsonl: is a socket, not a file"


@pytest.mark.parametrize("name", ["", "a\0.jsonl", "a\ud800.jsonl"])
def test_names_that_are_none(name: str) -> None:
    assert "is not the name of a file" in _told(name)


@pytest.mark.parametrize("name", ["a\0b.parquet", "a\udc80.parquet", "/", "//"])
def test_results_need_a_name(name: str) -> None:
    with pytest.raises(PomonaError, match=r"is not the name of a file|is the root of everything"):
        check_outputs({"out": name})


@pytest.fixture
def nobody() -> Iterator[None]:
    """Permissions do not hold for root."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield
    os.seteuid(user)


@pytest.mark.parametrize("ending", ["jsonl", "parquet", "csv"])
def test_a_file_without_permission_is_not_called_damaged(ending: str, nobody: None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a.{ending}"
        write(pa.table({"n": [1]}), path)
        path.chmod(0)
        told = f"{path}: cannot be read: no permission to read it"
        assert _told(path) == told
        Path(folder).chmod(0)
        assert _told(folder) == f"{folder}: cannot be read: no permission to read it"
        Path(folder).chmod(0o700)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"a": 1e400}', 'column "a" holds a number too large for 64 bits'),
        (b'{"a": [{"b": -1e999}]}', 'column "a" holds a number too large for 64 bits'),
        (b'{"a": ' + b"9" * 5000 + b"}", "an integer has too many digits"),
        (b'{"a": ' + b"9" * 30 + b"}", 'column "a" holds an integer beyond 64 bits'),
        (b'{"a\\ud800": 1}', 'the key "a\\ud800" holds half a surrogate pair'),
        (b'{"a\\ud800": 1, "a\\ud800": 1}', 'the key "a\\ud800" occurs twice'),
        (b'{"a": ' + b"[" * 101 + b"]" * 101 + b"}", "nested too deeply"),
        (b'{"a": [1, "x"]}', 'column "a" holds values of several types: Could not convert'),
        (b'{"a": "\x00"}', "not valid JSON: invalid control character at, at column 8"),
    ],
)
def test_json_that_no_column_can_hold(tmp_path: Path, line: bytes, reason: str) -> None:
    path, rejects = tmp_path / "a.jsonl", tmp_path / "r.jsonl"
    path.write_bytes(line + b'\n{"a": null}\n')
    assert _told(path).startswith(f"{path}, line 1: {reason}")
    assert read(path, on_error="reject", rejects=rejects).count() == 1
    assert read(rejects).count() == 1


def test_brackets_in_text_are_no_depth(tmp_path: Path) -> None:
    write(pa.table({"a": ['[{"\\' * 200]}), tmp_path / "a.jsonl")
    assert read(tmp_path / "a.jsonl").to_table().to_pylist() == [{"a": '[{"\\' * 200}]


def test_rows_without_keys_are_not_lost(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("{}\n{}\n")
    assert _told(tmp_path / "a.jsonl").endswith("the records have no keys")


@pytest.mark.parametrize("kind", [pa.uint64(), pa.list_(pa.uint64())])
def test_integers_that_only_fit_without_a_sign_come_back(tmp_path: Path, kind: pa.DataType) -> None:
    values = [1, 2**63, 2**64 - 1, None]
    if pa.types.is_list(kind):
        values = [[value] for value in values]
    table = pa.table({"id": pa.array(values, kind)})
    assert read(write(table, tmp_path / "a.jsonl")).to_table() == table


def test_integers_with_and_without_a_sign_have_no_one_type(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": 18446744073709551615}\n{"id": -1}\n')
    assert _told(tmp_path / "a.jsonl").endswith("holds a negative number where uint64 is expected")


def test_a_line_that_is_too_long_is_a_bad_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name in ((store, "LONGEST"), (parsing, "MAX_RECORD"), (store, "BLOCK")):
        monkeypatch.setattr(module, name, 1 << 10)
    monkeypatch.setattr(parsing, "MOST_KEYS", 10)
    path = tmp_path / "a.jsonl"
    keys = ", ".join(f'"{key}": 1' for key in range(11))
    path.write_text(f'{{"a": "{"x" * 9000}"}}\n{{"a": "y"}}\n{{{keys}}}\n')
    assert "line 1: the line is longer than" in _told(path)
    kept = read(path, on_error="reject", rejects=tmp_path / "r.jsonl")
    assert kept.to_table().to_pylist() == [{"a": "y"}] and kept.rejected == 2
    (tmp_path / "a.csv").write_text(f"a\n{'x' * 9000}\n")
    assert "line 2: the line is longer than" in _told(tmp_path / "a.csv")


def test_lines_that_end_in_carriage_returns_alone_are_not_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"a,b\r1,2\r")
    assert _told(tmp_path / "a.csv").endswith("line 1: a carriage return in the wrong place")


def _parquet(table: pa.Table) -> Callable[[Path], None]:
    return lambda path: pq.write_table(table, path)


def _arrow(table: pa.Table) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with pa.ipc.new_file(str(path), table.schema) as writer:
            writer.write_table(table)

    return make


def _encrypted(path: Path) -> None:
    _parquet(pa.table({"a": [1]}))(path)
    path.write_bytes(path.read_bytes()[:-4] + b"PARE")


_TWICE = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
_INNER = pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
_BYTES = [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff")]
_LATIN = pa.table({"t": pa.Array.from_buffers(pa.string(), 1, _BYTES)})
_UNION = pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])])


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (_parquet(_TWICE), "cannot be read: two columns have one name"),
        (_arrow(_TWICE), 'two columns are named "a"'),
        (_parquet(pa.table({"s": _INNER})), 'column "s" has two fields named "a"'),
        (_parquet(pa.table({})), "there are no columns"),
        (_parquet(_LATIN), ', row 1: column "t" is not valid UTF-8'),
        (_arrow(_LATIN), ', row 1: column "t" is not valid UTF-8'),
        (_arrow(pa.table({"u": _UNION})), "cannot be read: sparse_union is not supported"),
        (lambda path: path.write_bytes(b"PAR1"), "smaller than the minimum file footer (8 bytes)"),
        (_encrypted, "cannot be read: it is encrypted"),
    ],
)
def test_columnar_files_that_are_no_table(
    tmp_path: Path, make: Callable[[Path], None], told: str
) -> None:
    arrow = make.__qualname__.startswith("_arrow")
    path = tmp_path / ("a.arrow" if arrow else "a.parquet")
    make(path)
    assert told in _told(path)


def test_a_table_in_memory_is_trusted_no_more_than_a_file() -> None:
    for table, told in ((_TWICE, "two columns are named"), (pa.table({}), "there are no columns")):
        with pytest.raises(PomonaError, match=f"the table: {told}"):
            read(table)


def test_types_of_storage_are_read_as_what_they_hold(tmp_path: Path) -> None:
    kinds = [pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]
    table = pa.table({str(kind): pa.array(["x", None], kind) for kind in kinds})
    table = table.append_column("list", pa.array([[1], None], pa.large_list(pa.int64())))
    _parquet(table)(tmp_path / "a.parquet")
    rows = read(tmp_path / "a.parquet")
    assert {str(field.type) for field in rows.schema} == {"string", "list<item: int64>"}
    assert rows.to_table().to_pylist()[0] == dict.fromkeys(map(str, kinds), "x") | {"list": [1]}


def test_a_type_conflict_names_both_files(tmp_path: Path) -> None:
    for number, values in enumerate(([1], ["x"])):
        write(pa.table({"n": values}), tmp_path / f"{number}.parquet")
    told = rf'1\.parquet: column "n" is string here and int64 in {tmp_path}/0\.parquet'
    with pytest.raises(PomonaError, match=told):
        read(tmp_path)
    write(pa.table({"n": [2]}), tmp_path / "1.parquet")
    rows = read(tmp_path)
    write(pa.table({"n": ["x"]}), tmp_path / "1.parquet")
    told = rf'1\.parquet: column "n" is string here and int64 in {tmp_path}/0\.parquet'
    for part in (rows, [*rows._parts()][1]):
        with pytest.raises(PomonaError, match=told):
            part.to_table()


_PARTS = (
    rb'{"a": {"b": 1 "x" } [ ] , " \\ud800 null true 1e999 {"a":1} 99999999999999999999'.split()
)
_PARTS += [b"\n", b"\r", b"\xff", b"\xef\xbb\xbf", b"\0", b'{"a":1}\n']


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
@settings(max_examples=60, deadline=None)
@given(
    data=st.lists(st.one_of(st.sampled_from(_PARTS), st.binary(max_size=4)), max_size=12).map(
        b"".join
    )
)
def test_whatever_a_text_file_holds_is_read_or_refused(ending: str, data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a.{ending}"
        path.write_bytes(data)
        try:
            read(path).to_table()
        except PomonaError as error:
            assert str(path) in str(error) and error.remedy


@pytest.mark.parametrize("old", [b"abcd", b"efgh"])
def test_names_of_columns_that_are_no_text_are_told(tmp_path: Path, old: bytes) -> None:
    table = pa.table({"abcd": [1], "s": [{"efgh": 1}]})
    with pa.ipc.new_stream(tmp_path / "x.arrow", table.schema) as stream:
        stream.write_table(table)
    pq.write_table(table, tmp_path / "x.parquet", store_schema=False)
    for file in (tmp_path / "x.arrow", tmp_path / "x.parquet"):
        file.write_bytes(file.read_bytes().replace(old, b"ab\xd8d"))
        with pytest.raises(PomonaError, match=rf"{file.name}: .*(not valid UTF-8|invalid cont)"):
            read(file).to_table()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux says what a process has")
def test_files_that_cannot_be_unpacked_leave_no_memory(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl.gz"
    file.write_bytes(gzip.compress(b'{"text": "a"}\n' * 100)[:-9])

    def pages() -> int:
        return int(Path("/proc/self/statm").read_text().split()[0])

    for _ in range(100):
        assert "cannot be read" in _told(file)
    before = pages()
    for _ in range(100):
        _told(file)
    assert pages() - before < 5000  # of 256 each
