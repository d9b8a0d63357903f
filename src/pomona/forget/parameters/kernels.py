"""One matrix predicted from the weights of a random part of its inputs by kernel ridge regression
(Denil et al. 2013, §3), and what it is compared with.
"""

from __future__ import annotations

import hashlib
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Kind = Literal["covariance", "squared_exponential", "random", "svd"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_SCALES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)  # of a squared exponential, in inputs


def chosen_inputs(name: str, inputs: int, count: int, seed: int) -> NDArray[np.int64]:
    """Which inputs of a matrix are known: `count` of them, rising, by its name and the seed. With
    another count they are the first ones of the same order, so that fractions nest.
    """
    digest = hashlib.sha256(f"{seed}\0{name}".encode()).digest()
    random = np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
    return np.sort(random.permutation(inputs)[:count])


def dictionary(kernel: Matrix, known: NDArray[np.int64], ridge: float) -> Matrix:
    """U `[known, inputs]` with W ≈ W[:, known] · U: U = (K_kk + λI)⁻¹ K_k·, where λ is `ridge`
    times the mean of the kernel's diagonal.
    """
    inner = kernel[np.ix_(known, known)]
    penalty = ridge * max(float(np.trace(kernel)) / len(kernel), np.finfo(np.float64).tiny)
    made = np.linalg.solve(inner + penalty * np.eye(len(known)), kernel[known])
    return made.astype(np.float64, copy=False)


def squared_exponential(inputs: int, scale: float) -> Matrix:
    """exp(−(i − j)² / 2·scale²) over the places of inputs."""
    places = np.arange(inputs, dtype=np.float64)
    return np.exp(-np.square(places[:, None] - places) / (2 * scale * scale))


def fitted_scale(weights: Matrix, known: NDArray[np.int64], ridge: float) -> float:
    """The scale with which half of the known inputs predict the other half best: what is not known
    has no part in the choice.
    """
    shown, hidden = known[::2], known[1::2]
    if not len(hidden):
        return _SCALES[0]

    def error(scale: float) -> float:
        made = dictionary(squared_exponential(weights.shape[1], scale), shown, ridge)
        return float(np.square(weights[:, shown] @ made[:, hidden] - weights[:, hidden]).sum())

    return min(_SCALES, key=error)


def kernel_of(
    kind: Kind, weights: Matrix, known: NDArray[np.int64], moments: Matrix | None, ridge: float
) -> Matrix:
    """How inputs are related: by what goes into them (`moments`, the mean of x·xᵀ over texts), by
    their places, or not at all: what is not known is 0 then.
    """
    if kind == "covariance":
        assert moments is not None, "covariance needs what goes into the matrix"
        return moments
    if kind == "random":
        return np.eye(weights.shape[1])
    return squared_exponential(weights.shape[1], fitted_scale(weights, known, ridge))


def predicted(
    kind: Kind,
    name: str,
    weights: Matrix,
    fraction: float,
    *,
    moments: Matrix | None = None,
    ridge: float = 1e-3,
    seed: int = 0,
) -> Matrix:
    """A matrix (outputs × inputs) from `fraction` of its weights: those of a random part of its
    inputs, as they are, and the others predicted; "svd": from as many parameters, the nearest
    matrix of the rank r with r·(outputs + inputs) of them.
    """
    outputs, inputs = weights.shape
    if kind == "svd":
        rank = max(1, round(fraction * outputs * inputs / (outputs + inputs)))
        u, s, v = np.linalg.svd(weights, full_matrices=False)
        return (u[:, :rank] * s[:rank]) @ v[:rank]
    known = chosen_inputs(name, inputs, max(1, round(fraction * inputs)), seed)
    kernel = kernel_of(kind, weights, known, moments, ridge)
    made = weights[:, known] @ dictionary(kernel, known, ridge)
    made[:, known] = weights[:, known]
    return made
