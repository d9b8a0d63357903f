"""Laws are found again, with the published numbers, and what runs do not tell is not told."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.optimize import minimize

from pomona.cli import main
from pomona.errors import PomonaError
from pomona.scale import Families, Law, ScalingFit, fit, read_runs
from pomona.scale.laws import multiverse as choices
from pomona.scale.laws.checks import families, parts
from pomona.scale.laws.fitting import fit_form
from pomona.scale.laws.held_out import Procedure
from pomona.scale.laws.huber import Loss
from pomona.scale.laws.page import _choices

LAW = Law(1.7, 400.0, 300.0, 0.4, 0.4)
Ladder = Callable[..., pa.Table]


@pytest.fixture(scope="module")
def published(points: Path) -> ScalingFit:
    return fit(points, params="Model Size", flops="Training FLOP", drop_highest=5)


def test_the_published_optimum(published: ScalingFit) -> None:
    told = {name: round(value, 6) for name, value in published.told.items() if value is not None}
    assert told["E"] == pytest.approx(1.81722, abs=5e-6)
    assert (told["alpha"], told["beta"]) == (0.347310, 0.367172)
    assert told["A"] == pytest.approx(477.83, abs=0.005)
    assert told["B"] == pytest.approx(2143.42, abs=0.005)
    assert published.intervals["exponent"] == pytest.approx((0.481, 0.556), abs=0.002)
    assert published.correlation == pytest.approx(0.999, abs=5e-4)
    assert len(published.untuned) == 5


def test_no_start_of_another_optimiser_gets_lower(published: ScalingFit) -> None:
    runs = published.runs
    n, d, observed = np.log(runs.params), np.log(runs.tokens), np.log(runs.loss)

    def objective(x: Any) -> float:
        terms = np.stack([np.full(len(n), x[0]), x[1] - x[3] * n, x[2] - x[4] * d])
        off = np.abs(np.logaddexp.reduce(terms) - observed)
        inside = np.minimum(off, 1e-3)
        return float(1e3 * (inside * (off - inside / 2)).sum())

    law = published.law
    ours = objective([np.log(law.E), np.log(law.A), np.log(law.B), law.alpha, law.beta])
    assert ours == pytest.approx(published.fitted.objective, rel=1e-12)
    for start in ([0.5, 5, 5, 0.3, 0.3], [0, 10, 10, 0.5, 0.5], [1, 5, 15, 0.5, 1]):
        assert minimize(objective, start, method="L-BFGS-B").fun >= ours * (1 - 1e-9)


@pytest.mark.parametrize("form", ["chinchilla", "no_floor", "kaplan", "data_constrained"])
def test_each_form_finds_the_law_that_made_the_runs(form: Any) -> None:
    floor = 1.7 if form in ("chinchilla", "data_constrained") else 0.0
    worth = (12.0, 4.0) if form == "data_constrained" else (None, None)
    made = Law(floor, 400.0, 1500.0, 0.4, 0.41, *worth, form=form)
    n, d = (
        one.ravel() for one in np.meshgrid(np.geomspace(1e6, 3e7, 6), np.geomspace(1e7, 1e9, 6))
    )
    unique = d / np.resize([1.0, 2.0, 7.0, 30.0, 4.0], len(d))
    given = unique if form == "data_constrained" else None
    table = {"params": n, "tokens": d, "loss": made.loss(n, d, given)}
    runs = read_runs(pa.table({**table, "unique_tokens": unique}))
    found = fit_form(runs, form, Loss(), resamples=0, seed=0).law
    assert found.values == pytest.approx(made.values, rel=2e-4, nan_ok=True)


def test_the_published_law_of_repetition() -> None:
    from pomona.scale import PUBLISHED

    law = PUBLISHED["muennighoff"]
    assert law.loss(6.34e9, 242e9, 25e9) == pytest.approx(2.2256440889984477, rel=1e-14)
    assert law.loss(8.67e9, 178e9, 25e9) == pytest.approx(2.2269634075087867, rel=1e-14)


def test_the_same_answer_every_time_and_in_any_order(ladder: Ladder) -> None:
    table = ladder(LAW, 0.004)
    runs = read_runs(table)
    first = fit(table, resamples=0)
    draws = [fit_form(runs, "chinchilla", Loss(), resamples=1000, seed=1).draws for _ in range(2)]
    assert np.array_equal(*draws, equal_nan=True)
    mixed = table.take(np.random.default_rng(0).permutation(len(table)))
    other = fit(mixed, resamples=0)
    assert other.told["alpha"] == pytest.approx(first.told["alpha"], rel=1e-6)
    assert other.signature == first.signature


def test_over_estimates_that_count_more_pull_the_law_down(ladder: Ladder) -> None:
    table = ladder(LAW, 0.0)
    loss = table["loss"].to_numpy().copy()
    loss[[3, 6, 9, 12, 13, 17]] *= 1.06  # under-tuned
    runs = read_runs(table.set_column(2, "loss", pa.array(loss)))
    laws = {
        above: fit_form(runs, "chinchilla", Loss(above=above), resamples=0, seed=0).law
        for above in (1.0, 20.0)
    }
    off = {
        above: abs(float(law.loss(2e7, 1e8) / LAW.loss(2e7, 1e8)) - 1)
        for above, law in laws.items()
    }
    assert off[20.0] <= off[1.0] + 1e-9
    assert laws[20.0].loss(8e6, 3e7) <= loss[-1] * 1.0001


def test_flags_are_of_the_runs_that_were_spoilt(ladder: Ladder) -> None:
    table = ladder(LAW, 0.002)
    loss = table["loss"].to_numpy().copy()
    loss[[7, 18]] *= 1.2
    found = fit(table.set_column(2, "loss", pa.array(loss)), resamples=0)
    assert {one.place for one in found.untuned} >= {"the table, row 8", "the table, row 19"}
    assert len(found.untuned) <= 3
    assert any("runs are under-tuned" in note for note in found.notes)
    loss = table["loss"].to_numpy().copy()
    loss[0] *= 1.2  # the smallest and shortest: none can beat it
    found = fit(table.set_column(2, "loss", pa.array(loss)), resamples=0)
    assert [one.place for one in found.untuned] == ["the table, row 1"]
    assert "% above the law" in found.untuned[0].reason
    assert any(note.startswith("1 run is under-tuned: ") for note in found.notes)


def test_a_law_that_does_not_bend_so_is_told(ladder: Ladder) -> None:
    table = ladder(LAW, 0.002, times=3)
    seeds = pa.array(np.repeat([0, 1, 2], 20))
    right = fit(table.append_column("seed", seeds), resamples=0)
    n = np.log(table["params"].to_numpy() / 2e6)
    bent = pa.array(table["loss"].to_numpy() * np.exp(0.02 * np.cos(2.2 * n)))
    bent = table.set_column(2, "loss", bent)
    d = np.log(table["tokens"].to_numpy() / 5e6)
    crossed = pa.array(table["loss"].to_numpy() * np.exp(0.02 * n * d))
    wrong = [
        fit(bent.append_column("seed", seeds), resamples=0),
        fit(table.set_column(2, "loss", crossed).slice(0, 20), resamples=0),
    ]
    assert right.lack_of_fit.p_value is not None and right.lack_of_fit.p_value > 0.01
    told = [one.lack_of_fit.p_value for one in wrong]
    assert told[0] is not None and told[0] < 1e-3
    assert told[1] is not None and told[1] < 0.05
    assert "clusters by size and seed" in right.notes[0]


def test_families_with_one_law_and_with_two(ladder: Ladder) -> None:
    procedure = Procedure("chinchilla", Loss(), 0.2, 1000, 0)

    def both(other: Law) -> Families:
        table = pa.concat_tables([ladder(LAW, 0.003, 1), ladder(other, 0.003, 2)])
        labelled = table.append_column("family", pa.array(["a"] * 20 + ["b"] * 20))
        found = families(read_runs(labelled), procedure)
        assert found is not None
        return found

    same, apart = both(LAW), both(Law(1.7, 60.0, 3000.0, 0.25, 0.55))
    assert same.p_alpha_beta is not None and same.p_alpha_beta > 0.01
    assert apart.p_alpha_beta is not None and apart.p_alpha_beta < 1e-3
    assert apart.p_exponent is not None and apart.p_exponent < 1e-3
    assert same.laws["a"].exponent == pytest.approx(0.5, abs=0.05)


def test_parts_are_compared_over_the_same_trainings(ladder: Ladder) -> None:
    # What a training has of its own is in all of its parts, and is no difference between them.
    procedure = Procedure("chinchilla", Loss(), 0.2, 1000, 0)
    table, rng = ladder(LAW, 0.004), np.random.default_rng(4)
    overall = read_runs(table)
    bends = np.exp(0.02 * np.log(overall.params / 2e6) + rng.normal(0, 1e-4, 20))
    tail = replace(overall, loss=overall.loss * bends)
    paired = parts({"overall": overall, "tail": tail}, procedure)
    both = pa.concat_tables([table, table.set_column(2, "loss", pa.array(tail.loss))])
    both = both.append_column("family", pa.array(["overall"] * 20 + ["tail"] * 20))
    apart = families(read_runs(both), procedure)
    assert apart is not None and apart.laws["tail"] == paired.laws["tail"]
    assert paired.p_exponent is not None and apart.p_exponent is not None
    assert paired.p_exponent < apart.p_exponent / 2
    few = overall.take(np.array([0, 3, 6, 10, 13, 16, 19]))
    many = parts({str(place): few for place in range(3)}, procedure)
    assert many.p_exponent is None and many.note is not None
    assert many.note.startswith("3 families are too many to compare over so few")


def test_parts_that_are_asked_for(ladder: Ladder) -> None:
    table = ladder(LAW)
    heavy = table.set_column(2, "loss", pa.array(table["loss"].to_numpy() + 1))
    rows = pa.concat_tables(
        one.append_column("part", pa.array([name] * 20))
        for name, one in (("tail", heavy), ("overall", table))
    )
    alone, tail = fit(rows, resamples=0), fit(rows, part="tail", resamples=0)
    assert alone.told["E"] == pytest.approx(1.7, rel=1e-6) and "|part:overall|" in alone.signature
    assert tail.told["E"] == pytest.approx(2.7, rel=1e-6) and alone.families is None
    both = fit(rows, part=["tail", "overall"], resamples=0)
    assert both.told == tail.told
    assert both.families is not None and list(both.families.laws) == ["tail", "overall"]
    for wrong, says in (
        ({"part": ["tail", "tail"]}, "a part stands twice"),
        ({"part": ["tail", "overall"], "family": "part"}, "parts are compared as families"),
        ({"part": ["head"]}, 'there is no part "head" — known: overall, tail'),
    ):
        with pytest.raises(PomonaError, match=says):
            fit(rows, **wrong)
    with pytest.raises(PomonaError, match="the parts are not of the same trainings"):
        fit(rows.slice(1), part=["tail", "overall"], resamples=0)


def test_the_page_has_every_family_and_choice(ladder: Ladder, tmp_path: Path) -> None:
    table = ladder(LAW, 0.004).append_column("family", pa.array(["<a>"] * 12 + ["b"] * 8))
    table = table.append_column("bits_per_byte", table["loss"])
    table = table.append_column("learning_rate", pa.array([0.1] * 20))
    found = fit(table, resamples=0, multiverse=True, page=tmp_path / "page")
    text = (tmp_path / "page" / "index.html").read_text()
    assert "&lt;a&gt;: 12 runs, exponent 0." in text and "b: 8 runs, exponent " in text
    assert "without resamples nothing tells families apart" in text
    assert "A and B are not to be read alone" in text
    assert found.multiverse is not None
    cells = [(one.measure, one.loss, one.runs) for one in found.multiverse.cells]
    assert {runs for _, _, runs in cells} >= {"all", "without the highest loss"}
    assert not any(runs == "best learning rate" for _, _, runs in cells)  # there is but one
    assert len(set(cells)) == len(cells)
    strips = [row["universe"] for row in _choices(found)["data"]["values"]]
    assert len(set(strips)) == len(cells) / 3 and "params" not in strips[0]
    assert "bits_per_byte, without the highest loss" in strips


def test_one_family_is_nothing_to_compare(ladder: Ladder) -> None:
    table = ladder(LAW, 0.003).append_column("family", pa.array(["a"] * 20))
    found = fit(table, resamples=0).families
    assert found is not None and found.p_alpha_beta is None
    assert found.note == "there is one family: nothing to compare"


def test_the_last_checkpoint_and_best_learning_rate_count(ladder: Ladder) -> None:
    table = ladder(LAW)
    loss = table["loss"].to_numpy()
    rows = {name: np.tile(table[name].to_numpy(), 2) for name in ("params", "tokens")}
    rates = {
        "loss": np.concatenate([loss, loss * 1.05]),
        "learning_rate": np.repeat([1e-3, 1e-4], 20),
    }
    spoilt = pa.table({**rows, **rates})
    assert fit(spoilt, resamples=0).told["alpha"] == pytest.approx(0.4, rel=1e-6)
    assert fit(spoilt, every_run=True, resamples=0).n == 40
    steps = {"loss": np.concatenate([loss * 1.4, loss]), "step": np.repeat([1, 2], 20)}
    found = fit(pa.table({**rows, **steps, "run": list(range(20)) * 2}), resamples=0)
    assert found.told["alpha"] == pytest.approx(0.4, rel=1e-6)
    assert found.notes[0].startswith("20 of 40 rows are not the last checkpoint")
    assert found.intervals["alpha"] is None


@pytest.mark.parametrize(
    ("made", "unknown", "note"),
    [
        (Law(0.0, 60.0, 40.0, 0.2, 0.2), "E", "the best floor is 0"),
        (Law(2.0, 1e-9, 40.0, 0.2, 0.2), "alpha", "alpha is at the bound"),
    ],
)
def test_what_runs_do_not_tell_is_null(made: Law, unknown: str, note: str, ladder: Ladder) -> None:
    table = ladder(made, 0.001, seed=3)
    if unknown == "E":
        n = np.log(table["params"].to_numpy() / 2e6)
        table = table.set_column(
            2, "loss", pa.array(table["loss"].to_numpy() * np.exp(-0.01 * n * n))
        )
    found = fit(table, resamples=0)
    assert found.told[unknown] is None
    assert any(one.startswith(note) for one in found.notes)
    if unknown == "alpha":
        told = fit(table)
        hidden = {"E", "A", "alpha", "exponent"}
        assert {name for name, value in told.told.items() if value is None} == hidden
        assert {name for name, ends in told.intervals.items() if ends is None} == hidden


def test_a_ladder_of_one_ratio_does_not_tell_exponents_apart() -> None:
    n = np.geomspace(1e6, 1e9, 12)
    loss = LAW.loss(n, 20 * n) * np.exp(np.random.default_rng(0).normal(0, 0.002, 12))
    found = fit(pa.table({"params": n, "tokens": 20 * n, "loss": loss}), resamples=0)
    assert found.told["exponent"] is None and found.told["alpha"] is None
    assert any("tokens follow from parameters" in note for note in found.notes)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (
            {"params": [1e6] * 8},
            "all runs have one size, which cannot tell a law — train at 3 or more",
        ),
        ({"tokens": [1e7] * 8}, "all runs have one number of tokens, which cannot tell a law"),
        ({"params": [1e6, 2e6] * 4}, "runs have two sizes, which cannot tell a law"),
    ],
)
def test_runs_that_cannot_be_fitted(rows: dict[str, list[float]], says: str) -> None:
    told = {"params": np.geomspace(1e6, 1e8, 8), "tokens": np.geomspace(1e9, 1e7, 8)}
    table = pa.table({**told, "loss": np.linspace(4, 3, 8), **rows})
    with pytest.raises(PomonaError) as error:
        fit(table)
    assert says in str(error.value)


def test_intervals_take_two_runs_more_than_parameters(ladder: Ladder) -> None:
    # Of six runs they would hold the exponent in 62 of 100 cases.
    table = ladder(LAW, 0.004).take([0, 3, 6, 10, 13, 16, 19])
    assert all(fit(table).intervals.values())
    found = fit(table.slice(1))
    assert found.told["E"] is not None and not any(found.intervals.values())
    assert "6 units are too few for 5 parameters: no intervals" in found.notes
    assert found.predict(1e7, 1e8)[1] is None


def test_clusters_count_in_families_and_choices_too(
    ladder: Ladder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choices, "LOSSES", {"huber": Loss()})
    table = ladder(LAW, 0.004).take([0, 3, 6, 9, 10, 13, 16, 19])
    table = table.append_column("family", pa.array(["a"] * 8))
    clustered = table.append_column("cluster", pa.array(list("aabbcdef")))
    procedure = Procedure("chinchilla", Loss(), 0.2, 1000, 0)
    for one, known in ((table, True), (clustered, False)):  # six clusters are too few
        found = families(read_runs(one), procedure)
        assert found is not None
        assert (found.laws["a"].intervals["exponent"] is not None) is known
    cells = choices.multiverse(read_runs(clustered), procedure).cells
    assert len(cells) > 1 and all(cell.exponent_low is None for cell in cells)
    assert all(cell.exponent is not None for cell in cells)


def test_what_parameters_tokens_and_flops_count_is_noted(ladder: Ladder) -> None:
    table = ladder(LAW)
    n, d = (table[name].to_numpy() for name in ("params", "tokens"))
    counted = table.append_column("flops", pa.array(9 * n * d))
    counted = counted.append_column("unique_tokens", pa.array(np.minimum(d, 5e6)))
    notes = fit(counted, resamples=0).notes
    assert "flops are 1.50 to 1.50 times 6 params tokens; plans count 6" in notes
    assert any(note.startswith("10 of the runs repeat tokens, which chinchilla") for note in notes)
    assert not fit(table, resamples=0).notes


def test_too_few_runs(ladder: Ladder) -> None:
    with pytest.raises(PomonaError, match="4 runs are too few for the 5 parameters of chinchilla"):
        fit(ladder(LAW).take([0, 5, 10, 15]))
    with pytest.raises(
        PomonaError, match="drop_highest is 20, and there are 20 runs — leave fewer"
    ):
        fit(ladder(LAW), drop_highest=20)
    for name in ("delta", "above"):
        with pytest.raises(PomonaError, match=f"{name} is inf — give a number above 0"):
            fit(ladder(LAW), **{name: np.inf})
    with pytest.raises(PomonaError, match='there is no form "chinchila"'):
        fit(ladder(LAW), form="chinchila")  # pyright: ignore[reportArgumentType]


def test_the_command_line(
    ladder: Ladder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, page = tmp_path / "runs.csv", tmp_path / "page"
    rows = ladder(LAW, 0.004).to_pylist()
    lines = [
        f"{r['params']},{r['tokens']},{r['loss']},{r['params'] - 3e5},{r['loss'] / 2}" for r in rows
    ]
    file.write_text("\n".join(["params,tokens,loss,params_no_embedding,bits_per_byte", *lines]))
    assert main(["scale", "fit", str(file), "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    for name in ("E", "A", "B", "alpha", "beta", "exponent"):
        low, high = told["intervals"][name]
        assert low < told[name] < high
    quick = ["scale", "fit", str(file), "--resamples", "0"]
    assert main([*quick, "--page", str(page)]) == 0
    shown = capsys.readouterr().out
    assert "held out, the 4 runs" in shown and shown.endswith("index.html\n")
    assert main([*quick, "--multiverse", "--format", "json", "--page", str(page)]) == 0
    assert (page / "index.html").read_text().count("<picture>") == 4
    several = json.loads(capsys.readouterr().out)["multiverse"]
    assert {cell["measure"] for cell in several["cells"]} == {"loss", "bits_per_byte"}
    ahead = [c["loss_ahead"] for c in several["cells"] if c["measure"] == "loss"]
    assert several["loss_ahead"] == [min(ahead), max(ahead)]
    assert {cell["counting"] for cell in several["cells"]} == {"params", "params_no_embedding"}
    assert len({cell["loss"] for cell in several["cells"]}) == 3
    assert several["exponent"][1] - several["exponent"][0] > 0.02
    file.write_text(file.read_text().replace(lines[3], "5e5,3e7,nan,2e5,2"))
    assert main(["scale", "fit", str(file)]) == 2
    assert f'{file}, row 4: "loss" is nan' in capsys.readouterr().err
