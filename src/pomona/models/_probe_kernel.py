"""Softmax statistics of rows of logits on a processor, in one pass with a vectorised
exponential.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba.core import types
from numba.extending import intrinsic
from numpy.typing import NDArray

_LOG2E = np.float32(1.44269504)
_LN2_HIGH, _LN2_LOW = (
    np.float32(0.693145752),
    np.float32(1.42860677e-6),
)  # their sum is ln 2; the first has room for an exact product
_C = tuple(
    np.float32(value)
    for value in (0.5, 0.16666666, 0.041666657, 0.0083333685, 0.0013888937, 0.00019841270)
)
_LOWEST = np.float32(-87.0)


@intrinsic
def _from_bits(context: Any, bits: Any) -> Any:
    """The float32 whose bits an int32 holds."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], _context.get_value_type(types.float32))

    return types.float32(types.int32), generate


@numba.njit(inline="always")
def _exp(x: Any) -> Any:
    """e^x for x ≤ 0, within 2e-7 of the value; below -87 it stays at e^-87."""
    x = max(x, _LOWEST)
    n = np.int32(x * _LOG2E - np.float32(0.5))
    whole = np.float32(n)
    r = (x - whole * _LN2_HIGH) - whole * _LN2_LOW
    tail = _C[0] + r * (_C[1] + r * (_C[2] + r * (_C[3] + r * (_C[4] + r * _C[5]))))
    scale = _from_bits(np.int32((n + np.int32(127)) << np.int32(23)))  # pyright: ignore[reportCallIssue]
    return (np.float32(1.0) + (r + r * r * tail)) * scale


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "nsz"})
def _sums(logits: Any, top: Any) -> Any:
    """Σe and Σe² of e = exp(logit - top)."""
    total, squares = np.float32(0.0), np.float32(0.0)
    for column in range(logits.shape[0]):
        weight = _exp(logits[column] - top)
        total += weight
        squares += weight * weight
    return total, squares


@numba.njit(cache=True, nogil=True)
def softmax_scores(
    logits: NDArray[np.float32],
    top: NDArray[np.float32],
    targets: NDArray[np.int64],
    loss: NDArray[np.float32],
    error: NDArray[np.float32],
) -> None:
    """Write -ln p(target) and ‖p - onehot(target)‖₂ of each row of `logits` `[rows, vocabulary]` to
    `loss` and `error` `[rows]`.

    `top` `[rows]` is the largest logit of each row; where it is not a number the results are not.
    The squared error is Σ_{i≠y} p_i² + (1 - p_y)², which is Σp² - 2p_y + 1 without the cancellation
    near p_y = 1.
    """
    for row in range(logits.shape[0]):
        target, high = targets[row], top[row]
        before = _sums(logits[row, :target], high)
        after = _sums(logits[row, target + 1 :], high)
        others, squares = np.float64(before[0]) + after[0], np.float64(before[1]) + after[1]
        own_log = np.float64(logits[row, target] - high)
        everything = others + np.exp(own_log)
        loss[row] = np.log(everything) - own_log
        error[row] = np.sqrt(squares + others * others) / everything
