"""Metrics as per-item sufficient statistics and an aggregation of their sums, so that every
bootstrap is a matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pomona.errors import PomonaError, nearest
from pomona.tasks.chrf import Chrf


class Metric(Protocol):
    """What "better" is measured with. The value of any set of items is
    `aggregate(statistics[items].sum(0))`.
    """

    @property
    def name(self) -> str: ...

    @property
    def higher_is_better(self) -> bool: ...

    @property
    def signature(self) -> str:
        """Every choice that changes the number, with a version."""
        ...

    def statistics(
        self, outputs: Sequence[Any], references: Sequence[Any], /
    ) -> NDArray[np.float64]:
        """Sufficient statistics of each item, float64 `[n, k]`."""
        ...

    def aggregate(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """The metric of summed statistics, `[..., k]` to `[...]`."""
        ...


@dataclass(frozen=True)
class BitsPerByte:
    """Bits a model needs for a byte of UTF-8 text: comparable between tokenisers. Lower is
    better.
    """

    name = "bits_per_byte"
    higher_is_better = False
    signature = "bits_per_byte|unit:utf-8|version:1"

    def statistics(
        self, outputs: Sequence[ArrayLike], references: Sequence[str], /
    ) -> NDArray[np.float64]:
        """(bits, bytes) of each item, float64 `[n, 2]`, from the natural-log probabilities of the
        tokens of each text `[t]` and the texts.

        Raises PomonaError, with the row, for an empty text and for a log-probability that is not
        finite.
        """
        _same_length(outputs, references)
        rows = np.empty((len(outputs), 2))
        for row, (logprobs, text) in enumerate(zip(outputs, references, strict=True)):
            nats = -float(np.sum(logprobs, dtype=np.float64))
            if not text:
                message, remedy = "the text is empty, so bits per byte has no value", "drop the row"
                raise PomonaError(message, where=f"row {row}", remedy=remedy)
            if not np.isfinite(nats):
                message = "a token's log-probability is not finite"
                remedy = "score the row again, or drop it"
                raise PomonaError(message, where=f"row {row}", remedy=remedy)
            rows[row] = nats / np.log(2), len(text.encode("utf-8", "surrogatepass"))
        return rows

    def aggregate(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """All bits over all bytes."""
        return sums[..., 0] / sums[..., 1]


@dataclass(frozen=True)
class ExactMatch:
    """Percentage of outputs equal to their reference. Whitespace at the ends is ignored and any run
    inside is one space; case counts.
    """

    name = "exact_match"
    higher_is_better = True
    signature = "exact_match|nrefs:1|case:mixed|space:collapsed|version:1"

    def statistics(
        self, outputs: Sequence[str], references: Sequence[str], /
    ) -> NDArray[np.float64]:
        """(match, 1) of each item, float64 `[n, 2]`."""
        _same_length(outputs, references)
        pairs = zip(outputs, references, strict=True)
        matches = [output.split() == reference.split() for output, reference in pairs]
        return np.column_stack([np.array(matches, dtype=np.float64), np.ones(len(matches))])

    def aggregate(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Matches per hundred items."""
        return 100 * sums[..., 0] / sums[..., 1]


_METRICS: dict[str, Callable[[], Metric]] = {
    "chrf": Chrf,
    "chrf++": lambda: Chrf(word_order=2),
    "exact_match": ExactMatch,
    "bits_per_byte": BitsPerByte,
}


def metric(name: str) -> Metric:
    """The metric called `name`: chrf, chrf++, exact_match or bits_per_byte. Raises PomonaError
    naming the nearest for any other.
    """
    if name not in _METRICS:
        raise PomonaError(f'there is no metric "{name}"', remedy=nearest(name, _METRICS))
    return _METRICS[name]()


def _same_length(outputs: Sequence[Any], references: Sequence[Any]) -> None:
    if len(outputs) != len(references):
        message = f"{len(outputs)} outputs but {len(references)} references"
        raise PomonaError(message, remedy="give one reference an output")
