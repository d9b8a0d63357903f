from __future__ import annotations

import base64
import csv
import json
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings, strategies as st

from pomona.cli import main
from pomona.errors import LateTypesError, PomonaError
from pomona.records import read, types_of_all_rows, write

GOOD = b'{"id": 1, "text": "a"}'


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"id": 2, "text": "b', "not valid JSON: unterminated string starting at, at column 19"),
        (b'{"id": 2}{"id": 3}', "not valid JSON: text after the value ends, at column 10"),
        (b'{"id": 2, "id": 3}', 'the key "id" occurs twice'),
        (b'{"id": 2, "text": NaN}', "not valid JSON: NaN has no JSON form"),
        (b"[1, 2]", "not a JSON object but an array"),
        (b"null", "not a JSON object but null"),
        (b'{"id": 2, "text": 3}', 'column "text" holds int64 where string is expected'),
        (b'{"id": true, "text": "b"}', 'column "id" holds bool where int64 is expected'),
        (
            b'{"id": 2, "text": {"a": 1}}',
            'column "text" holds struct<a: int64> where string is expected',
        ),
        (b'{"id": 99999999999999999999}', 'column "id" holds an integer beyond 64 bits'),
        (
            b'{"id": 2, "text": "\\ud800"}',
            'column "text" holds half a surrogate pair, which is not text',
        ),
        (b'{"id": 2, "text": "\xff"}', "invalid UTF-8 at byte 20 (0xff)"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_malformed_json_lines_stop_or_are_set_aside(
    tmp_path: Path, line: bytes, reason: str
) -> None:
    path, rejects = tmp_path / "a.jsonl", tmp_path / "rejects.jsonl"
    path.write_bytes(GOOD + b"\n\n" + line + b"\n" + GOOD + b"\n")
    remedy = "fix the line, or have such rows left out: --on-error drop, or reject to a file"
    with pytest.raises(PomonaError) as caught:
        read(path).to_table()
    assert str(caught.value).startswith(f"{path}, line 3: {reason} — {remedy}")
    records = read(path, on_error="reject", rejects=rejects)
    assert records.rejected == 1
    assert records.to_table().to_pylist() == [json.loads(GOOD)] * 2
    (row,) = map(json.loads, rejects.read_text().splitlines())
    assert (row["file"], row["line"], row["reason"]) == (str(path), 3, reason)
    assert (base64.b64decode(row["base64"]) if row["base64"] else row["text"].encode()) == line


def test_a_column_that_comes_late_is_not_dropped(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes((GOOD + b"\n") * 10_001 + b'{"id": 2, "score": 0.5}\n')
    with pytest.raises(
        PomonaError, match='line 10002: column "score" is not among those of the first 10,000 rows'
    ):
        read(path).count()
    assert read(path, columns=["id"]).count() == 10_002
    typed = read(path, columns=pa.schema([("id", pa.int64()), ("score", pa.float64())]))
    assert typed.where(score=0.5).to_table().to_pylist() == [{"id": 2, "score": 0.5}]


def test_a_type_that_changes_late_is_not_converted(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": 1}\n' * 10_000 + '{"id": 2.5}\n')
    with pytest.raises(
        PomonaError,
        match=(
            r'line 10001: column "id" holds double where int64 is expected — '
            r".*columns=pyarrow\.schema"
        ),
    ):
        read(tmp_path / "a.jsonl").count()
    assert (
        read(tmp_path / "a.jsonl", columns=pa.schema([("id", pa.float64())])).where(id=2.5).count()
        == 1
    )


def test_missing_keys_are_null_and_numbers_widen(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        '\ufeff{"a": 1}\r\n{"b": {"x": null}}\n{"a": 1.5, "b": {"y": ["z"]}}'
    )
    assert read(tmp_path / "a.jsonl").to_table().to_pylist() == [
        {"a": 1.0, "b": None},
        {"a": None, "b": {"x": None, "y": None}},
        {"a": 1.5, "b": {"x": None, "y": ["z"]}},
    ]


def test_a_nested_key_that_comes_late_is_not_dropped(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": {"x": 1}}\n' * 10_000 + '{"a": {"y": 1}}\n')
    with pytest.raises(
        PomonaError,
        match='line 10001: column "a" holds struct<y: int64> where struct<x: int64> is expected',
    ):
        read(tmp_path / "a.jsonl").count()


def test_declared_types_are_parsed_and_checked(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        '{"n": 300, "d": "2024-02-29"}\n{"n": 70000, "d": "2024-02-30"}\n'
    )
    days = read(tmp_path / "a.jsonl", columns=pa.schema([("d", pa.date32())]))
    assert str(days.head(1).schema) == "d: date32[day]"
    with pytest.raises(PomonaError, match='line 2: column "d" does not fit date32'):
        days.count()
    with pytest.raises(
        PomonaError, match='line 2: column "n" does not fit int16: Integer value 70000'
    ):
        read(tmp_path / "a.jsonl", columns=pa.schema([("n", pa.int16())])).count()


def test_csv_fields_are_strings_with_null_apart_from_empty(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b'id,text\r\n007,"a ""b"", c\nd"\r\n8,\r\n\r\n9,""\r\n')
    records = read(tmp_path / "a.csv")
    assert records.to_table().to_pylist() == [
        {"id": "007", "text": 'a "b", c\nd'},
        {"id": "8", "text": None},
        {"id": "9", "text": ""},
    ]
    assert read(tmp_path / "a.csv", columns=pa.schema([("id", pa.int8())])).to_table()[
        "id"
    ].to_pylist() == [7, 8, 9]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"1", "1 fields where the header has 2"),
        (b"1,2,3", "3 fields where the header has 2"),
        (b'1,"a"b', "a quote in the wrong place"),
        (b'1,5" disk', "a quoted field never ends"),
        (b"1,\xe9", "invalid UTF-8 at byte 3 (0xe9)"),
    ],
)
def test_malformed_csv_rows_stop_or_are_set_aside(tmp_path: Path, line: bytes, reason: str) -> None:
    path, rejects = tmp_path / "a.csv", tmp_path / "rejects.jsonl"
    path.write_bytes(b'id,text\n1,"x\ny"\n' + line + b"\n2,z\n")
    with pytest.raises(PomonaError) as caught:
        read(path).to_table()
    assert str(caught.value) == (
        f"{path}, line 4: {reason} — fix the line, or have such rows left out: "
        "--on-error drop, or reject to a file"
    )
    records = read(path, on_error="reject", rejects=rejects)
    assert records.rejected == 1
    assert records.to_table()["text"].to_pylist() == ["x\ny", "z"]
    assert json.loads(rejects.read_text())["line"] == 4


def test_csv_headers_are_checked(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,id\n1,2\n")
    with pytest.raises(
        PomonaError, match=r"a\.csv, line 1: a column name is empty or occurs twice"
    ):
        read(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text("id,text\n1,2\n")
    (tmp_path / "b.csv").write_text("text,id\n4,3\n")
    assert read(f"{tmp_path}/*.csv").to_table().to_pylist() == [
        {"id": "1", "text": "2"},
        {"id": "3", "text": "4"},
    ]
    (tmp_path / "b.csv").write_text("id,txt\n1,2\n")
    with pytest.raises(
        PomonaError, match=r'b\.csv: there is no column "text" — did you mean "txt"\?'
    ):
        read(f"{tmp_path}/*.csv", columns=["id", "text"]).count()


def test_a_wrong_csv_value_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("n\n1\n\nx\n")
    with pytest.raises(PomonaError, match='line 4: column "n" does not fit int64'):
        read(tmp_path / "a.csv", columns=pa.schema([("n", pa.int64())])).to_table()


def test_rejects_are_written_even_when_there_are_none(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(GOOD)
    assert read(tmp_path / "a.jsonl", on_error="reject", rejects=tmp_path / "r.jsonl").rejected == 0
    assert (tmp_path / "r.jsonl").read_text() == ""


LINES = st.lists(
    st.sampled_from([b'{"a": 1}', b'{"a": "x"}', b'{"a": 1}}', b"[]", b"", b" ", b'{"a": {}}'])
    | st.binary(max_size=12),
    max_size=12,
)


@settings(deadline=None, max_examples=100)
@given(LINES)
def test_every_line_is_a_row_or_a_reject(lines: list[bytes]) -> None:
    lines = b"\n".join(lines).split(b"\n")
    with tempfile.TemporaryDirectory() as folder:
        path, rejects = Path(folder) / "a.jsonl", Path(folder) / "r.jsonl"
        path.write_bytes(b"{}\n" + b"\n".join(lines))
        records = read(
            path, columns=pa.schema([("a", pa.int64())]), on_error="reject", rejects=rejects
        )
        assert records.count() + records.rejected == 1 + sum(1 for line in lines if line.strip())
        assert len(rejects.read_text().splitlines()) == records.rejected


@settings(deadline=None, max_examples=100)
@given(st.lists(st.text('ab",\n'), max_size=6))
def test_csv_records_that_are_accepted_are_what_the_standard_library_reads(
    fields: list[str],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.csv"
        path.write_bytes(("a,b\n" + "\n".join(fields)).encode())
        records = read(path, on_error="reject", rejects=Path(folder) / "r.jsonl")
        if records.rejected == 0:
            with path.open(newline="") as stream:
                expected = [row for row in csv.reader(stream, strict=True) if row][1:]
            assert [
                [value or "" for value in row.values()] for row in records.to_table().to_pylist()
            ] == expected


@settings(deadline=None, max_examples=150)
@given(
    st.lists(
        st.sampled_from(
            ["1,x", "2,", ",y", "3,é", "4,NA", " 5, z ", "", "6", "7,a,b", "x,1", '8,"q"', "9,w\r"]
        ),
        max_size=9,
    ),
    st.integers(5, 40),
)
def test_blocks_of_csv_are_read_as_their_rows_are(rows: list[str], size: int) -> None:
    types = pa.schema([("n", pa.int64()), ("text", pa.string())])
    told: list[list[Any]] = []
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        path, rejects = Path(folder) / "a.csv", Path(folder) / "r.jsonl"
        path.write_bytes(("n,text\n" + "\n".join(rows)).encode())
        patch.setattr("pomona.records.store.BLOCK", size)
        for at_once in (True, False):
            if not at_once:
                patch.setattr("pomona.records.text_source.plain_fields", lambda *_: None)
            records = read(path, columns=types, on_error="reject", rejects=rejects)
            told.append([records.to_table().to_pylist(), rejects.read_text()])
    assert told[0] == told[1]


BAD = b'{"text": "a"}\n{"text": null}\nnope\n{"text": " "}\n{"text": "b"}\n'


def test_malformed_rows_are_dropped_and_counted(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(BAD)
    rows = read(tmp_path / "a.jsonl", on_error="drop")
    assert (rows.count(), rows.rejected) == (4, 1)
    full = rows.complete("text")
    assert (full.to_table()["text"].to_pylist(), full.rejected) == (["a", " ", "b"], 2)
    full = rows.head(3).complete(texts=["text"])
    assert (full.to_table()["text"].to_pylist(), full.rejected) == (["a"], 3)
    stopping = read(pa.table({"text": [None, "a"]})).complete("text")
    assert stopping.count() == 2, "nothing is left out unasked"


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_rows_without_a_value_go_to_the_rejects(tmp_path: Path, ending: str) -> None:
    table = pa.table({"text": ["a", None, "", "b"], "n": [1.0, 2.0, 3.0, float("nan")]})
    if ending == "jsonl":
        table = table.set_column(1, "n", pa.array([1.0, 2.0, 3.0, None]))
    path, rejects = write(table, tmp_path / f"a.{ending}"), tmp_path / "r.jsonl"
    rows = read(path, on_error="reject", rejects=rejects).complete("n", texts=["text"])
    assert (rows.to_table().to_pylist(), rows.rejected) == ([{"text": "a", "n": 1.0}], 3)
    told = [json.loads(line) for line in rejects.read_text().splitlines()]
    reasons = {(row["file"], row["line"], row["reason"]) for row in told}
    named = [f'column "{what}' for what in ('text" is null', 'text" is empty', 'n" is null')]
    assert reasons == {(str(path), None, reason) for reason in named}
    assert json.loads(told[0]["text"]) == {"text": None, "n": 2.0}


def test_on_error_takes_a_known_word() -> None:
    told = 'on_error: "skip" is unknown — use "stop", "drop" or "reject"'
    with pytest.raises(PomonaError, match=told):
        read(pa.table({"a": [1]}), on_error="skip")  # type: ignore[arg-type]


def test_rejects_replace_nothing_but_rejects(tmp_path: Path) -> None:
    path, rejects = tmp_path / "a.jsonl", tmp_path / "r.jsonl"
    path.write_bytes(BAD)
    (tmp_path / "link.jsonl").symlink_to(path)
    (tmp_path / "folder").mkdir()
    for place in (path, tmp_path / "link.jsonl", tmp_path / "folder"):
        with pytest.raises(PomonaError):
            read(path, on_error="reject", rejects=place)
    rejects.write_text("a thesis")
    told = "is no file of rejects, and would be replaced — name a new file"
    with pytest.raises(PomonaError, match=told):
        read(path, on_error="reject", rejects=rejects)
    assert (path.read_bytes(), rejects.read_text()) == (BAD, "a thesis")
    rejects.unlink()
    for _ in range(2):
        assert read(path, on_error="reject", rejects=rejects).rejected == 1
    with pytest.raises(PomonaError, match="rejects are written to local files"):
        read(path, on_error="reject", rejects=Path("s3://b/r.jsonl"))


def test_keys_of_objects_may_come_in_any_order_and_be_missing(tmp_path: Path) -> None:
    first, last = b'{"m": {"a": 1, "b": [{"c": "x", "d": 2}]}}\n', b'{"m": {"b": [{"d": 3}]}}\n'
    (tmp_path / "a.jsonl").write_bytes(first * 9000 + last * 9000)  # more than one batch
    rows = read(tmp_path / "a.jsonl").to_table()["m"].to_pylist()
    assert rows[0] == {"a": 1, "b": [{"c": "x", "d": 2}]}
    assert rows[-1] == {"a": None, "b": [{"c": None, "d": 3}]}


def test_types_that_only_later_rows_tell(tmp_path: Path) -> None:
    """Tools are called seldom: in none of the first ten thousand conversations."""
    few = b'{"m": [{"role": "user", "calls": null, "tags": []}], "n": null}\n'
    call = b'{"m": [{"role": "user", "calls": [{"f": "x"}], "tags": ["a"]}], "n": 2}\n'
    (tmp_path / "a.jsonl").write_bytes(few * 10_001 + call + few + b'{"m": [], "n": 2.5}\n')
    with pytest.raises(PomonaError, match='line 10002: column "m" holds'):
        read(tmp_path / "a.jsonl").count()
    late = read(tmp_path / "a.jsonl").with_late_types()
    assert late.to_table().to_pylist()[10_000:] == [
        {"m": [{"role": "user", "calls": None, "tags": []}], "n": None},
        {"m": [{"role": "user", "calls": [{"f": "x"}], "tags": ["a"]}], "n": 2.0},
        {"m": [{"role": "user", "calls": None, "tags": []}], "n": None},
        {"m": [], "n": 2.5},
    ]
    dropped = read(tmp_path / "a.jsonl", on_error="drop")
    assert (dropped.rejected, dropped.count()) == (0, 10_004)


LATE = {
    "a new key": ({"n": 1}, {"n": 2, "m": "x"}),
    "a new field": ({"o": {"a": 1}}, {"o": {"a": 1, "b": [True]}}),
    "a field in messages": ({"m": [{"role": "user"}]}, {"m": [{"role": "user", "name": "b"}]}),
    "a wider number": ({"n": 1}, {"n": 2.5}),
    "an id that is a name": ({"id": 1}, {"id": "x"}),
    "an array": ({"n": 1}, {"n": 2, "m": "x"}),
}


@pytest.mark.parametrize("what", LATE)
def test_what_comes_after_the_first_rows_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    monkeypatch.setattr("pomona.records.text_source.SAMPLE_ROWS", 3)
    monkeypatch.chdir(tmp_path)
    first, late = LATE[what]
    rows = [{"text": str(at), **first} for at in range(5)] + [{"text": "late", **late}]
    lines = [json.dumps(row) for row in rows]
    array = what == "an array"
    Path("a.json").write_text(f"[{','.join(lines)}]" if array else "\n".join(lines))
    with pytest.raises(LateTypesError, match=f"{'element' if array else 'line'} 6: column"):
        read("a.json").to_table()
    with types_of_all_rows():
        found = read("a.json")
        assert found.to_table().to_pylist()[-1] == rows[-1]
        assert found.count() == 6
    dropped = read("a.json", on_error="drop")
    assert (dropped.rejected, dropped.schema) == (0, found.schema)
    assert main(["data", "filter", "a.json", "--out", "o.jsonl", "--where", "len(text) > 1"]) == 0
    assert "all rows are looked at for their types now" in capsys.readouterr().err
    assert json.loads(Path("o.jsonl").read_text()) == rows[-1]


def test_a_late_row_that_no_type_holds_is_malformed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pomona.records.text_source.SAMPLE_ROWS", 3)
    path = tmp_path / "a.jsonl"
    path.write_text('{"n": 1}\n' * 5 + '{"n": "x"}\n{"n": 2, "m": 1}\n{"n": 3, "m": "y"}\n')
    with pytest.raises(PomonaError, match=r"line 6: .*--on-error drop"):
        read(path).to_table()
    found = read(path, on_error="drop")
    assert (found.rejected, found.count(), found.column_names) == (2, 6, ["n", "m"])
