"""How the matrices of several adapters become one: the methods of PEFT's `add_weighted_adapter`, on
the matrices of one module. The sum meant is Σ w_i s_i B_i A_i.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pomona.merge.preparing.low_rank import truncated

Array = NDArray[np.float64]
_ROUNDING = 1e-13  # of what was added up: what is left below it was taken away
AdapterMethod = Literal[
    "cat",
    "svd",
    "linear",
    "ties",
    "dare_linear",
    "dare_ties",
    "magnitude_prune",
    "ties_svd",
    "dare_linear_svd",
    "dare_ties_svd",
    "magnitude_prune_svd",
]
METHODS: tuple[str, ...] = get_args(AdapterMethod)
MajoritySign = Literal["total", "frequency"]


@dataclass(frozen=True)
class LoraMatrices:
    """A (rank × inputs) and B (outputs × rank) of one adapter, its scale s and its weight w; `name`
    is the adapter's.
    """

    a: Array
    b: Array
    scale: float
    weight: float
    name: str

    @property
    def factor(self) -> float:
        """What stands before B·A in the sum."""
        return self.weight * self.scale

    @property
    def rank(self) -> int:
        """The inner dimension."""
        return len(self.a)


@dataclass(frozen=True)
class CombiningRule:
    """A method with its settings. density: the share that is kept. seed: of what DARE draws."""

    method: str
    rank: int | None = None
    density: float | None = None
    majority_sign: MajoritySign = "total"
    seed: int = 0

    @property
    def whole(self) -> bool:
        """Whether the products are combined, and not A and B apart."""
        return self.method.endswith("svd")

    @property
    def prunes(self) -> bool:
        """Whether a density is needed."""
        return self.method not in ("cat", "svd", "linear")

    def combined(self, module: str, parts: Sequence[LoraMatrices]) -> tuple[Array, Array]:
        """A and B of the result, its scale 1. Raises ValueError for ranks that differ where A and B
        are combined apart.
        """
        if self.method == "cat":
            return (
                np.concatenate([part.factor * part.a for part in parts]),
                np.concatenate([part.b for part in parts], 1),
            )
        if self.method == "svd":
            return _product_svd(parts, self._most(parts))
        if self.whole:
            changes = [part.scale * part.b @ part.a for part in parts]
            weights = [part.weight for part in parts]
            names = [part.name for part in parts]
            return _cut(self._sum(changes, weights, names, f"{module}.BA"), self._most(parts))
        if len({part.rank for part in parts}) > 1:
            raise ValueError(", ".join(f"{part.name} has rank {part.rank}" for part in parts))
        roots = [abs(part.factor) ** 0.5 for part in parts]
        signed = [np.copysign(root, part.factor) for root, part in zip(roots, parts, strict=True)]
        names = [part.name for part in parts]
        return (
            self._sum([part.a for part in parts], signed, names, f"{module}.A"),
            self._sum([part.b for part in parts], roots, names, f"{module}.B"),
        )

    def _most(self, parts: Sequence[LoraMatrices]) -> int:
        return self.rank or max(part.rank for part in parts)

    def _sum(
        self, values: Sequence[Array], weights: Sequence[float], names: Sequence[str], what: str
    ) -> Array:
        kept = [
            self._pruned(value, f"{what}\0{name}") if self.prunes else value
            for value, name in zip(values, names, strict=True)
        ]
        total = np.zeros_like(values[0])
        if "ties" not in self.method:
            for value, weight in zip(kept, weights, strict=True):
                total += weight * value
            return total
        votes = [np.sign(value) if self.majority_sign == "frequency" else value for value in kept]
        sign = np.where(sum(votes) >= 0, 1.0, -1.0)
        agreeing = np.zeros_like(total)
        for value, weight in zip(kept, weights, strict=True):
            agrees = np.sign(value) == sign
            total += weight * value * agrees
            agreeing += agrees
        return total / np.maximum(agreeing, 1)

    def _pruned(self, values: Array, what: str) -> Array:
        density = self.density or 0.0
        if density >= 1:
            return values
        if self.method.startswith("dare"):
            # Drawn by seed, module, part and adapter, so that their order changes nothing.
            key = hashlib.blake2b(f"pomona\0{self.seed}\0{what}".encode(), digest_size=16).digest()
            draw = np.random.Generator(np.random.Philox(key=np.frombuffer(key, np.uint64)))
            return values * (draw.random(values.shape) < density) / density
        # The largest; of equal ones those that come first.
        order = np.argsort(-np.abs(values).ravel(), kind="stable")[: int(density * values.size)]
        mask = np.zeros(values.size)
        mask[order] = 1
        return values * mask.reshape(values.shape)


def _product_svd(parts: Sequence[LoraMatrices], rank: int) -> tuple[Array, Array]:
    """The singular value decomposition of the sum, from its factors: two QR decompositions and one
    of their small core.
    """
    left = np.concatenate([part.b * part.factor for part in parts], 1)
    right = np.concatenate([part.a for part in parts])
    q, r = np.linalg.qr(left)
    p, s = np.linalg.qr(right.T)
    u, values, v = np.linalg.svd(r @ s.T)
    rounding = _ROUNDING * np.linalg.norm(left) * np.linalg.norm(right)
    kept = min(rank, int((values > rounding).sum()))
    return v[:kept] @ p.T, q @ (u[:, :kept] * values[:kept])


def _cut(change: Array, rank: int) -> tuple[Array, Array]:
    first: Callable[[Array], int] = partial(_at_most, rank)
    a, b, _ = truncated(change, first)
    lengths = np.linalg.norm(a, axis=1, keepdims=True)  # √S: B = U·S and A = Vᵀ, as in PEFT
    return a / np.where(lengths > 0, lengths, 1), b * lengths[:, 0]


def _at_most(rank: int, values: Array) -> int:
    return min(rank, len(values))


def distance(parts: Sequence[LoraMatrices], a: Array, b: Array) -> float:
    """‖Δ − BA‖ / ‖Δ‖ in the Frobenius norm, Δ the sum meant, by the Gram matrices of the factors;
    0 where both are zero.
    """
    left = np.concatenate([part.b * part.factor for part in parts], 1)
    right = np.concatenate([part.a for part in parts])
    whole = _square(left, right)
    difference = _square(np.concatenate([left, -b], 1), np.concatenate([right, a]))
    return float((max(difference, 0.0) / whole) ** 0.5) if whole > 0 else float(difference > 0)


def _square(left: Array, right: Array) -> float:
    return float(((left.T @ left) * (right @ right.T)).sum())
