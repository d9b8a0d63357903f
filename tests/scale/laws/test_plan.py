"""The best model for a budget is the closed form's where there is one, and the papers'."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from pomona.errors import PomonaError
from pomona.scale import PUBLISHED, plan
from pomona.scale.laws.budget import Budget


def test_the_closed_form() -> None:
    law, flops = PUBLISHED["hoffmann"], 5.76e23
    g = (law.alpha * law.A / (law.beta * law.B)) ** (1 / (law.alpha + law.beta))
    found = plan("hoffmann", budget=flops)
    assert found.params == pytest.approx(g * (flops / 6) ** law.exponent, rel=1e-6)
    assert found.tokens == pytest.approx((flops / 6) ** (1 - law.exponent) / g, rel=1e-6)
    assert found.epochs is None and found.intervals["params"] is None


def test_the_published_allocation_of_few_tokens() -> None:
    found = plan("muennighoff", budget=1e22, unique=25e9)
    assert found.params == pytest.approx(7.022e9, rel=2e-3)
    assert found.tokens == pytest.approx(2.373e11, rel=2e-3)
    assert found.epochs == pytest.approx(9.49, abs=0.02)
    assert any("repetition harms" in note for note in found.notes)


def test_serving_makes_the_best_model_smaller() -> None:
    params = [plan("besiroglu", budget=1e21, served=t).params for t in (0, 1e10, 1e12)]
    assert params[0] > params[1] > params[2]
    found = plan("besiroglu", budget=1e21, served=1e11)
    assert found.training_flops + found.inference_flops == pytest.approx(1e21, rel=1e-9)
    assert found.inference_flops == pytest.approx(2 * found.params * 1e11, rel=1e-12)
    assert found.training_flops == pytest.approx(6 * found.params * found.tokens, rel=1e-12)


def test_within_one_percent_is_within_one_percent() -> None:
    found, law = plan("besiroglu", budget=1e21), PUBLISHED["besiroglu"]
    for params, tokens in zip(found.params_within, reversed(found.tokens_within), strict=True):
        assert law.loss(params, tokens) == pytest.approx(1.01 * found.loss, rel=1e-6)
    assert found.params_within[0] < found.params < found.params_within[1]


def test_no_other_size_is_better() -> None:
    law, budget = PUBLISHED["muennighoff"], Budget(1e21, served=3e11, unique=5e9)
    best = budget.best(law.form, law.values[None])
    least = budget.losses(law.form, law.values[None], best)[0, 0]
    around = np.linspace(best[0] - 3, best[0] + 3, 2001)
    assert budget.losses(law.form, law.values[None], around).min() >= least * (1 - 1e-9)


def test_a_plan_from_runs_has_intervals() -> None:
    law = PUBLISHED["besiroglu"]
    n, d = (
        one.ravel() for one in np.meshgrid(np.geomspace(1e8, 1e10, 5), np.geomspace(2e9, 2e11, 5))
    )
    loss = law.loss(n, d) * np.exp(np.random.default_rng(0).normal(0, 0.004, 25))
    found = plan(pa.table({"params": n, "tokens": d, "loss": loss}), budget=1e23)
    right = plan("besiroglu", budget=1e23)
    for name in ("params", "tokens", "loss"):
        ends = found.intervals[name]
        assert ends is not None and ends[0] < getattr(right, name) < ends[1]
    assert "the budget is" in found.notes[0]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"budget": -1.0}, "budget: budget is -1 — give a number of FLOPs, such as 1e21"),
        (
            {"budget": 1e20, "served": 1e15},
            "do not train and serve a model of a million parameters",
        ),
        ({"budget": 1e20, "unique": 0.0}, "unique is 0"),
        ({"budget": 1e20, "form": "kaplan"}, "means nothing with a published law"),
    ],
)
def test_budgets_that_are_none(given: dict[str, float], says: str) -> None:
    with pytest.raises(PomonaError) as error:
        plan("hoffmann", **given)  # pyright: ignore[reportArgumentType]
    assert says in str(error.value)
