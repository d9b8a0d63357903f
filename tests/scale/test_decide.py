"""Whether small sizes rank levers as the largest one does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings, strategies as st
from scipy.stats import kendalltau, spearmanr

from pomona.cli import main
from pomona.errors import PomonaError
from pomona.ledger import Entry, Ledger, Meta, to_json
from pomona.scale import Measured, Method, ScoredSystem, decide, inflection
from pomona.tasks import ExactMatch


def table(values: dict[str, list[float | None]], sizes: list[float], **more: Any) -> pa.Table:
    """Levers by size."""
    rows = [
        {"lever": lever, "size": size, "value": value}
        | {name: column[lever][at] for name, column in more.items()}
        for lever, of in values.items()
        for at, (size, value) in enumerate(zip(sizes, of, strict=True))
    ]
    return pa.Table.from_pylist(rows)


def methods(inputs: Any, **options: Any) -> dict[str, Method]:
    """Ways to rank the levers, by name."""
    return {one.name: one for one in decide(inputs, **options).decisions[0].methods}


@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(-1000, 1000), min_size=4, max_size=8, unique=True))
def test_a_ranking_agrees_with_itself_and_not_with_its_reverse(values: list[int]) -> None:
    same = table({str(i): [v, 2 * v + 1] for i, v in enumerate(values)}, [1e6, 2e6])
    told = methods(same)["1M"]
    assert (told.accuracy.value, told.kendall.value, told.regret.value) == (1, pytest.approx(1), 0)
    assert told.spearman.value == pytest.approx(1) and told.chosen == told.best
    back = methods(table({str(i): [-v, v] for i, v in enumerate(values)}, [1e6, 2e6]))["1M"]
    assert (back.accuracy.value, back.kendall.value) == (0, pytest.approx(-1))
    assert back.regret.value == max(values) - min(values)
    assert back.accuracy.low <= back.accuracy.value <= back.accuracy.high


def test_a_random_ranking_orders_half_of_the_pairs_and_scipy_agrees_on_the_rest() -> None:
    rng = np.random.default_rng(0)
    rates, regrets = [], []
    for _ in range(40):
        drawn = rng.normal(size=(6, 2))
        each = methods(table({str(i): list(v) for i, v in enumerate(drawn)}, [1e6, 2e6]))
        one = each["1M"]
        rates.append(one.accuracy.value)
        regrets.append(one.regret.value - each["random"].regret.value)
        assert one.kendall.value == pytest.approx(kendalltau(*drawn.T).statistic)
        assert one.spearman.value == pytest.approx(spearmanr(*drawn.T).statistic)
    assert abs(np.mean(rates) - 0.5) < 0.08 and abs(np.mean(regrets)) < 0.4


# a and b cross between 4 and 8 million: the line through the smaller sizes sees it coming.
CROSS = {
    "a": [10.0, 11, 12, 13],
    "b": [6.5, 9, 11.5, 14],
    "c": [5.0, 5, 5, 5],
    "d": [4.0, 4, 4, 4.9],
}
FOUR = [1e6, 2e6, 4e6, 8e6]


def test_curves_foretell_levers_that_cross_where_no_size_does() -> None:
    flops = {lever: [size * 10 for size in FOUR] for lever in CROSS}
    told = methods(table(CROSS, FOUR, flops=flops))
    assert [told[size].accuracy.value for size in ("1M", "2M", "4M")] == [5 / 6] * 3
    assert told["4M"].chosen == "a" and told["4M"].regret.value == 1
    assert told["4M"].flops_share == pytest.approx(0.5)
    line = told["log-linear through 3"]
    assert line.flops == pytest.approx(10 * 7e6 * 4)
    assert line.accuracy.value == 1 and line.regret.value == 0 and line.chosen == "b"
    assert "it needs 4 smaller sizes" in told["power law through 3"].note
    # each step of a is half of the last one, as in a power law: a line overestimates it
    five = {"a": [6.0, 10.0, 12.0, 13.0, 13.5], "b": [12.0, 12.6, 13.2, 13.8, 14.4]}
    told = methods(table(five, [5e5, *FOUR]))
    assert told["power law through 4"].chosen == "b" and told["log-linear through 4"].chosen == "a"


def test_curves_that_meet_at_the_largest_size_tie() -> None:
    # A line by least squares through 0, 1 and 2 is (-2 a + b + 4 c) / 3 at 3: 0.4 for all.
    ends = {"x": (0.1, 0.6, 5.0), "y": (0.1, 0.7, 4.0), "z": (0.5, 0.4, 3.0)}
    levers = {name: [a, b, (1.2 + 2 * a - b) / 4, last] for name, (a, b, last) in ends.items()}
    sizes = [1e6, 2e6, 4e6, 8e6]
    line = methods(table(levers, sizes))["log-linear through 3"]
    assert line.accuracy is not None and line.accuracy.value == 0.5
    assert "3 levers tie for the first place" in line.note


def test_pairs_are_decided_where_intervals_say_so() -> None:
    ends = {
        lever: {"low": [v - 1 for v in of], "high": [v + 1 for v in of]}
        for lever, of in CROSS.items()
    }
    more = {end: {lever: ends[lever][end] for lever in ends} for end in ("low", "high")}
    one = methods(table(CROSS, FOUR, **more))["1M"]
    assert (one.pairs, one.decided) == (6, 4)  # not a with b, nor c with d
    assert one.decided_accuracy.value == 1 and one.over == "values"
    assert one.regret.low < 0 < one.regret.high
    seeds = [
        {"lever": lever, "size": size, "value": value + 0.01 * seed, "seed": seed}
        for lever, of in CROSS.items()
        for size, value in zip(FOUR, of, strict=True)
        for seed in (-1, 1)
    ]
    assert methods(pa.Table.from_pylist(seeds))["1M"].decided == 6


def test_losses_are_better_where_they_are_lower_and_groups_are_apart() -> None:
    rows = [
        {"lever": lever, "size": size, "metric": "loss", "group": group, "value": value}
        for lever, of in {"a": (3, 3), "b": (2, 1), "c": (1, 2)}.items()
        for group in ("overall", "cy")
        for size, value in zip((1e6, 2e6), of, strict=True)
    ]
    result = decide(pa.Table.from_pylist(rows))
    assert [one.group for one in result.decisions] == ["overall", "cy"]
    one = result.decisions[0].methods[0]
    assert (one.chosen, one.best, one.regret.value) == ("c", "b", 1)
    assert not result.decisions[0].higher_is_better


def test_items_are_resampled_together_at_both_sizes() -> None:
    rng = np.random.default_rng(0)
    hard = rng.normal(size=40)
    rows = [
        {
            "lever": lever,
            "size": size,
            "item": str(item),
            "cluster": str(item // 2),
            "value": float(hard[item] + worth),
        }
        for lever, worth in {"a": 0.3, "b": 0.2, "c": 0.1}.items()
        for size in (1e6, 2e6)
        for item in range(40)
    ]
    one = methods(pa.Table.from_pylist(rows))["1M"]
    # the items are hard alike for all levers: the differences have no error
    assert (one.over, one.decided, one.accuracy.low, one.accuracy.high) == ("items", 3, 1, 1)
    rows.pop()
    with pytest.raises(PomonaError, match='c at 2000000 has no value of item "39"'):
        decide(pa.Table.from_pylist(rows))


def measured(size: str, parameters: float, gains: dict[str, float], ids: list[str]) -> Measured:
    """A run at a size: levers that get more and more items right."""
    systems = [ScoredSystem("scale", size, parameters, kind="scale")]
    systems += [ScoredSystem(name, size, parameters, flops=1e9, kind="data") for name in gains]
    systems.append(ScoredSystem("prune/random", size, parameters, kind="data"))
    rights = [0.2, *gains.values(), 0.9]
    each = [(np.arange(len(ids)) < share * len(ids)).astype(float) for share in rights]
    statistics = {(i, 0): np.stack([e, np.ones_like(e)], 1)[None] for i, e in enumerate(each)}
    parts = {"overall": np.arange(len(ids)), "tail": np.arange(len(ids) // 2)}
    return Measured(size, size, ids, None, parts, systems, [ExactMatch()], statistics)


def test_runs_are_judged_item_by_item_and_by_part() -> None:
    ids = [str(i) for i in range(40)]
    small = measured("xs", 5e5, {"a": 0.5, "b": 0.3, "c": 0.7}, ids)
    large = measured("l", 8e6, {"a": 0.6, "b": 0.7, "c": 0.8}, ids)
    result = decide([small, large])
    assert [one.group for one in result.decisions] == ["overall", "tail"]
    one = result.decisions[0].methods[0]
    assert (one.levers, one.over, one.chosen) == (3, "items", "c")  # neither scale nor chance
    assert one.accuracy.value == pytest.approx(2 / 3) and one.regret.value == 0
    other = measured("l", 8e6, {"a": 0.6, "b": 0.7, "c": 0.8}, [f"x{i}" for i in range(40)])
    assert any("not on the same items" in note for note in decide([small, other]).notes)
    curves = inflection([small, large]).curves
    assert [curve.values for curve in curves if curve.group == "overall"] == [[20.0, 20.0]]


def test_ties_and_what_is_unknown_are_told() -> None:
    tied = methods(table({"a": [1.0, 1], "b": [1.0, 2], "c": [0.0, 2]}, [1e6, 2e6]))["1M"]
    assert tied.pairs == 2 and tied.accuracy.value == 0.25
    assert "2 levers tie for the first place" in tied.note and "1 of all pairs tie at" in tied.note
    result = decide(table({"a": [1.0, 1], "b": [None, 2], "c": [0.0, 3]}, [1e6, 2e6]))
    one = result.decisions[0].methods[0]
    assert one.levers == 2 and one.decided is None
    assert result.decisions[0].values["b"] == {"1000000": None, "2000000": 2}
    assert any("left out: b" in note for note in result.notes)


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([{"size": 1, "value": 1}], 'there is no column "lever"'),
        ([{"lever": "a", "value": 1}], "there is no column of sizes: size or params"),
        ([{"lever": "a", "size": 1, "chrf": 1}], "there is no column of values — name it `value`"),
        ([{"lever": "a", "size": 1, "value": 1}, {"lever": "b", "size": 1, "value": 1}], "levers are at 1 size"),
        ([{"lever": "a", "size": 1, "value": 1}, {"lever": "b", "size": 2, "value": 1}], "2 has less than two levers in common with a smaller size"),
        ([{"lever": None, "size": 1, "value": 1}], 'row 1: "lever" has no value'),
        ([{"lever": "a", "size": 1, "value": 1}] * 2, "row 1 is of the same system"),
        ([{"lever": "a", "size": size, "value": 1} for size in ("1e6", "1000000")], "row 2: row 1 is of the same system"),
        ([{"lever": "a", "size": 1, "value": 1, "low": 2, "high": 0}], "row 1: the interval begins at 2 and ends at 0 — give its lower end as low"),
        ([{"lever": "a", "size": 1, "value": 1e300}], 'row 1: "value" is 1e+300 — give a number within 1e+100'),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told(rows: list[dict[str, Any]], text: str) -> None:
    with pytest.raises(PomonaError) as error:
        decide(pa.Table.from_pylist(rows))
    assert text in str(error.value)


def ledger(size: str, parameters: int, gains: dict[str, float]) -> Ledger:
    """A ledger of levers at a size."""

    def entry(lever: str, variant: str, gain: float) -> Entry:
        ends = (gain - 0.1, gain + 0.1) if gain else (0.0, 0.0)
        about = (20 + gain, gain, *ends, 50, 1e9, 1e6, 0, 1.0, None, 0, "signature")
        return Entry(lever, variant, "chrf", "overall", size, *about, p_holm=0.01 if gain else None)

    entries = [
        entry("scale", size, 0.0),
        *(entry("data", name, gain) for name, gain in gains.items()),
    ]
    entries.append(entry("control", "copy", -3.0))
    meta = Meta("l", "chrf", True, size, parameters, 100, 0, "2026-01-01T00:00:00+00:00")
    return Ledger(meta, entries)


def test_ledgers_are_read_as_files_as_runs_and_as_what_the_command_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    small = ledger("xs", 500_000, {"prune": 1.0, "merge": 0.5, "prune/random": 0.2, "mbr": 0.8})
    large = ledger("l", 8_000_000, {"prune": 0.6, "merge": 1.5, "prune/random": 0.1, "mbr": 0.9})
    Path("run").mkdir()
    small.write("run/ledger.json")
    large.write("l.json")
    Path("printed.json").write_text(to_json(large))
    assert main(["scale", "decide", "l.json", "run", "--format", "json", "--page", "page"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["sizes"] == ["xs", "l"]
    first = told["decisions"][0]
    assert set(first["values"]) == {"prune", "merge", "mbr"}  # no control, none by chance
    one = first["methods"][0]
    assert one["accuracy"]["value"] == pytest.approx(0.0) and one["pairs"] == one["decided"] == 3
    assert (one["chosen"], one["best"], one["regret"]["value"]) == (
        "prune",
        "merge",
        pytest.approx(0.9),
    )
    assert one["flops"] == pytest.approx(3 * (1e9 + 50e6)) and one["flops_share"] == pytest.approx(
        1
    )
    page = Path("page/index.html").read_text()
    assert "xs orders 0%" in page and "Levers from size to size" in page
    assert main(["scale", "decide", "run", "printed.json"]) == 0
    shown = capsys.readouterr().out
    assert "How large sizes are is not known: l is taken as the largest." in shown
    Path("broken.json").write_text("[{}]")
    assert main(["scale", "decide", "run", "broken.json"]) == 2
    assert "broken.json: `0.lever`: Field required" in capsys.readouterr().err
