from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pomona.errors import PomonaError
from pomona.records import Records, read, write

TABLE = pa.table({"id": [1, 2, 3], "text": ["één", "two\nlines", None], "lang": ["nl", "en", "en"]})


def test_the_room_opens_without_ray() -> None:
    code = (
        "import sys, pomona.records as r; r.read, r.write, r.Records; print('ray' in sys.modules)"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        == "False\n"
    )


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl", "a.jsonl.gz", "a.jsonl.zst"])
def test_reads_what_it_writes(tmp_path: Path, name: str) -> None:
    assert read(write(TABLE, tmp_path / name)).to_table() == TABLE


def test_a_glob_and_a_list_are_read_in_order(tmp_path: Path) -> None:
    for name in ("b", "c", "a"):
        write(pa.table({"name": [name]}), tmp_path / f"{name}.jsonl")
    assert read(f"{tmp_path}/*.jsonl").to_table()["name"].to_pylist() == ["a", "b", "c"]
    assert read([tmp_path / "c.jsonl", tmp_path / "a.jsonl"]).to_table()["name"].to_pylist() == [
        "c",
        "a",
    ]
    assert read(tmp_path).count() == 3


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path: Path) -> None:
    path = write(TABLE, tmp_path / "a[1].parquet")
    write(TABLE, tmp_path / "a1.parquet")
    records = read(path)
    assert records.count() == 3
    assert records.to_table() == TABLE


def test_columns_are_chosen_and_typed(tmp_path: Path) -> None:
    path = write(TABLE, tmp_path / "a.parquet")
    assert read(path, columns=["lang", "id"]).column_names == ["lang", "id"]
    narrow = read(path, columns=pa.schema([("id", pa.int32())]))
    assert narrow.to_table() == pa.table({"id": pa.array([1, 2, 3], pa.int32())})
    with pytest.raises(
        PomonaError, match=r'column "text" cannot be read as int64.* — it holds string'
    ):
        read(path, columns=pa.schema([("text", pa.int64())])).to_table()


def test_a_missing_file_is_named_with_its_neighbour(tmp_path: Path) -> None:
    write(TABLE, tmp_path / "train.jsonl")
    with pytest.raises(PomonaError) as caught:
        read(tmp_path / "trian.jsonl")
    assert (
        str(caught.value) == f'{tmp_path}/trian.jsonl: no such file — did you mean "train.jsonl"?'
    )
    with pytest.raises(PomonaError, match=r"its folder .*/nowhere does not exist either"):
        read(tmp_path / "nowhere" / "a.jsonl")
    with pytest.raises(PomonaError, match=r"no file matches the pattern — known: train\.jsonl"):
        read(f"{tmp_path}/*.parquet")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.parquet", b"", "a.parquet: the file is empty"),
        ("a.jsonl", b"", "a.jsonl: the file is empty"),
        ("a.jsonl", b"\n \n", "a.jsonl: the file holds no records"),
        ("a.csv", b"", "a.csv: the file is empty"),
        (
            "a.jsonl.gz",
            b"not gzip at all",
            "a.jsonl.gz: cannot be read: .* — the file may be damaged or cut short",
        ),
        ("a.jsonl.zst", b"not zstd at all", "a.jsonl.zst: cannot be read: "),
        ("a.parquet", b"PAR1 not parquet", "a.parquet: cannot be read: "),
        ("a.arrow", b"not an arrow file", "a.arrow: cannot be read: "),
        (
            "a.xlsx",
            b"PK",
            "a.xlsx: not a table Pomona can name the format of — use .parquet, or .jsonl",
        ),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PomonaError, match=message):
        read(tmp_path / name)


def test_a_cut_gzip_is_an_error_even_after_good_rows(tmp_path: Path) -> None:
    whole = gzip.compress(
        b"".join(b'{"n": %d, "x": "%d"}\n' % (n, n * 7919) for n in range(60_000))
    )
    (tmp_path / "a.jsonl.gz").write_bytes(whole[:-100])
    records = read(tmp_path / "a.jsonl.gz")
    assert records.head(5).count() == 5
    with pytest.raises(PomonaError, match=r"a\.jsonl\.gz: cannot be read: Truncated"):
        records.count()


def test_a_cut_shard_is_named(tmp_path: Path) -> None:
    write(TABLE, tmp_path / "a.parquet")
    whole = write(TABLE, tmp_path / "b.parquet").read_bytes()
    (tmp_path / "b.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PomonaError, match=r"b\.parquet: cannot be read"):
        read(tmp_path).to_table()


def test_formats_do_not_mix(tmp_path: Path) -> None:
    paths = [write(TABLE, tmp_path / "a.parquet"), write(TABLE, tmp_path / "a.jsonl")]
    with pytest.raises(PomonaError, match=r"a\.jsonl: is jsonl while .*a\.parquet is parquet"):
        read(paths)
    with pytest.raises(
        PomonaError, match="the folder mixes jsonl and parquet files — name one kind"
    ):
        read(tmp_path)


def test_impossible_requests() -> None:
    with pytest.raises(
        PomonaError, match='there is no engine "spark" — choose one of: native, ray'
    ):
        read(TABLE, engine="spark")
    with pytest.raises(PomonaError, match="go together"):
        read(TABLE, on_error="reject")
    with pytest.raises(PomonaError, match=r"gs://bucket/a\.parquet: unknown kind of address"):
        read("gs://bucket/a.parquet")
    with pytest.raises(PomonaError, match="cannot read from"):
        read([])


def test_storage_variants_come_out_plain(tmp_path: Path) -> None:
    table = pa.table(
        {
            "d": pa.array(["a", "b"]).dictionary_encode(),
            "l": pa.array([["x"], []], pa.large_list(pa.large_string())),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    for records in (read(table), read(tmp_path / "a.parquet")):
        assert records.schema == pa.schema([("d", pa.string()), ("l", pa.list_(pa.string()))])
        assert records.to_table().to_pylist() == table.to_pylist()


def test_only_the_schema_is_read_at_first(tmp_path: Path) -> None:
    good = b"".join(b'{"n": %d}\n' % n for n in range(50_000))
    (tmp_path / "a.jsonl").write_bytes(good + b"not json\n")
    records = read(tmp_path / "a.jsonl")
    assert isinstance(records, Records)
    assert records.schema == pa.schema([("n", pa.int64())])
    assert records.head(5).to_table()["n"].to_pylist() == [0, 1, 2, 3, 4]
    with pytest.raises(PomonaError, match=r"a\.jsonl, line 50001: not valid JSON"):
        records.to_table()


def test_the_embedded_table_has_a_name_that_a_file_may_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert read("ui").where(lang="sw", split="test").count() > 0
    (tmp_path / "ui").mkdir()
    (tmp_path / "ui" / "rows.jsonl").write_text('{"text": "own"}\n')
    assert read("ui").to_table().to_pylist() == [{"text": "own"}]
