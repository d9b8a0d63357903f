"""Of several answers the one is kept that the objectives ask for, whatever stands around it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st

from pomona.errors import PomonaError
from pomona.synth import Assignment, Candidate, Lesson, Objective, choose, objectives_from

SHORT, LONG = "Save the file.", "Save the file, the file and the file again before you close it."
VARIED = "Every unsaved paragraph disappears whenever someone closes their editor carelessly."


def candidates(*texts: str, row: str = "1", teacher: str = "m") -> list[Candidate]:
    asked = Assignment(row, "?", "en", "en")
    return [
        Candidate(asked, Lesson(row, text, teacher, None, sample=at))
        for at, text in enumerate(texts)
    ]


def texts_of(*objectives: Objective, of: Sequence[Candidate], **how: object) -> list[str]:
    chosen = choose(of, objectives, **how)  # pyright: ignore[reportArgumentType]
    return [one.candidate.lesson.text for one in chosen]


def share_of_vowels(texts: Sequence[str]) -> list[float]:
    """Unknown where there are no letters."""
    return [
        sum(letter in "aeiou" for letter in text) / len(text) if text.strip("-") else math.nan
        for text in texts
    ]


def test_a_figure_is_as_high_or_low_as_the_answers_allow_or_in_its_band() -> None:
    told = candidates(SHORT, LONG, VARIED)
    assert texts_of(Objective("length", "down"), of=told) == [SHORT]
    assert texts_of(Objective("length", "up"), of=told) == [VARIED]
    again = candidates(f"{LONG} {LONG}", f"{VARIED} {LONG}")
    assert texts_of(Objective("mtld", "up"), of=again) == [f"{VARIED} {LONG}"]
    assert texts_of(Objective("mtld", "down"), of=again) == [f"{LONG} {LONG}"]
    assert texts_of(Objective("words", band=(12, 14)), of=told) == [LONG]
    assert texts_of(Objective("words", band=(None, 5)), of=told) == [SHORT]
    assert texts_of(Objective("words", band=(6, 9)), of=told) == [VARIED]  # nearest: 10 words
    chosen = choose(told, [Objective("words", "down"), Objective("length", "down", name="size")])
    assert chosen[0].values == {"words": 3.0, "size": 14.0}
    assert (chosen[0].rank, chosen[0].of, chosen[0].decided) == (0, 3, True)


def test_a_user_s_function_and_a_list_of_words_are_metrics_too(tmp_path: Path) -> None:
    (tmp_path / "rude.txt").write_text("damn\n")
    told = candidates("Damn file", "Kind file", "---")
    polite = Objective(f"words:{tmp_path / 'rude.txt'}", "down", name="profanity")
    assert texts_of(polite, Objective("length", "up"), of=told) == ["Kind file"]
    vowels = Objective(f"{__name__}:share_of_vowels", "down")
    assert texts_of(vowels, of=candidates("aeiou", "---", "save")) == ["save"]  # --- has none
    assert polite.signature.startswith("words:") and polite.signature.endswith(":down")
    assert Objective("length", band=(None, 20), weight=2).signature == "length:..20*2"


def test_where_nothing_applies_an_answer_is_drawn_and_it_is_said() -> None:
    told = choose(candidates("!", "?", "…"), [Objective("mtld", "up")])
    assert told[0].values == {"mtld": None} and not told[0].decided


def test_a_compromise_is_chosen_from_the_front_where_a_sum_takes_an_extreme() -> None:
    # By lengths: 1, 5.9 and 10 letters of 10; by words: 10, 5, 1
    told = candidates("a a a a a a a a a a", "bb bb bb bb bbbb", "c" * 30)
    aims = [Objective("length", "up"), Objective("words", "up", weight=1.2)]
    assert texts_of(*aims, of=told) == ["a a a a a a a a a a"]
    told = candidates("x x x x x x x x x", "yyyyy yyyyy yyyyy yyyyy", "z" * 30)
    assert texts_of(*aims, of=told, how="pareto") == ["yyyyy yyyyy yyyyy yyyyy"]


@given(
    st.lists(st.tuples(*[st.sampled_from([0.0, 1, 2, 3, math.nan])] * 2), min_size=1, max_size=8),
    st.integers(0, 3),
)
def test_no_answer_is_better_than_that_of_the_front_by_one_and_as_good_by_all(
    values: list[tuple[float, float]], seed: int
) -> None:
    told = candidates(*(f"{a} {b} {at}" for at, (a, b) in enumerate(values)))
    aims = [Objective(f"{__name__}:{name}", "up") for name in ("first_of", "second_of")]
    low = [tuple(-1 if math.isnan(v) else v for v in pair) for pair in values]
    for how in ("pareto", "best"):
        chosen = choose(told, aims, how, seed=seed)[0]  # pyright: ignore[reportArgumentType]
        mine = low[chosen.candidate.lesson.sample]
        assert how == "best" or not any(
            all(np.greater_equal(other, mine)) and other != mine for other in low
        )
        assert chosen == choose(told[::-1], aims, how, seed=seed)[0]  # pyright: ignore


def first_of(texts: Sequence[str]) -> list[float]:
    return [float(text.split()[0]) for text in texts]


def second_of(texts: Sequence[str]) -> list[float]:
    return [float(text.split()[1]) for text in texts]


def test_more_than_one_is_kept_of_rows_that_are_named_best_first_and_never_one_text_twice() -> None:
    told = [
        *candidates(SHORT, SHORT, LONG, VARIED, row="1"),
        *candidates("b", "bb", row="2"),
        *candidates("c", "cc", row="3"),
    ]
    length = Objective("length", "up")
    chosen = choose(told, [length], keep={"1": 9, "3": 1})
    assert [one.candidate.lesson.text for one in chosen] == [VARIED, LONG, SHORT, "cc"]
    assert [one.rank for one in chosen] == [0, 1, 2, 0]
    assert [one.of for one in chosen] == [3, 3, 3, 2]


def test_across_teachers_and_at_random_the_order_of_answers_decides_nothing() -> None:
    told = [
        one
        for row in map(str, range(40))
        for teacher in ("a", "b", "c")
        for one in candidates(f"{teacher} same", row=row, teacher=teacher)
    ]
    drawn = texts_of(of=told, seed=1)
    assert drawn == texts_of(of=[*told[::-1]], seed=1)[::-1]
    assert drawn == texts_of(Objective("length", "up"), of=told, seed=1)  # all have one length
    assert drawn != texts_of(of=told, seed=2) and len(set(drawn)) == 3
    assert drawn[:5] == texts_of(of=told[:15], seed=1)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"metric": "lenght", "direction": "up"}, 'no metric "lenght" — did you mean "length"'),
        ({"metric": "length"}, "give either a direction, up or down, or a band"),
        ({"metric": "length", "direction": "up", "band": [1, 2]}, "has no one aim"),
        ({"metric": "length", "band": [3, 2]}, r"\[3.0, 2.0\] is no band"),
        ({"metric": "length", "band": [None, None]}, "is no band — give"),
        ({"metric": "length", "band": [1]}, '"band"'),
        ({"metric": "length", "direction": "sideways"}, 'must be "up" or "down"'),
        ({"metric": "length", "direction": "up", "weight": 0}, '"weight" must be more than 0'),
        ({"metric": "column:score", "direction": "up"}, "answers have no columns"),
        ({"metric": "words:/nowhere.txt", "direction": "down"}, "/nowhere.txt"),
        ({"metric": "length", "aim": "up"}, 'unknown key "aim"'),
    ],
)
def test_a_mistake_in_a_recipe_is_told(spec: dict[str, object], message: str) -> None:
    with pytest.raises(PomonaError, match=message):
        objectives_from([spec])


def test_two_objectives_of_one_name_are_refused_and_other_mistakes_told() -> None:
    twice = [{"metric": "length", "direction": "up"}, {"metric": "length", "band": [1, None]}]
    with pytest.raises(PomonaError, match='"length": is there twice — give each a name'):
        objectives_from(twice)
    told = objectives_from([twice[0], twice[1] | {"name": "least"}])
    assert [one.name for one in told] == ["length", "least"] and told[1].band == (1, None)
    endless = Objective(f"{__name__}:endless", "up")
    with pytest.raises(PomonaError, match="gave infinity for text 2"):
        choose(candidates("a", "b"), [endless])
    with pytest.raises(PomonaError, match="keep: 0 are too few"):
        choose(candidates("a"), [], keep=0)
    with pytest.raises(PomonaError, match='"first" is no choice'):
        choose(candidates("a"), [], "first")  # pyright: ignore[reportArgumentType]


def endless(texts: Sequence[str]) -> list[float]:
    return [0.0, *[math.inf] * (len(texts) - 1)]
