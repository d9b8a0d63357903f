"""Rewards that compare an answer with other texts: the other answers of its row, or what a human
answered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pomona.errors import PomonaError
from pomona.synth.rewards.reward import Computed, Floats, by_row
from pomona.synth.teachers import Candidate
from pomona.tasks import Metric, metric, pairwise, pairwise_bleu

# Of the names that have one, the function from candidates and references to all their scores.
_POOLS: dict[str, Callable[[Sequence[str], Sequence[str]], Floats]] = {
    "chrf": pairwise,
    "bleu": pairwise_bleu,
}


def sentence_scores(compared: Metric, texts: Sequence[str], others: Sequence[str]) -> Floats:
    """The metric of each text with its other, float64 `[n]`; turned round where less is better."""
    if not texts:
        return np.zeros(0)
    values = np.asarray(compared.aggregate(compared.statistics(texts, others)), np.float64)
    return values if compared.higher_is_better else -values


def readable(given: str | Mapping[str, Any]) -> Metric:
    """A metric of texts by its name or options, as `tasks.metric` reads them."""
    return metric(given, reads="text")


@dataclass(frozen=True)
class Agreement(Computed):
    """How much an answer is like the other answers of its row: the metric of the two, both ways
    round, averaged over each teacher's other answers and then over teachers. NaN for the only
    answer of a row.

    Both ways round, since chrF weighs recall: one way alone prefers the longer of two answers. Two
    answers then agree equally with each other, so it takes three to choose.
    """

    metric: str | Mapping[str, Any] = "chrf"
    name: str = "agreement"

    def __post_init__(self) -> None:
        readable(self.metric)

    @property
    def signature(self) -> str:
        """See `Reward`."""
        return f"agreement|{readable(self.metric).signature}|both ways|by teacher|version:1"

    def score(self, candidates: Sequence[Candidate]) -> Floats:
        """See `Reward`."""
        scores = np.full(len(candidates), np.nan)
        for places in by_row(candidates):
            texts = [candidates[at].lesson.text for at in places]
            teachers = np.array([candidates[at].lesson.teacher for at in places])
            like = self._all(texts)
            like = (like + like.T) / 2
            for own, at in enumerate(places):
                others = np.arange(len(places)) != own
                means = [
                    like[own, others & (teachers == teacher)].mean()
                    for teacher in dict.fromkeys(teachers[others])
                ]
                if means:
                    scores[at] = np.mean(means)
        return scores

    def _all(self, texts: Sequence[str]) -> Floats:
        """The metric of every text with every other, `[n, n]`."""
        if isinstance(self.metric, str) and (pool := _POOLS.get(self.metric)):
            return pool(texts, texts)
        count = len(texts)
        left = [text for text in texts for _ in texts]
        compared = readable(self.metric)
        return sentence_scores(compared, left, list(texts) * count).reshape(count, count)


@dataclass(frozen=True)
class Reference(Computed):
    """The metric of an answer with what a human answered; NaN for rows without. For validation: it
    looks at what no reward may see where it chooses.
    """

    metric: str | Mapping[str, Any] = "chrf"
    name: str = "reference"

    def __post_init__(self) -> None:
        readable(self.metric)

    @property
    def signature(self) -> str:
        """See `Reward`."""
        return f"reference|{readable(self.metric).signature}|version:1"

    def score(self, candidates: Sequence[Candidate]) -> Floats:
        """See `Reward`."""
        scores = np.full(len(candidates), np.nan)
        places = [at for at, one in enumerate(candidates) if one.row.reference is not None]
        texts = [candidates[at].lesson.text for at in places]
        references = [candidates[at].row.reference or "" for at in places]
        scores[places] = sentence_scores(readable(self.metric), texts, references)
        return scores


@dataclass(frozen=True)
class Record(Computed):
    """What a teacher's answers in a language were worth on validation rows: the mean of the metric
    with what humans answered. NaN for a teacher without any in that language.

    It is the same for all answers of a teacher: alone it is the best fixed teacher of each
    language, and beside rewards of answers it keeps these from preferring a much worse teacher's.
    `means` are by language and teacher, as `fit` learns them.
    """

    metric: str | Mapping[str, Any] = "chrf"
    means: Mapping[tuple[str, str], float] = field(default_factory=dict)
    name: str = "record"

    def __post_init__(self) -> None:
        readable(self.metric)

    @property
    def signature(self) -> str:
        """See `Reward`."""
        means = ",".join(f"{lang}:{who}:{mean:.4f}" for (lang, who), mean in self.means.items())
        return f"record|{readable(self.metric).signature}|{means}|version:1"

    def fit(self, candidates: Sequence[Candidate]) -> Record:
        """With the means on these rows. PomonaError where none has a reference."""
        told: dict[tuple[str, str], list[float]] = {}
        for one, score in zip(candidates, Reference(self.metric).score(candidates), strict=True):
            if not np.isnan(score):
                told.setdefault((one.row.lang, one.lesson.teacher), []).append(float(score))
        if not told:
            remedy = "give rows with a human answer to learn from"
            raise PomonaError("no row has a reference", where=self.name, remedy=remedy)
        return replace(self, means={key: float(np.mean(told[key])) for key in sorted(told)})

    def score(self, candidates: Sequence[Candidate]) -> Floats:
        """See `Reward`. PomonaError where nothing was fitted."""
        if not self.means:
            remedy = "call `fit` with candidates on validation rows"
            raise PomonaError("knows no teacher yet", where=self.name, remedy=remedy)
        keys = [(one.row.lang, one.lesson.teacher) for one in candidates]
        return np.array([self.means.get(key, np.nan) for key in keys], np.float64)
