"""The three rates, counted by hand."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pomona.data.duplicates import Rates, rates


def document(name: str) -> str:
    return " ".join(f"{name}{at}" for at in range(60))


def test_rates_count_documents_with_a_duplicate(tmp_path: Path) -> None:
    train = [
        document("a"),
        document("a") + " end",
        document("b"),
        document("c"),
        document("c"),
        "short",
    ]
    valid = [document("b") + " end", document("d"), document("d"), "short", document("e")]
    pq.write_table(pa.table({"text": train}), tmp_path / "train.parquet")
    measured = rates(tmp_path / "train.parquet", pa.table({"text": valid}))
    assert measured == Rates(train=6, valid=5, train_in_train=4, valid_in_valid=2, valid_in_train=2)
    assert measured.shares == (4 / 6, 2 / 5, 2 / 5)


def test_rates_of_nothing() -> None:
    empty = pa.table({"text": pa.array([], pa.string())})
    assert rates(empty, empty).shares == (None, None, None)


def test_copies_within_valid_all_count_as_in_train() -> None:
    valid = pa.table({"text": [document("a") + " end"] * 3})
    assert rates(pa.table({"text": [document("a")]}), valid).valid_in_train == 3
