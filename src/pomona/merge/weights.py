"""Merged weights of one tensor, in float32 or wider.

linear: Σ wᵢ θᵢ with Σ w = 1 (Wortsman et al. 2022, arXiv 2203.05482). slerp: Shoemake 1985, on the flattened tensor.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pomona.errors import PomonaError

PARALLEL = 0.9995  # above this cosine the arc is a line


def normalised(weights: Sequence[float]) -> NDArray[np.float32]:
    """Weights that sum to one. Raises PomonaError when they sum to zero or are not finite."""
    total = float(sum(weights))
    if not np.isfinite(total) or abs(total) < 1e-8:
        raise PomonaError(f"the weights {list(weights)} sum to {total:g}", where="weights", remedy="use weights whose sum is not zero")
    return np.array([w / total for w in weights], np.float32)


def linear(tensors: Sequence[NDArray[np.float32]], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weighted sum of tensors of one shape."""
    out = weights[0] * tensors[0]
    for tensor, weight in zip(tensors[1:], weights[1:], strict=True):
        out += weight * tensor
    return out


def slerp(first: NDArray[np.float32], second: NDArray[np.float32], t: float) -> NDArray[np.float32]:
    """Point at `t` on the arc from `first` (t = 0) to `second` (t = 1); linear when they are parallel or one is zero."""
    a, b = first.ravel().astype(np.float64), second.ravel().astype(np.float64)
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    cosine = float(a @ b) / norms if norms > 0 else 1.0
    if abs(cosine) > PARALLEL:
        return ((1 - t) * a + t * b).reshape(first.shape).astype(np.float32)
    angle = np.arccos(cosine)
    mixed = (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle)
    return mixed.reshape(first.shape).astype(np.float32)


def slerp_all(tensors: Sequence[NDArray[np.float32]], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Slerp of several tensors one after the other, each by its share of the weight so far; for two it is slerp itself."""
    out, so_far = tensors[0], float(weights[0])
    for tensor, weight in zip(tensors[1:], weights[1:], strict=True):
        so_far += float(weight)
        out = slerp(out, tensor, float(weight) / so_far)
    return out
