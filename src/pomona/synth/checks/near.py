"""Near copies, found while texts are still written: an index that grows with what is taken."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pomona.errors import PomonaError
from pomona.shingles import HASHES, SHINGLES, Shingle, bands_for, hash_functions, sign
from pomona.synth.teachers import mask
from pomona.text import tables

_RECALL = 0.9999  # of pairs at the threshold
_RECENT = 1024  # texts in the part that is a table of Python's, before they are sorted in
_CHUNK = 4096  # texts that are signed at once
_MASK = re.compile(r"PH\d+Q")
Words = NDArray[np.uint64]


@dataclass(frozen=True)
class Near:
    """The nearest text of an index, what it was called, and its Jaccard similarity."""

    text: str
    named: str
    similarity: float

    def __str__(self) -> str:
        shown = self.text if len(self.text) <= 60 else self.text[:59] + "…"
        return f"is a near copy ({self.similarity:.2f}) of {self.named}: {shown!r}"


class HeldOut:
    """Texts of a test that nothing may come near: a text does that is a near copy of one, or that
    differs from one in case, signs, spaces, placeholders and tags alone.
    """

    def __init__(self, threshold: float) -> None:
        self._near, self._bare = NearDuplicates(threshold), set[str]()

    def add_all(self, texts: Sequence[str]) -> None:
        """Take texts in."""
        self._near.add_all(texts, "a test item")
        self._bare.update(map(_bare, texts))
        self._bare.discard("")  # of signs alone, which are not compared

    def alike(self, texts: Sequence[str]) -> list[bool]:
        """Whether each text comes near."""
        near = self._near.nearest_of(texts)
        return [
            one is not None or _bare(text) in self._bare
            for one, text in zip(near, texts, strict=True)
        ]


def _bare(text: str) -> str:
    """The letters, their marks and the digits of a text, in small letters."""
    folded = unicodedata.normalize("NFC", _MASK.sub("", mask(text).text)).casefold()
    return "".join(sign for sign in folded if unicodedata.category(sign)[0] in "LMN")


class NearDuplicates:
    """Texts, and whether a new one is a near copy of one of them: the Jaccard similarity of their
    shingles (NFC, lower case, single spaces) is at least the threshold.

    MinHash proposes: a pair at the threshold is missed once in ten thousand, more alike ones less
    often, equal ones never. Each proposal is confirmed exactly, so that nothing is taken for a near
    copy that is none.
    shingle: "character", "word", or "auto": words, and characters where no spaces part them. size:
    of a shingle; a shorter text is one of its own kind.
    Of a text its UTF-8 and about 250 bytes are kept, and 20 MB in all.
    Raises PomonaError for a threshold that is not above 0 and at most 1.
    """

    def __init__(
        self, threshold: float = 0.8, *, shingle: Shingle = "character", size: int = 4
    ) -> None:
        if not 0 < threshold <= 1 or size < 1:
            message = f"the threshold is {threshold}, the size {size}"
            remedy = "give a share above 0 and a size of 1 or more"
            raise PomonaError(message, where="near-duplicates", remedy=remedy)
        self.threshold = threshold
        self._unit, self._size = SHINGLES.index(shingle), size
        bands, self._rows = bands_for(threshold, HASHES, _RECALL)
        self._functions = hash_functions(bands * self._rows, 0)
        self._one = hash_functions(1, 0)  # for shingles alone
        self._texts: list[bytes] = []
        self._groups: list[str] = []
        self._group_of = bytearray()
        self._counts = _Growing(np.uint32)
        self._bands = _Bands()
        self._last: tuple[str, _Signed] | None = None

    def __len__(self) -> int:
        """How many texts there are."""
        return len(self._texts)

    def reason(self, text: str) -> str | None:
        """What the text is a near copy of, in words; None where it is none."""
        near = self.nearest(text)
        return None if near is None else str(near)

    def nearest(self, text: str) -> Near | None:
        """The most alike text at or above the threshold, the first of equals."""
        signed = self._signed([text])
        self._last = (text, signed)  # what passes is added next
        return self._nearest(signed.keys[0], signed.sets[0])

    def nearest_of(self, texts: Sequence[str]) -> list[Near | None]:
        """`nearest` of each of many texts; they are not compared with one another."""
        found: list[Near | None] = []
        for at in range(0, len(texts), _CHUNK):
            signed = self._signed(texts[at : at + _CHUNK])
            found += [self._nearest(*one) for one in zip(signed.keys, signed.sets, strict=True)]
        return found

    def add(self, text: str, named: str = "a row that was taken") -> None:
        """Take a text in; `named` says what it is in reasons."""
        signed = self._last[1] if self._last and self._last[0] == text else self._signed([text])
        self._taken([text], signed, named)

    def add_all(self, texts: Sequence[str], named: str = "a row that was taken") -> None:
        """`add` many texts at once."""
        for at in range(0, len(texts), _CHUNK):
            some = texts[at : at + _CHUNK]
            self._taken(some, self._signed(some), named)

    @property
    def nbytes(self) -> int:
        """Bytes that are kept, about."""
        # 41: what Python has beside a text's bytes, and its place in the list
        return (
            sum(map(len, self._texts)) + 41 * len(self) + self._counts.nbytes + self._bands.nbytes
        )

    def _taken(self, texts: Sequence[str], signed: _Signed, named: str) -> None:
        if named not in self._groups:
            if len(self._groups) == 256:
                remedy = "name kinds of texts, not each of them"
                raise PomonaError("has 256 names", where="near-duplicates", remedy=remedy)
            self._groups.append(named)
        first = len(self._texts)
        self._texts += [text.encode("utf-8", "surrogatepass") for text in texts]
        self._group_of += bytes([self._groups.index(named)]) * len(texts)
        self._counts.extend([len(one) for one in signed.sets])
        self._bands.add(signed.keys, first)

    def _nearest(self, keys: Words, shingles: Words) -> Near | None:
        proposed = self._bands.of(keys)
        counts, own = self._counts.values[proposed], len(shingles)
        # No smaller set can be as alike as that, and no larger one.
        able = np.minimum(counts, own) >= self.threshold * np.maximum(counts, own) - 1e-9
        proposed = proposed[able]
        best = -1.0, 0
        for at in range(0, len(proposed), _CHUNK):
            some = proposed[at : at + _CHUNK]
            for place, other in zip(some, self._sets_of(some), strict=True):
                shared = len(np.intersect1d(shingles, other, assume_unique=True))
                similarity = shared / (own + len(other) - shared)
                if similarity >= self.threshold and similarity > best[0]:
                    best = similarity, int(place)
        if best[0] < 0:
            return None
        text = self._texts[best[1]].decode("utf-8", "surrogatepass")
        return Near(text, self._groups[self._group_of[best[1]]], best[0])

    def _sets_of(self, places: NDArray[np.intp]) -> list[Words]:
        texts = [self._texts[place].decode("utf-8", "surrogatepass") for place in places]
        return self._signed(texts, self._one, 1).sets

    def _signed(
        self,
        texts: Sequence[str],
        functions: tuple[NDArray[np.uint32], NDArray[np.uint32]] | None = None,
        rows: int | None = None,
    ) -> _Signed:
        composed = [unicodedata.normalize("NFC", text) for text in texts]
        parts = [text.encode("utf-8", "surrogatepass") for text in composed]
        offsets = np.zeros(len(parts) + 1, np.int64)
        np.cumsum([len(part) for part in parts], out=offsets[1:])
        keys, _, set_offsets, sets, _, _, _ = sign(
            np.frombuffer(b"".join(parts), np.uint8),
            offsets,
            np.array([text.isascii() for text in composed], np.bool_),
            *tables(),
            self._unit,
            self._size,
            *(functions or self._functions),
            rows or self._rows,
            False,
        )
        return _Signed(np.ascontiguousarray(keys.T), np.split(sets, set_offsets[1:-1]))


@dataclass(frozen=True)
class _Signed:
    """Band keys `[n, bands]`, and the shingles of each text."""

    keys: Words
    sets: list[Words]


class _Growing:
    """A vector that grows at its end."""

    def __init__(self, kind: type[np.uint32]) -> None:
        self._held, self._count = np.zeros(64, kind), 0

    @property
    def values(self) -> NDArray[np.uint32]:
        return self._held[: self._count]

    @property
    def nbytes(self) -> int:
        return self._held.nbytes

    def extend(self, more: Sequence[int]) -> None:
        need = self._count + len(more)
        if need > len(self._held):
            self._held = np.resize(self._held, max(need, 2 * len(self._held)))
        self._held[self._count : need] = more
        self._count = need


class _Bands:
    """Which texts have a band key. The latest are in a table of Python's, the others in sorted
    arrays, each at least twice as long as the next: so each text is sorted a few times in all.

    Keys are cut to 32 bits, which proposes a few more and misses none.
    """

    def __init__(self) -> None:
        self._recent: dict[int, list[int]] = {}
        self._count = 0
        self._sorted: list[tuple[NDArray[np.uint32], NDArray[np.uint32]]] = []

    @property
    def nbytes(self) -> int:
        return sum(keys.nbytes + items.nbytes for keys, items in self._sorted)

    def add(self, keys: Words, first: int) -> None:
        """The keys `[n, bands]` of texts whose numbers begin with `first`."""
        if len(keys) >= _RECENT:
            items = np.repeat(np.arange(first, first + len(keys), dtype=np.uint32), keys.shape[1])
            self._sort_in(_short(keys).ravel(), items)
            return
        for item, row in enumerate(_short(keys).tolist(), first):
            for key in row:
                self._recent.setdefault(key, []).append(item)
        self._count += len(keys)
        if self._count >= _RECENT:
            sizes = [len(items) for items in self._recent.values()]
            items = np.concatenate([np.array(each, np.uint32) for each in self._recent.values()])
            self._sort_in(np.repeat(np.array([*self._recent], np.uint32), sizes), items)
            self._recent, self._count = {}, 0

    def of(self, keys: Words) -> NDArray[np.intp]:
        """The texts that share one of the keys `[bands]`, ascending."""
        short = _short(keys)
        found: set[int] = set()
        for key in short.tolist():
            found.update(self._recent.get(key, ()))
        for held, items in self._sorted:
            starts, ends = (
                np.searchsorted(held, short, "left"),
                np.searchsorted(held, short, "right"),
            )
            for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
                if end > start:
                    found.update(items[start:end].tolist())
        return np.array(sorted(found), np.intp)

    def _sort_in(self, keys: NDArray[np.uint32], items: NDArray[np.uint32]) -> None:
        while self._sorted and len(self._sorted[-1][0]) < 2 * len(keys):
            other_keys, other_items = self._sorted.pop()
            keys = np.concatenate([other_keys, keys])
            items = np.concatenate([other_items, items])
        order = np.argsort(keys, kind="stable")
        self._sorted.append((keys[order], items[order]))


def _short(keys: Words) -> NDArray[np.uint32]:
    return (keys & np.uint64(0xFFFFFFFF)).astype(np.uint32)
