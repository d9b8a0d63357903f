"""Files that are not all alike, and folders that are named by the values of columns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings, strategies as st

from pomona.cli import main
from pomona.data import dedup
from pomona.errors import PomonaError
from pomona.records import ParquetSource, notes_of, read, split, with_text, write
from pomona.records.column_types import fitted, united

OLD = pa.table({
    "id": [1, 2], "n": [1, None], "text": ["a", "b"], "x": pa.nulls(2),
    "s": [{"k": 1}, None], "l": [[{"a": 1}], None],
})  # fmt: skip
NEW = pa.table({
    "x": ["t"], "new": [True], "text": ["c"], "n": [2.5], "id": ["z9"],
    "s": [{"k": 2.5, "j": "x"}], "l": [[{"a": None, "b": "q"}]],
})  # fmt: skip
BOTH = [
    {"id": "1", "n": 1.0, "text": "a", "x": None, "s": {"k": 1.0, "j": None},
     "l": [{"a": 1, "b": None}], "new": None},
    {"id": "2", "n": None, "text": "b", "x": None, "s": None, "l": None, "new": None},
    {"id": "z9", "n": 2.5, "text": "c", "x": "t", "s": {"k": 2.5, "j": "x"},
     "l": [{"a": None, "b": "q"}], "new": True},
]  # fmt: skip
NOTES = [
    'column "id" is int64 in {a}, read as string',
    'column "n" is int64 in {a}, read as double',
    'column "new" is missing in {a}, and null there',
]


def _arrow(table: pa.Table, path: Path) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "arrow"])
def test_columns_of_all_files_are_read(tmp_path: Path, kind: str) -> None:
    for name, table in (("a", OLD), ("b", NEW)):
        path = tmp_path / f"{name}.{kind}"
        if kind == "arrow":
            _arrow(table, path)
        else:
            write(table, path)
    records = read(tmp_path)
    assert records.to_table().to_pylist() == BOTH
    assert records.select("new", "n").to_table().to_pylist() == [
        {"new": row["new"], "n": row["n"]} for row in BOTH
    ]
    assert records.where(new=True).select("id").to_table().to_pylist() == [{"id": "z9"}]
    assert records.where(n=[1, 2.5]).count() == 2 and records.count() == 3
    told = [note.format(a=tmp_path / f"a.{kind}") for note in NOTES]
    assert [
        note for note in notes_of(records.source) if '"s"' not in note and '"l"' not in note
    ] == told
    assert [row for part in records.source.parts() for batch in part.stream(["text", "new"], None)
            for row in batch.select(["text", "new"]).to_pylist()] == [
        {"text": row["text"], "new": row["new"]} for row in BOTH
    ]  # fmt: skip


def test_a_table_with_more_columns_is_read_after_others_without(tmp_path: Path) -> None:
    for name, head, row in (
        ("a", "id,text", "1,a"),
        ("b", "text,lang", 'b,"x,y"'),
        ("c", "lang", "z"),
    ):
        (tmp_path / f"{name}.csv").write_text(f"{head}\n{row}\n")
    assert read(tmp_path).to_table().to_pylist() == [
        {"id": "1", "text": "a", "lang": None},
        {"id": None, "text": "b", "lang": "x,y"},
        {"id": None, "text": None, "lang": "z"},
    ]


def test_a_card_and_stderr_say_what_differs(tmp_path: Path, capsys: Any) -> None:
    write(OLD.select(["id", "text"]), tmp_path / "a.jsonl")
    write(OLD.select(["id", "text", "n"]), tmp_path / "b.jsonl")
    out = tmp_path / "out.parquet"
    names = [str(tmp_path / f"{name}.jsonl") for name in "ab"]
    assert main(["data", "dedup", *names, "--method", "exact", "--out", str(out)]) == 0
    told = f'column "n" is missing in {names[0]}, and null there'
    assert f"note: {told}\n" in capsys.readouterr().err
    assert json.loads(Path(f"{out}.card.json").read_text())["notes"] == [told]
    assert pq.read_table(out).to_pydict() == {"id": [1, 2], "text": ["a", "b"], "n": [None] * 2}


def test_notes_say_what_all_rows_have_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pomona.records.text_source.SAMPLE_ROWS", 2)
    monkeypatch.setattr("pomona.records.text_source.FILE_ROWS", 2)
    monkeypatch.chdir(tmp_path)
    Path("a.jsonl").write_text('{"id": 1, "n": 1}\n' * 3 + '{"id": "x", "late": 1}\n')
    Path("b.jsonl").write_text('{"id": 1}\n' * 3 + '{"id": 2, "n": 5}\n')
    assert notes_of(read("b.jsonl", on_error="drop").source) == ()
    told = 'column "id" has numbers and texts, all read as texts'
    assert notes_of(read("a.jsonl", on_error="drop").source) == (told,)
    notes = notes_of(read(["a.jsonl", "b.jsonl"], on_error="drop").source)
    assert notes[1:] == ('column "late" is missing in b.jsonl, and null there',)
    assert notes[0].startswith('column "id" is int64 in ')
    Path("c.jsonl").write_text('{"id": 1}\n{"id": "x"}\n')
    assert notes_of(read("c.jsonl").source) == (told,)


def test_values_that_would_change_are_named(tmp_path: Path) -> None:
    write(pa.table({"n": [1.5]}), tmp_path / "a.parquet")
    write(pa.table({"n": [2**53 + 1]}), tmp_path / "b.parquet")
    told = r'b\.parquet: column "n" cannot be read as double: Integer value 9007199254740993 not in'
    with pytest.raises(PomonaError, match=told):
        read(tmp_path).to_table()


def test_many_files_are_looked_at_all(tmp_path: Path) -> None:
    for n in range(40):
        write(
            pa.table({"n": [n], **({"last": ["x"]} if n == 39 else {})}),
            tmp_path / f"{n:02}.parquet",
        )
    records = read(tmp_path)
    assert records.column_names == ["n", "last"]
    assert notes_of(records.source) == (
        f'column "last" is missing in {tmp_path}/00.parquet and 38 more, and null there',
    )


def test_numbers_and_texts_as_ids(tmp_path: Path) -> None:
    lines = [{"id": 2**64 - 1, "text": "a"}, {"id": "x1", "text": "a"}, {"id": None, "text": "b"}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    ids = read(tmp_path).to_table()["id"]
    assert ids.to_pylist() == ["18446744073709551615", "x1", None]
    (tmp_path / "b.jsonl").write_text(
        '{"id": 18446744073709551615, "text": "a"}\n{"id": 3, "text": "z"}\n'
    )
    assert read(tmp_path / "b.jsonl").schema.field("id").type == pa.uint64()
    card = dedup(
        tmp_path / "a.jsonl", tmp_path / "out.jsonl", method="exact", against=tmp_path / "b.jsonl"
    )
    assert card.rows_out == 1
    pairs = pq.read_table(f"{tmp_path}/out.jsonl.pairs.parquet")
    assert pairs["kept_id"].to_pylist() == ["18446744073709551615"] * 2
    (tmp_path / "a.jsonl").write_text('{"text": 1}\n{"text": "x"}\n')
    with pytest.raises(PomonaError, match='line 2: column "text"'):
        read(tmp_path / "a.jsonl").to_table()


KEYED = {
    "lang=en/year=2023": ["a"],
    "lang=pt%2DBR/year=2024": ["b", "c"],
    "lang=__HIVE_DEFAULT_PARTITION__/year=2024": ["d"],
}
KEYED_ROWS = [
    {"text": "d", "lang": None, "year": 2024},
    {"text": "a", "lang": "en", "year": 2023},
    {"text": "b", "lang": "pt-BR", "year": 2024},
    {"text": "c", "lang": "pt-BR", "year": 2024},
]


@pytest.mark.parametrize("name", ["part-0.parquet", "part-0.jsonl", "data_0.csv"])
def test_folders_are_named_by_the_values_of_columns(tmp_path: Path, name: str) -> None:
    for folder, texts in KEYED.items():
        write(pa.table({"text": texts}), tmp_path / folder / name)
    (tmp_path / "_SUCCESS").write_text("")
    records = read(tmp_path)
    assert records.to_table().to_pylist() == KEYED_ROWS
    assert records.where(year=2024, lang=["pt-BR"]).select("text").count() == 2
    assert records.select("lang").to_table()["lang"].to_pylist() == [None, "en", "pt-BR", "pt-BR"]
    assert records.count() == 4 and read(tmp_path, columns=["year"]).column_names == ["year"]
    assert read(f"{tmp_path}/*/*/{name}").to_table().to_pylist() == KEYED_ROWS
    assert read(f"{tmp_path}/lang=en/*/*").to_table().to_pydict() == {"text": ["a"], "year": [2023]}
    assert read(tmp_path / "lang=en" / "year=2023").column_names == ["text"]
    made, text = with_text(records, "{text} {year}")
    assert [row for piece in split(made) for row in piece.records.select(text).to_table()[text].to_pylist()] == [
        "d 2024", "a 2023", "b 2024", "c 2024",
    ]  # fmt: skip
    card = dedup(
        tmp_path, tmp_path.parent / f"{tmp_path.name}.jsonl", column="{year}", method="exact"
    )
    assert card.rows_out == 2 and len(card.inputs) == 3


def test_columns_of_files_go_before_those_of_folders(tmp_path: Path) -> None:
    write(pa.table({"lang": ["de"]}), tmp_path / "lang=en" / "a.jsonl")
    write(pa.table({"lang": ["fr"]}), tmp_path / "b.jsonl")
    assert read(tmp_path).to_table().to_pydict() == {"lang": ["fr", "de"]}
    write(pa.table({"t": ["x"]}), tmp_path / "sub" / "n=01" / "a.jsonl")
    write(pa.table({"t": ["y"]}), tmp_path / "sub" / "b.jsonl")
    assert read(tmp_path / "sub").to_table().to_pydict() == {"t": ["y", "x"], "n": [None, "01"]}


_KINDS = st.recursive(
    st.sampled_from([
        pa.null(), pa.bool_(), pa.int8(), pa.uint8(), pa.int32(), pa.uint64(), pa.int64(),
        pa.float32(), pa.float64(), pa.string(), pa.date32(), pa.binary(),
    ]),
    lambda inner: st.builds(pa.list_, inner)
    | st.lists(st.tuples(st.sampled_from("abc"), inner), max_size=3, unique_by=lambda one: one[0]).map(
        pa.struct
    ),
    max_leaves=4,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(_KINDS, _KINDS)
def test_a_type_that_holds_two_holds_each(one: pa.DataType, two: pa.DataType) -> None:
    both = united("x", one, two)
    assert united("x", one, one) == one and united("x", one, pa.null()) == one
    if both is None:
        assert united("x", two, one) is None
        return
    assert united("x", both, one) == both == united("x", both, two)
    batch = pa.record_batch([pa.nulls(2, one)], ["x"])
    assert fitted(batch, pa.schema([("x", both)]), "file").column(0) == pa.nulls(2, both)


def test_texts_as_dictionaries_where_files_differ(tmp_path: Path) -> None:
    write(OLD.select(["text"]), tmp_path / "a.parquet")
    write(NEW.select(["text", "new"]), tmp_path / "b.parquet")
    records = read(tmp_path)
    assert isinstance(records.source, ParquetSource)
    table = records.to_table(["text"])
    assert table["text"].cast(pa.string()).to_pylist() == ["a", "b", "c"]


def test_a_column_that_only_a_later_file_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pomona.records.text_source.SAMPLE_ROWS", 3)
    (tmp_path / "a.jsonl").write_text('{"n": 1}\n' * 5)
    (tmp_path / "b.jsonl").write_text('{"n": 2.5, "new": {"k": "x"}}\n' * 2)
    (tmp_path / "c.jsonl").write_text('{"n": 3}\n' + '{"n": 4, "new": {"l": 1}}\n')
    assert read(tmp_path).to_table().to_pylist()[5:] == [
        *[{"n": 2.5, "new": {"k": "x", "l": None}}] * 2,
        {"n": 3.0, "new": None},
        {"n": 4.0, "new": {"k": None, "l": 1}},
    ]


@pytest.mark.parametrize("stream", [False, True])
def test_categories_of_polars_are_texts(tmp_path: Path, stream: bool) -> None:
    """Polars 1 writes a Categorical or Enum as a dictionary of views of texts."""
    texts = pa.array(["x", "ü"], pa.string_view())
    places = pa.array([1, None, 0], pa.uint32())
    column = pa.DictionaryArray.from_arrays(places, texts)
    batch = pa.record_batch([column, pa.array([1, 2, 3])], ["kind", "n"])
    new = pa.ipc.new_stream if stream else pa.ipc.new_file
    with new(str(tmp_path / "a.arrow"), batch.schema) as file:
        file.write_batch(batch)
    records = read(tmp_path / "a.arrow")
    assert records.schema.field("kind").type == pa.string()
    assert records.to_table().to_pydict() == {"kind": ["ü", None, "x"], "n": [1, 2, 3]}
