"""Answers that keep to the markers that were given: what is measured, and the choice among them."""

from __future__ import annotations

import asyncio
import sys
import types
from collections.abc import Sequence
from typing import Any

import pytest

from pomona.answers import Budget
from pomona.errors import PomonaError
from pomona.markers import MarkersContext, Taxonomy, Trained
from pomona.markers.kept import Wishes
from pomona.models import Model, Reply, Request, Spent
from pomona.recipe.levers.sampling import Samples
from pomona.sample import answer, parse_strategy

OWN = Taxonomy.model_validate(
    {
        "markers": {
            "project": {"kind": "values", "values": ["django", "oscar"]},
            "language": {"kind": "text", "measure": "language"},
            "characters": {"kind": "integer", "measure": "characters"},
            "longest": {
                "kind": "buckets", "of": "characters", "edges": [9, 17], "values": ["to8", "to16", "more"],
            },
            "format": {"kind": "values", "measure": "format", "values": ["JSON", "Markdown"]},
            "quality": {"kind": "float"},
            "quartile": {"kind": "buckets", "of": "quality", "values": ["1", "2"]},
            "untranslated": {"kind": "values", "measure": "untranslated", "values": ["yes", "no"]},
        }
    }
)  # fmt: skip
TRAINED = Trained(OWN, "compact")
ENGLISH = "The dog runs through the woods today and barks."
LONG = "Der Hund läuft heute durch den Wald und bellt."


class Drawing(Model):
    """Says one text for each sample index, and remembers which it was asked for."""

    name, identity, abilities = "drawing", "drawing:1", frozenset()

    def __init__(self, *texts: str) -> None:
        self.texts, self.drawn = texts, []

    async def reply(self, request: Request, samples: Any) -> list[Reply]:
        self.drawn += [index for index, _ in samples]
        return [
            Reply(self.texts[at], "stop", Spent(3, 1), "x", at, heat, -1.0) for at, heat in samples
        ]


def told(strategy: str, texts: Sequence[str], **given: Any) -> tuple[Any, Drawing]:
    model, context = Drawing(*texts), MarkersContext(TRAINED, given)
    request = Request(prompt="Save")
    found = answer(request, model, parse_strategy(strategy), context=[context])
    return asyncio.run(found), model


@pytest.mark.parametrize(
    ("given", "text", "kept"),
    [
        ({"longest": "to16"}, "Speichern", {"longest": 0}),
        ({"longest": "to16"}, "Sichern", {"longest": -1}),
        ({"longest": "to16"}, "é" * 16, {"longest": 0}),
        ({"longest": "to16"}, "é" * 17, {"longest": 1}),
        ({"characters": 4}, "Save", {"characters": 0}),
        ({"characters": 5, "language": "de"}, "", {"characters": -1}),  # no language is known
        ({"language": "de-CH"}, LONG, {"language": 0}),
        ({"language": "fr"}, LONG, {"language": 1}),
        ({"format": "JSON"}, '{"a": 1}', {"format": 0}),
        ({"format": "Markdown"}, '{"a": 1}', {"format": 1}),
        # Quartiles are of other texts, and a prompt is more than its source.
        ({"project": "oscar", "quality": 0.5, "quartile": "1", "untranslated": "no"}, "x", {}),
    ],
)
def test_what_can_be_measured_is_compared(given: Any, text: str, kept: dict[str, int]) -> None:
    assert Wishes(OWN, given).kept(text) == kept


def test_draws_end_with_the_first_answer_that_keeps_to_what_is_given() -> None:
    texts = ["x" * 20, "x" * 5, "x" * 12, "x" * 13]
    found, model = told("hedged4-best-kept-stop1-round1", texts, longest="to16")
    assert (found.text, found.stopped_by, model.drawn) == ("x" * 12, "reward", [0, 1, 2])
    assert found.scores == (0.0, 0.0, 1.0)
    assert found.spent.completion_tokens == 3
    shorter, model = told("hedged4-best-within-stop1-round1", texts, longest="to16")
    assert (shorter.text, model.drawn) == ("x" * 5, [0, 1])
    none, model = told(
        "hedged3-best-kept-stop1-round2", ["a" * 30, "b" * 30, "c" * 30], longest="to8"
    )
    assert (none.text, none.stopped_by, model.drawn) == ("a" * 30, "complete", [0, 1, 2])
    two, _ = told("sample2-best-within", [ENGLISH, LONG], longest="more", language="de")
    assert (two.text, two.scores) == (LONG, (0.5, 1.0))


def test_a_check_of_ones_own_ends_a_pool_and_is_asked_once_for_each_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def fits(prompt: str, text: str) -> int:
        asked.append(text)
        return len(text) <= 4

    module = types.ModuleType("own_checks")
    module.fits = fits  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "own_checks", module)
    model = Drawing("longer", "longer", "also longer", "fits", "never drawn")
    given = {"name": "hedged5-best-stop1-round1", "reward": "own_checks:fits"}
    strategy = parse_strategy(given, trusted=True)
    found = asyncio.run(answer(Request(prompt="Save"), model, strategy))
    assert (found.text, found.stopped_by, model.drawn) == ("fits", "reward", [0, 1, 2, 3])
    assert asked == ["longer", "also longer", "fits"]


def test_a_slow_check_ends_with_the_budget_and_a_wrong_one_names_its_candidate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = types.ModuleType("own_checks")
    module.slow = lambda _prompt, _text: asyncio.sleep(30, 1.0)  # type: ignore[attr-defined]
    module.wrong = lambda _prompt, text: float("nan" if text == "b" else 0)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "own_checks", module)
    pool = {"name": "hedged5-best-stop1-round1", "reward": "own_checks:slow"}
    strategy, request = parse_strategy(pool, trusted=True), Request(prompt="Save")
    texts = ("a", "a", "b", "c", "d")
    found = asyncio.run(answer(request, Drawing(*texts), strategy, budget=Budget(seconds=0.2)))
    assert (found.text, found.stopped_by) == ("a", "seconds")
    strategy = parse_strategy({**pool, "reward": "own_checks:wrong"}, trusted=True)
    with pytest.raises(PomonaError, match="own_checks:wrong: the reward of candidate 3 is nan"):
        asyncio.run(answer(request, Drawing(*texts), strategy))


def test_where_nothing_can_be_measured_it_is_said_before_a_model_is_asked() -> None:
    wanted = r'"kept" is of markers, and none is given that can be measured — give one to a model'
    for given in ({}, {"project": "oscar"}):
        with pytest.raises(PomonaError, match=wanted):
            told("hedged4-best-kept", ["x"] * 4, **given)
    with pytest.raises(PomonaError, match=wanted):
        asyncio.run(answer(Request(prompt="x"), Drawing("x"), parse_strategy("sample4-best-kept")))
    with pytest.raises(ValueError, match='"within" is of the markers that a request is told'):
        Samples(strategies=["hedged4-best-within"])
