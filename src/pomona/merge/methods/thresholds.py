"""The k-th smallest magnitude of a task vector, exactly and without sorting: two counting passes
over the bits of |τ|.

A float32's bits without its sign are ordered as the magnitudes. The first pass counts by the upper
16 of 31 bits, the second the values that share them with the k-th; both counts are sums of
integers, the same in any order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FINITE = 0x7F800000  # bits of magnitudes are smaller
BINS = 1 << 16
UPPER = 15  # bits that the first pass leaves aside

Counts = tuple[
    int, NDArray[np.int64], NDArray[Any]
]  # values below the range, bins that have values, and how many


@dataclass
class Search:
    """The search for the value at `rank`, counted from 0, among the bits of one tensor's
    magnitudes, or of several tensors'.
    """

    rank: int
    low: int = 0
    size: int = 1 << 31

    @property
    def shift(self) -> int:
        """Of bits that share a bin."""
        return UPPER if self.size > BINS else 0

    def settle(self, counts: Sequence[Counts]) -> None:
        """Narrow the range to the bin that holds the rank: after the first pass 2^15 values, after
        the second one.
        """
        below, bins, found = joined(counts)
        chosen = int(
            bins[np.searchsorted(below + np.cumsum(found, dtype=np.int64), self.rank, side="right")]
        )
        self.low, self.size = self.low + (chosen << self.shift), 1 << self.shift


def joined(counts: Sequence[Counts]) -> Counts:
    """Several counts of one range as one."""
    if len(counts) == 1:
        return counts[0]
    total = np.zeros(BINS, np.int64)
    for _, bins, found in counts:
        total[bins] += found
    bins = np.flatnonzero(total)
    return sum(one[0] for one in counts), bins, total[bins]


class Tally:
    """Counts that one thread adds up: `counts` by bin, and `below` of the values below the
    range.
    """

    def __init__(self) -> None:
        self.counts, self.below = np.zeros(BINS, np.uint32), np.zeros(1, np.int64)

    def take(self) -> Counts:
        """What was counted, without the empty bins; counting begins anew."""
        bins = np.flatnonzero(self.counts)
        taken = int(self.below[0]), bins, self.counts[bins]
        self.counts[bins], self.below[0] = 0, 0
        return taken


def kept(method: str, count: int, parameters: Any) -> tuple[int, int] | None:
    """Ranks by magnitude, from 0, of the least and greatest entry that a tensor of `count` keeps;
    None when it keeps none.

    ties: the int(density · count) greatest, but at least one. breadcrumbs: without the int(gamma ·
        count) greatest, of the rest the
    int(density · count) greatest; fewer of the greatest go where not enough would be left. As in
    mergekit.
    """
    target = int(parameters["density"] * count)
    if method == "ties":
        return count - max(1, target), count - 1
    if not target:
        return None
    lowest = max(0, count - target - int(parameters["gamma"] * count))
    return lowest, lowest + target - 1
