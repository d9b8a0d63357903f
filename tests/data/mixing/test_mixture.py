from __future__ import annotations

import math

import pytest
from hypothesis import given, strategies as st

from pomona.data.mixing import Mixture, Origin, by_size, by_temperature, mixture_of, two_level
from pomona.errors import PomonaError

sizes_of = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 10**9), min_size=1)


@given(sizes_of, st.floats(0.3, 50))
def test_shares_add_up_and_temperature_keeps_the_order(
    sizes: dict[str, int], temperature: float
) -> None:
    mixed, natural = by_temperature(sizes, temperature).shares, by_size(sizes).shares
    assert math.fsum(mixed.values()) == pytest.approx(1)
    for one in sizes:
        for two in sizes:
            assert mixed[one] / mixed[two] == pytest.approx(
                (natural[one] / natural[two]) ** (1 / temperature)
            )


def test_temperature_has_its_ends() -> None:
    sizes = {"en": 900, "sw": 100}
    assert by_temperature(sizes, 1).shares == pytest.approx({"en": 0.9, "sw": 0.1})
    assert by_temperature(sizes, math.inf).shares == {"en": 0.5, "sw": 0.5}
    assert by_temperature({**sizes, "none": 0}, math.inf).shares == {
        "en": 0.5,
        "sw": 0.5,
        "none": 0.0,
    }


def test_aya_weights_on_two_levels() -> None:
    sizes = {"aya": 200, "flan": 600, "t0": 200, "xp3x": 10, "mt": 90, "nllb": 30}
    origins = {
        "human": Origin({"aya": None}, 25),
        "templates": Origin({"flan": None, "t0": None}, 4),
        "xp3x": Origin({"xp3x": None}, 20),
        "translated": Origin({"mt": 0.4, "nllb": None}, 51),
    }
    shares = two_level(origins, sizes).shares
    assert shares == pytest.approx(
        {"aya": 0.25, "flan": 0.03, "t0": 0.01, "xp3x": 0.2, "mt": 0.204, "nllb": 0.306}
    )


def test_sources_without_weight_divide_the_rest_by_size() -> None:
    sizes = {"a": 10, "b": 30, "c": 10}
    shares = two_level(
        {"x": Origin({"a": None}, 0.6), "y": Origin({"b": None}), "z": Origin({"c": None})}, sizes
    ).shares
    assert shares == pytest.approx({"a": 0.6, "b": 0.3, "c": 0.1})


@given(sizes_of)
def test_two_levels_without_weights_are_the_natural_shares(sizes: dict[str, int]) -> None:
    names = sorted(sizes)
    half = {"x": Origin(dict.fromkeys(names[::2])), "y": Origin(dict.fromkeys(names[1::2]))}
    origins = {name: origin for name, origin in half.items() if origin.datasets}
    assert two_level(origins, sizes).shares == pytest.approx(by_size(sizes).shares)


def test_yaml_forms() -> None:
    sizes = {"en": 900, "sw": 100}
    assert mixture_of({}, sizes) == by_size(sizes)
    assert mixture_of({"temperature": 2}, sizes) == by_temperature(sizes, 2)
    assert mixture_of({"weights": {"sw": 3}}, sizes) == Mixture({"en": 0, "sw": 1})
    spec = {"sources": {"big": {"weight": 1, "datasets": ["en"]}, "sw": {"weight": 3}}}
    assert mixture_of(spec, sizes) == Mixture({"en": 0.25, "sw": 0.75})


@pytest.mark.parametrize(
    ("spec", "match"),
    [
        ({"weigths": {}}, r'mixture: unknown key "weigths" — did you mean "weights"\?'),
        ({"weights": {"ne": 1}}, r'weights: no dataset is named "ne" — '),
        ({"weights": {"en": -1}}, r'"en": -1.* is not a weight — give a finite number, 0 or more'),
        ({"weights": {"en": "much"}}, r'"en": \'much\' is not a weight'),
        ({"weights": {"en": 0}}, r"weights: no dataset has a weight above 0 — give at least one"),
        ({"weights": [1]}, r"weights: \[1\] is not a mapping of names and values"),
        ({"temperature": 0}, r"temperature: 0.0 is not a temperature — use 1 for natural shares"),
        (
            {"temperature": 2, "weights": {}},
            r"mixture: temperature and weights are given together — give one of them",
        ),
        (
            {"sources": {"x": {"datasets": ["en"]}, "y": {"datasets": ["en"]}}},
            r'source "y": "en" stands in "x" too — list it once',
        ),
        (
            {"sources": {"x": {"datasets": {"en": 1, "sw": None}}}},
            r'source "x": the weights given add up to 1 and leave nothing for sw',
        ),
        ({"sources": {"x": {"data": 1}}}, r'source "x": unknown key "data"'),
        ({"sources": {"xx": {"weight": 1}}}, r'source "xx": no dataset is named "xx"'),
    ],
)
def test_mistakes_are_named(spec: dict, match: str) -> None:
    with pytest.raises(PomonaError, match=match):
        mixture_of(spec, {"en": 900, "sw": 100})


def test_leaving_out_scales_the_others_up() -> None:
    assert Mixture({"a": 1, "b": 2, "c": 5}).without("c").shares == pytest.approx(
        {"a": 1 / 3, "b": 2 / 3, "c": 0}
    )
    with pytest.raises(PomonaError, match='"a" is all there is in the mixture'):
        Mixture({"a": 1, "b": 0}).without("a")
    with pytest.raises(PomonaError, match='no dataset is named "d"'):
        Mixture({"a": 1}).without("d")
