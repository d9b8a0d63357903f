"""What scale buys, for whom: golden figures, gains of both signs, several trainings, bad input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pomona.cli import main
from pomona.errors import PomonaError
from pomona.forget import ladder
from pomona.recipe import sizes_at


def size(marks: str, **more: list[str]) -> pa.Table:
    """Answers that are right where there is a 1."""
    ids = [str(i) for i in range(len(marks))]
    return pa.table({"id": ids, "prediction": list(marks), "reference": ["1"] * len(ids), **more})


PARTS = {
    "group": ["a"] * 4 + ["b"] * 6,
    "resource": ["head"] * 8 + ["tail"] * 2,
    "distance": ["near"] * 3 + ["middle"] * 4 + ["far"] * 3,
}
SIZES = [size("0000000111", **PARTS), size("1110000110", **PARTS), size("1111100110", **PARTS)]


def test_golden_figures() -> None:
    told = ladder(SIZES, names=["xs", "s", "l"])
    first, second = told.steps
    assert (first.value_smaller, first.value_larger, second.value_larger) == (30.0, 50.0, 70.0)
    assert (first.better, first.worse, second.better, second.worse) == (3, 1, 2, 0)
    assert (told.whole.smaller, told.whole.larger, told.whole.gain.value) == ("xs", "l", 40.0)
    # Three of ten items gain, so that two hold half of it; a third of the gains is lost again.
    assert (first.half_share.value, second.half_share.value) == (0.2, 0.1)
    assert first.losses.value == pytest.approx(1 / 3) and second.losses.value == 0
    # |differences|: 3 · 6 · 1 + 3 · 1 · 2 + 6 · 1 · 1 = 30 pairs, twice, over 2 · 9 · 4.
    assert first.gini.value == pytest.approx(60 / 72)
    parts = first.parts["resource"]
    assert (parts["head"].gain.value, parts["tail"].gain.value) == (37.5, -50.0)
    assert (parts["head"].share_of_items, parts["head"].share_of_gain) == (0.8, 1.5)
    assert first.contrasts["head - tail"].value == 87.5
    assert first.contrasts["near - far"].value == pytest.approx(100 + 100 / 3)
    assert first.groups["a"].n == 4 and second.groups["b"].better == 1
    gain = first.gain
    assert gain.low is not None and gain.high is not None and gain.low < 20.0 < gain.high
    # Among so few, some resamples have none that are near: there is no interval to tell.
    assert first.contrasts["near - far"].low is None
    assert told.items["xs to s"].to_pylist() == [100.0] * 3 + [0.0] * 6 + [-100.0]
    rows = told.to_table().to_pylist()
    assert [r["part"] for r in rows[:4]] == ["all", "a", "b", "head"] and len(rows) == 3 * 8


def test_nothing_gained_has_no_concentration() -> None:
    told = ladder([size("0101"), size("0101")]).whole
    assert (told.gain.value, told.half_share.value, told.gini.value) == (0, None, None)
    assert told.losses.value is None
    worse = ladder([size("0101", group=["a"] * 4), size("0001", group=["a"] * 4)]).whole
    assert (worse.gain.value, worse.groups["a"].share_of_gain) == (-25, None)


def test_trainings_are_averaged_and_clusters_widen(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    marks = ["".join(map(str, np.repeat(rng.integers(0, 2, 10), 8))) for _ in range(4)]
    source = [str(i // 8) for i in range(80)]
    one, two = (
        pa.concat_tables(
            size(marks[k], cluster=source).append_column("seed", pa.array([k] * 80)) for k in pair
        )
        for pair in ((0, 1), (2, 3))
    )
    told = ladder([one, two])
    values = np.array([[int(m) for m in each] for each in marks]) * 50.0
    gains = values[2] + values[3] - values[0] - values[1]
    assert told.items["size 1 to size 2"].to_pylist() == pytest.approx(gains.tolist())
    # Trainings of one size differ as much as those of two: about half of the items.
    other = told.whole.other_answers
    assert other is not None and other.half == 1
    assert other.floor == np.mean(np.array(list(marks[0])) != np.array(list(marks[1])))
    assert other.excess.value == pytest.approx(other.share - other.floor)
    assert other.p_value is not None and other.p_value > 0.3
    assert ladder(SIZES[:2]).whole.other_answers is None
    assert told.notes[0].startswith("Values are means over trainings (size 1 2, size 2 2)")
    alone = ladder([side.drop_columns("cluster") for side in (one, two)]).whole.gain
    assert told.whole.gain.low is not None and alone.low is not None
    assert told.whole.gain.low < alone.low - 5


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [str(tmp_path / f"{i}.parquet") for i in range(3)]
    for name, table in zip(names, SIZES, strict=True):
        pq.write_table(table, name)
    assert main(["forget", "ladder", *names, "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["sizes"] == names and told["whole"]["contrasts"]["head - tail"]["value"] == 112.5
    assert main(["forget", "ladder", *names, "--name", "xs", "--name", "s", "--name", "l"]) == 0
    assert "125%" in capsys.readouterr().out


def test_what_is_no_ladder_is_told(tmp_path: Path) -> None:
    with pytest.raises(PomonaError, match="there is nothing to compare sizes with — give answers"):
        ladder(SIZES[:1])
    with pytest.raises(PomonaError, match="names: 1 names for 3 sizes — name each size"):
        ladder(SIZES, names=["xs"])
    with pytest.raises(PomonaError, match="names: two sizes have one name — name each otherwise"):
        ladder(SIZES, names=["xs", "s", "xs"])
    with pytest.raises(PomonaError, match="size 1: 1 of the 4 items of size 2 are missing"):
        ladder([size("010"), size("0101")])
    assert sizes_at(["a.jsonl", "b.jsonl"]) == ["a.jsonl", "b.jsonl"]
