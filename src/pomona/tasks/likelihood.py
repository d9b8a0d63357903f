"""Metrics of what a model thinks probable: of a text, and of the options of a question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pomona.errors import PomonaError
from pomona.tasks._metrics import same_length

Right = str | int | Sequence[str] | Sequence[int]


@dataclass(frozen=True)
class BitsPerByte:
    """Bits a model needs for a byte of UTF-8 text: comparable between tokenisers. Lower is
    better.
    """

    name = "bits_per_byte"
    reads = "logprobs"
    higher_is_better = False
    signature = "bits_per_byte|unit:utf-8|version:1"

    def statistics(
        self, outputs: Sequence[ArrayLike], references: Sequence[str], /
    ) -> NDArray[np.float64]:
        """(bits, bytes) of each item, float64 `[n, 2]`, from the natural-log probabilities of the
        tokens of each text `[t]` and the texts.

        Raises PomonaError, with the item, for an empty text and for a log-probability that is not
        finite.
        """
        same_length(outputs, references)
        rows = np.empty((len(outputs), 2))
        for row, (logprobs, text) in enumerate(zip(outputs, references, strict=True)):
            nats = -float(np.sum(logprobs, dtype=np.float64))
            if not text:
                message = "the text is empty, so bits per byte has no value"
                raise PomonaError(message, where=f"item {row + 1}", remedy="drop the item")
            if not np.isfinite(nats):
                message = "a token's log-probability is not finite"
                remedy = "score the item again, or drop it"
                raise PomonaError(message, where=f"item {row + 1}", remedy=remedy)
            rows[row] = nats / np.log(2), len(text.encode("utf-8", "surrogatepass"))
        return rows

    def aggregate(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """All bits over all bytes."""
        return sums[..., 0] / sums[..., 1]


@dataclass(frozen=True)
class ChoiceAccuracy:
    """Percentage of items whose most probable option is a right one; the first of several as
    probable.

    per: None for `acc`; "character" divides each log-probability by the characters of its option
    (`acc_norm`), "byte" by its bytes of UTF-8 (`acc_bytes`), as lm-evaluation-harness does.
    """

    per: Literal["character", "byte"] | None = None
    reads = "options"
    higher_is_better = True

    @property
    def name(self) -> str:
        """See `Metric`."""
        return {None: "acc", "character": "acc_norm", "byte": "acc_bytes"}[self.per]

    @property
    def signature(self) -> str:
        """See `Metric`."""
        return f"{self.name}|logprob:sum|per:{self.per or 'option'}|ties:first|version:1"

    def statistics(
        self, outputs: Sequence[Sequence[tuple[str, float]]], references: Sequence[Right], /
    ) -> NDArray[np.float64]:
        """(right, 1) of each item, float64 `[n, 2]`.

        outputs: each option with the sum of its tokens' natural-log probabilities, in order.
        references: the right option, or several: their texts, or their places from 0.
        Raises PomonaError, with the item: no options, one that is empty where its length counts,
        a log-probability that is no number, or a right option that is none of them.
        """
        same_length(outputs, references)
        right = [
            self._best(row, options) in _places(row, options, reference)
            for row, (options, reference) in enumerate(zip(outputs, references, strict=True))
        ]
        return np.column_stack([np.array(right, np.float64), np.ones(len(right))])

    def aggregate(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Right choices per hundred items."""
        return 100 * sums[..., 0] / sums[..., 1]

    def _best(self, row: int, options: Sequence[tuple[str, float]]) -> int:
        where = f"item {row + 1}"
        if not options:
            raise PomonaError("there are no options", where=where, remedy="drop the item")
        sums = np.array([logprob for _, logprob in options], np.float64)
        if np.isnan(sums).any():
            message = f"the log-probability of {options[int(np.isnan(sums).argmax())][0]!r} is nan"
            raise PomonaError(message, where=where, remedy="score the item again, or drop it")
        if self.per is None:
            return int(np.argmax(sums))
        lengths = np.array([_length(text, self.per) for text, _ in options], np.float64)
        if not lengths.all():
            remedy = 'use "acc", which does not count characters, or drop the item'
            raise PomonaError("an option is empty", where=where, remedy=remedy)
        return int(np.argmax(sums / lengths))


def _length(text: str, per: str) -> int:
    return len(text) if per == "character" else len(text.encode("utf-8", "surrogatepass"))


def _places(row: int, options: Sequence[tuple[str, float]], right: Right) -> set[int]:
    """The places of the right options."""
    several = [right] if isinstance(right, str | int) else list(right)
    found: set[int] = set()
    for one in several:
        known = [at for at, (text, _) in enumerate(options) if one in (at, text)]
        if not known:
            message = f"{one!r} is none of the {len(options)} options"
            remedy = "give the text of an option, or its place from 0"
            raise PomonaError(message, where=f"item {row + 1}", remedy=remedy)
        found.update(known)
    if not several:
        remedy = "give the text of an option, or its place from 0"
        raise PomonaError("no option is right", where=f"item {row + 1}", remedy=remedy)
    return found
