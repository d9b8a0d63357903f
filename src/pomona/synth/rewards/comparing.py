"""Rewards that compare an answer with other texts: the other answers of its row, or what a human
answered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

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
