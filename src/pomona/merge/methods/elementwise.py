"""Kernels in NumPy that decide element by element how far the models are apart: nearswap, ram,
ramplus_tl.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.merge.methods.common import Numbers, Pieces, Single
from pomona.merge.plan import TensorJob

_LEAST = 1e-6  # differences are at least this, as in mergekit


class NearSwap(Pieces, Single):
    """θ_0 + min(1, t / |θ − θ_0|) · (θ − θ_0): where the models differ by t or less the other
    model, elsewhere a step of t towards it.

    Source: alchemonaut, QuartetAnemoi-70B-t0.0001 (model card), as mergekit 0.1.5 has it: |θ − θ_0|
        counts as 1e-6 at least, and a negative
    t as 0.
    """

    def __init__(self, job: TensorJob) -> None:
        super().__init__(job)
        self._t = float(job.options["t"])

    def write(self, start: int, blocks: Sequence[NDArray[Any]], out: NDArray[Any]) -> None:
        """Merge a block."""
        for part, base, (other,) in self.pieces(blocks):
            share = np.clip(self._t / np.maximum(np.abs(other - base), _LEAST), 0, 1)
            self.store(share * other + (1 - share) * base, out[part])


class Ram(Pieces):
    """θ_0 + what the models changed: where one did (|θ − θ_0| > epsilon) its change times λ, where
    several did their mean change.

    Reinforced Agent Merging (arXiv 2601.13572); smaller changes are dropped. λ is 1 in ram. In
    ramplus_tl ("tensor-local") each model has its own for every tensor, 1 + r · min(alpha, shared /
    alone), from how many elements it changed together with others and how many alone, epsilon in
    place of none; as mergekit 0.1.5 has it.
    """

    def __init__(self, job: TensorJob) -> None:
        super().__init__(job)
        self._epsilon = float(job.options["epsilon"])
        self._scales = np.ones((len(job.inputs), 1))
        self.passes = int(job.method == "ramplus_tl")

    def _changed(
        self, base: Numbers, models: Numbers
    ) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Whether each model changed each element: (count, n); and how many models did: (n)."""
        changed = np.abs(models - base) > self._epsilon
        return changed, changed.sum(axis=0)

    def read(self, number: int, start: int, blocks: Sequence[NDArray[Any]]) -> NDArray[np.int64]:
        """How many elements of a block each model changed together with others, and alone: (count,
        2).
        """
        counts = np.zeros((len(self.job.inputs), 2), np.int64)
        for _, base, models in self.pieces(blocks):
            changed, by = self._changed(base, models)
            counts += np.stack(
                [(changed & (by > 1)).sum(axis=1), (changed & (by == 1)).sum(axis=1)], axis=1
            )
        return counts

    def settle(self, number: int, partials: Sequence[NDArray[np.int64]]) -> None:
        """Find λ of every model."""
        shared, alone = sum(partials, np.zeros((len(self._scales), 2))).T
        share = np.clip(
            shared / np.maximum(alone, self._epsilon), 0, float(self.job.options["alpha"])
        )
        self._scales = (1 + float(self.job.options["r"]) * share)[:, None]

    def write(self, start: int, blocks: Sequence[NDArray[Any]], out: NDArray[Any]) -> None:
        """Merge a block."""
        for part, base, models in self.pieces(blocks):
            changed, by = self._changed(base, models)
            changes = np.where(changed, models - base, 0)
            alone = (changes * self._scales).sum(axis=0)
            mean = changes.sum(axis=0) / np.maximum(by, 1)
            self.store(base + np.where(by == 1, alone, mean), out[part])
