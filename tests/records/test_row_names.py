"""How errors name rows: by their file and their number in it, from 1."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pomona.errors import PomonaError
from pomona.records import Records, as_records, filtered, read, split, write

SCHEMA = pa.schema([("text", pa.string()), ("n", pa.int64())])


def rows(name: str, count: int) -> pa.Table:
    return pa.table({"text": [f"{name}{at}" for at in range(1, count + 1)], "n": range(count)})


def named(records: Records) -> dict[str, str]:
    """The name of each row by its text, without the folder."""
    texts = records.to_table()["text"].to_pylist()
    return dict(
        zip(
            texts,
            (name.rpartition("/")[2] for name in records.row_names(range(len(texts)))),
            strict=True,
        )
    )


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Three files with four rows in all, in the second of which lines are blank and malformed."""
    lines = [
        "",
        '{"text": "b1", "n": 0}',
        "{",
        '{"text": "b3", "n": 2}',
        '{"text": 4}',
        '{"text": "b5", "n": 4}',
    ]
    (tmp_path / "b.jsonl").write_text("\n".join(lines) + "\n")
    return [
        write(rows("a", 3), tmp_path / "a.jsonl"),
        tmp_path / "b.jsonl",
        write(rows("c", 2), tmp_path / "c.jsonl"),
    ]


def test_a_row_is_named_by_its_file_also_where_others_are_left_out(files: list[Path]) -> None:
    records = read(files, on_error="drop", columns=SCHEMA)
    told = named(records)
    assert [*told] == ["a1", "a2", "a3", "b1", "b3", "b5", "c1", "c2"]
    assert all(name == f"{text[0]}.jsonl, row {text[1]}" for text, name in told.items())
    assert named(records.where(n=[2, 1])) == {text: told[text] for text in ("a2", "a3", "b3", "c2")}
    assert named(records.head(5).where(n=2)) == {"a3": told["a3"], "b3": told["b3"]}
    mask = pa.array([False, True] * 4).to_numpy(zero_copy_only=False)
    assert named(filtered(records, mask).where(n=[1, 4])) == {
        text: told[text] for text in ("a2", "b5", "c2")
    }


def test_rows_of_csv_and_of_tables(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text,n\n"two\nlines",1\n\na2\na3,3\n')
    assert named(read(tmp_path / "a.csv", on_error="drop")) == {
        "two\nlines": "a.csv, row 1",
        "a3": "a.csv, row 3",
    }
    table = as_records(rows("t", 3))
    assert table.row_name(2) == "the table, row 3"
    assert table.where(n=2).row_name(0) == "the table, row 3"


def test_rows_of_pieces(tmp_path: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pomona.records.pieces.PIECE_BYTES", 30)
    pq.write_table(rows("p", 6), tmp_path / "p.parquet", row_group_size=2)
    for file, most in ((tmp_path / "p.parquet", 2), (files[1], 2)):
        pieces = split(read(file, on_error="drop", columns=SCHEMA))
        assert len(pieces) > 1
        for piece in pieces:
            for at, text in enumerate(piece.records.to_table()["text"].to_pylist()):
                assert at < most and piece.row_name(at) == f"{file}, row {text[1]}"


def test_bytes_that_are_no_text_in_a_later_row_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pomona.records.pieces.PIECE_BYTES", 30)
    latin = pa.array([b"a"] * 5 + [b"\xe4"]).cast(pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": latin}), tmp_path / "l.parquet", row_group_size=2)
    pieces = split(read(tmp_path / "l.parquet"))
    assert len(pieces) == 3
    with pytest.raises(PomonaError, match=r'l\.parquet, row 6: column "text" is not valid UTF-8'):
        pieces[-1].records.to_table()


def test_a_file_of_json_that_is_one_array(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([{"text": "a1"}, 5, {"text": "a3"}]))
    assert named(read(tmp_path / "a.json", on_error="drop")) == {
        "a1": "a.json, row 1",
        "a3": "a.json, row 3",
    }
