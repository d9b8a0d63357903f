"""Rewards of an answer and its source alone: language, placeholders, length, unknown words, and a
user's function.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from pomona._lazy import function_named
from pomona.errors import PomonaError
from pomona.synth.rewards.reward import Computed, Floats, numbers
from pomona.synth.teachers import Candidate, mask
from pomona.tasks import code_of
from pomona.text import count_words, language_confidence

_FEW = 20  # pairs below which a language has no length ratio of its own
_NARROW = 0.05  # the least standard deviation of a log ratio: pairs of equal length are no law


@dataclass(frozen=True)
class LanguageMatch(Computed):
    """The probability that an answer is in its row's language, by py3langid; NaN for a language
    that it does not know, and for answers without a word. Short answers get low numbers: only
    differences within a row say something.
    """

    name: str = "language"
    signature: str = "language|py3langid|version:1"

    def score(self, candidates: Sequence[Candidate]) -> Floats:
        """See `Reward`."""
        texts = [one.lesson.text for one in candidates]
        return language_confidence(texts, [one.row.lang for one in candidates])


@dataclass(frozen=True)
class PlaceholdersKept(Computed):
    """How many of the placeholders, tags and addresses of source and answer have their like in the
    other: from 0 to 1, and 1 where there are none.
    """

    name: str = "placeholders"
    signature: str = "placeholders|f1|version:1"

    def score(self, candidates: Sequence[Candidate]) -> Floats:
        """See `Reward`."""
        return np.array([_kept(one) for one in candidates], np.float64)


def _kept(candidate: Candidate) -> float:
    source = Counter(mask(candidate.row.text).parts)
    answer = Counter(mask(candidate.lesson.text).parts)
    every = source.total() + answer.total()
    return 2 * (source & answer).total() / every if every else 1.0


@dataclass(frozen=True)
class LengthRatio(Computed):
    """How usual the length of an answer is: minus the distance of log(characters of the answer /
    characters of the source) from its mean over human answers of the same languages, in standard
    deviations. 0 is the best.

    `laws` has mean and deviation for each (of the text, of the answer), and for ("", "") those of
    all. A language with fewer than 20 pairs takes the latter.
    """

    laws: Mapping[tuple[str, str], tuple[float, float]] = field(default_factory=dict)
    name: str = "length_ratio"

    @property
    def signature(self) -> str:
        """See `Reward`."""
        laws = ",".join(
            f"{source}-{lang}:{mean:.4f}:{deviation:.4f}"
            for (source, lang), (mean, deviation) in sorted(self.laws.items())
        )
        return f"length_ratio|log characters|{laws}|version:1"

    def fit(self, candidates: Sequence[Candidate]) -> LengthRatio:
        """With the ratios of the human answers of these rows. PomonaError where none has one."""
        rows = {one.row.id: one.row for one in candidates}
        ratios: dict[tuple[str, str], list[float]] = {("", ""): []}
        for row in rows.values():
            if row.text.strip() and row.reference and row.reference.strip():
                ratio = _log_ratio(row.text, row.reference)
                ratios.setdefault((row.source_lang, row.lang), []).append(ratio)
                ratios["", ""].append(ratio)
        if not ratios["", ""]:
            remedy = "give rows with a human answer to learn from"
            raise PomonaError("no row has a reference", where=self.name, remedy=remedy)
        laws = {
            pair: (float(np.mean(each)), max(_NARROW, float(np.std(each))))
            for pair, each in ratios.items()
            if len(each) >= _FEW or pair == ("", "")
        }
        return replace(self, laws=laws)

    def score(self, candidates: Sequence[Candidate]) -> Floats:
        """See `Reward`. PomonaError where nothing was fitted."""
        if not self.laws:
            remedy = "call `fit` with candidates on validation rows"
            raise PomonaError("knows no length ratio yet", where=self.name, remedy=remedy)
        return np.array([self._usual(one) for one in candidates], np.float64)

    def _usual(self, candidate: Candidate) -> float:
        row, text = candidate.row, candidate.lesson.text
        if not row.text.strip() or not text.strip():
            return np.nan
        mean, deviation = self.laws.get((row.source_lang, row.lang)) or self.laws["", ""]
        return -abs(_log_ratio(row.text, text) - mean) / deviation


def _log_ratio(source: str, answer: str) -> float:
    return float(np.log(len(answer.strip()) / len(source.strip())))


@dataclass(frozen=True)
class KnownWords(Computed):
    """The share of words that a program knew; NaN for teachers that do not say."""

    name: str = "known_words"
    signature: str = "known_words|share of the answer's words|version:1"

    def score(self, candidates: Sequence[Candidate]) -> Floats:
        """See `Reward`."""
        return np.array([_known(one) for one in candidates], np.float64)


def _known(candidate: Candidate) -> float:
    unknown, words = candidate.lesson.unknown, count_words(candidate.lesson.text)
    return np.nan if unknown is None or not words else max(0.0, 1 - unknown / words)


@dataclass(frozen=True)
class Function(Computed):
    """What a function of the user's says, `MODULE:FUNCTION`: it takes a list of candidates, whole
    rows, and returns a number for each, higher for better and NaN for unknown.

    Raises PomonaError where there is no such function, it fails, or it returns anything else.
    """

    function: str

    def __post_init__(self) -> None:
        function_named(self.function)

    @property
    def name(self) -> str:
        """The function's."""
        return self.function

    @property
    def signature(self) -> str:
        """With a hash of the file that holds the function."""
        return f"function:{self.function}|code:{code_of(self.function)}|version:1"

    def score(self, candidates: Sequence[Candidate]) -> Floats:
        """See `Reward`."""
        function = function_named(self.function)
        return numbers(self.function, lambda: function(list(candidates)), len(candidates))
