"""Tables of training runs are read by name, or refused by row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv

from pomona.errors import PomonaError
from pomona.scale import read_runs

ROWS = {"params": [1e6, 2e6, 4e6], "tokens": [1e7, 2e7, 3e7], "loss": [4.0, 3.5, 3.1]}


def said(**changed: object) -> str:
    with pytest.raises(PomonaError) as error:
        read_runs(pa.table({**ROWS, **changed}))
    return str(error.value)


@pytest.mark.parametrize(
    ("loss", "what"),
    [(np.nan, "nan"), (np.inf, "inf"), (0.0, "0.0"), (-2.0, "-2.0"), (None, "has no value")],
)
def test_a_loss_that_is_none_is_named_by_row(loss: float | None, what: str) -> None:
    text = said(loss=[4.0, loss, 3.1])
    assert text.startswith("the table, row 2: ") and what in text
    assert text.endswith("leave the run out: one that diverged says nothing of the law")


def test_a_number_in_words_is_named_by_row(tmp_path: Path) -> None:
    file = tmp_path / "runs.csv"
    file.write_text("params,tokens,loss\n1e6,1e7,4\n2M,1e7,3\n")
    with pytest.raises(PomonaError) as error:
        read_runs(file)
    assert str(error.value) == f'{file}, row 2: "params" is 2M — give a number above 0'


def test_a_column_that_is_missing_has_an_option() -> None:
    with pytest.raises(PomonaError, match=r'there is no column "loss" — .*--loss names another'):
        read_runs(pa.table({"params": [1.0], "tokens": [1.0]}))


def test_a_run_stands_once_unless_its_seed_differs() -> None:
    twice = {"params": [1e6, 1e6], "tokens": [1e7, 1e7], "loss": [4.0, 4.0]}
    with pytest.raises(PomonaError, match="row 2: the run stands in the table, row 1 too"):
        read_runs(pa.table(twice))
    assert len(read_runs(pa.table({**twice, "seed": [0, 1]}))) == 2


def test_tokens_follow_from_flops() -> None:
    runs = read_runs(
        pa.table({"N": [1e6], "C": [6e13], "loss": [4.0]}), {"params": "N", "flops": "C"}
    )
    assert runs.tokens.tolist() == [1e7] and runs.counted


def test_several_tables_share_what_all_know(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({**ROWS, "seed": [0, 0, 0], "family": ["a"] * 3}), tmp_path / "a.parquet"
    )
    other = pa.table({**ROWS, "loss": [5.0, 4.0, 3.0], "seed": [1, 1, 1]})
    runs = read_runs([tmp_path / "a.parquet", other])
    assert len(runs) == 6 and set(runs.labels) == {"seed"}
    assert runs.places[0].endswith("a.parquet, row 1") and runs.places[3] == "the table, row 1"


def test_the_folder_of_a_run_lists_its_trainings(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(PomonaError, match=r"the run has no training-runs\.csv"):
        read_runs(tmp_path)
    counted = pa.table({**ROWS, "params_no_embedding": [5e5, 1e6, 2e6], "flops": [1.0, 2.0, 3.0]})
    both = [counted.append_column("part", pa.array([part] * 3)) for part in ("tail", "overall")]
    table = pa.concat_tables(both).append_column("seed", pa.array([0, None] * 3, pa.int64()))
    csv.write_csv(table, tmp_path / "training-runs.csv")
    runs = read_runs(str(tmp_path))
    assert runs.flops.tolist() == [1, 2, 3] and list(runs.counts) == ["params_no_embedding"]
    assert runs.places[0].endswith("training-runs.csv, row 4")
    with pytest.raises(PomonaError, match='there is no part "head" — known: overall, tail'):
        read_runs(str(tmp_path), part="head")


def test_what_is_not_known_of_all_is_not_known() -> None:
    runs = read_runs(pa.table({**ROWS, "flops": [1e14, None, None], "unique_tokens": [None] * 3}))
    assert not runs.counted and runs.flops[0] == 6e13 and not runs.more
