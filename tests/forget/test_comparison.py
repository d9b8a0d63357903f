"""What changed between two systems: golden counts, independent references, and input that does not
fit together.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings, strategies as st

from pomona.cli import main
from pomona.errors import PomonaError
from pomona.forget import compare

GROUPS = {"cy": ("11100", "10011"), "fr": ("1111111111", "0000000111"), "one": ("1", "0")}


def table(side: int, groups: dict[str, tuple[str, str]] = GROUPS, **more: Any) -> pa.Table:
    """Answers that are right where a group's text has a 1."""
    rows = [
        {"id": f"{name}-{i}", "group": name, "prediction": f"{mark}!", "reference": " 1! "}
        for name, sides in groups.items()
        for i, mark in enumerate(sides[side])
    ]
    return pa.Table.from_pylist(
        [{**row, **{k: v[i] for k, v in more.items()}} for i, row in enumerate(rows)]
    )


def test_golden_counts_and_p_values() -> None:
    """p by R: binom.test(2, 4)$p.value and binom.test(7, 7)$p.value; p.adjust of all three."""
    result = compare(table(0), table(1), group="group")
    told = {name: (c.n, c.lost, c.gained, c.p_mcnemar) for name, c in result.groups.items()}
    assert told == {"cy": (5, 2, 2, 1.0), "fr": (10, 7, 0, 0.015625), "one": (1, 1, 0, 1.0)}
    assert [c.p_holm for c in result.groups.values()] == [1.0, 0.046875, 1.0]
    assert [c.p_bh for c in result.groups.values()] == [1.0, 0.046875, 1.0]
    fr = result.groups["fr"]
    assert (fr.accuracy_a, fr.accuracy_b, fr.flips) == (1.0, 0.3, 0.7)
    assert fr.difference == pytest.approx(-0.7)
    assert fr.ci_low is not None and fr.ci_low < -0.7 < (fr.ci_high or 0) < 0
    assert result.overall.p_holm == result.overall.p_mcnemar
    items = result.items
    assert items is not None and items["change"].to_pylist()[:5] == [
        "same", "lost", "lost", "gained", "gained",
    ]  # fmt: skip


def test_groups_of_one_and_groups_without_change_say_what_is_not_known() -> None:
    same = {"one": ("1", "0"), "still": ("1" * 20, "1" * 20)}
    result = compare(table(0, same), table(1, same))
    one, still = result.groups["one"], result.groups["still"]
    assert (one.ci_low, one.ci_high, one.p_bootstrap) == (None, None, None)
    assert one.note == "one item: nothing is known of the error"
    assert (still.ci_low, still.ci_high) == (0.0, 0.0)
    assert still.note is not None and "up to 14 % may still do so unseen" in still.note


def test_clusters_widen_the_interval_and_are_told() -> None:
    rng = np.random.default_rng(1)
    marks = np.repeat(rng.integers(0, 2, 30), 20)
    groups = {"all": ("1" * 600, "".join(map(str, marks)))}
    clusters = {"source": [str(i // 20) for i in range(600)]}
    a, b = table(0, groups, **clusters), table(1, groups, **clusters)
    alone, together = compare(a, b).overall, compare(a, b, cluster="source")
    widths = [(c.ci_high or 0) - (c.ci_low or 0) for c in (alone, together.overall)]
    assert widths[1] > 3 * widths[0]
    assert "30 clusters of the 600 items" in together.notes[0]
    assert "|cluster:source|" in together.signature


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=12))
@settings(max_examples=15, deadline=None)
def test_what_one_direction_loses_the_other_gains(marks: list[tuple[bool, bool]]) -> None:
    a, b = ("".join(str(int(pair[side])) for pair in marks) for side in (0, 1))
    there = compare(table(0, {"x": (a, b)}), table(1, {"x": (a, b)}), resamples=1000).overall
    back = compare(table(1, {"x": (a, b)}), table(0, {"x": (a, b)}), resamples=1000).overall
    assert (there.lost, there.gained) == (back.gained, back.lost)
    assert there.difference == pytest.approx(-back.difference)
    assert there.p_mcnemar == back.p_mcnemar
    assert there.ci_low == pytest.approx(-(back.ci_high or 0))


def test_files_of_any_format_and_order_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The form that programs read, and that of a wide screen."""
    monkeypatch.setenv("COLUMNS", "160")
    (tmp_path / "b").mkdir()
    backwards = table(1).take(list(range(16))[::-1])
    pq.write_table(backwards.slice(0, 7), tmp_path / "b" / "0.parquet")
    pq.write_table(backwards.slice(7), tmp_path / "b" / "1.parquet")
    rows = table(0).to_pylist()
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = ["forget", "compare", str(tmp_path / "a.jsonl"), str(tmp_path / "b")]
    assert main([*words, "--group", "group", "--metric", "chrf", "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    keys = "n accuracy_a accuracy_b lost gained p_mcnemar p_holm p_bh ci_low ci_high metric_a"
    for change in (told["overall"], *told["groups"].values()):
        assert set(keys.split()) <= set(change)
    assert told["overall"]["n"] == 16 and (told["overall"]["lost"], told["seed"]) == (10, 0)
    assert told["groups"]["one"]["ci_low"] is None
    assert told == json.loads(json.dumps(compare(table(0), table(1), metric="chrf").to_json())) | {
        "a": str(tmp_path / "a.jsonl"),
        "b": str(tmp_path / "b"),
    }
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "−70.0 [" in text and "one: one item: nothing is known of the error" in text


def test_several_right_answers_and_numbers() -> None:
    rows = {"id": [1, 2, 3], "reference": [["a", "b"], ["c"], ["d", "e"]]}
    a = pa.table({**rows, "prediction": ["b", "c", "e"]})
    b = pa.table({**rows, "prediction": ["a", "x", "e"]})
    told = compare(a, b).overall
    assert (told.lost, told.gained, told.changed) == (1, 0, 2)
    whole = pa.table({"id": [1, 2], "prediction": [1.0, 2.0], "reference": [1, 3]})
    assert compare(whole, whole).overall.accuracy_a == 0.5
    for kind in (pa.list_(pa.float64()), pa.list_(pa.int64(), 2), pa.large_list(pa.string())):
        lists = [["1", "2"], ["3", "2"]] if kind == pa.large_list(pa.string()) else [[1, 2], [3, 2]]
        told = pa.table(
            {"id": [1, 2], "prediction": ["2", "1"], "reference": pa.array(lists, kind)}
        )
        assert compare(told, told).overall.accuracy_a == 0.5, kind
    nothing = pa.table({"id": [1], "prediction": ["2"], "reference": [[]]})
    with pytest.raises(PomonaError, match=r"A, row 1 \(id '1'\): \"reference\" has no value"):
        compare(nothing, nothing)
    for place, column, lists in (
        (1, "prediction", [["1"], ["2"]]),
        (2, "reference", [[[1]], [[2]]]),
    ):
        nested = whole.set_column(place, column, pa.array(lists))
        with pytest.raises(PomonaError, match=f'A: "{column}" holds lists'):
            compare(nested, nested)


def test_a_group_may_be_called_overall_and_labels_are_in_the_signature(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    groups = {"overall": ("11111111", "00000000")}
    file = tmp_path / "a.parquet", tmp_path / "b.parquet"
    for side, path in enumerate(file):
        pq.write_table(table(side, groups), path)
    assert main(["forget", "compare", *map(str, file)]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if "overall" in line]
    assert [row[-1] for row in rows[:2]] == ["—", "0.008"]
    sides = [pa.table({**table(side).to_pydict(), "cluster": ["a"] * 16}) for side in (0, 1)]
    other = [one.set_column(4, "cluster", [["a"] * 15 + ["b"]]) for one in sides]
    assert compare(*sides).signature != compare(*other).signature


def test_a_page_is_a_folder_and_its_list_is_ours(tmp_path: Path) -> None:
    sides, mine = (table(0), table(1)), tmp_path / "page"
    mine.write_text("mine")
    with pytest.raises(PomonaError, match="page: is no folder — choose another name"):
        compare(*sides, page=mine)
    mine.unlink()
    mine.symlink_to("nowhere")
    with pytest.raises(PomonaError, match="page: is no folder — choose another name"):
        compare(*sides, page=mine)
    mine.unlink()
    mine.mkdir()
    (mine / ".pomona.json").write_text("mine")
    with pytest.raises(PomonaError, match=r"\.pomona\.json: is not what Pomona wrote there"):
        compare(*sides, page=mine)
    assert [path.read_text() for path in mine.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("a", "b", "options", "message"),
    [
        ({}, {"id": ["x", "y"]}, {}, "B: 1 of the 2 items of A are missing, such as A, row 2 (id 'z') — answer the same items on both sides, or leave those out"),
        ({"id": ["x", "x"]}, {}, {}, "A, row 2 (id 'x'): the id stands in row 1 too — give every item an id of its own, one row each"),
        ({}, {"reference": ["1", "2"]}, {}, "B, row 2 (id 'z'): the reference is '2', but A, row 2, has '1' — give both the same items, each with an id of its own"),
        ({}, {"group": ["g", "h"]}, {}, "B, row 2 (id 'z'): the group is 'h', but A, row 2, has 'g' — give both the same items, each with an id of its own"),
        ({"prediction": ["1", None]}, {}, {}, "A, row 2 (id 'z'): \"prediction\" has no value — fill it, or leave the row out on both sides"),
        ({}, {}, {"group": "grup"}, "A: there is no column \"grup\" — did you mean \"group\"?"),
        ({}, {}, {"cluster": "source"}, "A: there is no column \"source\" — known: group, id, prediction, reference"),
        ({"id": [], "group": [], "prediction": [], "reference": []}, {}, {}, "A: there are no rows — check how it was written"),
        ({}, {}, {"metric": "chrff"}, 'there is no metric "chrff" — did you mean "chrf"?'),
        ({}, {}, {"metric": "acc"}, 'the metric "acc" reads options, and here is text — use chrf, chrf++, bleu'),
    ],
)  # fmt: skip
def test_sides_that_do_not_fit_are_told(
    a: dict[str, Any], b: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    right = {
        "id": ["x", "z"],
        "group": ["g", "g"],
        "prediction": ["1", "2"],
        "reference": ["1"] * 2,
    }
    kinds = pa.schema([(name, pa.string()) for name in right])
    with pytest.raises(PomonaError) as caught:
        compare(pa.table({**right, **a}, kinds), pa.table({**right, **b}, kinds), **options)
    assert str(caught.value).startswith(message)
