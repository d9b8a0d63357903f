"""Pairs of answers: which, in what order, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pomona.arena import pairs
from pomona.errors import PomonaError


def answers(name: str, texts: list[str], **more: list[str]) -> pa.Table:
    ids = [f"i{at}" for at in range(len(texts))]
    columns = {"id": ids, "input": [f"ask {one}" for one in ids], "prediction": texts, **more}
    return pa.table(columns).replace_schema_metadata({"pomona.name": f"runs/x#{name}"})


def test_every_two_answers_that_differ_are_a_pair(tmp_path: Path) -> None:
    out = tmp_path / "pairs.parquet"
    three = [
        answers("ui-s", ["a"] * 40, group=["de", "fr"] * 20),
        answers("ui-l", ["a", *["b"] * 39]),
        answers("lever", ["a", *["c"] * 39]),
    ]
    card = pairs(three, out=out)
    rows = pq.read_table(out).to_pylist()
    assert card.rows_out == len(rows) == 39 * 3 and card.details["equal"] == 3
    assert card.details["models"] == ["ui-s", "ui-l", "lever"]
    said = {"ui-s": "a", "ui-l": "b", "lever": "c"}
    for row in rows:
        assert row["completion_a"] == said[row["model_a"]] != row["completion_b"]
        assert row["prompt"] == f"ask {row['item']}"
    assert {row["lang"] for row in rows} == {"de", "fr"}
    first = [row["model_a"] < row["model_b"] for row in rows]
    assert 35 < sum(first) < 82  # who comes first is random
    pairs(three, out=out)
    assert pq.read_table(out).to_pylist() == rows  # the seed's
    served = "http://127.0.0.1/v1#m"  # a name with a # in it is a name all the same
    own = three[1].schema.metadata | {b"pomona.system": served.encode()}
    named = pairs([three[0], three[1].replace_schema_metadata(own)], out=out)
    assert named.details["models"] == ["ui-s", served]
    pairs(three, out=out, per_item=1, same=True, seed=1)
    assert pq.read_table(out)["item"].to_pylist() == [f"i{at}" for at in range(40)]


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (answers("ui-s", ["b"]), 'runs/x#ui-s: is called "ui-s", as runs/x#ui-s is'),
        (answers("ui-l", ["a"]), "no item has two answers that differ (equal pairs: 1)"),
        (answers("ui-l", ["b"]).drop_columns("input"), 'there is no column "input"'),
        (pa.concat_tables([answers("ui-l", ["b"])] * 2), 'row 2: id "i0" twice'),
        (
            answers("ui-l", ["b"]).set_column(1, "input", pa.array(["other"])),
            'item "i0" asks something else in runs/x#ui-s',
        ),
        (
            answers("ui-l", ["b"]).set_column(2, "prediction", pa.nulls(1, pa.string())),
            'row 1: "prediction" is null',
        ),
    ],
)
def test_mistakes(second: pa.Table, said: str, tmp_path: Path) -> None:
    with pytest.raises(PomonaError) as told:
        pairs([answers("ui-s", ["a"]), second], out=tmp_path / "p.parquet")
    assert said in str(told.value) and not list(tmp_path.glob("*.parquet"))
