"""chrF is sacreBLEU's chrF, sentence by sentence, corpus by corpus, pair by pair."""

import random

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from sacrebleu.metrics.chrf import CHRF

from pomona.errors import PomonaError
from pomona.tasks import Chrf, pairwise

ODD = [
    "",
    " \u3000\u00a0",
    "a",
    "aaaa aaaaaaaaa",
    "Save the file.",
    "Save the files!",
    "(hi) \"there\" x, y; 'z' ...",
    "ファイルを保存する。",
    "ファイルを保存",
    "👩‍👩‍👧 ok 👍🏽👍🏽",
    "e\u0301te\u0301 e\u0301",
    "été",
    "ที่นี่ \ud800 lone",
]
texts = st.text(alphabet=st.sampled_from("ab .,(é\u0301日😀\n"), max_size=25)
words = pytest.mark.parametrize("word_order", [0, 2])


def noise(n: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [
        "".join(
            draw.choice("abc dé。日本 😀\u0301.,(") for _ in range(draw.choice([0, 1, 3, 9, 40]))
        )
        for _ in range(n)
    ]


@words
def test_corpus_and_sentences_equal_sacrebleu(word_order: int) -> None:
    outputs, references = ODD + noise(80, 0), ODD[::-1] + noise(80, 1)
    ours, theirs = Chrf(word_order=word_order), CHRF(word_order=word_order)
    statistics = ours.statistics(outputs, references)
    assert (
        statistics.shape == (len(outputs), 3 * (6 + word_order)) and statistics.dtype == np.float64
    )
    assert float(ours.aggregate(statistics.sum(0))) == pytest.approx(
        theirs.corpus_score(outputs, [references]).score, abs=1e-9
    )
    sentences = [
        theirs.sentence_score(o, [r]).score for o, r in zip(outputs, references, strict=True)
    ]
    np.testing.assert_allclose(ours.aggregate(statistics), sentences, atol=1e-9)
    assert ours.signature == str(theirs.get_signature())


@words
@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(texts, texts, texts), min_size=1, max_size=6))
def test_statistics_equal_sacrebleu_with_two_references(
    word_order: int, rows: list[tuple[str, str, str]]
) -> None:
    outputs, first, second = (list(column) for column in zip(*rows, strict=True))
    ours, theirs = Chrf(word_order=word_order, references=2), CHRF(word_order=word_order)
    expected = theirs._extract_corpus_statistics(outputs, [first, second])
    np.testing.assert_array_equal(
        ours.statistics(outputs, list(zip(first, second, strict=True))), expected
    )
    assert ours.signature == str(theirs.get_signature())


def test_varying_references_equal_sacrebleu() -> None:
    theirs = CHRF()
    expected = theirs.corpus_score(
        ["save file", "open"], [["save the file", "opens"], ["save a file", None]]
    )  # type: ignore[list-item]
    ours = Chrf(references=None)
    statistics = ours.statistics(
        ["save file", "open"], [["save the file", "save a file"], ["opens"]]
    )
    assert float(ours.aggregate(statistics.sum(0))) == pytest.approx(expected.score, abs=1e-9)
    assert ours.signature == str(theirs.get_signature())


@pytest.mark.parametrize(("char_order", "beta"), [(3, 1), (6, 3)])
def test_other_orders_and_weights(char_order: int, beta: int) -> None:
    ours, theirs = Chrf(char_order=char_order, beta=beta), CHRF(char_order=char_order, beta=beta)
    total = ours.statistics(ODD, ODD[::-1]).sum(0)
    assert float(ours.aggregate(total)) == pytest.approx(
        theirs.corpus_score(ODD, [ODD[::-1]]).score, abs=1e-9
    )


def test_golden_value_by_hand() -> None:
    """abc against abd: orders 1, 2 match 2 of 3 and 1 of 2, order 3 matches 0 of 1; P = R = (2/3 +
    1/2 + 0) / 3 = F.
    """
    statistics = Chrf().statistics(["a b\tc"], ["abd"])
    np.testing.assert_array_equal(statistics[0, :9], [3, 3, 2, 2, 2, 1, 1, 1, 0])
    assert float(Chrf().aggregate(statistics[0])) == pytest.approx(100 * (2 / 3 + 1 / 2) / 3)


def test_aggregate_is_vectorised_over_leading_axes() -> None:
    statistics = Chrf().statistics(ODD, ODD[::-1])
    folded = Chrf().aggregate(statistics[:12].reshape(3, 4, -1))
    np.testing.assert_array_equal(folded.ravel(), Chrf().aggregate(statistics[:12]))


def test_names() -> None:
    assert [Chrf().name, Chrf(word_order=2).name, Chrf(beta=3).name] == ["chrf", "chrf++", "chrf3"]


def test_errors_name_the_row() -> None:
    with pytest.raises(
        PomonaError, match=r"^2 outputs but 1 references — give the references of every output$"
    ):
        Chrf().statistics(["a", "b"], ["a"])
    with pytest.raises(
        PomonaError, match=r"^item 2: 2 references where 1 expected — give the metric"
    ):
        Chrf().statistics(["a", "b"], [["a"], ["b", "c"]])
    with pytest.raises(PomonaError, match=r"^item 1: 0 references where at least 1 expected"):
        Chrf(references=None).statistics(["a"], [[]])


def test_no_items() -> None:
    assert Chrf(word_order=2).statistics([], []).shape == (0, 24)
    assert pairwise([], []).shape == (0, 0) and pairwise(["a"], []).shape == (1, 0)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(texts, min_size=1, max_size=8),
    st.lists(texts, min_size=1, max_size=8),
    st.integers(0, 8),
)
def test_pairwise_equals_sacrebleu_over_any_overlap(
    candidates: list[str], extra: list[str], shared: int
) -> None:
    references = candidates[:shared] + extra
    expected = [[CHRF().sentence_score(c, [r]).score for r in references] for c in candidates]
    np.testing.assert_allclose(pairwise(candidates, references), expected, atol=1e-9)


def test_pairwise_over_one_pool_with_duplicates() -> None:
    pool = ODD + ODD[3:6] + noise(20, 2)
    expected = [[CHRF().sentence_score(c, [r]).score for r in pool] for c in pool]
    np.testing.assert_allclose(pairwise(pool, pool), expected, atol=1e-9)
