"""Where to begin: for each pair of exponents on a grid, the best E, A and B that are not negative
(Golub and Pereyra's variable projection, with Huber's weights).
"""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pomona.scale.laws.huber import Loss

Floats = NDArray[np.float64]
_ROUNDS = 3
_LEAST = 1e-9  # of a term beside the loss: its logarithm is to be fitted from there


class Columns(NamedTuple):
    """Terms `[g, n, k]` of which a sum with weights ≥ 0 is to be `target` `[g, n]`, at nodes with
    the other parameters `theta` `[g, p]`; the loss is `target` to the power `power`.
    """

    terms: Floats
    target: Floats
    power: float
    theta: Floats


def starts(columns: Columns, loss: Loss) -> tuple[Floats, Floats]:
    """Parameters at each node, logarithms of the weights first, `[g, k + p]`; and what each run
    costs there, `[g, n]`.
    """
    scaled = columns.terms / columns.target[..., None]
    size = scaled.mean(1, keepdims=True)
    scaled /= size
    factors = _not_negative(scaled, np.ones(columns.target.shape))
    residuals = _residuals(columns, scaled, factors)
    for _ in range(_ROUNDS):
        factors = _not_negative(scaled, loss.weights(residuals))
        residuals = _residuals(columns, scaled, factors)
    logs = np.log(np.maximum(factors, _LEAST) / size[:, 0])
    return np.hstack([logs, columns.theta]), loss(residuals)


def _residuals(columns: Columns, scaled: Floats, factors: Floats) -> Floats:
    return columns.power * np.log(np.maximum(np.einsum("gnk,gk->gn", scaled, factors), 1e-12))


def _not_negative(terms: Floats, weights: Floats) -> Floats:
    """Factors ≥ 0 `[g, k]` for which the terms `[g, n, k]` are nearest to 1 in weighted squares:
    the best of all subsets, which are seven at most.
    """
    weighted = terms * weights[..., None]
    gram = np.matmul(weighted.transpose(0, 2, 1), terms)
    right = weighted.sum(1)
    best, found = np.full(len(terms), np.inf), np.zeros(right.shape)
    k = terms.shape[2]
    for size in range(1, k + 1):
        for chosen in combinations(range(k), size):
            places = np.array(chosen)
            part = gram[:, places[:, None], places]
            ridge = 1e-13 * np.einsum("gkk->gk", part).max(1)
            part = part + ridge[:, None, None] * np.eye(size)
            factors = np.linalg.solve(part, right[:, places, None])[..., 0]
            gained = -np.einsum("gk,gk->g", factors, right[:, places])
            better = (factors >= 0).all(1) & (gained < best)
            best = np.where(better, gained, best)
            found[better] = 0
            found[np.ix_(better, places)] = factors[better]
    return found
