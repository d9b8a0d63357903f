"""When items are learnt, by hand; and trajectories as the data lever scores them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pomona.cli import main
from pomona.errors import PomonaError
from pomona.forget import order

# Right (1) or wrong (0) at steps 100, 200, 1000
TOLD = {"a1": "111", "a2": "101", "b1": "001", "b2": "010", "c1": "000"}


def table(told: dict[str, str] = TOLD, **more: Any) -> pa.Table:
    rows = [
        {"id": id_, "group": id_[0], "step": step, "prediction": mark, "reference": "1"} | more
        for id_, marks in told.items()
        for step, mark in zip((1000, 100, 200), (marks[2], marks[0], marks[1]), strict=True)
    ]
    return pa.Table.from_pylist(rows)


def test_steps_events_and_groups_by_hand() -> None:
    result = order(table(), since="200")
    assert result.steps == ["100", "200", "1000"]
    assert list(result.groups) == ["a", "b", "c"]
    a, b, c = result.groups.values()
    # a1 is right for good from 100 on, a2 from 1000 on: no wrong checkpoint, and two of three
    assert a.place.value == pytest.approx((0 + 2 / 3) / 2)
    assert (a.right, a.median, a.forgotten.value, a.lost.value) == ([1, 0.5, 1], "100", 0.5, 0)
    assert (b.right, b.median, b.forgotten.value, b.lost.value) == ([0, 0.5, 0.5], "1000", 0.5, 0.5)
    assert (c.n, c.median, c.place.value, c.place.ci_low) == (1, None, 1, None)
    assert a.place.ci_low == 0 and a.place.ci_high == pytest.approx(2 / 3)
    assert result.items is not None
    assert result.items.to_pylist()[:4] == [
        {"id": "a1", "group": "a", "first": "100", "learnt": "100", "forgotten": 0},
        {"id": "a2", "group": "a", "first": "100", "learnt": "1000", "forgotten": 1},
        {"id": "b1", "group": "b", "first": "1000", "learnt": "1000", "forgotten": 0},
        {"id": "b2", "group": "b", "first": "200", "learnt": None, "forgotten": 1},
    ]
    assert result.since is not None
    assert (result.since.overall.lost, result.since.overall.gained) == (1, 2)
    assert result.since.a == "step 200"


def test_seeds_are_averaged_and_items_of_them_resampled_together() -> None:
    again = {id_: marks.replace("0", "1") for id_, marks in TOLD.items()}
    both = pa.concat_tables([table(seed=0), table(again, seed=1)])
    result = order(both, since="100")
    assert result.overall.right == [0.7, 0.7, 0.8]
    assert result.since is not None and result.since.overall.n == 10
    assert any("5 clusters of the 10 items" in note for note in result.since.notes)
    # Answers of two trainings that are the same say as much of items as those of one
    twice = order(pa.concat_tables([table(seed=0), table(seed=1)]), since="100").since
    once = table()
    once = order(once.append_column("cluster", once["id"]), since="100").since
    assert twice is not None
    assert once is not None
    assert (twice.overall.ci_low, twice.overall.ci_high) == (
        once.overall.ci_low,
        once.overall.ci_high,
    )


def test_trajectories_of_perplexities_are_read_as_they_are_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "scored.parquet"
    columns = {"lang": ["de", "cy"], "perplexity@ui-s@10": [9.0, 90.0]}
    pq.write_table(pa.table(columns | {"perplexity@ui-s": [3.0, 30.0]}), file)
    arguments = ["forget", "order", str(file), "--group", "lang"]
    assert main([*arguments, "--threshold", "10", "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["steps"] == ["ui-s@10", "ui-s"]
    assert told["groups"]["de"]["right"] == [1, 1] and told["groups"]["cy"]["right"] == [0, 0]
    assert main([*arguments, "--threshold", "10"]) == 0
    assert capsys.readouterr().out.splitlines()[0].startswith("50 % of 2 items are right at ui-s")
    assert main(arguments) == 2
    assert "scores are neither right nor wrong — --threshold says" in capsys.readouterr().err


def scored(**columns: list[Any]) -> pa.Table:
    return pa.table({"lang": ["de", "cy"], "source": ["a", "a"], **columns})


def test_trajectories_come_in_the_order_of_their_numbers_with_any_cluster() -> None:
    """However the columns stand: sorted by name, 160 comes before 40."""
    names = ("perplexity@ui-s", "perplexity@ui-s@160", "perplexity@ui-s@40")
    rows = scored(**dict(zip(names, ([3.0, 3.0], [5.0, 50.0], [9.0, 90.0]), strict=True)))
    result = order(rows, threshold=10, group="lang", cluster="source")
    assert result.steps == ["ui-s@40", "ui-s@160", "ui-s"]
    assert result.overall.right == [0.5, 0.5, 1] and result.overall.place.ci_low is None
    names = (f"perplexity@hf:out/checkpoint-{step}" for step in (1000, 200))
    rows = scored(**dict(zip(names, ([3.0, 3.0], [50.0, 5.0]), strict=True)))
    assert order(rows, threshold=10).overall.right == [0.5, 1]


def test_steps_are_numbers_or_hold_one() -> None:
    steps = {"100": "checkpoint-100", "200": "checkpoint-200", "1000": "checkpoint-1000"}
    rows = [{**row, "step": steps[str(row["step"])]} for row in table().to_pylist()]
    assert order(pa.Table.from_pylist(rows)).steps == list(steps.values())
    rows = [{**row, "step": row["step"].replace("point-1000", "")} for row in rows]
    with pytest.raises(PomonaError) as caught:
        order(pa.Table.from_pylist(rows))
    assert str(caught.value) == (
        'predictions: nothing says which of the steps "check" and "checkpoint-100" is first — '
        "give each a number, as in checkpoint-100"
    )


@pytest.mark.parametrize(
    ("rows", "asked", "says"),
    [
        (table(), {"since": "300"}, 'since: there is no step "300" before the last — did you mean "200"?'),
        (table(), {"since": "1000"}, 'since: there is no step "1000" before the last — did you mean "100"?'),
        (table(), {"threshold": float("nan")}, "threshold: is nan — give the score from which on an item counts as right"),
        (table(), {"falling": True}, "falling: means nothing without a threshold — say up to which score an item counts as right"),
        (table({"a": "111"}).slice(0, 1), {}, 'predictions: all rows have the step "1000" — add those of another step'),
        (scored(**{"perplexity@ui-s@1": [1.0, None], "perplexity@ui-s": [1.0, 1.0]}), {"threshold": 2}, 'predictions, row 2: "perplexity@ui-s@1" is None, which is not a finite number — correct the row'),
        (scored(**{"perplexity@ui-s@1": ["1", "x"], "perplexity@ui-s": [1.0, 1.0]}), {"threshold": 2}, "predictions, row 2: \"perplexity@ui-s@1\" is 'x', which is not a finite number — correct the row"),
        (scored(**{"perplexity@ui-s@1": [1.0, 1.0], "perplexity@ui-xs@2": [1.0, 1.0]}), {"threshold": 2}, 'predictions: nothing says which of the steps "ui-s@1" and "ui-xs@2" is first — give each a number, as in checkpoint-100'),
    ],
)  # fmt: skip
def test_what_cannot_be_put_in_order_is_named(
    rows: pa.Table, asked: dict[str, Any], says: str
) -> None:
    with pytest.raises(PomonaError) as caught:
        order(rows, **asked)
    assert str(caught.value) == says
