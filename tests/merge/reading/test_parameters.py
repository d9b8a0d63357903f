from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from pomona.merge.reading.parameters import (
    METHODS,
    REQUIRED,
    Condition,
    Parameter,
    convert,
    evaluate,
    matches,
    resolve,
)

NAME = "model.layers.3.mlp.up_proj.weight"


@pytest.mark.parametrize(
    ("t", "expected"),
    [(0, 0.0), (1 / 3, 0.43333333333333335), (2 / 3, 0.5666666666666665), (1, 1.0)],
)
def test_gradients_are_interpolated_as_mergekit_does(t: float, expected: float) -> None:
    assert evaluate((0, 0.5, 0.3, 0.7, 1), "number", NAME, t) == expected


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=6), st.floats(0, 1))
def test_a_gradient_stays_between_its_ends(values: list[float], t: float) -> None:
    evaluated = evaluate(tuple(values), "number", NAME, t)
    assert isinstance(evaluated, float)
    assert min(values) - 1e-9 <= evaluated <= max(values) + 1e-9


def test_flags_step_and_do_not_interpolate() -> None:
    steps = [evaluate((True, False, True), "flag", NAME, t / 3) for t in range(4)]
    assert steps == [
        True,
        True,
        False,
        True,
    ]  # as mergekit: the second value only from the middle on, the last at the end


def test_numbers_may_be_text_and_flags_numbers() -> None:
    assert convert("1e-3", "number") == 0.001
    assert convert(1, "flag") is True
    assert convert("no", "flag") is False
    assert evaluate(("1e-1", 0.3), "number", NAME, 0.5) == pytest.approx(0.2)
    assert convert("l1", "rescale") == "l1"
    assert convert(1, "rescale") is True


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        ("much", "number", 'expected a number, found "much"'),
        (float("nan"), "number", "expected a finite number, found nan"),
        (0.5, "flag", "expected true or false, found 0.5"),
        ("l2", "rescale", "expected true, false, expected or l1, found 'l2'"),
        ("all", "scope", "expected tensor or global, found 'all'"),
        (1.5, "count", "expected a whole number, found 1.5"),
    ],
)
def test_a_value_of_another_kind_is_refused(value: float | str, kind: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        convert(value, kind)  # pyright: ignore[reportArgumentType]


def test_filters_are_parts_of_names_globs_or_expressions() -> None:
    assert matches(None, NAME)
    assert matches("*", NAME)
    assert matches("mlp", NAME)
    assert not matches("self_attn", NAME)
    assert matches("*.mlp.*", NAME)
    assert not matches("mlp.*", NAME)  # a glob is for the whole name
    assert matches("model.layers.[2-4].*", NAME)
    assert matches(r"re:layers\.[0-3]\.", NAME)
    assert not matches(r"re:layers\.[4-9]\.", NAME)


def test_the_first_filter_that_matches_decides() -> None:
    setting = (Condition("mlp", 1), Condition("up_proj", 2), Condition(None, 3))
    assert evaluate(setting, "number", NAME, 0) == 1.0
    assert evaluate(setting, "number", "lm_head.weight", 0) == 3.0
    assert evaluate(setting[:2], "number", "lm_head.weight", 0) is None


def test_the_nearest_scope_wins_and_filters_fall_through() -> None:
    weight = Parameter("weight", "number")
    only_mlp = {"weight": (Condition("mlp", (1, 3)),)}
    scopes = (only_mlp, {"density": 9}, {"weight": 5})
    assert resolve(weight, scopes, NAME, 0.5) == 2.0
    assert resolve(weight, scopes, "lm_head.weight", 0.5) == 5.0
    assert resolve(weight, scopes[:2], "lm_head.weight", 0.5) is REQUIRED


def test_defaults_are_mergekits() -> None:
    defaults = {
        name: {p.name: p.default for p in method.parameters if p.default is not REQUIRED}
        for name, method in METHODS.items()
    }
    assert defaults["linear"] == {"normalize": True}
    assert defaults["ties"] | {"scope": "tensor"} == {
        "density": 1.0,
        "lambda": 1.0,
        "normalize": True,
        "rescale": False,
        "int8_mask": False,
        "scope": "tensor",
    }
    assert [
        (name, defaults[name]["normalize"], defaults[name]["rescale"])
        for name in defaults
        if "rescale" in defaults[name]
    ] == [
        ("task_arithmetic", False, False),
        ("ties", True, False),
        ("dare_ties", False, True),
        ("dare_linear", False, True),
        ("della", True, True),
        ("della_linear", False, True),
        ("breadcrumbs", False, False),
        ("breadcrumbs_ties", False, False),
    ]
    assert (defaults["breadcrumbs"]["gamma"], defaults["della"]["epsilon"]) == (0.01, 0.15)
