"""Kernels that need one look at every element: copy, passthrough, linear, task_arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.merge.methods.common import KINDS, Loops, Single, no_weight, number, weights_of
from pomona.merge.plan import TensorJob


def holds_odd(stored: NDArray[Any]) -> bool:
    """Whether there is a NaN or an infinity among stored floats; uint16 is BF16."""
    if stored.dtype == np.uint16:
        return bool((np.bitwise_and(stored, np.uint16(0x7F80)) == 0x7F80).any())
    return not np.isfinite(stored).all()


class Copy(Single):
    """The first input's bytes as they are, NaN and all; `odd` says whether there was any, or an
    infinity.
    """

    def __init__(self, job: TensorJob) -> None:
        self._floats = KINDS.get(job.dtype)
        self.odd = False

    def write(self, start: int, blocks: Sequence[NDArray[Any]], out: NDArray[Any]) -> None:
        """Copy a block."""
        out[:] = blocks[0]
        if self._floats is not None and not self.odd:
            self.odd = holds_odd(blocks[0])


class Linear(Single):
    """linear: Σ w·θ / Σ w (Wortsman 2022, arXiv 2203.05482), and passthrough: scale · θ.

    Bit for bit as mergekit 0.1.5 on a processor with AVX2: inputs are rounded to the recipe's
    dtype, w·θ is added by fused multiply-add in float32 in the order of the recipe, the sum is
    divided by the float32 sum of the weights and rounded to dtype, then to the stored type.
    """

    def __init__(self, job: TensorJob) -> None:
        self._loops = Loops(job)
        if job.method == "linear":
            weights = weights_of(job).astype(np.float32)
            divisor = torch_sum(weights) if job.options.get("normalize", True) else np.float32(1)
        else:
            weights = np.array([number(job.inputs[0], "scale", 1.0)], np.float32)
            divisor = np.float32(1)
        if divisor == 0 or not np.isfinite(divisor):
            raise no_weight(job, "normalize")
        self._weights, self._divisor = weights, np.array([divisor], np.float32)
        # −0 + x is x, also where x is −0
        self._first = np.array([0.0 if job.method == "linear" else -0.0], np.float32)

    def write(self, start: int, blocks: Sequence[NDArray[Any]], out: NDArray[Any]) -> None:
        """Merge a block."""
        loops = self._loops
        compute = KINDS[loops.job.compute]
        constants = self._weights, self._divisor, self._first
        loops.call("linear", blocks, *constants, compute, out, loops.stored)


class Doubles(Single):
    """linear and passthrough where the recipe's dtype is float64: in NumPy, slow. The last bit may
    differ from mergekit's.
    """

    def __init__(self, job: TensorJob) -> None:
        self._loops = Loops(job)
        plain = job.method == "linear"
        self._weights = (
            weights_of(job) if plain else np.array([number(job.inputs[0], "scale", 1.0)])
        )
        self._divisor = self._weights.sum() if plain and job.options.get("normalize", True) else 1.0
        if self._divisor == 0:
            raise no_weight(job, "normalize")

    def write(self, start: int, blocks: Sequence[NDArray[Any]], out: NDArray[Any]) -> None:
        """Merge a block."""
        total = np.zeros(len(out))
        for place, block in enumerate(blocks):
            total += self._loops.decoded(block, place) * self._weights[place]
        self._loops.store(total / self._divisor, out)


class TaskArithmetic(Single):
    """θ_0 + λ Σ w·(θ − θ_0) (Ilharco 2023, arXiv 2212.04089), in float32, rounded once; `normalize`
    divides by Σ w unless that is 0.
    """

    def __init__(self, job: TensorJob) -> None:
        self._loops = Loops(job)
        weights = weights_of(job)
        self._factors = (weights * scale_of(job, weights)).astype(np.float32)

    def write(self, start: int, blocks: Sequence[NDArray[Any]], out: NDArray[Any]) -> None:
        """Merge a block."""
        self._loops.call(
            "combine", blocks, 1, max(1, len(out)), self._factors, out, self._loops.stored
        )


def scale_of(job: TensorJob, weights: NDArray[np.float64]) -> float:
    """λ, divided by Σ w where the job normalises and the sum is not 0 (|Σ w| < 1e-8, as in
    mergekit).
    """
    total = float(weights.sum())
    divisor = total if job.options.get("normalize", False) and abs(total) >= 1e-8 else 1.0
    return float(job.options.get("lambda", 1.0)) / divisor


def torch_sum(values: NDArray[np.float32]) -> np.float32:
    """The sum of float32s in the order in which PyTorch adds a short row: eight lanes, four sums to
    a lane, the rest first.
    """
    whole = len(values) // 8 * 8
    lanes = values[:whole].reshape(-1, 8)
    total = np.float32(0)
    if not whole:
        return _four_sums(values)
    for value in (*values[whole:], *(_four_sums(lanes[:, lane]) for lane in range(8))):
        total = np.float32(total + value)
    return total


def _four_sums(values: NDArray[np.float32]) -> np.float32:
    sums = [np.float32(0)] * 4
    whole = len(values) // 4 * 4
    for place, value in enumerate(values):
        lane = place % 4 if place < whole else 0
        sums[lane] = np.float32(sums[lane] + value)
    return np.float32(np.float32(np.float32(sums[0] + sums[1]) + sums[2]) + sums[3])
