from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from pomona.errors import PomonaError
from pomona.records import read, write


def _arrow(path: Path, values: list[int], opener: object = pa.ipc.new_stream) -> None:
    table = pa.table({"n": values})
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(path), "wb") as sink, opener(sink, table.schema) as writer:  # type: ignore[operator]
        writer.write_table(table)


def _saved(folder: Path) -> None:
    _arrow(folder / "data-00000-of-00002.arrow", [1, 2])
    _arrow(folder / "data-00001-of-00002.arrow", [3])
    names = ["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"]
    (folder / "state.json").write_text(
        json.dumps({"_data_files": [{"filename": name} for name in names], "_split": "train"})
    )
    (folder / "dataset_info.json").write_text("{}")


def test_a_dataset_saved_to_disk(tmp_path: Path) -> None:
    _saved(tmp_path / "set")
    records = read(tmp_path / "set")
    assert records.to_table() == pa.table({"n": [1, 2, 3]})
    assert records.where(n=[2, 3]).count() == 2


def test_a_dictionary_of_splits_gives_train(tmp_path: Path) -> None:
    _saved(tmp_path / "train")
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["test", "train"]}')
    assert read(tmp_path).count() == 3
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["test", "dev"]}')
    with pytest.raises(
        PomonaError, match=r"several splits and none is train: test, dev — name one: .*/SPLIT"
    ):
        read(tmp_path)


def test_an_arrow_file_in_the_ipc_format(tmp_path: Path) -> None:
    _arrow(tmp_path / "a.arrow", [4, 5], pa.ipc.new_file)
    assert read(tmp_path / "a.arrow").to_table() == pa.table({"n": [4, 5]})


@pytest.mark.parametrize("inner", ["", "data"])
def test_a_folder_as_on_the_hub_gives_train(tmp_path: Path, inner: str) -> None:
    for name, value in (
        ("train-00001-of-00002", 2),
        ("train-00000-of-00002", 1),
        ("test-00000-of-00001", 9),
    ):
        write(pa.table({"n": [value]}), tmp_path / inner / f"{name}.parquet")
    (tmp_path / "README.md").write_text("card")
    assert read(tmp_path).to_table()["n"].to_pylist() == [1, 2]
    assert read(f"{tmp_path / inner}/test-*.parquet").to_table()["n"].to_pylist() == [9]


def test_splits_named_by_file_are_not_mixed(tmp_path: Path) -> None:
    for name, value in (("ui_test", 9), ("ui_train", 1)):
        write(pa.table({"n": [value]}), tmp_path / f"{name}.jsonl")
    assert read(tmp_path).to_table()["n"].to_pylist() == [1]
    (tmp_path / "ui_train.jsonl").rename(tmp_path / "ui_dev.jsonl")
    with pytest.raises(
        PomonaError,
        match=r"several splits and none is train: dev, test — name one: .*/\*SPLIT\*\.jsonl",
    ):
        read(tmp_path)


def test_a_folder_without_tables_is_refused(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("card")
    with pytest.raises(
        PomonaError, match="the folder holds no table — expected Parquet, JSONL, CSV, TSV"
    ):
        read(tmp_path)


def _rows(path: Path, *values: int) -> None:
    write(pa.table({"n": list(values)}), path)


def test_shards_below_a_folder_are_read_with_those_in_it(tmp_path: Path) -> None:
    _rows(tmp_path / "de.parquet", 1)
    _rows(tmp_path / "en.parquet" / "part-0.parquet", 2)
    _rows(tmp_path / "more" / "deep" / "x.parquet", 3)
    (tmp_path / "de.parquet.card.json").write_text("{}")
    (tmp_path / "en.parquet" / "_SUCCESS").write_text("")
    assert read(tmp_path).to_table()["n"].to_pylist() == [1, 2, 3]
    assert read(f"{tmp_path}/*.parquet").to_table()["n"].to_pylist() == [1, 2]
    assert read(f"{tmp_path}/**/*.parquet").to_table()["n"].to_pylist() == [1, 2, 3]
    (tmp_path / "more" / "y.PARQUET").write_bytes((tmp_path / "de.parquet").read_bytes())
    assert read(tmp_path / "more").to_table()["n"].to_pylist() == [3, 1]


def test_splits_may_be_folders(tmp_path: Path) -> None:
    _rows(tmp_path / "train" / "0.jsonl", 1)
    _rows(tmp_path / "test" / "0.jsonl", 9)
    assert read(tmp_path).to_table()["n"].to_pylist() == [1]


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ("other.jsonl", "beside the files of train there are others of no split: other.jsonl"),
        ("sub/x.jsonl", "beside the files of train there are others of no split: sub/x.jsonl"),
        ("a.feather", "the folder holds files that are not read: a.feather"),
        ("train.sql.bz2", "the folder holds files that are not read: train.sql.bz2"),
        ("a.tsv", "the folder mixes jsonl and tsv files"),
        ("_b.jsonl", "the folder holds tables whose names say that they are no part of it: _b.jso"),
        ("set/state.json", "the folder holds datasets of their own: set"),
        ("_delta_log/0.json", "is a Delta table, whose log says which files are in it"),
        ("data/b.csv", "the folder mixes csv and jsonl files"),
    ],
)
def test_what_would_be_left_out_is_named(tmp_path: Path, other: str, told: str) -> None:
    _rows(tmp_path / "train.jsonl", 1)
    (tmp_path / other).parent.mkdir(exist_ok=True)
    (tmp_path / other).write_text('{"n": 2}\n')
    with pytest.raises(PomonaError) as caught:
        read(tmp_path)
    assert told in str(caught.value) and caught.value.remedy


@pytest.mark.parametrize("name", ["@", "+", "#", "%20", "a b", "[x]", "*", "?", "\n", "é", "a=b"])
def test_any_name_of_a_folder_or_a_file_will_do(tmp_path: Path, name: str) -> None:
    _rows(tmp_path / name / f"{name}.parquet", 1)
    _rows(tmp_path / name / f"{name}2.parquet", 2)
    assert read(tmp_path / name).count() == 2
    assert read(tmp_path / name / f"{name}.parquet").count() == 1


@pytest.mark.parametrize(
    "notes",
    ['["."]', '[".."]', '["a/b"]', "[3]", "[]", '"train"', '["a\\u0000"]', '[""]', "null", "7"],
)
def test_damaged_notes_of_splits(tmp_path: Path, notes: str) -> None:
    (tmp_path / "dataset_dict.json").write_text(f'{{"splits": {notes}}}')
    told = r'dataset_dict\.json: the dataset\'s own notes list no files or folders as "splits"'
    with pytest.raises(PomonaError, match=told):
        read(tmp_path)


@pytest.mark.parametrize(
    "files", ["[]", "[3]", "[{}]", '[{"filename": 3}]', '[{"filename": "../a.arrow"}]', "{}", "7"]
)
def test_damaged_notes_of_a_saved_dataset(tmp_path: Path, files: str) -> None:
    _saved(tmp_path)
    (tmp_path / "state.json").write_text(f'{{"_data_files": {files}}}')
    told = r'state\.json: the dataset\'s own notes list no files or folders as "_data_files"'
    with pytest.raises(PomonaError, match=told):
        read(tmp_path)
    (tmp_path / "state.json").write_text('{"_data_files": [{"filename": "lost.arrow"}]}')
    with pytest.raises(PomonaError, match=r"lost\.arrow is not there — copy or save the dataset"):
        read(tmp_path)


def test_a_folder_that_links_to_itself_is_named(tmp_path: Path) -> None:
    _rows(tmp_path / "a" / "x.jsonl", 1)
    (tmp_path / "a" / "again").symlink_to(tmp_path / "a")
    with pytest.raises(PomonaError, match="a/again: is a link to a folder that it is in"):
        read(tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x.jsonl").symlink_to(tmp_path / "a" / "x.jsonl")
    assert read(tmp_path / "b").count() == 1
