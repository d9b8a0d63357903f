"""Multinomial logistic regression on sparse features, with hard or soft targets."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_STEPS = 200  # of L-BFGS
_PRECISION = 1e-6  # of the loss, relative


def softmax_regression(
    x: Any,
    targets: NDArray[np.float64],
    there: NDArray[np.bool_],
    penalty: float,
    start: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Weights `[columns, t]` that make the cross entropy of `targets` `[n, t]` least, over the
    teachers that are `there`, with `penalty` / 2 of the squared weights; sought from `start`.
    """
    # Of scipy, whose import takes longer than most commands have.
    from scipy.optimize import minimize
    from scipy.special import log_softmax

    turned = x.T.tocsr()
    n, t = targets.shape
    blocked = np.where(there, 0.0, -np.inf)

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights = flat.reshape(-1, t)
        told = log_softmax(x @ weights + blocked, axis=1)
        entropy = -float((targets * np.where(there, told, 0.0)).sum()) / n
        slope = turned @ ((np.exp(told) - targets) / n) + penalty * weights
        return entropy + penalty / 2 * float(flat @ flat), slope.ravel()

    first = np.zeros(x.shape[1] * t) if start is None else start.ravel()
    how = {"maxiter": _STEPS, "ftol": _PRECISION}
    return minimize(loss, first, jac=True, method="L-BFGS-B", options=how).x.reshape(-1, t)
