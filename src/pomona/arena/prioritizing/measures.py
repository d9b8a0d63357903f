"""Measures of two answers to one prompt, before anybody votes on them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from pomona.arena.prioritizing.pairs import Floats, Pairs
from pomona.tasks import pairwise
from pomona.text import words_of

_MARKS = re.compile(r"^\s*(?:[-*+] |\d+[.)] |#+ |```|\|)|\*\*|`", re.MULTILINE)
_MOST = 400  # answers of a prompt that each is compared with: chrF of all with all is their square

TEXTS: Mapping[str, str] = {
    "unigrams": "dissimilarity of their words (1 − Dice)",
    "fourgrams": "dissimilarity of their runs of four words (1 − Dice)",
    "chrf": "chrF of each against the other, averaged",
    "same": "the answers are equal",
    "length": "log of their characters together",
    "shorter": "log of the shorter one's characters",
    "length_ratio": "log of the longer one's characters by the shorter one's",
    "markdown": "log of their marks of Markdown together",
    "markdown_gap": "difference of the logs of their marks of Markdown",
    "consensus": "chrF to all models' answers to the prompt, of the one nearer to them",
    "consensus_least": "the same, of the one further from them",
    "consensus_gap": "the difference of the two",
    "cross_entropy": "bits a byte of a scoring model, averaged",
    "cross_entropy_gap": "the difference of the two",
    "kl_ab": "KL of B's model from A's over the tokens of A's answer",
    "kl_ba": "KL of A's model from B's over the tokens of B's answer",
    "kl": "the two averaged",
    "cross_ab": "bits a byte of A's answer by B's model",
    "cross_ba": "bits a byte of B's answer by A's model",
    "cross": "the two averaged",
}
# Each way of a pair says which side is which, and a tie does not: a model learns from the others.
ONE_WAY = ("kl_ab", "kl_ba", "cross_ab", "cross_ba")


@dataclass(frozen=True)
class Measures:
    """values: float64 [n pairs] by name, not a number where it is not known.
    answers: float64 [m answers] what single answers have that may say how good they are.
    """

    values: Mapping[str, Floats]
    answers: Mapping[str, Floats] = field(default_factory=dict)


def measure(pairs: Pairs) -> Measures:
    """All measures that need nothing but the texts."""
    length = np.log1p([len(text) for text in pairs.answers])
    marks = np.log1p([len(_MARKS.findall(text)) for text in pairs.answers])
    consensus, chrf = _consensus(pairs)

    def gap(of: Floats) -> Floats:
        return np.abs(of[pairs.first] - of[pairs.second])

    def both(of: Floats) -> Floats:
        return np.logaddexp(of[pairs.first], of[pairs.second])

    words = _dissimilarity(pairs)
    near, far = consensus[pairs.first], consensus[pairs.second]
    values = {
        **words,
        "chrf": chrf,
        "same": np.array([a.strip() == b.strip() for a, b in pairs.texts()], np.float64),
        "length": both(length),
        "shorter": np.minimum(length[pairs.first], length[pairs.second]),
        "length_ratio": gap(length),
        "markdown": both(marks),
        "markdown_gap": gap(marks),
        "consensus": np.fmax(near, far),
        "consensus_least": np.fmin(near, far),
        "consensus_gap": np.abs(near - far),
    }
    return Measures(values, {"consensus": consensus, "length": length})


def _dissimilarity(pairs: Pairs) -> dict[str, Floats]:
    """1 − Dice of runs of words; 1 where one has none such, and 0 where neither has."""

    @cache
    def grams(answer: int, n: int) -> Counter[tuple[str, ...]]:
        words = words_of(pairs.answers[answer])
        return Counter(zip(*(words[i:] for i in range(n)), strict=False))

    def far(a: int, b: int, n: int) -> float:
        one, other = grams(a, n), grams(b, n)
        total = one.total() + other.total()
        return 1 - 2 * (one & other).total() / total if total else 0.0

    sides = list(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
    return {
        name: np.array([far(a, b, n) for a, b in sides])
        for name, n in (("unigrams", 1), ("fourgrams", 4))
    }


def _consensus(pairs: Pairs) -> tuple[Floats, Floats]:
    """chrF of each answer [m] and the answers of other models to its prompt, both ways, averaged;
    and that of the two answers of each pair [n]. In [0, 100].
    """
    consensus, chrf = np.full(len(pairs.answers), np.nan), np.zeros(len(pairs))
    by_answer = np.argsort(pairs.answer_prompt, kind="stable")
    by_pair = np.argsort(pairs.prompt, kind="stable")
    ends = np.cumsum(np.bincount(pairs.answer_prompt, minlength=len(pairs.prompts)))[:-1]
    stops = np.cumsum(np.bincount(pairs.prompt, minlength=len(pairs.prompts)))[:-1]
    for here, rows in zip(np.split(by_answer, ends), np.split(by_pair, stops), strict=True):
        # Where there are many, each is compared with the same few hundred, evenly from all.
        among = here[:: -(-len(here) // _MOST)]
        texts = [pairs.answers[one] for one in here]
        told = pairwise(texts, [pairs.answers[one] for one in among])
        back = told.T if len(among) == len(here) else _turned(pairs, among, texts)
        both = (told + back) / 2
        other = pairs.answer_model[here][:, None] != pairs.answer_model[among][None]
        many = other.sum(1)
        total = np.where(other, both, 0).sum(1)
        consensus[here] = np.divide(total, many, out=np.full(len(here), np.nan), where=many > 0)
        if len(among) == len(here):
            place = {int(one): at for at, one in enumerate(here)}
            for row in rows:
                chrf[row] = both[place[int(pairs.first[row])], place[int(pairs.second[row])]]
        else:
            chrf[rows] = [_chrf(pairs, int(row)) for row in rows]
    return consensus, chrf


def _turned(pairs: Pairs, among: np.ndarray, texts: list[str]) -> Floats:
    return pairwise([pairs.answers[one] for one in among], texts).T


def _chrf(pairs: Pairs, row: int) -> float:
    texts = [pairs.answers[pairs.first[row]], pairs.answers[pairs.second[row]]]
    found = pairwise(texts, texts)
    return float(found[0, 1] + found[1, 0]) / 2


def change(
    scores: Floats, votes: Floats, ties: Floats, share: float = 0.2
) -> tuple[float, float, float] | None:
    """How much fewer or more of the votes are ties among the `share` of the pairs with the largest
    scores than among all, as a part of the latter, with a 95 % interval over pairs.

    Where pairs share a score at the edge, each counts in part. None where it cannot be said: no
    ties, or no votes among them. The interval is by the log ratio's linear expansion, pairs being
    drawn independently.
    """
    there = votes > 0
    scores, votes, ties = scores[there], votes[there], ties[there]
    taken = _taken(scores, share)
    top, tied, all_votes, all_ties = (taken @ votes, taken @ ties, votes.sum(), ties.sum())
    if not top or not all_ties:
        return None
    ratio = (tied / top) / (all_ties / all_votes)
    if not tied:  # the upper end of a share of 0 (Hanley & Lippman-Hand 1983)
        return -1.0, -1.0, float(min(3 / top / (all_ties / all_votes), 1.0)) - 1
    influence = taken * (ties / tied - votes / top) - ties / all_ties + votes / all_votes
    half = 1.96 * float(np.sqrt((influence**2).sum()))
    return float(ratio - 1), float(ratio * np.exp(-half) - 1), float(ratio * np.exp(half) - 1)


def _taken(scores: Floats, share: float) -> Floats:
    """Which of the scores are among the largest `share` of them, in [0, 1]."""
    want = share * len(scores)
    edge = np.sort(scores)[::-1][min(int(want), len(scores) - 1)]
    above, at = scores > edge, scores == edge
    return above + at * ((want - above.sum()) / max(at.sum(), 1))
