"""Which words of an answer stand for which words of its source, learned from the pairs of a memory
alone: words are aligned by IBM model 1 with a preference for the diagonal, in both directions.

Brown et al. 1993 ("The mathematics of statistical machine translation"); the preference is that of
Dyer, Chahuneau & Smith 2013 (fast_align), its strength fixed; the two directions are joined as in
Och & Ney 2003, from what both agree on to what touches it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_ROUNDS, _DIAGONAL, _NOTHING = 10, 0.5, 0.08
_SMOOTHING, _WORDS = 0.005, 50.0  # what a pair of words has beside what it is counted
_LONGEST = 1600  # pairs of words in one pair of texts: longer ones teach nothing
_LEAST = 5e-4  # a probability that makes no link
_UNSPACED = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff"  # written without spaces: a word a character
_MARKS = r"\s!-/:-@\[-`{-~\u2000-\u206f\u3000-\u303f\uff00-\uffef"
_TOKEN = re.compile(
    r"%\([^)\s]*\)[a-zA-Z]|\{\{?[^{}]*\}?\}|%[sdif%]|<[^<>]+>|&\w+;"  # placeholders and tags
    rf"|[{_UNSPACED}]|[^\W\d_](?:[^{_MARKS}{_UNSPACED}]|['’-](?=\w))*|\d+|\S"
)

Links = frozenset[tuple[int, int]]
Probabilities = tuple[NDArray[np.int64], NDArray[np.float64]]
Tables = tuple[Probabilities, Probabilities]


class Token(NamedTuple):
    """A word, a number, a mark, a placeholder or a tag; `spaced` where white space is before it."""

    text: str
    spaced: bool


def tokens(text: str) -> list[Token]:
    """The tokens of a text. What is written without spaces has a token a character."""
    found = _TOKEN.finditer(text)
    return [Token(m.group(), m.start() > 0 and text[m.start() - 1].isspace()) for m in found]


def joined(parts: Sequence[Token]) -> str:
    """The text of tokens, with one space where white space was, and none in front."""
    text = "".join(" " + part.text if part.spaced else part.text for part in parts)
    return text[1:] if parts and parts[0].spaced else text


def lowered(parts: Sequence[Token]) -> list[str]:
    """The tokens as they are compared."""
    return [part.text.lower() for part in parts]


class Aligner:
    """Aligns the pairs it learned from: `links(row)` are the (source, answer) places of tokens
    that stand for each other. `flops` are those of learning. `learned` is what another that had
    the same pairs learned, its `tables`.
    """

    def __init__(
        self,
        sources: Sequence[Sequence[str]],
        answers: Sequence[Sequence[str]],
        learned: Tables | None = None,
    ) -> None:
        self._ours, self._theirs = _numbered(sources), _numbered(answers)
        forward, backward = learned or (None, None)
        self._forward = _Table(self._ours, self._theirs, forward)
        self._backward = _Table(self._theirs, self._ours, backward)
        self.flops = self._forward.flops + self._backward.flops

    @property
    def tables(self) -> Tables:
        """The numbers of pairs of words and their probabilities, in both directions."""
        return self._forward.learned, self._backward.learned

    def links(self, row: int) -> Links:
        """See the class."""
        ours, theirs = self._ours[row], self._theirs[row]
        if not ours or not theirs:
            return frozenset()
        near = np.exp(-_DIAGONAL / 2 * np.abs(_places(len(ours))[:, None] - _places(len(theirs))))
        forward = self._forward.probabilities(ours, theirs) * near
        backward = self._backward.probabilities(theirs, ours).T * near
        nothing = self._forward.nothing(theirs)
        one = {
            (int(forward[:, j].argmax()), j)
            for j in range(len(theirs))
            if forward[:, j].max() > max(_LEAST, 0.06 * nothing[j])
        }
        other = {
            (i, int(backward[i].argmax())) for i in range(len(ours)) if backward[i].max() > _LEAST
        }
        return _grown(one, other, forward * backward)

    def sureness(self, row: int) -> NDArray[np.float64]:
        """p(answer word | source word) of all pairs of words of a row, never 0."""
        ours, theirs = self._ours[row], self._theirs[row]
        return np.maximum(self._forward.probabilities(ours, theirs), _LEAST)


def _numbered(texts: Sequence[Sequence[str]]) -> list[list[int]]:
    numbers: dict[str, int] = {}
    return [[numbers.setdefault(word, len(numbers) + 1) for word in text] for text in texts]


def _places(n: int) -> NDArray[np.float64]:
    return np.arange(n) / max(n - 1, 1)


class _Table:
    """p(answer word | source word), where source word 0 is none."""

    def __init__(
        self,
        sources: Sequence[list[int]],
        answers: Sequence[list[int]],
        learned: Probabilities | None,
    ) -> None:
        self._size = max((max(a) for a in answers if a), default=0) + 1
        self.flops = 0.0
        self.learned = learned or self._learn(sources, answers)
        self._keys, self._p = self.learned

    def _learn(self, sources: Sequence[list[int]], answers: Sequence[list[int]]) -> Probabilities:
        ours, theirs, prior, owner, words = _pairs(sources, answers)
        keys, number = np.unique(ours * self._size + theirs, return_inverse=True)
        source = keys // self._size
        p = np.full(len(keys), 1.0 / self._size)
        for _ in range(_ROUNDS):
            share = p[number] * prior
            share /= np.bincount(owner, share, minlength=words)[owner]
            counts = np.bincount(number, share, minlength=len(keys))
            p = (counts + _SMOOTHING) / (np.bincount(source, counts)[source] + _SMOOTHING * _WORDS)
        self.flops = 4.0 * _ROUNDS * len(number)
        return keys, p

    def _of(self, wanted: NDArray[np.int64]) -> NDArray[np.float64]:
        if not len(self._keys):
            return np.zeros(wanted.shape)
        at = np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)
        return np.where(self._keys[at] == wanted, self._p[at], 0.0)

    def probabilities(self, source: list[int], answer: list[int]) -> NDArray[np.float64]:
        """`[len(source), len(answer)]`."""
        return self._of(np.array(source)[:, None] * self._size + np.array(answer))

    def nothing(self, answer: list[int]) -> NDArray[np.float64]:
        """The probability of each word after none."""
        return self._of(np.array(answer))


def _pairs(
    sources: Sequence[list[int]], answers: Sequence[list[int]]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.int64], int]:
    """All pairs of words of all pairs of texts: the two words, what their places make of it, the
    number of the answer's word; and how many such words there are.
    """
    ours, theirs, prior, owner, words = [], [], [], [], 0
    for source, answer in zip(sources, answers, strict=True):
        n, m = len(source), len(answer)
        if n and m and n * m < _LONGEST:
            near = np.exp(-_DIAGONAL * np.abs(_places(n) - _places(m)[:, None]))
            near *= (1 - _NOTHING) / near.sum(1, keepdims=True)
            prior.append(np.hstack([np.full((m, 1), _NOTHING), near]).ravel())
            ours.append(np.tile(np.array([0, *source]), m))
            theirs.append(np.repeat(answer, n + 1))
            owner.append(np.repeat(np.arange(words, words + m), n + 1))
            words += m
    if not ours:
        none = np.zeros(0, np.int64)
        return none, none, none.astype(np.float64), none, 0
    one, other, near, of = (np.concatenate(each) for each in (ours, theirs, prior, owner))
    return one, other, near, of, words


def _grown(
    one: set[tuple[int, int]], other: set[tuple[int, int]], strength: NDArray[np.float64]
) -> Links:
    """What both directions have, then of the others, strongest first, what gives a word its first
    link and touches a link, or links two words that have none.
    """
    links, growing = one & other, True
    while growing:
        growing = False
        ours, theirs = {i for i, _ in links}, {j for _, j in links}
        for i, j in sorted((one | other) - links, key=lambda at: (-strength[at], at)):
            free = (i not in ours) + (j not in theirs)
            touches = any((i + a, j + b) in links for a in (-1, 0, 1) for b in (-1, 0, 1))
            if free == 2 or (free and touches):
                links.add((i, j))
                ours.add(i)
                theirs.add(j)
                growing = True
    return frozenset(links)
