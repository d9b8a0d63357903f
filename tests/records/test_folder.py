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
        PomonaError, match="the folder holds no table — expected Parquet, JSONL or CSV files"
    ):
        read(tmp_path)
