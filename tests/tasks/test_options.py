"""What a recipe may say of its metrics, and what it is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sacrebleu.metrics.chrf import CHRF

from pomona.documents import StrictModel, read_model
from pomona.errors import PomonaError
from pomona.tasks import OneOrMore, metric, metrics


class Recipe(StrictModel):
    metric: OneOrMore


def read(tmp_path: Path, text: str) -> Recipe:
    (tmp_path / "r.yaml").write_text(text, encoding="utf-8")
    return read_model(tmp_path / "r.yaml", Recipe, kind="recipe", example="r")


@pytest.mark.parametrize(
    ("text", "given"),
    [
        ("metric: chrf", ["chrf"]),
        ("metric: [chrf, bleu]", ["chrf", "bleu"]),
        ("metric: {name: chrf, beta: 1}", [{"name": "chrf", "beta": 1}]),
        (
            "metric: [ter, {name: exact_match, extract: number, normalise: [lower, punctuation]}]",
            [
                "ter",
                {"name": "exact_match", "extract": "number", "normalise": ["lower", "punctuation"]},
            ],
        ),
        (
            "metric: {name: json_valid, schema: {type: array}}",
            [{"name": "json_valid", "schema": {"type": "array"}}],
        ),
        ("metric: my_module:score", ["my_module:score"]),
    ],
)
def test_one_or_more_metrics_in_a_document(tmp_path: Path, text: str, given: list[Any]) -> None:
    recipe = read(tmp_path, text)
    assert [one.given for one in recipe.metric] == given
    if "my_module" not in text:
        assert len({one.signature for one in metrics(given)}) == len(given)


def test_the_form_is_told_to_editors() -> None:
    """What `pomona run --schema` prints for it."""
    schema = Recipe.model_json_schema()
    kinds = [one.get("type", one.get("$ref")) for one in schema["properties"]["metric"]["anyOf"]]
    assert kinds == ["string", "#/$defs/MetricOptions", "array"]
    assert "schema" in schema["$defs"]["MetricOptions"]["properties"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("metric: chff", 'there is no metric "chff" — did you mean "chrf"?'),
        ("metric: [bleu, chr++]", 'there is no metric "chr++" — did you mean "chrf++"?'),
        ("metric: {name: bleu, beta: 1}", '"beta" belongs to chrf and chrf++, not to bleu'),
        ("metric: {name: chrf, betta: 1}", 'unknown key "betta" in metric — did you mean "beta"?'),
        ("metric: {name: chrf, beta: 0}", '"beta" must be at least 1, not 0'),
        ("metric: {name: exact_match, extract: numbers}", '"extract": there is no extractor "numbers" — did you mean "number"?'),
        ("metric: {name: exact_match, extract: 'regex:('}", '"extract": the pattern cannot be read'),
        ("metric: {name: exact_match, normalise: [case]}", 'must be "unicode" or "lower" or "punctuation" or "articles", not "case"'),
        ("metric: {name: exact_match, match: first}", '"match" belongs to "extract"'),
        ("metric: {name: json_valid, schema: {type: objekt}}", '"schema": schema: is no JSON Schema'),
        ("metric: []", '"metric" must not be empty'),
        ("metric: {beta: 1}", '"name" is missing'),
    ],
)  # fmt: skip
def test_mistakes_are_told_with_their_line(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(PomonaError) as caught:
        read(tmp_path, "\n" + text)
    assert f"{tmp_path / 'r.yaml'}, line 2: " in str(caught.value) and told in str(caught.value)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"name": "chrf", "betta": 1}, 'metric: unknown key "betta" — did you mean "beta"?'),
        ({"name": "blue"}, 'metric: there is no metric "blue" — did you mean "bleu"?'),
        ({"name": "bleu", "beta": 1}, '"beta" belongs to chrf and chrf++, not to bleu'),
        ({"beta": object()}, '"name" is missing'),
    ],
)
def test_mistakes_in_a_mapping_are_told(given: dict[str, Any], told: str) -> None:
    with pytest.raises(PomonaError) as caught:
        metric(given)
    assert told in str(caught.value)


def test_a_second_metric_that_a_choice_by_the_first_does_not_optimise() -> None:
    """chrF of β = 1 weighs recall no more than precision: sacreBLEU's CHRF(beta=1)."""
    outputs, references = ["the file is saved now", "a"], ["save the file", "a b"]
    ours, theirs = metric({"name": "chrf", "beta": 1}), CHRF(beta=1)
    value = float(ours.aggregate(ours.statistics(outputs, references).sum(0)))
    assert value == pytest.approx(theirs.corpus_score(outputs, [references]).score, abs=1e-9)
    assert ours.name == "chrf1"
