"""Exact search for the nearest texts, by the cosine of TF-IDF weights of character n-grams.

A term that occurs tf times in a text and in df of N texts weighs
(1 + ln tf) · (ln((1 + N) / (1 + df)) + 1): Manning, Raghavan & Schütze 2008, §6.4.1, smoothed so
that no term weighs nothing. N-grams of a query that no text has count in its length: otherwise a
query of which a single n-gram is known would be as near as a copy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pomona.errors import PomonaError
from pomona.text.grams import character_grams

ORDERS = (2, 3, 4, 5)  # lengths of the n-grams
_CHARACTERS = 1 << 20  # of the texts that are hashed at once: their n-grams take 64 MB
_SCORES = 1 << 22  # similarities at once: 32 MB


@dataclass(frozen=True)
class Neighbours:
    """The k nearest texts of each of q queries, nearest first and equal ones in their order: `rows`
    `[q, k]`, their `similarity` `[q, k]` in [0, 1], and the `flops` `[q]` of finding them.
    """

    rows: NDArray[np.intp]
    similarity: NDArray[np.float64]
    flops: NDArray[np.float64]


@dataclass(frozen=True)
class _Grams:
    """The distinct n-grams of texts, `keys` in order: those of text i are the ones at
    `columns[starts[i]:starts[i+1]]`, which it has `counts` times.
    """

    keys: NDArray[np.uint64]
    starts: NDArray[np.int64]
    columns: NDArray[np.intp]
    counts: NDArray[np.float64]


class Nearest:
    """Texts that can be searched. Every query is compared with every text that shares an n-gram;
    memory grows with the texts alone, since queries are answered in blocks.

    `flops` are those of weighing the texts, and `bytes` what the index takes. Case and white space
    count. Raises PomonaError for no texts.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        if not texts:
            raise PomonaError("there are no texts to search", remedy="give at least one text")
        grams = _grams(texts)
        self._keys, columns = grams.keys, grams.columns
        self._df = np.bincount(columns, minlength=len(self._keys))
        self._texts = len(texts)
        shape = (len(texts), len(self._keys))
        weights = _tf(grams.counts) * self._idf(self._df)[columns]
        matrix: Any = sparse.csr_matrix((weights, columns, grams.starts), shape=shape)
        lengths = _lengths(weights, grams.starts)
        scale = np.divide(1, lengths, out=np.zeros_like(lengths), where=lengths > 0)
        unit: Any = sparse.diags(scale) @ matrix
        self._matrix = unit.T.tocsr()
        self.flops = 4.0 * len(weights)

    @property
    def bytes(self) -> int:
        """Bytes of the index."""
        m = self._matrix
        return m.data.nbytes + m.indices.nbytes + m.indptr.nbytes + self._keys.nbytes

    def _idf(self, df: NDArray[Any]) -> NDArray[np.float64]:
        return np.log((1 + self._texts) / (1 + df)) + 1

    def search(self, queries: Sequence[str], k: int) -> Neighbours:
        """The `k` nearest texts of each query, all of them where there are fewer. Raises
        PomonaError for a `k` below 1.
        """
        if k < 1:
            raise PomonaError(f"{k} neighbours are none", where="k", remedy="ask for at least 1")
        k, block = min(k, self._texts), max(1, _SCORES // self._texts)
        rows = np.empty((len(queries), k), np.intp)
        similarity = np.empty((len(queries), k))
        flops = np.empty(len(queries))
        for start in range(0, len(queries), block):
            part = slice(start, start + block)
            vectors = self._vectors(queries[part])
            scores = np.asarray((vectors @ self._matrix).todense())
            rows[part], similarity[part] = _largest(scores, k)
            flops[part] = 2 * ((vectors != 0) @ self._df)
        return Neighbours(rows, np.minimum(similarity, 1), flops)

    def _vectors(self, queries: Sequence[str]) -> Any:
        """The known n-grams of the queries, each of which has length 1 with the unknown ones."""
        grams = _grams(queries)
        place = np.minimum(np.searchsorted(self._keys, grams.keys), len(self._keys) - 1)
        there = self._keys[place] == grams.keys if len(self._keys) else np.zeros(len(place), bool)
        at, known = place[grams.columns], there[grams.columns]
        df = np.where(known, self._df[at], 0) if len(self._keys) else np.zeros(len(at))
        weights = _tf(grams.counts) * self._idf(df)
        lengths = _lengths(weights, grams.starts)
        owner = np.repeat(np.arange(len(queries)), np.diff(grams.starts))
        weights = weights / lengths[owner]
        entries = (weights[known], (owner[known], at[known]))
        return sparse.csr_matrix(entries, shape=(len(queries), len(self._keys)))


def _tf(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 + np.log(counts)


def _lengths(weights: NDArray[np.float64], starts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Euclidean length of each run of weights; 0 of an empty one."""
    owner = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    return np.sqrt(np.bincount(owner, weights**2, minlength=len(starts) - 1))


def _largest(scores: NDArray[np.float64], k: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Columns and values of the k largest of each row `[q, N]`, equal ones by their column."""
    bound = np.partition(scores, -k, axis=1)[:, -k]
    rows, columns = np.nonzero(scores >= bound[:, None])
    values = scores[rows, columns]
    order = np.lexsort((columns, -values, rows))
    first = np.searchsorted(rows, np.arange(len(scores)))
    chosen = order[first[:, None] + np.arange(k)]
    return columns[chosen], values[chosen]


def _grams(texts: Sequence[str]) -> _Grams:
    """The distinct n-grams of each text, as keys of 64 bits that are equal where the n-grams are
    (and hardly ever elsewhere: once in 10⁹ tables of 10⁵ n-grams).
    """
    if not texts:
        none = np.zeros(0, np.intp)
        return _Grams(none.astype(np.uint64), np.zeros(1, np.int64), none, none.astype(np.float64))
    sizes, keys, columns, counts = [np.zeros(1, np.int64)], [], [], []
    for block in _blocks(texts):
        owner, key = character_grams(block, ORDERS)
        distinct, number = np.unique(key, return_inverse=True)
        shape = (len(block), len(distinct))
        table = sparse.coo_matrix((np.ones(len(key)), (owner, number)), shape=shape).tocsr()
        table.sum_duplicates()
        sizes.append(np.diff(table.indptr).astype(np.int64))
        keys.append(distinct)
        columns.append(table.indices)
        counts.append(table.data)
    starts = np.cumsum(np.concatenate(sizes))
    if len(keys) == 1:
        return _Grams(keys[0], starts, columns[0], counts[0])
    every, number = np.unique(np.concatenate(keys), return_inverse=True)
    parts = np.split(number, np.cumsum([len(one) for one in keys])[:-1])
    moved = [part[column] for part, column in zip(parts, columns, strict=True)]
    return _Grams(every, starts, np.concatenate(moved), np.concatenate(counts))


def _blocks(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    start, characters = 0, 0
    for end, text in enumerate(texts):
        if end > start and characters + len(text) > _CHARACTERS:
            yield texts[start:end]
            start, characters = end, 0
        characters += len(text)
    if start < len(texts):
        yield texts[start:]
