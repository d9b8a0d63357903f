"""Rewards of texts, and their mean on one scale."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from pomona.errors import PomonaError
from pomona.synth.rewards import (
    Agreement,
    Function,
    KnownWords,
    LanguageMatch,
    LengthRatio,
    PlaceholdersKept,
    Record,
    Reference,
    RoundTrip,
    Weighted,
    reward_from,
)
from pomona.synth.rewards.reward import Computed
from pomona.synth.teachers import (
    Assignment,
    Candidate,
    Lesson,
    Program,
    ProgramTeacher,
    Terms,
)
from pomona.tasks import Chrf

nan = float("nan")


def candidate(
    row: str, teacher: str, text: str, source: str = "Save the file", **more: Any
) -> Candidate:
    lesson = {key: more.pop(key) for key in ("unknown", "sample") if key in more}
    assignment = Assignment(row, source, "en", more.pop("lang", "af"), more.pop("reference", None))
    return Candidate(assignment, Lesson(row, text, teacher, None, **lesson))


def test_an_answer_in_its_language_is_above_one_in_another() -> None:
    german, dutch, unknown, empty = LanguageMatch().score(
        [
            candidate("1", "a", "Die Datei konnte nicht gespeichert werden", lang="de"),
            candidate("1", "b", "Het bestand kon niet worden opgeslagen", lang="de"),
            candidate("1", "c", "whatever", lang="tlh"),
            candidate("1", "d", "%(name)s 3.5", lang="de"),
        ]
    )
    assert german > 0.9 and dutch < 0.1 and np.isnan(unknown) and np.isnan(empty)


def test_placeholders_that_are_lost_or_made_up_cost_alike() -> None:
    source = "Save %(name)s in {0}"
    answers = ["Stoor %(name)s in {0}", "Stoor %(name)s", "Stoor", "Stoor %(name)s {0} {0} {1}"]
    scores = PlaceholdersKept().score([candidate("1", text, text, source) for text in answers])
    np.testing.assert_allclose(scores, [1, 2 / 3, 0, 4 / 6])
    assert PlaceholdersKept().score([candidate("1", "a", "Stoor")]) == 1


def test_length_ratios_are_learned_by_language() -> None:
    human = [
        candidate(f"{lang}{n}", "t", "", "x" * 10, lang=lang, reference="y" * (length + n % 2))
        for lang, length in (("de", 12), ("zh", 4))
        for n in range(20)
    ]
    reward = LengthRatio().fit(
        [*human, candidate("p", "t", "", "x" * 9, lang="pl", reference="yy")]
    )
    assert set(reward.laws) == {("en", "de"), ("en", "zh"), ("", "")}
    usual, long, short, chinese = reward.score(
        [
            candidate("1", "a", "y" * 12, "x" * 10, lang="de"),
            candidate("1", "b", "y" * 30, "x" * 10, lang="de"),
            candidate("1", "c", "y" * 4, "x" * 10, lang="de"),
            candidate("2", "c", "y" * 4, "x" * 10, lang="zh"),
        ]
    )
    assert usual > -1.1 and chinese > -1.1 and short < -5 and long < -5
    # mean and deviation of log(1.2) and log(1.3), by hand
    mean, deviation = reward.laws["en", "de"]
    assert (mean, deviation) == (pytest.approx(0.222343, abs=1e-6), 0.05)
    with pytest.raises(PomonaError, match="call `fit` with candidates on validation rows"):
        LengthRatio().score(human)
    with pytest.raises(PomonaError, match="no row has a reference"):
        LengthRatio().fit([candidate("1", "a", "b")])


def test_words_that_a_program_did_not_know() -> None:
    told = [candidate("1", "p", "een twee drie vier", unknown=1), candidate("1", "m", "een")]
    np.testing.assert_array_equal(KnownWords().score(told), [0.75, nan])


def test_agreement_is_the_mean_over_other_teachers_both_ways_round() -> None:
    texts = {"a": "Stoor die lêer", "b": "Stoor die leer", "c": "Berg die dokument op"}
    rows = [candidate("1", teacher, text) for teacher, text in texts.items()]
    alone = candidate("2", "a", "iets")

    def chrf(one: str, two: str) -> float:
        both = Chrf().statistics([one, two], [two, one])
        return float(Chrf().aggregate(both).mean())

    expected = [
        np.mean([chrf(text, other) for other in texts.values() if other != text])
        for text in texts.values()
    ]
    scores = Agreement().score([rows[0], alone, *rows[1:]])
    np.testing.assert_allclose(scores, [expected[0], nan, *expected[1:]])
    # Teachers weigh the same, however often they draw; with `bleu` and options as with chrf.
    again = candidate("1", "b", texts["b"], sample=1)
    np.testing.assert_allclose(Agreement().score([*rows, again])[0], expected[0])
    slow = Agreement({"name": "chrf", "beta": 2}).score(rows)
    np.testing.assert_allclose(slow, expected)
    assert Agreement("bleu").score(rows)[0] > Agreement("bleu").score(rows)[2]
    first, second = Agreement().score(
        [candidate("1", "a", "Stoor"), candidate("1", "b", "Stoor nou")]
    )
    assert first == second  # two answers alone: nothing to choose by


def test_reference_knows_only_rows_with_one_and_turns_errors_round() -> None:
    rows = [
        candidate("1", "a", "Stoor", reference="Stoor"),
        candidate("1", "b", "XY", reference="Stoor"),
        candidate("2", "a", "Stoor"),
    ]
    np.testing.assert_array_equal(Reference().score(rows), [100, 0, nan])
    ter = Reference("ter").score(rows)
    assert ter[0] == 0 and ter[1] == -100
    with pytest.raises(PomonaError, match="did you mean"):
        Reference("chrg")


def test_a_teachers_record_is_learned_by_language() -> None:
    seen = [
        candidate("1", "a", "Stoor", reference="Stoor"),
        candidate("1", "b", "XY", reference="Stoor"),
        candidate("2", "a", "XY", reference="Stoor"),
        candidate("3", "b", "Lagre", reference="Lagre", lang="nn"),
        candidate("4", "c", "Lagre", lang="nn"),
    ]
    record = Record().fit(seen)
    asked = [
        candidate("5", who, "x", lang=lang)
        for lang, who in (("af", "a"), ("af", "b"), ("nn", "b"), ("nn", "a"))
    ]
    np.testing.assert_array_equal(record.score(asked), [50, 0, 100, nan])
    with pytest.raises(PomonaError, match="knows no teacher yet"):
        Record().score(asked)
    with pytest.raises(PomonaError, match="no row has a reference"):
        Record().fit(asked)
    assert reward_from({"record": {"metric": "bleu"}}) == Record("bleu")


def test_translation_back_is_compared_with_the_source(tmp_path: Path) -> None:
    back = ProgramTeacher("upper", Program(("tr", "a-z", "A-Z")), Terms(frozenset({("af", "en")})))
    rows = [
        candidate("1", "a", "save the file", "SAVE THE FILE"),
        candidate("1", "b", "open", "SAVE THE FILE"),
        candidate("2", "a", "save", "SAVE", lang="nn"),
    ]
    reward = RoundTrip(back)
    scores = reward.score(rows)
    assert scores[0] == 100 and scores[1] < 50 and np.isnan(scores[2])
    assert reward.failures == {("2", "a", 0): "does not go from nn to en"}
    assert reward.usage.cpu_seconds and reward.usage.money is None
    # Towards a sister language, whose translation stands for the text.
    sister = ProgramTeacher("up", Program(("tr", "a-z", "A-Z")), Terms(frozenset({("af", "nl")})))
    reward = RoundTrip(sister, lang="nl", texts={"Save": "OPSLAAN"})
    told = reward.score([candidate("1", "a", "opslaan", "Save"), candidate("2", "a", "x", "Open")])
    np.testing.assert_array_equal(told, [100, nan])
    assert reward.failures == {}


def from_candidates(candidates: list[Candidate]) -> list[float]:
    return [float(len(one.lesson.text)) for one in candidates]


def too_few(candidates: list[Candidate]) -> list[float]:
    return [1.0]


def fails(candidates: list[Candidate]) -> list[float]:
    raise ValueError("no such thing")


def test_a_function_of_the_users() -> None:
    rows = [candidate("1", "a", "abc"), candidate("1", "b", "ab")]
    assert list(Function(f"{__name__}:from_candidates").score(rows)) == [3, 2]
    with pytest.raises(PomonaError, match="return one number for every candidate"):
        Function(f"{__name__}:too_few").score(rows)
    with pytest.raises(PomonaError, match="failed: no such thing — mend it"):
        Function(f"{__name__}:fails").score(rows)
    with pytest.raises(PomonaError, match="cannot be imported"):
        Function("nowhere:function")


class Told(Computed):
    """A reward that says what it was told."""

    def __init__(self, name: str, values: Sequence[float]) -> None:
        self.name = self.signature = name
        self.values = values

    def score(self, candidates: Sequence[Candidate]) -> Any:
        return np.array(self.values, np.float64)


ROWS = [
    candidate("1", "a", ""),
    candidate("2", "a", ""),
    candidate("1", "b", ""),
    candidate("1", "c", ""),
]


def test_ranks_within_rows_and_unknown_parts_count_neither_way() -> None:
    one = Told("one", [5, -1, 7, 7])
    two = Told("two", [0.2, nan, nan, 0.1])
    np.testing.assert_allclose(Weighted([(one, 1)]).score(ROWS), [0, 0.5, 0.75, 0.75])
    # a: ranks 0 and 1; b: .75 and unknown; c: .75 and 0
    both = Weighted([(one, 1), (two, 3)]).score(ROWS)
    np.testing.assert_allclose(both, [0.75, 0.5, 0.75, 0.1875])
    assert np.isnan(Weighted([(two, 1)]).score(ROWS)[[1, 2]]).all()


def test_deviations_are_learned_and_make_units_alike() -> None:
    one, two = Told("one", [1, 9, 3, 5]), Told("two", [100, 100, 300, 500])
    with pytest.raises(PomonaError, match="call `fit` with candidates on validation rows"):
        Weighted([(one, 1)], "deviation").score(ROWS)
    fitted = Weighted([(one, 1), (two, 1)], "deviation").fit(ROWS)
    assert fitted.deviations == {"one": 2, "two": 200}
    np.testing.assert_allclose(fitted.score(ROWS), [-1, 0, 0, 1])
    with pytest.raises(PomonaError, match="tells no two answers of a row apart"):
        Weighted([(Told("flat", [1, 2, 1, 1]), 1)], "deviation").fit(ROWS)


@given(
    st.lists(st.floats(-1e6, 1e6) | st.just(nan), min_size=4, max_size=4),
    st.floats(0.1, 10),
    st.floats(-5, 5),
)
def test_the_unit_of_a_reward_changes_nothing(
    values: list[float], factor: float, shift: float
) -> None:
    """Not by ranks: only the order of a row's answers counts, and unknown ones stay unknown."""
    values = [nan if np.isnan(value) else round(value) for value in values]
    other = Told("other", [3, 1, 2, 1])
    moved = [factor * value + shift for value in values]
    first = Weighted([(Told("one", values), 2), (other, 1)]).score(ROWS)
    second = Weighted([(Told("one", moved), 2), (other, 1)]).score(ROWS)
    np.testing.assert_allclose(first, second)
    assert ((first >= 0) & (first <= 1)).all()


def test_a_recipe_names_rewards(tmp_path: Path) -> None:
    one = reward_from("agreement")
    assert one == Agreement()
    assert reward_from({"reference": {"metric": "bleu"}}) == Reference("bleu")
    several = reward_from({"agreement": 2, "language": True, "length_ratio": {"weight": 0.5}})
    assert isinstance(several, Weighted)
    assert [(part.name, weight) for part, weight in several.parts] == [
        ("agreement", 2), ("language", 1), ("length_ratio", 0.5),
    ]  # fmt: skip
    assert reward_from(f"{__name__}:fails").name == f"{__name__}:fails"
    back = ProgramTeacher("back", Program(("cat",)))
    named = reward_from({"round_trip": {"teacher": "b"}}, teachers={"b": back})
    assert isinstance(named, RoundTrip) and named.teacher is back


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"agreemet": 1}, 'unknown key "agreemet" — did you mean "agreement"?'),
        ({"scale": "rank"}, "there is no reward — name one of agreement, reference"),
        ({"agreement": 0}, '"agreement" must be more than 0'),
        ({"agreement": False}, "must be a mapping"),
        ({"agreement": {"metric": "chrg"}}, 'there is no metric "chrg" — did you mean "chrf"?'),
        ({"round_trip": {"teacher": "b"}}, 'there is no teacher "b" — name it under teachers'),
    ],
)
def test_what_a_recipe_says_wrongly_is_named(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(PomonaError) as raised:
        reward_from(wrong)
    assert said in str(raised.value)


def test_weights_and_names_are_checked() -> None:
    with pytest.raises(PomonaError, match="the weight is 0"):
        Weighted([(Agreement(), 0)])
    with pytest.raises(PomonaError, match="is there twice"):
        Weighted([(Agreement(), 1), (Agreement("bleu"), 1)])
    with pytest.raises(PomonaError, match="has no rewards"):
        Weighted([])
