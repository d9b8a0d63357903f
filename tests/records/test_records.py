from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, strategies as st

from pomona.errors import PomonaError
from pomona.records import Records, read, write

TABLE = pa.table({"id": range(20), "lang": ["nl", "en", None, "de"] * 5, "score": [0.5] * 20})


@pytest.fixture(params=["table", "a.parquet", "a.jsonl", "a.arrow"])
def records(request: pytest.FixtureRequest, tmp_path: Path) -> Records:
    if request.param == "table":
        return read(TABLE)
    path = tmp_path / request.param
    if path.suffix != ".arrow":
        return read(write(TABLE, path))
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, TABLE.schema) as writer:
        writer.write_table(TABLE)
    return read(path)


def test_every_source_answers_alike(records: Records) -> None:
    assert records.schema == TABLE.schema
    assert records.column_names == ["id", "lang", "score"]
    assert records.count() == 20
    assert records.to_table() == TABLE
    assert records.select("score", "id").to_table() == TABLE.select(["score", "id"])
    assert records.where(lang="nl").select("id").to_table()["id"].to_pylist() == [0, 4, 8, 12, 16]
    assert records.where(lang=["nl", None], id=range(5)).to_table()["id"].to_pylist() == [0, 2, 4]
    assert records.where(lang=[]).count() == 0
    assert records.head(3).where(lang="nl").count() == 1
    assert records.where(lang="nl").head(3).count() == 3
    assert records.head(0).to_table() == TABLE.slice(0, 0)
    assert records.head(5).head(9).count() == 5


@pytest.mark.parametrize("rows", [1, 7, 20, 50])
def test_batches_have_the_size_asked_for(records: Records, rows: int) -> None:
    batches = list(records.batches(rows))
    assert [batch.num_rows for batch in batches[:-1]] == [rows] * (len(batches) - 1)
    assert pa.Table.from_batches(batches) == TABLE


def test_a_missing_column_is_named_with_the_nearest(tmp_path: Path) -> None:
    records = read(write(TABLE, tmp_path / "a.parquet"))
    assert records.require("lang", "id") is records
    for attempt in (
        lambda: records.require("lnag"),
        lambda: records.select("lnag"),
        lambda: records.where(lnag="nl"),
    ):
        with pytest.raises(PomonaError) as caught:
            attempt()
        assert (
            str(caught.value)
            == f'{tmp_path}/a.parquet: there is no column "lnag" — did you mean "lang"?'
        )


@pytest.mark.parametrize("wanted", ["1", 1.5, 2**70, [1, "a"]])
def test_a_filter_of_another_type_is_refused(wanted: Any) -> None:
    with pytest.raises(
        PomonaError,
        match=(
            r'the table: column "id" holds int64, which .* is not — compare with values of '
            r"the column"
        ),
    ):
        read(TABLE).where(id=wanted)


@pytest.mark.parametrize(("name", "rows"), [("a.parquet", 480_000), ("a.jsonl", 40_000)])
def test_batches_do_not_hold_the_file(tmp_path: Path, name: str, rows: int) -> None:
    records = read(write(pa.table({"text": pa.repeat("x" * 1000, rows)}), tmp_path / name))
    before = pa.total_allocated_bytes()
    most = max(
        pa.total_allocated_bytes() - before for batch in records.batches(1000) if batch.num_rows
    )
    assert most < rows * 1000 / 2


def test_records_say_what_they_are() -> None:
    assert repr(read(TABLE).select("id", "lang")) == "Records(the table: id int64, lang string)"


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(PomonaError, match="negative number of rows"):
        read(TABLE).head(-1)
    with pytest.raises(PomonaError, match="empty batches"):
        read(TABLE).batches(0)


@given(
    st.lists(st.sampled_from(["a", "b", "ü", None])),
    st.sets(st.sampled_from(["a", "b", "ü", None])),
    st.integers(0, 9),
)
def test_where_and_head_are_what_python_says(
    values: list[str | None], wanted: set[str | None], n: int
) -> None:
    records = read(pa.table({"v": pa.array(values, pa.string())}))
    assert (
        records.where(v=list(wanted)).head(n).to_table()["v"].to_pylist()
        == [v for v in values if v in wanted][:n]
    )
    assert records.head(n).where(v=list(wanted)).to_table()["v"].to_pylist() == [
        v for v in values[:n] if v in wanted
    ]


def test_texts_may_stay_dictionaries(tmp_path: Path) -> None:
    records = read(write(TABLE, tmp_path / "a.parquet")).select("lang", "id")
    found = records.to_table(dictionaries=["lang", "id", "other"])
    assert found.schema.types == [pa.dictionary(pa.int32(), pa.string()), pa.int64()]
    assert found["lang"].cast(pa.string()) == TABLE["lang"]
    assert records.to_table() == TABLE.select(["lang", "id"])
    some = records.where(lang="nl").head(2).to_table(dictionaries=["lang"])
    assert some["lang"].to_pylist() == ["nl", "nl"]
    assert read(TABLE).to_table(dictionaries=["lang"]) == TABLE
