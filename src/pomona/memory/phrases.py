"""Answers put together from pieces of a memory's answers, without a model: a neighbour's answer in
which what its source has otherwise is replaced, and a source answered phrase by phrase.

The first is the repair of fuzzy matches (Ortega, Sánchez-Martínez & Forcada 2016), with the memory
itself as the translator of the pieces; the second is phrase-based translation (Koehn, Och & Marcu
2003), in the order of the source, under a bigram model of the answers.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike

from pomona.memory.alignment import Aligner, Links, Tables, Token, joined, lowered, tokens

LONGEST = 5  # words of a phrase
EDITED, COMPOSED = 10, 3  # neighbours that are edited, answers that are put together otherwise
_UNKNOWN = -6.0  # log-probability of a word that is left as it is
_EDITS, _VARIANTS = 4, 4  # most places that are edited, most answers made from one neighbour
_SPAN = 24  # most words that are put in at one place
_KEPT = 0.3  # least share of a source that its neighbour has
_BEAM, _OPTIONS = 6, 4
_MODEL, _PHRASE, _WORD = 0.2, -1.0, 0.3  # weights: bigrams, each phrase, each word
_NEAR = 3.0  # what a phrase of a neighbour of similarity 1 counts more than others
_UNSPACED = 0.3  # share of spaced tokens below which answers are written without spaces

Words = tuple[str, ...]
Table = defaultdict[Words, defaultdict[str, float]]  # phrases, what they become, how often


@dataclass(frozen=True)
class Composed:
    """An answer put together. `kind` is "edited" or "composed"; `score` the log-probability of its
    pieces (of a composed one, with the weights of all that it is ranked by); `unknown` how many
    words have no translation and stand as they are; `rank` the place of the neighbour that was
    edited, or among the composed; `kept` the share of the source that the neighbour has, and
    `similarity` the neighbour's.
    """

    text: str
    kind: str
    score: float
    unknown: int
    rank: int
    kept: float = 0.0
    similarity: float = 0.0


@dataclass(frozen=True)
class _Piece:
    text: str
    score: float
    unknown: int


@dataclass(frozen=True)
class LearnedPhrases:
    """What learning made of pairs: the `phrases` (words, text, weight), those of equal words and
    the texts of each in the order in which they were met, which decides between equals; and for
    both directions the `forward` and `backward` probabilities of words (key, p). `flops` are those
    of learning.
    """

    phrases: pa.Table
    forward: pa.Table
    backward: pa.Table
    flops: float

    @property
    def tables(self) -> Tables:
        """As the aligner has them."""
        each = [
            (table["key"].to_numpy(), table["p"].to_numpy())
            for table in (self.forward, self.backward)
        ]
        return each[0], each[1]


class Phrases:
    """The phrases of pairs of sources and answers in one language, and what is put together from
    them. Learning takes a second for ten thousand short pairs and counts `flops`; putting together
    is comparing words, which counts none. With what was `learned` from the same pairs before,
    nothing is learned.
    """

    def __init__(
        self,
        sources: Sequence[str],
        answers: Sequence[str],
        learned: LearnedPhrases | None = None,
    ) -> None:
        self._sources = [tokens(text) for text in sources]
        self._answers = [tokens(text) for text in answers]
        self._aligner = Aligner(
            [lowered(text) for text in self._sources],
            [lowered(text) for text in self._answers],
            learned and learned.tables,
        )
        self.flops = self._aligner.flops
        self._answers = _true_case(self._answers)
        later = [part.spaced for answer in self._answers for part in answer[1:]]
        self._spaced = not later or sum(later) / len(later) >= _UNSPACED
        self._links: dict[int, Links] = {}
        self._table: Table = defaultdict(lambda: defaultdict(float))
        if learned is not None:
            for words, text, weight in zip(*learned.phrases.to_pydict().values(), strict=True):
                self._table[tuple(words)][text] = weight
            return
        for row in range(len(self._sources)):
            for words, text, sure in self._pairs(row):
                self._table[words][text] += sure

    @property
    def learned(self) -> LearnedPhrases:
        """What was learned, as tables that a file may keep."""
        forward, backward = (pa.table({"key": k, "p": p}) for k, p in self._aligner.tables)
        return LearnedPhrases(_phrases(self._table), forward, backward, self.flops)

    @cached_property
    def _bigrams(self) -> _Bigrams:
        return _Bigrams([lowered(answer) for answer in self._answers])

    def candidates(
        self, source: str, rows: Sequence[int], similarity: ArrayLike, *, edited: int, composed: int
    ) -> list[Composed]:
        """The `composed` best answers put together phrase by phrase, then those made from the
        first `edited` of the neighbours `rows`, nearest first. Several ways may lead to one text.
        """
        like = np.asarray(similarity, np.float64)
        near = self._near(rows, like)
        made = self._compose(source, near, composed)
        for rank, row in enumerate(rows[:edited]):
            made += self._edit(source, int(row), rank, float(like[rank]), near)
        return [one for one in made if one.text]

    def _of(self, row: int) -> Links:
        if row not in self._links:
            self._links[row] = self._aligner.links(row)
        return self._links[row]

    def _pairs(self, row: int) -> list[tuple[Words, str, float]]:
        """The phrases of a row that no link leads out of, and how sure they are."""
        words, answer, links = lowered(self._sources[row]), self._answers[row], self._of(row)
        theirs, ours = defaultdict[int, list[int]](list), defaultdict[int, list[int]](list)
        for i, j in links:
            theirs[i].append(j)
            ours[j].append(i)
        found, sure = [], self._aligner.sureness(row)
        for start in range(len(words)):
            first, last = len(answer), -1
            for end in range(start, min(len(words), start + LONGEST)):
                first = min([first, *theirs[end]])
                last = max([last, *theirs[end]])
                inside = range(first, last + 1)
                if last < 0 or len(inside) > 2 * (end - start + 1) + 3:
                    continue
                if all(start <= i <= end for j in inside for i in ours[j]):
                    text = joined(answer[first : last + 1])
                    part = sure[start : end + 1, first : last + 1]
                    weight = float(np.exp(np.log(part.max(0)).mean()))
                    found.append((tuple(words[start : end + 1]), text, weight))
        return found

    def _near(self, rows: Sequence[int], similarity: ArrayLike) -> _Near:
        weights: Table = defaultdict(lambda: defaultdict(float))
        for row, like in zip(rows, np.asarray(similarity, np.float64), strict=True):
            for words, text, _ in self._pairs(int(row)):
                weights[words][text] += _NEAR * float(like) ** 2
        return _Near(weights)

    def _pieces(self, span: Sequence[Token], near: _Near, n: int) -> list[_Piece]:
        """What a span of the source may become, likeliest first."""
        key = tuple(span)
        if key not in near.pieces:
            near.pieces[key] = self._looked_up(span, near)
        return near.pieces[key][:n]

    def _looked_up(self, span: Sequence[Token], near: _Near) -> list[_Piece]:
        words = tuple(lowered(span))
        counts = dict(self._table.get(words, {}))
        for text, more in near.weights.get(words, {}).items():
            counts[text] = counts.get(text, 0.0) + more
        if counts:
            total = sum(counts.values()) + 0.5
            best = sorted(counts.items(), key=lambda each: -each[1])[:_OPTIONS]
            return [_Piece(text, math.log(count / total), 0) for text, count in best]
        if len(span) == 1:
            known = not any(letter.isalpha() for letter in words[0]) or words[0][0] in "%{<&"
            return [_Piece(span[0].text, -0.1 if known else _UNKNOWN, 0 if known else 1)]
        halves = []
        for at in range(1, len(span)):
            (left,), (right,) = self._pieces(span[:at], near, 1), self._pieces(span[at:], near, 1)
            space = " " if span[at].spaced and self._spaced else ""
            score = left.score + right.score - 1
            halves.append(
                _Piece(left.text + space + right.text, score, left.unknown + right.unknown)
            )
        return [max(halves, key=lambda piece: piece.score)]

    def _edit(self, source: str, row: int, rank: int, like: float, near: _Near) -> list[Composed]:
        """The answer of a row with what differs in the sources edited, in all ways there are."""
        ours, theirs, answer = tokens(source), self._sources[row], self._answers[row]
        links, changes, same = self._of(row), [], set[int]()
        matcher = SequenceMatcher(None, lowered(theirs), lowered(ours), autojunk=False)
        for tag, start, end, first, last in matcher.get_opcodes():
            if tag == "equal":
                same |= set(range(start, end))
            else:
                changes.append((start, end, ours[first:last]))
        kept = len(same) / max(len(ours), len(theirs), 1)
        longest = max((len(span) for _, _, span in changes), default=0)
        if kept < _KEPT or len(changes) > _EDITS or longest > _SPAN or not answer:
            return []
        fixed = {j for i, j in links if i in same}
        gone, places, options = set[int](), [], []
        for start, end, span in changes:
            stale = {j for i, j in links if start <= i < end} - fixed
            gone |= stale
            places.append(min(stale) if stale else _between(links, start, end, len(answer)))
            pieces = self._pieces(span, near, 2) if span else [_Piece("", 0.0, 0)]
            options.append(pieces)
        made = []
        for chosen in itertools.islice(itertools.product(*options), _VARIANTS):
            text = self._patched(answer, gone, list(zip(places, chosen, strict=True)))
            score, unknown = sum(p.score for p in chosen), sum(p.unknown for p in chosen)
            text = _begun(text, source)
            made.append(Composed(text, "edited", score, unknown, rank, kept, like))
        return made

    def _patched(
        self, answer: Sequence[Token], gone: set[int], pieces: list[tuple[int, _Piece]]
    ) -> str:
        """The answer without what is gone, with pieces put in before the places they name."""
        parts: list[Token] = []
        for at in range(len(answer) + 1):
            for place, piece in pieces:
                if place == at and piece.text:
                    alone = place not in gone and (self._spaced and piece.text[0] not in ".,:;!?)]")
                    spaced = answer[at].spaced if place in gone else alone
                    parts.append(Token(piece.text, spaced))
            if at < len(answer) and at not in gone:
                parts.append(answer[at])
        return joined(parts)

    def _compose(self, source: str, near: _Near, n: int) -> list[Composed]:
        """The best answers phrase by phrase, in the order of the source."""
        span = tokens(source)
        stacks: list[list[_Partial]] = [[] for _ in range(len(span) + 1)]
        stacks[0] = [_Partial(0.0, "", 0, "")]
        for start in range(len(span)):
            beam = sorted(stacks[start], key=lambda one: -one.score)[:_BEAM]
            for end in range(start + 1, min(len(span), start + LONGEST) + 1):
                words = tuple(lowered(span[start:end]))
                if end - start > 1 and words not in self._table:
                    continue
                for piece in self._pieces(span[start:end], near, _OPTIONS):
                    space = span[start].spaced and self._spaced
                    stacks[end] += [self._extended(one, piece, space, near) for one in beam]
        best, texts = [], set[str]()
        for one in sorted(stacks[-1], key=lambda one: -one.score):
            text = _begun(one.text, source)
            if text not in texts and len(texts) < n:
                texts.add(text)
                best.append(Composed(text, "composed", one.score, one.unknown, len(best)))
        return best

    def _extended(self, one: _Partial, piece: _Piece, space: bool, near: _Near) -> _Partial:
        if piece.text not in near.words:
            near.words[piece.text] = lowered(tokens(piece.text))
        score, last = one.score + piece.score + _PHRASE, one.last
        for word in near.words[piece.text]:
            score += _MODEL * self._bigrams(last, word) + _WORD
            last = word
        text = one.text + (" " if space and one.text else "") + piece.text
        return _Partial(score, text, one.unknown + piece.unknown, last)


@dataclass(frozen=True)
class _Partial:
    """The beginning of an answer, and the last word of it."""

    score: float
    text: str
    unknown: int
    last: str


class _Near:
    """What counts for one source: the phrases of its neighbours; and what was looked up already."""

    def __init__(self, weights: Table) -> None:
        self.weights = weights
        self.pieces: dict[tuple[Token, ...], list[_Piece]] = {}
        self.words: dict[str, list[str]] = {}


class _Bigrams:
    """log p(word | the one before), mixed with how often a word is at all."""

    def __init__(self, texts: Sequence[Sequence[str]]) -> None:
        self._one = Counter(word for text in texts for word in text)
        self._two = Counter(pair for text in texts for pair in itertools.pairwise(["", *text]))
        self._after = Counter(before for before, _ in self._two.elements())
        self._all = self._one.total() + 100

    def __call__(self, before: str, word: str) -> float:
        after = self._after[before]
        paired = self._two[before, word] / after if after else 0.0
        return math.log(0.7 * paired + 0.3 * (self._one[word] + 0.1) / self._all)


def _phrases(table: Table) -> pa.Table:
    rows = [(list(k), text, w) for k, texts in table.items() for text, w in texts.items()]
    words, texts, weights = map(list, zip(*rows, strict=True)) if rows else ([], [], [])
    columns = {
        "words": pa.array(words, pa.list_(pa.string())),
        "text": pa.array(texts, pa.string()),
        "weight": pa.array(weights, pa.float64()),
    }
    return pa.table(columns)


def _between(links: Links, start: int, end: int, length: int) -> int:
    """Where in an answer stands what would be between two places of the source."""
    before = [j + 1 for i, j in links if i == start - 1]
    after = [j for i, j in links if i == end]
    return max(before) if before else min(after) if after else 0 if start == 0 else length


def _begun(text: str, source: str) -> str:
    """The text with a capital where its source has one."""
    return text[:1].upper() + text[1:] if source[:1].isupper() else text


def _true_case(answers: Sequence[list[Token]]) -> list[list[Token]]:
    """The answers, their first words written as they mostly are in the middle of one; small where
    they never are, unless the language likes capitals.
    """
    middle = Counter(part.text for answer in answers for part in answer[1:])
    capitals = sum(n for text, n in middle.items() if text[:1].isupper())
    likes = capitals > 0.25 * sum(n for text, n in middle.items() if text[:1].isalpha())
    cased = []
    for answer in answers:
        if answer and _capital(first := answer[0].text):
            small = first[0].lower() + first[1:]
            large, less = middle[first], middle[small]
            if less > large or (less == large and not likes):
                answer = [answer[0]._replace(text=small), *answer[1:]]
        cased.append(answer)
    return cased


def _capital(word: str) -> bool:
    return word[:1].isupper() and (len(word) == 1 or not word[1].isupper())
