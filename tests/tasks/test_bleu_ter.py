"""BLEU and TER are sacreBLEU's, item by item and in every sum of items."""

from __future__ import annotations

import logging
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.ter import TER

from pomona.errors import PomonaError
from pomona.tasks import metric

WORDS = [*"abcde", "A.", "b,", "1-2", "3,5", "&amp;", "日本", "e\u0301"]
texts = st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join)
KINDS: list[Any] = [
    pytest.param("bleu", BLEU(), id="bleu"),
    pytest.param({"name": "bleu", "effective_order": True}, BLEU(effective_order=True), id="eff"),
    pytest.param({"name": "bleu", "tokenize": "char"}, BLEU(tokenize="char"), id="char"),
    pytest.param({"name": "bleu", "tokenize": "none"}, BLEU(tokenize="none"), id="none"),
    pytest.param("ter", TER(), id="ter"),
]
kinds = pytest.mark.parametrize(("name", "theirs"), KINDS)


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    """sacreBLEU advises, at every sentence, against what is tested here."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@kinds
@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(texts, texts, texts), min_size=1, max_size=6), st.integers(1, 2))
def test_statistics_equal_sacrebleu(
    name: Any, theirs: Any, rows: list[tuple[str, ...]], references: int
) -> None:
    outputs, *sets = (list(column) for column in zip(*rows, strict=True))
    sets = sets[:references]
    ours = metric(name, references=references)
    given_ = sets[0] if references == 1 else list(zip(*sets, strict=True))
    statistics = ours.statistics(outputs, given_)
    np.testing.assert_array_equal(statistics, theirs._extract_corpus_statistics(outputs, sets))
    whole = theirs.corpus_score(outputs, sets).score
    assert float(ours.aggregate(statistics.sum(0))) == pytest.approx(whole, abs=1e-9)
    assert ours.signature == str(theirs.get_signature())
    alone = [theirs.sentence_score(o, list(r)).score for o, *r in zip(outputs, *sets, strict=True)]
    np.testing.assert_allclose(ours.aggregate(statistics), alone, atol=1e-9)


def long_pairs(words: int, seed: int) -> tuple[list[str], list[str]]:
    """References, and outputs with phrases moved, words lost, and words that are wrong."""
    draw = random.Random(seed)
    references, outputs = [], []
    for _ in range(4):
        text = [draw.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(words)]
        references.append(" ".join(text))
        for _ in range(2):
            start, length = draw.randrange(words), draw.randint(1, 14)
            phrase = text[start : start + length]
            del text[start : start + length]
            at = draw.randint(0, len(text))
            text[at:at] = phrase
        outputs.append(" ".join(word for word in text if draw.random() > 0.1))
    return outputs, references


@pytest.mark.parametrize("words", [12, 70])
def test_moved_phrases_equal_sacrebleu(words: int) -> None:
    """Beyond 50 words the limits of Tercom's search are met."""
    outputs, references = long_pairs(words, 0)
    long = " ".join(f"w{at}" for at in range(130))
    outputs = [*outputs, "a " * 3, "", "w7 w8 " * 4 + long]
    references = [*references, "b " * 90, "c d", long]
    expected = TER()._extract_corpus_statistics(outputs, [references])
    np.testing.assert_array_equal(metric("ter").statistics(outputs, references), expected)


def test_any_number_of_references_equals_sacrebleu() -> None:
    outputs = ["save file now", "open"]
    sets = [["save the file now", "opens"], ["save a file", None]]
    for name, theirs in (("bleu", BLEU()), ("ter", TER())):
        ours = metric(name, references=None)
        statistics = ours.statistics(outputs, [["save the file now", "save a file"], ["opens"]])
        expected = theirs.corpus_score(outputs, sets).score  # type: ignore[arg-type]
        assert float(ours.aggregate(statistics.sum(0))) == pytest.approx(expected, abs=1e-9)
        assert ours.signature == str(theirs.get_signature())


@kinds
def test_sums_and_no_items(name: Any, theirs: Any) -> None:
    """What a bootstrap draws are sums with weights, over any leading axes."""
    ours = metric(name)
    outputs, references = long_pairs(12, 1)
    statistics = ours.statistics(outputs, references)
    weights = np.array([[2, 0, 1, 1], [0, 0, 3, 1]])
    drawn = [[row for row, times in enumerate(line) for _ in range(times)] for line in weights]
    expected = [
        theirs.corpus_score([outputs[i] for i in rows], [[references[i] for i in rows]]).score
        for rows in drawn
    ]
    np.testing.assert_allclose(ours.aggregate(weights @ statistics), expected, atol=1e-9)
    assert ours.statistics([], []).shape == (0, statistics.shape[1])


def test_golden_values_by_hand() -> None:
    """One moved word is one edit of 4: 25. Without a word in the reference every edit is all."""
    ter = metric("ter")
    statistics = ter.statistics(["d a b c", "x y"], ["a b c d", ""])
    np.testing.assert_array_equal(statistics, [[1, 4], [2, 0]])
    np.testing.assert_array_equal(ter.aggregate(statistics), [25, 100])
    assert (ter.name, ter.higher_is_better) == ("ter", False)
    assert metric({"name": "bleu", "tokenize": "char"}).name == "bleu-char"


@kinds
def test_another_number_of_references_is_told_with_the_row(name: Any, theirs: Any) -> None:
    with pytest.raises(
        PomonaError, match=r"^item 2: 2 references where 1 expected — give the metric"
    ):
        metric(name).statistics(["a", "b"], [["a"], ["b", "c"]])
    with pytest.raises(PomonaError, match=r"^1 outputs but 2 references"):
        metric(name).statistics(["a"], ["a", "b"])
