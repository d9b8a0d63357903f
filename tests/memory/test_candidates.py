"""What is known of candidates, and that a selector learns from it."""

from __future__ import annotations

import numpy as np
import pytest

from pomona.errors import PomonaError
from pomona.memory import FEATURES, Composed, features, gather, usual_length
from pomona.tasks import pairwise

SOURCE = "Delete %(name)s."
MADE = [
    Composed("%(name)s löschen.", "composed", -2.0, 0, 0),
    Composed("Löschen %(name)s", "composed", -3.0, 0, 1),
    Composed("%(name)s löschen.", "edited", -1.0, 0, 2, 0.75, 0.6),
    Composed("Seite löschen.", "edited", -7.0, 1, 3, 0.5, 0.5),
]


def known(*, logprobs: list[float] | None = None) -> tuple[list[str], dict[str, np.ndarray]]:
    pool = gather(SOURCE, MADE, ["Seite löschen.", "Bild"], [0.6, 0.3], ["%(name)s weg", " "])
    texts = [one.text for one in pool]
    table = features(
        SOURCE, pool, pairwise(texts, texts) / 100, nearest=0.6, usual=(0.0, 0.5), logprobs=logprobs
    )
    return texts, dict(zip(FEATURES, table.T, strict=True))


def test_gathers_each_text_once() -> None:
    texts, told = known()
    assert texts == [
        "%(name)s löschen.", "Löschen %(name)s", "Seite löschen.", "Bild", "%(name)s weg", SOURCE
    ]  # fmt: skip
    np.testing.assert_allclose(told["agreement"], np.log([2, 1, 2, 1, 1, 1]))
    assert told["composed"].tolist() == [1, 1, 0, 0, 0, 0]
    assert told["composed_rank"].tolist() == [0, 1, 3, 3, 3, 3]
    assert told["edited"].tolist() == [1, 0, 1, 0, 0, 0]
    assert told["edit_similarity"].tolist() == [0.6, 0, 0.5, 0, 0, 0]
    assert told["unknown"].tolist() == [0, 0, 1, 0, 0, 0]
    assert told["similarity"].tolist() == [0, 0, 0.6, 0.3, 0, 0]
    assert told["neighbour_near"].tolist() == [0, 0, 0.6, 0.6, 0, 0]
    assert told["drawn"].tolist() == [0, 0, 0, 0, 1, 0]
    assert told["source"].tolist() == [0, 0, 0, 0, 0, 1]


def test_says_what_a_text_lacks() -> None:
    _, told = known()
    assert told["placeholders_missing"].tolist() == [0, 0, 1, 1, 0, 0]
    assert told["ending_differs"].tolist() == [0, 1, 0, 1, 1, 0]
    assert told["capital_differs"].tolist() == [1, 0, 0, 0, 1, 0]
    assert told["words_of_source"].tolist() == [0, 0, 0, 0, 0, 1]
    assert told["length"][-1] == 0 and told["length_off"].min() >= 0


def test_what_agrees_with_the_evidence_is_worth_more() -> None:
    texts, told = known()
    assert texts[int(np.argmax(told["utility"]))] == "%(name)s löschen."
    assert told["weighted_utility"][0] > told["weighted_utility"][texts.index("Bild")]


def test_log_probabilities_are_known_or_say_nothing() -> None:
    assert not known()[1]["logprob"].any()
    given = [-1.0, -2.0, -3.0, -4.0, -5.0, -6.0]
    assert known(logprobs=given)[1]["logprob"].tolist() == given


def test_takes_no_more_edits_than_it_must() -> None:
    many = [Composed(f"{at}", "edited", 0.0, 0, at, 0.5, 0.5) for at in range(20)]
    pool = gather("x", [*many, Composed("9", "edited", 0.0, 0, 0, 0.5)], [], [], [])
    assert [one.text for one in pool] == [*map(str, range(10)), "x"]
    assert pool[9].count == 2


def test_the_usual_length() -> None:
    mean, spread = usual_length(["abc", "a"], ["abcdefg", "abc"])
    assert mean == pytest.approx(np.log(2)) and spread == 0.05
    with pytest.raises(PomonaError, match=r"there are no lengths.*rows of the memory"):
        usual_length([], [])
