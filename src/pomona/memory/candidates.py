"""Candidates from everywhere: put together from the memory's phrases, the neighbours' answers, what
a model drew, the source; and what is known of each, which a `Selector` weighs.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pomona.errors import PomonaError
from pomona.memory.phrases import Composed
from pomona.tasks import pairwise

FEATURES = (
    "composed", "composed_rank", "unknown", "edited", "edit_score", "edit_similarity", "edit_rank",
    "kept", "neighbour", "similarity", "drawn", "source", "agreement", "length", "length_off",
    "placeholders_missing", "placeholders_extra", "ending_differs", "capital_differs",
    "words_of_source", "utility", "weighted_utility", "logprob",
    "composed_near", "edited_near", "neighbour_near", "drawn_near", "source_near",
)  # fmt: skip
_PLACEHOLDER = re.compile(
    r"%\([^)\s]*\)[a-zA-Z]|\{[^{}]*\}|%[sdif%]|<[^<>]+>|&\w+;|https?://\S+|\d+"
)
MOST_EDITED = 10  # different texts, beside those made in other ways as well
_ENDS, _WORD = ".:!?…。", re.compile(r"[^\W\d_]{3,}")
_LEAST = 1e-3  # what every candidate weighs as evidence


@dataclass
class Candidate:
    """A text, and what it is: composed or edited (the best of each, see `Composed`), the answer of
    a neighbour with this `similarity`, `drawn` from a model, the `source`; `count` ways led to it.
    """

    text: str
    composed: Composed | None = None
    edited: Composed | None = None
    similarity: float | None = None
    drawn: bool = False
    source: bool = False
    count: int = field(default=0)

    @property
    def weight(self) -> float:
        """What it weighs as evidence, where an answer that was drawn weighs 1."""
        weight = float(self.drawn) + float(self.composed is not None and self.composed.rank == 0)
        if self.similarity is not None:
            weight += 5 * max(0.0, self.similarity - 0.4)
        if self.edited is not None:
            sure = 0.2 if self.edited.unknown else 1.0
            weight += 0.7 * sure * max(0.0, self.edited.kept - 0.2)
        return weight + _LEAST


def gather(
    source: str,
    made: Sequence[Composed],
    answers: Sequence[str],
    similarity: Sequence[float],
    drawn: Sequence[str],
) -> list[Candidate]:
    """The different candidates for a source: what was `made` by `Phrases`, the neighbours'
    `answers` with their similarities, nearest first, what was drawn, the source; none is empty.
    """
    pool: dict[str, Candidate] = {}

    def at(text: str) -> Candidate:
        candidate = pool.setdefault(text, Candidate(text))
        candidate.count += 1
        return candidate

    more = 0
    for one in made:
        if one.kind == "edited" and one.text not in pool:
            if more == MOST_EDITED:
                continue
            more += 1
        candidate = at(one.text)
        if one.kind == "composed":
            candidate.composed = candidate.composed or one
        else:
            candidate.edited = candidate.edited or one
    for answer, like in zip(answers, similarity, strict=True):
        candidate = at(answer)
        candidate.similarity = max(like, candidate.similarity or 0.0)
    for text in drawn:
        at(text).drawn = True
    at(source).source = True
    return [one for one in pool.values() if one.text.strip()]


def usual_length(sources: Sequence[str], answers: Sequence[str]) -> tuple[float, float]:
    """Mean and standard deviation of the logarithm of how much longer answers are than sources.
    Raises PomonaError for none.
    """
    if not sources:
        remedy = "give the rows of the memory"
        raise PomonaError("there are no lengths to learn from", where="sources", remedy=remedy)
    ratios = [_longer(answer, source) for source, answer in zip(sources, answers, strict=True)]
    return float(np.mean(ratios)), max(float(np.std(ratios)), 0.05)


def features(
    source: str,
    pool: Sequence[Candidate],
    utilities: ArrayLike,
    *,
    nearest: float,
    usual: tuple[float, float],
    logprobs: Sequence[float] | None = None,
) -> NDArray[np.float64]:
    """What is known of each candidate of a pool, `[k, len(FEATURES)]`.

    utilities: of each candidate against each as the reference `[k, k]`, in [0, 1]. nearest: the
    similarity of the nearest row of the memory, 0 where it has none. usual: see `usual_length`.
    logprobs: of each candidate under a model, a token, its end included; without them the feature
    says nothing.
    """
    table, weights = np.asarray(utilities, np.float64), np.array([one.weight for one in pool])
    mean = (table.sum(1) - np.diag(table)) / max(len(pool) - 1, 1)
    # A candidate is no evidence for itself: otherwise the heaviest would choose itself.
    others = (table - np.diag(np.diag(table))) @ weights / weights.sum()
    asked, words = Counter(_PLACEHOLDER.findall(source)), _words(source)
    rows = []
    for at, one in enumerate(pool):
        there = Counter(_PLACEHOLDER.findall(one.text))
        off = (_longer(one.text, source) - usual[0]) / usual[1]
        own = _words(one.text)
        same = sum(word in words for word in own) / max(len(own), 1)
        kinds = [one.composed, one.edited, one.similarity, one.drawn or None, one.source or None]
        there_near = [0.0 if kind is None else nearest for kind in kinds]
        rows.append(
            [
                *_origin(one),
                math.log(one.count),
                off,
                abs(off),
                (asked - there).total(),
                (there - asked).total(),
                (one.text[-1:] in _ENDS) != (source[-1:] in _ENDS),
                one.text[:1].isupper() != source[:1].isupper(),
                same,
                mean[at],
                others[at],
                0.0 if logprobs is None else logprobs[at],
                *there_near,
            ]
        )
    return np.array(rows, np.float64).reshape(len(pool), len(FEATURES))


def with_features(
    source: str,
    made: Sequence[Composed],
    answers: Sequence[str],
    similarity: Sequence[float],
    drawn: Sequence[str],
    *,
    nearest: float,
    usual: tuple[float, float],
) -> tuple[list[str], NDArray[np.float64]]:
    """The texts of the candidates that `gather` finds, the source alone where it finds none, and
    `features` by chrF of each that it found, without log-probabilities. `nearest` is the similarity
    of the nearest row also where its answer is no candidate.
    """
    pool = gather(source, made, answers, similarity, drawn)
    texts = [one.text for one in pool] or [source]
    table = pairwise(texts, texts) / 100
    known = features(source, pool, table, nearest=nearest, usual=usual)
    return texts, known.reshape(len(pool), len(FEATURES))


def _origin(one: Candidate) -> list[float]:
    composed, edited = one.composed, one.edited
    return [
        composed is not None,
        composed.rank if composed else 3,
        edited.unknown if edited else composed.unknown if composed else 0,
        edited is not None,
        edited.score if edited else 0,
        edited.similarity if edited else 0,
        edited.rank if edited else 10,
        edited.kept if edited else 0,
        one.similarity is not None,
        one.similarity or 0,
        one.drawn,
        one.source,
    ]


def _longer(answer: str, source: str) -> float:
    return math.log((len(answer) + 1) / (len(source) + 1))


def _words(text: str) -> list[str]:
    return _WORD.findall(_PLACEHOLDER.sub(" ", text).lower())
