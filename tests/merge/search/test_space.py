"""Free parameters in recipes: how they are found, named and filled."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, strategies as st

from pomona.errors import PomonaError
from pomona.merge.search.space import Free, Space, fill, has_free, space_of


def recipe(**parameters: Any) -> dict[str, Any]:
    models = [
        {"model": "one", "parameters": {"weight": {"search": [0, 1], "name": "alpha"}}},
        {"model": "two", "parameters": {"weight": 0.3}},
    ]
    return {
        "merge_method": "linear",
        "models": models,
        "parameters": parameters,
        "search": {"trials": 3, "metric": "loss"},
    }


def test_parameters_are_found_in_the_order_of_the_recipe_and_named_by_their_place() -> None:
    found = recipe(
        density=[0.1, {"search": [0.2, 0.9]}],
        weight=[{"filter": "mlp", "value": {"choices": [0.25, 1]}}, {"value": 0}],
    )
    assert space_of(found).document() == [
        {"name": "alpha", "search": [0.0, 1.0]},
        {"name": "density.1", "search": [0.2, 0.9]},
        {"name": "weight.0.value", "choices": [0.25, 1.0]},
    ]
    assert has_free(found)
    assert not has_free({"parameters": {"weight": 1}, "search": {"parameters": {"search": [0, 1]}}})


def test_flags_can_be_chosen() -> None:
    found = recipe(normalize={"choices": [False, True]})
    assert [
        fill(found, {"alpha": 0.5, "normalize": value})["parameters"]
        for value in space_of(found).free[1].choices
    ] == [
        {"normalize": False},
        {"normalize": True},
    ]


def test_filling_leaves_a_plain_recipe_and_the_original_alone() -> None:
    found = recipe(
        density=[0.1, {"search": [0.2, 0.9]}], lambda_={"search": [0, 1], "name": "alpha"}
    )
    filled = fill(found, {"alpha": 0.5, "density.1": 0.25})
    assert filled["parameters"] == {"density": [0.1, 0.25], "lambda_": 0.5}
    assert [model["parameters"]["weight"] for model in filled["models"]] == [0.5, 0.3]
    assert "search" not in filled
    assert found["parameters"]["density"][1] == {"search": [0.2, 0.9]}


def test_any_number_can_be_set_by_its_place() -> None:
    filled = fill(
        recipe(t=0.5), {"alpha": 1.0, "models.1.parameters.weight": 0.9, "parameters.t": 0.1}
    )
    assert filled["models"][1]["parameters"]["weight"] == 0.9
    assert filled["parameters"] == {"t": 0.1}


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            {"t": {"search": [1, 0]}},
            (
                "t: cannot be searched from 1.0 to 0.0 — write {search: [LOW, HIGH]} with LOW "
                "below HIGH"
            ),
        ),
        (
            {"t": {"search": [0]}},
            "parameters.t: `search` is not a range — write {search: [LOW, HIGH]}",
        ),
        ({"t": {"search": [0, math.inf]}}, "t: cannot be searched from 0.0 to inf"),
        ({"t": {"choices": []}}, "parameters.t: `choices` is not a list of numbers"),
        ({"t": {"choices": [1, 1]}}, "t: names a choice twice"),
        ({"t": {"choices": ["a"]}}, "parameters.t: `choices` is not a list of numbers"),
        ({"t": {"search": [0, 1], "choices": [1]}}, "parameters.t: has both a range and choices"),
        (
            {"t": {"search": [0, 1], "nme": "t"}},
            'parameters.t: unknown key "nme" — did you mean "name"?',
        ),
        ({"t": {"search": [0, 1], "name": 3}}, "parameters.t: its name 3 is not text"),
        (
            {"t": {"search": [0, 2], "name": "alpha"}},
            'parameters.t: "alpha" is already free in another way',
        ),
    ],
)
def test_what_cannot_be_read_is_said_with_its_place(
    parameters: dict[str, Any], message: str
) -> None:
    with pytest.raises(PomonaError) as caught:
        space_of(recipe(**parameters))
    assert message in str(caught.value)


def test_values_and_parameters_must_fit() -> None:
    with pytest.raises(
        PomonaError,
        match=r'the free parameter "alpha" has no value — give one, for example alpha=0.5',
    ):
        fill(recipe(), {})
    with pytest.raises(
        PomonaError,
        match='no free parameter "alpa" and nothing at that place — did you mean "alpha"',
    ):
        fill(recipe(), {"alpha": 1, "alpa": 2})
    with pytest.raises(PomonaError, match=r'"models.0.model" is not a number in `parameters`'):
        fill(recipe(), {"alpha": 1, "models.0.model": 2})
    with pytest.raises(PomonaError, match="there is nothing to search"):
        space_of({"parameters": {"t": 1}})


@given(st.floats(0, 1), st.floats(-5, 5), st.floats(0.001, 5))
def test_values_stay_in_their_range_and_survive_a_recipe(
    unit: float, low: float, width: float
) -> None:
    free = Free("a", low, low + width)
    assert low <= free.at(unit) <= low + width
    assert (free.at(0), free.at(1)) == (low, low + width)


@given(st.floats(0, 1), st.lists(st.floats(-1, 1), min_size=1, max_size=5, unique=True))
def test_choices_are_chosen(unit: float, choices: list[float]) -> None:
    assert Space.of({"a": choices}).at([unit])["a"] in choices
