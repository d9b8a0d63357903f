"""Values that are learned from rows that a column says them of."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pomona.cli import main
from pomona.markers import Taxonomy, tag
from pomona.records import Records, TableSource, read, write

OWN = Taxonomy.model_validate(
    {"markers": {"fruit": {"kind": "values", "values": ["apple", "pear", "fig"], "column": "f"}}}
)


def rows(n: int, seed: int = 0) -> dict[str, list[Any]]:
    """Texts that tell their fruit by a word, one of four unlike all others; a third unlabelled."""
    draw = random.Random(seed)
    told: dict[str, list[Any]] = {"completion": [], "f": [], "true": []}
    for at in range(n):
        fruit = ("apple", "pear")[at % 2]
        word = "".join(draw.choices("xyzw", k=6)) if at % 8 >= 6 else f"red {fruit}s"
        told["completion"].append(f"{word} {''.join(draw.choices('mnop', k=5))}")
        told["true"].append(fruit)
        told["f"].append(None if at % 3 == 0 else fruit)
    return told


def source(columns: dict[str, list[Any]]) -> Records:
    return Records.of(TableSource(pa.table(columns)))


def test_values_are_learned_and_said_only_where_that_is_sure(tmp_path: Path) -> None:
    columns = rows(240)
    columns["f"][1] = "fig"  # too rare
    told: Any = []
    card = tag(
        source(columns), tmp_path / "t.parquet", taxonomy=OWN, learn=["fruit"], least_sure=0.9,
        progress=lambda *at: told.append(at),
    )  # fmt: skip
    assert told == [(at, 21) for at in range(20)] + [
        (21, 21)
    ]  # each penalty in each fold, then all
    told = read(tmp_path / "t.parquet").to_table().to_pylist()
    said = [row for row in told if row["marker_fruit_by"] == "classifier"]
    assert all(row["marker_fruit"] == row["true"] and row["f"] is None for row in said)
    assert all(0.9 <= row["marker_fruit_sure"] <= 1 for row in said)
    unlike = [row for row in told if row["f"] is None and "red" not in row["completion"]]
    assert sum(row["marker_fruit"] is None for row in unlike) > len(unlike) / 2
    assert len(said) > 40
    learned = card.details["classifiers"]["fruit"]
    assert learned["rows"] == 159 and learned["too_rare"] == {"fig": 1}
    assert learned["accuracy"] > 0.8 > learned["usual"]
    assert learned["right"] > 0.95 and 0.5 < learned["said"] < 0.9
    assert sum(one["rows"] for one in learned["bins"]) == 159
    column = [row for row in told if row["f"] is not None]
    assert {row["marker_fruit_by"] for row in column} == {"column"}


def test_it_is_judged_on_rows_of_sources_that_it_has_not_seen(tmp_path: Path) -> None:
    draw = random.Random(1)
    words = ["".join(draw.choices("abcdefgh", k=8)) for _ in range(60)]
    labels = [draw.choice(["apple", "pear"]) for _ in words]  # which nothing tells
    columns = {
        "prompt": words * 3, "completion": words * 3, "f": [*labels, *labels, *[None] * 60],
        "source": [*map(str, range(60))] * 3,
    }  # fmt: skip
    for cluster in (None, "source"):
        out = tmp_path / f"{cluster}.parquet"
        card = tag(source(columns), out, taxonomy=OWN, learn=["fruit"], cluster=cluster)
        learned = card.details["classifiers"]["fruit"]
        assert learned["clusters"] == 60 and learned["accuracy"] < 0.75
        assert learned["said"] < 0.5


def test_vectors_of_a_model_may_be_learned_from(tmp_path: Path) -> None:
    class Told:
        identity = "told"

        def embed(self, texts: list[str]) -> Any:
            return np.array([[1.0, "apple" in one, "pear" in one] for one in texts], np.float32)

    out = tmp_path / "t.parquet"
    model: Any = Told()
    card = tag(source(rows(120)), out, taxonomy=OWN, learn=["fruit"], embed=model)
    assert card.details["classifiers"]["fruit"]["right"] == 1
    assert card.parameters["embed"] == "told"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--learn friut", 'did you mean "fruit"?'),
        ("--learn size", 'no column says "size" — name one: --columns size=COLUMN'),
        ("--learn n", '"n" has no values'),
        ("--learn fruit --least-sure 2", "2.0 is no probability"),
        ("--learn fruit --cluster sorce", 'did you mean "source"?'),
    ],
)
def test_mistakes_of_learning_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, line: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.yaml").write_text(
        "markers:\n  fruit: {kind: values, values: [apple, pear], column: f}\n"
        "  size: {kind: values, values: [s, l]}\n  n: {kind: integer, measure: characters}\n"
    )
    write(
        source({"completion": ["a", "b"], "f": ["apple", None], "source": ["s", "t"]}), "in.parquet"
    )
    given = ["markers", "tag", "in.parquet", "--out", "o.parquet", "--taxonomy", "own.yaml"]
    assert main([*given, *line.split()]) == 2
    assert said in capsys.readouterr().err
    assert not Path("o.parquet").exists()
    assert main([*given, "--learn", "fruit"]) == 0
    assert "too few rows say it to learn from" in capsys.readouterr().out
