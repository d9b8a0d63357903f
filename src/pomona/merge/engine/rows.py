"""Tensors of which only the first rows are merged: rows that one model alone has are copied, to the
bit, whatever the method.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from pomona.merge._plan import JointKernel, Kernel
from pomona.merge.checkpoints.files import encode
from pomona.merge.preparing.blocks import to_float32


@dataclass(frozen=True)
class FirstRows:
    """A kernel for the first `limit` elements; the elements behind them are those of input
    `source`, in the result's type.

    Blocks are the base's first, where the job has one; `source` counts among the blocks. Elements
    are counted flat: rows × columns.
    """

    kernel: Kernel
    limit: int
    source: int

    @property
    def passes(self) -> int:
        """As the inner kernel's."""
        return self.kernel.passes

    @property
    def unit(self) -> int:
        """As the inner kernel's."""
        return self.kernel.unit

    @property
    def shared(self) -> str | None:
        """As the inner kernel's."""
        return self.kernel.shared

    def _inside(self, start: int, blocks: Sequence[NDArray[Any]]) -> int:
        return min(max(self.limit - start, 0), len(blocks[0]))

    def read(self, number: int, start: int, blocks: Sequence[NDArray[Any]]) -> Any:
        """Partial result of the elements before the limit; None where there are none."""
        inside = self._inside(start, blocks)
        return (
            self.kernel.read(number, start, [block[:inside] for block in blocks])
            if inside
            else None
        )

    def gather(self, number: int, partials: Sequence[Any]) -> Any:
        """As the inner kernel's."""
        return cast("JointKernel", self.kernel).gather(number, partials)

    def settle(self, number: int, partials: Sequence[Any]) -> None:
        """End a pass with the partial results there are."""
        self.kernel.settle(number, [partial for partial in partials if partial is not None])

    def write(self, start: int, blocks: Sequence[NDArray[Any]], out: NDArray[Any]) -> None:
        """Merge up to the limit, copy behind it."""
        inside = self._inside(start, blocks)
        if inside:
            self.kernel.write(start, [block[:inside] for block in blocks], out[:inside])
        out[inside:] = _converted(blocks[self.source][inside:], out.dtype)


def _converted(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Values in the stored type of the result, rounded to nearest even where it is narrower; uint16
    is BF16.
    """
    if values.dtype == dtype:
        return values
    wide = to_float32(values, "BF16" if values.dtype == np.uint16 else "")
    return (
        np.frombuffer(encode(wide, "BF16"), np.uint16) if dtype == np.uint16 else wide.astype(dtype)
    )
