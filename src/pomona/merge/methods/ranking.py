"""The values at some ranks among many numbers, in two counting passes: see `thresholds`."""

from __future__ import annotations

from collections.abc import Sequence
from threading import get_ident

import numpy as np
from numpy.typing import NDArray

from pomona.merge.methods.thresholds import BINS, Counts, Search, Tally


class Ranking:
    """Numbers are given to `add` in every pass, by any threads; `settle` ends a pass, and after the
    second one the values are known.

    Numbers are float32 and not negative. Memory is that of a few tallies for each thread.
    """

    def __init__(self) -> None:
        self._searches: list[Search] = []
        self._tallies: dict[tuple[int, int, int], Tally] = {}

    def add(self, numbers: NDArray[np.float32]) -> None:
        """Count numbers."""
        bits = numbers.view(np.uint32)
        for low, size, shift in {
            (search.low, search.size, search.shift) for search in self._searches or [Search(0)]
        }:
            tally = self._tallies.setdefault((low, size, get_ident()), Tally())
            inside = bits[(bits >= low) & (bits < low + size)]
            tally.below[0] += np.count_nonzero(bits < low)
            tally.counts += np.bincount(
                (inside - np.uint32(low)) >> np.uint32(shift), minlength=BINS
            ).astype(np.uint32)

    def settle(self, ranks: Sequence[int]) -> None:
        """End a pass. `ranks` count from 0, the smallest number; the second pass goes on with those
        of the first.
        """
        found: dict[tuple[int, int], list[Counts]] = {}
        for (low, size, _), tally in self._tallies.items():
            found.setdefault((low, size), []).append(tally.take())
        self._searches = self._searches or [Search(rank) for rank in ranks]
        for search in self._searches:
            search.settle(found[search.low, search.size])
        self._tallies.clear()

    @property
    def values(self) -> list[float]:
        """The values at the ranks, after two passes."""
        return (
            np.array([search.low for search in self._searches], np.uint32).view(np.float32).tolist()
        )
