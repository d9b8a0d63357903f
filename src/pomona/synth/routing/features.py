"""What a router sees of a prompt: hashed n-grams of its text, alone and with its language."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pomona.synth.teachers import Assignment
from pomona.text import character_grams, grams_of, hashed_columns

Sees = Literal["both", "language", "text"]
_ORDERS = (1, 2, 3, 4)


@dataclass(frozen=True)
class Features:
    """Columns of `2 ** bits` hashed n-grams of 1 to 4 characters, half the length of a row's
    vector those of the text and half those of the text in its language; then one for each of
    `langs`, and one that is always there. `sees` leaves a part out.
    """

    langs: tuple[str, ...]
    sees: Sees = "both"
    bits: int = 17

    @property
    def columns(self) -> int:
        """Columns in all."""
        return (1 << self.bits) + len(self.langs) + 1

    def of(self, rows: Sequence[Assignment]) -> Any:
        """A sparse float32 matrix `[n, columns]`. A row depends on its text and language alone."""
        pieces = [self._always(rows)]
        if self.sees != "text":
            pieces.append(self._languages(rows))
        if self.sees != "language":
            pieces += self._grams(rows)
        owners, columns, values = (np.concatenate(each) for each in zip(*pieces, strict=True))
        shape = (len(rows), self.columns)
        return sparse.csr_matrix((values.astype(np.float32), (owners, columns)), shape=shape)

    def times(self, row: Assignment, weights: NDArray[np.float32]) -> NDArray[np.float32]:
        """`of([row]) @ weights`, `[t]`, without a matrix."""
        told = weights[-1]
        if self.sees != "text" and row.lang in self.langs:
            told = told + weights[(1 << self.bits) + self.langs.index(row.lang)]
        if self.sees != "language":
            keys = grams_of(f" {row.text} ", _ORDERS)
            value = 1 / math.sqrt(len(keys))
            if self.sees == "both":
                keys = np.concatenate([keys, keys ^ np.uint64(_seed(row.lang))])
            values = np.full(len(keys), value, np.float32)
            told = told + values @ weights.take(self._column(keys), 0)
        return told

    def _always(self, rows: Sequence[Assignment]) -> tuple[NDArray[Any], ...]:
        n = len(rows)
        return np.arange(n), np.full(n, self.columns - 1), np.ones(n)

    def _languages(self, rows: Sequence[Assignment]) -> tuple[NDArray[Any], ...]:
        places = {lang: (1 << self.bits) + at for at, lang in enumerate(self.langs)}
        known = [(at, places[row.lang]) for at, row in enumerate(rows) if row.lang in places]
        pairs = np.array(known, np.int64).reshape(-1, 2)
        return pairs[:, 0], pairs[:, 1], np.ones(len(pairs))

    def _grams(self, rows: Sequence[Assignment]) -> list[tuple[NDArray[Any], ...]]:
        owners, keys = character_grams([f" {row.text} " for row in rows], _ORDERS)
        counts = np.bincount(owners, minlength=len(rows))
        values = 1 / np.sqrt(counts[owners])
        found = [(owners, self._column(keys), values)]
        if self.sees == "both":
            names = sorted({row.lang for row in rows})
            number = {name: at for at, name in enumerate(names)}
            seeds = np.array([_seed(name) for name in names], np.uint64)
            lang = np.array([number[row.lang] for row in rows])
            found.append((owners, self._column(keys ^ seeds[lang[owners]]), values))
        return found

    def _column(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        return hashed_columns(keys, self.bits)


@lru_cache(4096)
def _seed(name: str) -> int:
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")
