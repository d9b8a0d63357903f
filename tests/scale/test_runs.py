"""Tables of training runs are read by name, or refused by row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

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
    assert str(error.value) == (
        f'{file}, row 2: "params" is 2M — give a count such as 1e6, not millions of them'
    )


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
    file = tmp_path / "training-runs.csv"
    file.write_text(
        "size,part,params,params_no_embedding,tokens,unique_tokens,flops,seed,loss,bits_per_byte\n"
        "a,overall,1e6,5e5,1e7,1e8,6e13,0,4,2\n"
        "a,tail,1e6,5e5,1e7,1e8,6e13,0,5,2.5\n"
        "a,overall,1e6,5e5,2e7,1e8,1e14,0,3,1.5\n"
        "a,tail,1e6,5e5,2e7,1e8,1e14,0,4,2\n"
        "known,overall,2e6,1e6,1e7,,2e14,,3.5,1.7\n"  # its training does not say
        "known,tail,2e6,1e6,1e7,,2e14,,4.5,2.2\n"
    )
    for source in (str(tmp_path), file):
        runs = read_runs(source)
        assert runs.loss.tolist() == [4, 3, 3.5] and runs.part == "overall"
        assert runs.flops.tolist() == [6e13, 1e14, 2e14] and list(runs.counts) == [
            "params_no_embedding"
        ]
        assert runs.by("bits_per_byte").loss.tolist() == [2, 1.5, 1.7]
        assert not runs.more
        assert runs.notes == ['"unique_tokens" is empty in 1 of 3 rows, and does not count']
        assert runs.clusters() is None and len(set(runs.trainings())) == 3
        assert runs.places[2] == f"{file}, row 5"
    tail = read_runs(tmp_path, part="tail")
    assert tail.loss.tolist() == [5, 4, 4.5] and tail.trainings() == runs.trainings()
    with pytest.raises(PomonaError, match='there is no part "tial" — did you mean "tail"'):
        read_runs(tmp_path, part="tial")
    with pytest.raises(PomonaError, match=r'row 5: "unique_tokens" has no value'):
        read_runs(tmp_path, {"unique_tokens": "unique_tokens"})
    with pytest.raises(PomonaError, match='there is no column "part" — leave out --part'):
        read_runs(pa.table(ROWS), part="tail")


def test_parts_without_one_of_all_items_are_asked_for() -> None:
    parts = pa.table({**ROWS, "part": ["head", "tail", "head"]})
    with pytest.raises(PomonaError, match='there is no part "overall" — known: head, tail'):
        read_runs(parts)
    assert len(read_runs(parts, part="head")) == 2
    assert len(read_runs(pa.table({**ROWS, "part": ["head"] * 3}))) == 3


@pytest.mark.parametrize(
    ("column", "value", "remedy"),
    [
        ("params", 1e300, "give a count such as 1e6, not millions of them"),
        ("params", 0.5, "give a count such as 1e6, not millions of them"),
        ("tokens", 1e-300, "give a count such as 1e6, not millions of them"),
        ("loss", 1e300, "leave the run out: one that diverged says nothing of the law"),
        ("loss", 5e-324, "leave the run out: one that diverged says nothing of the law"),
    ],
)
def test_values_that_no_training_has_are_named(column: str, value: float, remedy: str) -> None:
    text = said(**{column: [ROWS[column][0], value, ROWS[column][2]]})
    assert text == f'the table, row 2: "{column}" is {value} — {remedy}'


def test_true_is_no_loss() -> None:
    assert '"loss" is True' in said(loss=[True, True, True])


def test_columns_that_are_separated_otherwise_are_told(tmp_path: Path) -> None:
    for separator in ";\t":
        (tmp_path / "runs.csv").write_text(f"params{separator}tokens{separator}loss\n1\n")
        with pytest.raises(PomonaError, match="separate columns by commas"):
            read_runs(tmp_path / "runs.csv")


def test_a_table_in_millions_is_noted() -> None:
    runs = read_runs(pa.table({**ROWS, "params": [1.0, 2.0, 4.0]}))
    assert runs.notes == ["params of the largest run are 4: give counts, not millions"]
    assert not read_runs(pa.table(ROWS)).notes


def test_clusters_are_named_or_are_trainings() -> None:
    steps = {"step": [1, 2, 1], "params": [1e6, 1e6, 2e6]}
    assert len(set(read_runs(pa.table({**ROWS, **steps})).clusters() or ())) == 2
    seeds = {"seed": ["0", "0", ""], "params": [1e6, 1e6, 2e6]}  # of one nothing is known
    assert read_runs(pa.table({**ROWS, **seeds})).clusters() is None
    seeds = {"seed": ["0", "0", "1"], "params": [1e6, 1e6, 2e6]}
    assert len(set(read_runs(pa.table({**ROWS, **seeds})).clusters() or ())) == 2
    named = {"run": ["a", "a", "b"], "cluster": ["x", "x", "x"]}
    assert len(set(read_runs(pa.table({**ROWS, **named})).clusters() or ())) == 1
    assert read_runs(pa.table({**ROWS, "run": list("abc")})).clusters() is None


def test_what_is_empty_in_some_rows_does_not_count() -> None:
    runs = read_runs(pa.table({**ROWS, "flops": [1e14, None, 2e14], "learning_rate": [1.0] * 3}))
    assert not runs.counted and runs.flops.tolist() == [6e13, 2.4e14, 7.2e14]
    assert runs.notes == ['"flops" is empty in 1 of 3 rows, and does not count']
    assert list(runs.more) == ["learning_rate"]
    with pytest.raises(PomonaError, match='"flops" is empty in some rows — fill it'):
        read_runs(pa.table({"params": [1e6], "loss": [3.0], "flops": pa.array([None], "double")}))
