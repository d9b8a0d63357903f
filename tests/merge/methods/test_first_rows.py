from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from numpy.typing import NDArray

from pomona.merge.methods.kernels import FirstRows


@dataclass
class Share:
    """Writes the first block over the sum of all it read."""

    passes: int = 1
    unit: int = 1
    shared: str | None = None
    total: float = 0.0
    seen: list[int] = field(default_factory=list)

    def read(self, number: int, start: int, blocks: Sequence[NDArray[Any]]) -> float:
        self.seen += range(start, start + len(blocks[0]))
        return float(blocks[0].sum())

    def settle(self, number: int, partials: Sequence[float]) -> None:
        self.total = sum(partials)

    def write(self, start: int, blocks: Sequence[NDArray[Any]], out: NDArray[Any]) -> None:
        out[:] = blocks[0] / self.total


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 10))
def test_only_the_first_elements_are_merged(size: int, limit: int, step: int) -> None:
    limit = min(limit, size)
    first, second = (
        np.arange(1, size + 1, dtype=np.float32),
        np.arange(100, 100 + size, dtype=np.float32),
    )
    inner = Share()
    kernel = FirstRows(inner, limit, 1)
    starts = range(0, size, step)
    partials = [
        kernel.read(0, start, [first[start : start + step], second[start : start + step]])
        for start in starts
    ]
    kernel.settle(0, partials)
    out = np.zeros(size, np.float32)
    for start in starts:
        kernel.write(
            start,
            [first[start : start + step], second[start : start + step]],
            out[start : start + step],
        )
    assert inner.seen == list(range(limit))
    np.testing.assert_allclose(out[:limit], first[:limit] / first[:limit].sum(), rtol=1e-6)
    assert np.array_equal(out[limit:], second[limit:])
    assert (kernel.passes, kernel.unit, kernel.shared) == (1, 1, None)


@pytest.mark.parametrize(
    ("source", "out", "expected"),
    [
        (
            np.array([1.0, 1.00390625], np.float32),
            np.uint16,
            [0x3F80, 0x3F80],
        ),  # a tie goes to the even neighbour
        (np.array([0x3F80, 0xC000], np.uint16), np.float32, [1.0, -2.0]),
        (np.array([0x3F80, 0xC000], np.uint16), np.float16, [1.0, -2.0]),
    ],
)
def test_copied_elements_take_the_type_of_the_result(
    source: NDArray[Any], out: Any, expected: list[float]
) -> None:
    made = np.zeros(2, out)
    FirstRows(Share(), 0, 0).write(0, [source], made)
    assert made.tolist() == expected
