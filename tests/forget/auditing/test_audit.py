"""Populations against populations: exemplars as the official code has them, the floor, classes,
subgroups, and input that does not fit together.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings, strategies as st
from scipy.stats import ttest_ind

from pomona import stats
from pomona.cli import main
from pomona.errors import PomonaError
from pomona.forget import Audit, audit
from pomona.forget.auditing.exemplars import Labels, Pool

DENSE = ("11 10 10 11 10 11 11 8 8 9 9 11", "11 8 9 11 8 11 8 9 11 9 9 9",
         "10 9 11 9 9 10 10 10 10 11 11 11", "10 10 9 11 9 8 11 8 11 10 8 8")  # fmt: skip
PRUNED = ("9 8 8 10 11 9 11 11 11 10 9 10", "9 9 9 8 11 8 8 8 11 10 11 8",
          "10 9 9 8 10 11 10 8 10 9 11 11", "8 10 11 11 10 10 8 10 9 8 8 10")  # fmt: skip


def table(levels: dict[str, Any], **items: Any) -> pa.Table:
    """Rows of models `levels[level]` `[K, n]`; seeds are named by level, so that none is paired."""
    rows = [
        {"id": i, "level": level, "seed": f"{level}/{k}", "prediction": str(label)}
        | {name: values[i] for name, values in items.items()}
        for level, models in levels.items()
        for k, labels in enumerate(models)
        for i, label in enumerate(labels)
    ]
    return pa.Table.from_pylist(rows)


@pytest.fixture(scope="module")
def golden() -> Audit:
    sides = {"0.0": DENSE, "0.5": PRUNED}
    levels = {level: [row.split() for row in rows] for level, rows in sides.items()}
    return audit(table(levels, reference=["11"] * 12), dense="0.0", permutations=19)


def test_modal_labels_are_those_of_the_official_code(golden: Audit) -> None:
    """The expected ones by pandas 3.1.1, `predictions.mode().max()` as in
    google-research/pruning_identified_exemplars/pie_dataset_gen/aggregate_predictions.py.
    """
    items = golden.items
    assert items is not None
    before, after = (list(map(int, items[side].to_pylist())) for side in ("dense", "compressed"))
    order = [int(id_) for id_ in items["id"].to_pylist()]
    assert order == list(range(12))
    assert before == [11, 10, 9, 11, 9, 11, 11, 8, 11, 9, 9, 11]
    assert after == [9, 9, 9, 8, 11, 11, 8, 8, 11, 10, 11, 10]
    assert items["changed"].to_pylist() == [a != b for a, b in zip(before, after, strict=True)]
    assert golden.levels[0].overall.exemplars == 8 / 12


def test_the_taxicab_distance_of_the_golden_fixture_by_hand(golden: Audit) -> None:
    """Item 0: 11, 11, 10, 10 against 9, 9, 10, 8; item 8: 8, 11, 10, 11 against 11, 11, 10, 9."""
    assert golden.items is not None
    found = golden.items["taxicab"].to_pylist()
    assert (found[0], found[8]) == (1.5, 0.5)


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_exemplars_and_taxicab_equal_counting(data: st.DataObject) -> None:
    models, n = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 6))
    labels = st.lists(st.integers(0, 12), min_size=n, max_size=n)
    sides = [data.draw(st.lists(labels, min_size=models, max_size=models)) for _ in range(2)]
    rows = table({"dense": sides[0], "0.9": sides[1]}, reference=["3"] * n)
    items = audit(rows, permutations=19).items
    assert items is not None
    for i in range(n):
        counts = [Counter(model[i] for model in side) for side in sides]
        modes = [max(c, key=lambda label, c=c: (c[label], label)) for c in counts]
        found = {name: items[name][i].as_py() for name in items.column_names}
        assert [found["dense"], found["compressed"]] == list(map(str, modes))
        apart = sum(abs(counts[0][label] - counts[1][label]) for label in range(13)) / models
        assert found["taxicab"] == pytest.approx(apart, abs=1e-6)


def populations(shift: float, models: int = 8, n: int = 240, seed: int = 0) -> pa.Table:
    """Noisy classifiers of 5 labels in 12 groups, of which compressed ones share a further error
    of the size `shift`; group 0 has most training rows.
    """
    rng = np.random.default_rng(seed)
    truth, group = rng.integers(0, 5, n), np.arange(n) % 12
    logits = rng.normal(size=(n, 5))
    logits[np.arange(n), truth] += 2 - group / 12
    error = rng.normal(size=(n, 5)) * shift
    levels, chances = {}, []
    for level, more in (("dense", 0), ("0.7", error)):
        noisy = logits + more + rng.normal(size=(models, n, 5)) * 0.7
        levels[level] = noisy.argmax(-1)
        power = np.exp(noisy)
        chances += (power.max(-1) / power.sum(-1)).ravel().tolist()
    rows = table(
        levels,
        reference=truth.astype(str),
        group=[f"g{one:02}" for one in group],
        resource=(10.0 ** (4 - group / 4)).round().tolist(),
        part=["far" if i % 3 else "near" for i in range(n)],
    )
    return rows.append_column("probability", pa.array(chances))


@pytest.fixture(scope="module")
def shifted() -> Audit:
    return audit(populations(0.8), positive="1", permutations=99)


def test_a_shift_is_above_the_floor_and_noise_is_not(shifted: Audit) -> None:
    one, noise = shifted.levels[0], audit(populations(0, seed=3), permutations=99).levels[0]
    assert one.above_floor and one.overall.p_excess == 0.01
    assert one.overall.excess_low is not None and one.overall.excess_low > 0
    assert noise.above_floor is False
    # Most of what changed without any compression is what dense models do among themselves
    assert noise.overall.exemplars is not None and noise.overall.exemplars > 0.1
    assert abs(noise.overall.excess or 1) < 0.05
    assert shifted.headline()[0].startswith(
        "Floor of dense models among themselves — above it: 0.7"
    )


def test_excess_is_the_difference_of_what_is_reported_beside_it(shifted: Audit) -> None:
    level = shifted.levels[0]
    assert level.overall.p_taxicab == 0.01
    for one in (level.overall, *level.groups.values(), *level.parts.values()):
        assert one.excess == pytest.approx((one.at or 0) - (one.floor or 0), abs=1e-6)
    assert shifted.items is not None
    each = np.array(shifted.items["excess"].to_pylist())
    assert level.overall.excess == pytest.approx(each.mean(), abs=1e-6)
    assert (level.half, list(level.parts), list(level.thirds)) == (
        4, ["far", "near"], ["low", "middle", "high"],
    )  # fmt: skip
    powers = [one.detectable or 1 for one in level.power]
    assert [one.models for one in level.power] == [4, 8] and powers[1] < powers[0] < 1


def test_classes_are_compared_as_published_and_corrected(shifted: Audit) -> None:
    """Recall of a group less the level's mean accuracy, as gen_tstatistic.py has it, by scipy."""
    rows = populations(0.8)
    right = np.array(rows["prediction"].to_pylist()) == np.array(rows["reference"].to_pylist())
    dense, pruned = right.reshape(2, 8, -1)
    groups = np.arange(240) % 12
    level = shifted.levels[0]
    p_values = []
    for at, one in enumerate(level.groups.values()):
        sides = [side[:, groups == at].mean(1) - side.mean() for side in (dense, pruned)]
        told = ttest_ind(*sides, equal_var=False)
        assert one.p_published == pytest.approx(told.pvalue)
        assert one.t_welch == pytest.approx(-told.statistic)
        p_values.append(told.pvalue)
    corrected = [one.p_holm or 0 for one in level.groups.values()]
    assert min(corrected) == pytest.approx(min(1, 12 * min(p_values)))
    assert all(one.p_bh >= one.p_published for one in level.groups.values())  # type: ignore[operator]


def test_errors_of_a_subgroup_are_counted_and_small_ones_say_so(shifted: Audit) -> None:
    rows = populations(0.8)
    said, truth = (np.array(rows[name].to_pylist()) for name in ("prediction", "reference"))
    said, truth = said.reshape(2, 8, -1), truth.reshape(2, 8, -1)
    level = shifted.levels[0]
    rates = level.groups["g03"].rates
    inside = np.broadcast_to(np.arange(240) % 12 == 3, said.shape)
    for name, counted in (
        ("false_positive_rate", truth != "1"),
        ("false_negative_rate", truth == "1"),
    ):
        wrong = (said == "1") == (name == "false_positive_rate")
        share = [(wrong & counted & inside)[s].sum() / (counted & inside)[s].sum() for s in (0, 1)]
        assert (rates[name].dense, rates[name].compressed) == pytest.approx(tuple(share))
    assert level.groups["g03"].score.note == "20 items: too few to call unharmed"
    assert rates["error"].difference == pytest.approx(-level.groups["g03"].score.difference)


def test_a_group_that_did_not_change_does_not_read_as_safe() -> None:
    same = [["a"] * 4 + ["b"]] * 3
    rows = table({"dense": same, "0.9": same}, reference=["a"] * 4 + ["b"], group=["x"] * 4 + ["y"])
    level = audit(rows, permutations=19).levels[0]
    x, y = level.groups["x"].score, level.groups["y"].score
    assert x.ci_high == -(x.ci_low or 0) == pytest.approx(1 - 0.05 ** (1 / 4))
    assert (y.ci_low, y.ci_high, y.note) == (None, None, "one item: nothing is known of the error")
    assert level.groups["x"].p_published is None and level.groups["x"].p_holm is None


def test_models_of_the_same_seeds_are_shuffled_in_pairs() -> None:
    rows = populations(0.8, models=4)
    seeds = [seed.split("/")[1] for seed in rows["seed"].to_pylist()]
    rows = rows.set_column(rows.schema.get_field_index("seed"), "seed", pa.array(seeds))
    result = audit(rows, permutations=99)
    assert result.levels[0].paired and result.levels[0].power[-1].detectable is None
    assert any("shuffled in 16 ways: no p-value is below 0.05" in note for note in result.notes)


def test_scores_without_labels_have_a_floor_too() -> None:
    rng = np.random.default_rng(0)
    quality = rng.normal(50, 10, 200)
    rows = [
        {"id": i, "level": level, "seed": f"{level}{k}", "group": f"g{i % 10}", "score": score}
        for level, loss in (("dense", 0.0), ("int4", 4.0))
        for k in range(6)
        for i, score in enumerate(quality + rng.normal(0, 3, 200) - loss)
    ]
    level = audit(pa.Table.from_pylist(rows), permutations=99).levels[0]
    assert (level.measure, level.overall.exemplars, level.above_floor) == ("shift", None, True)
    assert level.overall.shift == pytest.approx(4, abs=0.5)
    assert level.overall.score.difference == pytest.approx(-4, abs=0.5)


def test_what_was_found_is_in_the_first_two_lines_and_all_of_it_in_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], shifted: Audit
) -> None:
    file = tmp_path / "answers.parquet"
    pq.write_table(populations(0.8), file)
    arguments = ["forget", "audit", str(file), "--permutations", "99", "--positive", "1"]
    assert main([*arguments, "--page", str(tmp_path / "page")]) == 0
    lines = capsys.readouterr().out.splitlines()
    page = (tmp_path / "page" / "index.html").read_text()
    assert "<h1>Floor of dense models" in page and page.count("<picture>") == 3
    assert "<script" not in page and "20 items: too few to call unharmed" in page
    assert lines[:2] == list(shifted.headline())
    assert lines[1].startswith("Given dense quality — no tail effect: 0.7. Lose more and less than")
    assert main([*arguments, "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["signature"] == shifted.signature and told["found"] == list(shifted.headline())
    assert told["levels"][0]["groups"].keys() == shifted.levels[0].groups.keys()
    row = shifted.to_table().slice(1, 1).to_pylist()[0]
    assert (row["kind"], row["name"], row["n"]) == ("group", "g00", 20)


def without(rows: pa.Table, *at: int) -> pa.Table:
    return pa.Table.from_pylist([row for i, row in enumerate(rows.to_pylist()) if i not in at])


SMALL = table({"dense": ["ab", "ab"], "0.5": ["ab", "aa"]}, reference=["a", "b"], group=["x", "y"])
CASES = [
    (
        without(SMALL, 1),
        'predictions: level dense, seed dense/0 lacks 1 of 2 items, such as id "1" — give the '
        "answers of every model to the same items",
    ),
    (
        without(SMALL, 6, 7),
        "predictions: levels have unequal numbers of models: dense has 2, 0.5 has 1 — --seeds 1 "
        "takes as many of each",
    ),
    (
        pa.concat_tables([SMALL, SMALL.slice(3, 1)]),
        'predictions, row 9: id "1" of level dense, seed dense/1 stands in row 4 too — give every '
        "model one row an item",
    ),
    (
        SMALL.set_column(4, "reference", pa.array(["a", "b"] * 3 + ["a", "c"])),
        'predictions, row 8: the reference of id "1" is not that of row 2 — an item is the same '
        "for every model: correct it, or give it another id",
    ),
    (
        SMALL.set_column(3, "prediction", pa.array(["a", None] * 4)),
        'predictions, row 2: "prediction" has no value — fill it, or leave the item out for every '
        "model",
    ),
    (
        SMALL.append_column("resource", pa.array([1.0, float("nan")] * 4)),
        'predictions, row 2: "resource" is nan, which is not a number of training rows, 0 or more '
        "— correct the row",
    ),
    (
        SMALL.append_column("resource", pa.array([1.0, -1.0] * 4)),
        'predictions, row 2: "resource" is -1.0, which is not a number of training rows, 0 or more '
        "— correct the row",
    ),
    (
        SMALL.append_column("score", pa.array([1.0, 1e38] * 4)),
        'predictions, row 2: "score" is 1e+38, which is too large to be added up — correct the row',
    ),
    (
        SMALL.set_column(4, "reference", pa.array([["a", "b"]] * 8)),
        'predictions: "reference" holds list<item: string> — give one answer each, or a "score"',
    ),
    (
        SMALL.append_column("probability", pa.array(["0.5", "1.5"] * 4)),
        "predictions, row 2: \"probability\" is '1.5', which is not a probability from 0 to 1 — "
        "correct the row",
    ),
    (
        SMALL.set_column(5, "group", pa.array(["x", "x"] * 4)).append_column(
            "resource", pa.array([1, 2] * 4)
        ),
        'predictions: the resource of group "x" is 2.0 for one item and 1.0 for another — give a '
        "group one resource",
    ),
    (
        SMALL.slice(0, 4),
        'predictions: all rows have the level "dense" — add those of another level',
    ),
    (
        SMALL.drop_columns("reference"),
        'predictions: there is neither a reference nor a score — add a column "reference"',
    ),
]


@pytest.mark.parametrize(("rows", "text"), CASES)
def test_what_does_not_fit_is_refused_by_name(rows: pa.Table, text: str) -> None:
    with pytest.raises(PomonaError) as caught:
        audit(rows)
    assert str(caught.value) == text


def test_head_and_tail_of_a_run_are_no_training_rows() -> None:
    words = SMALL.append_column("resource", pa.array(["head", "tail"] * 4))
    level = audit(words, permutations=19).levels[0]
    assert level.damage == 'there is no column "resource" of training rows' and not level.thirds


def test_unequal_levels_are_cut_when_asked_and_it_is_said() -> None:
    result = audit(without(SMALL, 6, 7), seeds=1, permutations=19)
    assert "1 model of level dense is left out" in result.notes
    assert result.levels[0].overall.excess is None and result.levels[0].above_floor is None
    assert result.headline()[0].endswith("one model a level, no floor: 0.5")


@pytest.mark.parametrize("paired", [False, True])
def test_ways_to_deal_that_are_alike_count_whatever_is_rounded(paired: bool) -> None:
    """Thirds are rounded in single precision: of 64 ways to swap six pairs, the one that swaps none
    is as far as what was observed, and so is any that gives the same sums.
    """
    rng = np.random.default_rng(5)
    answers = rng.integers(0, 4, (12, 9)).astype(np.int32)
    found = Pool(Labels(answers), 6, np.ones((9, 1)), paired=paired).excess(99, 3)
    order = np.random.default_rng(0).permuted(np.tile(np.arange(6), (8, 1)), axis=1)
    shares = np.eye(4)[answers]

    def apart(one: Any, other: Any) -> float:
        return float(np.abs(shares[one].sum(0) - shares[other].sum(0)).sum())

    def excess(units: Any) -> float:
        dense, compressed = units[:6], units[6:]
        halves = [(dense[h], compressed[h]) for row in order for h in (row[:3], row[3:])]
        pairs = zip(halves[::2], halves[1::2], strict=True)
        return sum(apart(a, d) / 2 + apart(b, c) / 2 - apart(a, b) for (a, c), (b, d) in pairs)

    dealt = stats.shuffles(6, 6, 99, 3, paired=paired)
    reached = sum(excess(units) >= excess(np.arange(12)) for units in dealt)
    assert found is not None
    assert found.p_value[1, 0] == (1 + reached) / 100
    drawn = np.array([excess(units) for units in dealt]) / (8 * 3 * 9)
    detectable = np.quantile(drawn, 0.95) + 0.8416 * drawn.std()  # four of five are above it
    assert found.detectable[1, 0] == pytest.approx(detectable, abs=1e-6)
    assert found.excess[1, 0] == pytest.approx(excess(np.arange(12)) / (8 * 3 * 9), abs=1e-6)


def test_what_is_lost_is_counted_in_modal_labels_and_measures_are_compared(shifted: Audit) -> None:
    level, items = shifted.levels[0], shifted.items
    assert items is not None
    rows = items.filter(pa.compute.equal(items["level"], level.level))
    dense, compressed, right = (
        np.array(rows[name].to_pylist()) for name in ("dense", "compressed", "reference")
    )
    before, after = dense == right, compressed == right
    assert level.overall.lost == pytest.approx((before & ~after).mean())
    assert level.overall.gained == pytest.approx((~before & after).mean())
    assert level.overall.lost != level.overall.gained
    told = {(one.a, one.b): one for one in level.overlaps if one.of == "items"}
    assert told["exemplars", "taxicab"].n_a == told["exemplars", "taxicab"].n_b > 0


def test_seeds_that_levels_share_are_taken_first_and_thirds_hold_whole_groups() -> None:
    rows = pa.Table.from_pylist(
        [
            {"id": i, "level": level, "seed": seed, "prediction": "a", "reference": "a"}
            | {"group": f"g{i}", "resource": i + 1}
            for level, seed in (("dense", 0), ("dense", 1), ("0.5", 1))
            for i in range(4)
        ]
    )
    level = audit(rows, seeds=1, permutations=19).levels[0]
    assert level.paired
    assert {name: one.score.n for name, one in level.thirds.items()} == {
        "low": 2, "middle": 1, "high": 1,
    }  # fmt: skip


def test_labels_that_are_no_whole_numbers_of_64_bits() -> None:
    odd = pa.array([1e300, float("inf")] * 4)
    rows = SMALL.set_column(3, "prediction", odd).set_column(4, "reference", odd)
    assert audit(rows, permutations=19).levels[0].overall.score.dense == 1


def test_scores_that_did_not_change_have_no_share_for_an_error() -> None:
    """An interval of a share of none is one of answers; chrF of 50 points has another unit."""
    plain = SMALL.drop_columns(["prediction", "reference"])
    for scale, end in ((1, 1 - 0.05**0.5), (50, 0.0)):
        scores = pa.array([0.0, float(scale)] * 4)
        rows = plain.append_column("score", scores)
        score = audit(rows, permutations=19).levels[0].overall.score
        assert (score.ci_low, score.ci_high) == (-end, end)


def test_a_signature_is_of_all_that_is_said_of_items() -> None:
    told = {
        audit(rows, permutations=19).signature
        for rows in (
            SMALL.append_column("cluster", pa.array(["c", "c"] * 4)),
            SMALL.append_column("cluster", pa.array(["c", "d"] * 4)),
            SMALL.append_column("resource", pa.array([1, 2] * 4)),
            SMALL.append_column("resource", pa.array([1, 3] * 4)),
        )
    }
    assert len(told) == 4


def test_a_page_is_never_written_among_the_answers(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        rows = SMALL.filter(pa.compute.equal(SMALL["level"], {"a": "dense", "b": "0.5"}[name]))
        pq.write_table(rows, tmp_path / name / "rows.parquet")
    with pytest.raises(PomonaError, match=r"rows\.parquet: lies in .*, which is --page"):
        audit(str(tmp_path / "*" / "rows.parquet"), permutations=19, page=tmp_path / "a")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["rows.parquet"]
