"""Kernels in NumPy that choose elements by rank in the whole tensor: sce, arcee_fusion. Two passes
count, see `thresholds`.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import get_ident
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.merge.methods.common import PART, Numbers, Pieces
from pomona.merge.methods.sparse import BINS, BinTally, Counts, RankSearch
from pomona.merge.plan import TensorJob


class Ranking:
    """Numbers are given to `add` in every pass, by any threads; `settle` ends a pass, and after the
    second one the values are known.

    Numbers are float32 and not negative. Memory is that of a few tallies for each thread.
    """

    def __init__(self) -> None:
        self._searches: list[RankSearch] = []
        self._tallies: dict[tuple[int, int, int], BinTally] = {}

    def add(self, numbers: NDArray[np.float32]) -> None:
        """Count numbers."""
        bits = numbers.view(np.uint32)
        for low, size, shift in {
            (search.low, search.size, search.shift) for search in self._searches or [RankSearch(0)]
        }:
            tally = self._tallies.setdefault((low, size, get_ident()), BinTally())
            inside = bits[(bits >= low) & (bits < low + size)]
            tally.below[0] += np.count_nonzero(bits < low)
            tally.counts += np.bincount(
                (inside - np.uint32(low)) >> np.uint32(shift), minlength=BINS
            ).astype(np.uint32)

    def settle(self, ranks: Sequence[int]) -> None:
        """End a pass. `ranks` count from 0, the smallest number; the second pass goes on with those
        of the first.
        """
        counted: dict[tuple[int, int], list[Counts]] = {}
        for (low, size, _), tally in self._tallies.items():
            counted.setdefault((low, size), []).append(tally.take())
        self._searches = self._searches or [RankSearch(rank) for rank in ranks]
        for search in self._searches:
            search.settle(counted[search.low, search.size])
        self._tallies.clear()

    @property
    def values(self) -> list[float]:
        """The values at the ranks, after two passes."""
        return (
            np.array([search.low for search in self._searches], np.uint32).view(np.float32).tolist()
        )


_SMOOTHING = 1e-8  # added to the probabilities of a row


class Sce(Pieces):
    """Select, calculate, erase (Wan 2024, FuseChat, arXiv 2408.07990, §3.3), tensor by tensor as
    mergekit 0.1.5 has it. τ = θ − θ_0.

    Select: of the elements whose variance over the models is not zero, the select_topk share with
        the greatest stays; the other τ are zero. Variances equal to the least that stays all stay,
        so that order decides nothing; they are compared in float32.
    Calculate: a model's weight is the mean square of its τ, divided by the sum of all models'
        (equal weights where that is below 1e-6).
    Erase: τ whose sign is not that of Σ τ (+ where it is 0) are left out.
    The result is θ_0 + Σ w·τ / max(Σ w, 1e-6) over what is left of each element.
    """

    def __init__(self, job: TensorJob) -> None:
        super().__init__(job)
        self._share = float(job.options["select_topk"])
        self._selecting = 2 if 0 < self._share < 1 else 0
        self._ranking, self._least = Ranking(), 0.0 if self._share > 0 else np.inf
        self._weights = np.ones((len(job.inputs), 1))
        self.passes = self._selecting + 1

    def read(self, number: int, start: int, blocks: Sequence[NDArray[Any]]) -> Any:
        """How many variances are zero, in the passes that count; then Σ τ² of every model, for each
        4096 elements.
        """
        zeros, squares = 0, []
        for _, base, models in self.pieces(blocks):
            if number < self._selecting:
                variances = _variances(models - base)
                self._ranking.add(variances)
                zeros += int(np.count_nonzero(variances == 0))
            else:
                changes = self._selected(models - base)
                squares.append(
                    np.add.reduceat(changes * changes, np.arange(0, len(base), PART), axis=1)
                )
        return zeros if number < self._selecting else np.concatenate(squares, axis=1)

    def settle(self, number: int, partials: Sequence[Any]) -> None:
        """Find the least variance that stays; then the weights."""
        count = self._loops.elements
        if number == self._selecting:
            squares = (
                np.concatenate(partials, axis=1).sum(axis=1) / max(count, 1)
                if partials
                else np.zeros(len(self._weights))
            )
            total = squares.sum()
            self._weights = (
                squares / total if total >= 1e-6 else np.full(len(squares), 1 / len(squares))
            )[:, None]
            return
        kept = int((count - sum(partials)) * self._share)
        if kept:
            self._ranking.settle([count - kept])
        self._least = self._ranking.values[0] if kept and number == 1 else np.inf

    def _selected(self, changes: Numbers) -> Numbers:
        if self._least == 0:
            return changes
        return np.where(_variances(changes) >= self._least, changes, 0)

    def write(self, start: int, blocks: Sequence[NDArray[Any]], out: NDArray[Any]) -> None:
        """Merge a block."""
        for part, base, models in self.pieces(blocks):
            changes = self._selected(models - base)
            agrees = np.where(changes.sum(axis=0) >= 0, changes > 0, changes < 0)
            weights = np.where(agrees, self._weights, 0)
            self.store(
                base + (changes * weights).sum(axis=0) / np.maximum(weights.sum(axis=0), 1e-6),
                out[part],
            )


def _variances(changes: Numbers) -> NDArray[np.float32]:
    """The variance of each element over the models; zero exactly where they are equal."""
    return changes.var(axis=0).astype(np.float32)


class ArceeFusion(Pieces):
    """The other model's elements where its change is important, the base's elsewhere (arcee_fusion
    of mergekit 0.1.5).

    Importance is |θ − θ_0| · KL(softmax θ ‖ softmax θ_0), softmax and divergence over the row (the
    last dimension), 1e-8 added to each probability; what reaches median + 1.5 · (third − first
    quartile) of the tensor is taken. Quartiles are those of all elements, in
    float32: the sorted importances at ⌊q · (n − 1)⌋. The divergence is one number for each row,
        kept between the passes.
    """

    passes = 2

    def __init__(self, job: TensorJob) -> None:
        super().__init__(job)
        self.unit = max(1, job.shape[-1] if job.shape else 1)
        self._divergences = np.zeros(-(-self._loops.elements // self.unit))
        self._ranking, self._least = Ranking(), 0.0

    def read(self, number: int, start: int, blocks: Sequence[NDArray[Any]]) -> None:
        """Count importances; in the first pass find the divergence of each row before."""
        for part, base, (other,) in self.pieces(blocks):
            rows = self._rows(start, part, base)
            if number == 0:
                self._divergences[rows] = _divergence(
                    other.reshape(-1, self.unit), base.reshape(-1, self.unit)
                )
            self._ranking.add(self._importance(rows, base, other))

    def settle(self, number: int, partials: Sequence[Any]) -> None:
        """Find the least importance that is taken."""
        last = self._loops.elements - 1
        if last < 0:
            return
        self._ranking.settle([int(share * last) for share in (0.25, 0.5, 0.75)])
        if number == 1:
            first, median, third = self._ranking.values
            self._least = median + 1.5 * (third - first)

    def _rows(self, start: int, part: slice, base: Numbers) -> slice:
        first = (start + part.start) // self.unit
        return slice(first, first + len(base) // self.unit)

    def _importance(self, rows: slice, base: Numbers, other: Numbers) -> NDArray[np.float32]:
        return (
            (np.abs(other - base).reshape(-1, self.unit) * self._divergences[rows, None])
            .astype(np.float32)
            .reshape(-1)
        )

    def write(self, start: int, blocks: Sequence[NDArray[Any]], out: NDArray[Any]) -> None:
        """Merge a block."""
        for part, base, (other,) in self.pieces(blocks):
            taken = self._importance(self._rows(start, part, base), base, other) >= self._least
            self.store(np.where(taken, other, base), out[part])


def _divergence(one: Numbers, other: Numbers) -> Numbers:
    """KL(softmax one ‖ softmax other) of every row (rows, n), not below zero."""
    first, second = _softmax(one) + _SMOOTHING, _softmax(other) + _SMOOTHING
    return np.maximum((first * np.log(first / second)).sum(axis=1), 0)


def _softmax(rows: Numbers) -> Numbers:
    powers = np.exp(rows - rows.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
