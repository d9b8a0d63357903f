"""A learned choice among candidates that come from everywhere: what is known of each, its features,
is weighed to a score, and the highest is taken.

The weights maximise the expected utility of a draw from the softmax of the scores of each pool
(minimum risk training, Smith & Eisner 2006; Shen et al. 2016), on items whose references are known:
validation items. What such a selector is worth is what it chooses for items of clusters that it has
not seen: `cross_fitted`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize

from pomona.documents import read_json
from pomona.errors import PomonaError
from pomona.files import json_text, write_json

_FORM = "pomona-selector-1"
_PENALTY = 0.01  # of the squared weights of features of unit variance
_NO_SELECTOR = "give the file that a selector was saved to"

Pools = Sequence[NDArray[np.float64]]


@dataclass(frozen=True)
class Selector:
    """Scores candidates by their features, which have `names`: the sum of (feature − `centre`) /
    `scale` × `weights`, all `[f]`. `learned` says from what and how it was learned, such as the
    metric, the number of items and the seed: it is kept in the file, and no part of the signature.
    """

    names: tuple[str, ...]
    centre: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    learned: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @classmethod
    def fit(
        cls,
        features: Sequence[ArrayLike],
        utilities: Sequence[ArrayLike],
        names: Sequence[str],
        *,
        penalty: float = _PENALTY,
    ) -> Selector:
        """Learn from n pools: `features` `[n][k, f]` and `utilities` `[n][k]`, higher being better,
        where k may vary.

        A feature that never varies weighs nothing. Deterministic. Raises PomonaError for no pools,
        empty ones, other shapes, numbers that are not finite, utilities that are all the same
        within every pool, and a `penalty` that is not above 0.
        """
        if not 0 < penalty < np.inf:
            message = f"a penalty of {penalty}"
            raise PomonaError(message, where="penalty", remedy="give a number above 0")
        pools = _checked(features, len(names))
        worth = _worth(utilities, pools)
        every = np.concatenate(pools)
        centre, scale = every.mean(0), every.std(0)
        varies = scale > 1e-9 * (1 + np.abs(centre))
        scale = np.where(varies, scale, 1.0)
        unit = np.where(varies, (every - centre) / scale, 0.0)
        weights = _maximised(unit, worth, np.array([len(pool) for pool in pools]), penalty)
        one, other, last = (tuple(each.tolist()) for each in (centre, scale, weights))
        return cls(tuple(names), one, other, last)

    def scores(self, features: Sequence[ArrayLike]) -> list[NDArray[np.float64]]:
        """The score of each candidate of each pool, `[n][k]`. Raises PomonaError as `fit` does."""
        pools = _checked(features, len(self.names))
        centre, weights = np.array(self.centre), np.array(self.weights) / np.array(self.scale)
        return [(pool - centre) @ weights for pool in pools]

    def choose(self, features: Sequence[ArrayLike]) -> NDArray[np.intp]:
        """The candidate of each pool with the highest score, `[n]`. Scores that agree to nine
        decimals are equal, and the first of equals is taken.
        """
        scores = self.scores(features)
        return np.array([int(np.argmax(np.round(each, 9))) for each in scores], np.intp)

    @cached_property
    def signature(self) -> str:
        """16 hex digits of the form and all numbers."""
        return hashlib.sha256(json_text(self.document()).encode()).hexdigest()[:16]

    def save(self, path: str | Path) -> None:
        """Write it as JSON."""
        write_json(path, self.document() | {"learned": dict(self.learned)})

    @classmethod
    def load(cls, path: str | Path) -> Selector:
        """What `save` wrote. Raises PomonaError for a file that is no selector."""
        return cls.of(read_json(path, remedy=_NO_SELECTOR), path)

    @classmethod
    def of(cls, document: object, where: str | Path) -> Selector:
        """What `document` gave, read in `where`. Raises PomonaError for what is no selector."""
        found = dict(document) if isinstance(document, dict) else {}
        columns = ("names", "centre", "scale", "weights")
        told = found.pop("learned", {})
        fits = set(found) == {"form", *columns} and isinstance(told, dict)
        if found.get("form") != _FORM or not fits:
            raise PomonaError("is no selector", where=where, remedy=_NO_SELECTOR)
        names, *numbers = (found[column] for column in columns)
        whole = _are(names, str) and all(_are(each, int | float) for each in numbers)
        if not whole or len({len(each) for each in (names, *numbers)}) != 1 or 0 in numbers[1]:
            message = "is a selector whose names and numbers do not fit together"
            raise PomonaError(message, where=where, remedy=_NO_SELECTOR)
        return cls(tuple(names), *(tuple(map(float, each)) for each in numbers), learned=told)

    def document(self) -> dict[str, Any]:
        """All that it chooses by, as JSON has it."""
        return {
            "form": _FORM,
            "names": list(self.names),
            "centre": list(self.centre),
            "scale": list(self.scale),
            "weights": list(self.weights),
        }


def cross_fitted(
    features: Sequence[ArrayLike],
    utilities: Sequence[ArrayLike],
    names: Sequence[str],
    clusters: Sequence[str],
    *,
    folds: int = 5,
    seed: int = 0,
    penalty: float = _PENALTY,
) -> NDArray[np.intp]:
    """What selectors choose that have not seen the cluster of what they choose for, `[n]`: clusters
    are dealt into `folds` by `seed`, and each fold is chosen by what was learned from the others.

    So it tells what one learned from all of them is worth elsewhere, rather too little. Raises
    PomonaError as `Selector.fit`, for another number of clusters than of pools, and for fewer
    clusters than folds or fewer than two folds.
    """
    if len(clusters) != len(features) or len(utilities) != len(features):
        message = (
            f"{len(features)} pools of features, {len(utilities)} of utilities and "
            f"{len(clusters)} clusters"
        )
        raise PomonaError(message, remedy="give each pool its utilities and its cluster")
    labels, member = np.unique(np.asarray(clusters, dtype=object), return_inverse=True)
    if not 2 <= folds <= len(labels):
        remedy = f"ask for 2 to {len(labels)} folds" if len(labels) > 1 else "give more clusters"
        raise PomonaError(f"{folds} folds of {len(labels)} clusters", where="folds", remedy=remedy)
    dealt = np.random.default_rng(seed).permutation(len(labels)) % folds
    fold, picks = dealt[member], np.zeros(len(features), np.intp)
    for number in range(folds):
        learned, held = (np.flatnonzero(at).tolist() for at in (fold != number, fold == number))
        selector = Selector.fit(
            [features[i] for i in learned],
            [utilities[i] for i in learned],
            names,
            penalty=penalty,
        )
        picks[held] = selector.choose([features[i] for i in held])
    return picks


def _are(values: object, kind: Any) -> bool:
    return isinstance(values, list) and all(
        isinstance(value, kind) and not isinstance(value, bool) for value in values
    )


def _checked(features: Sequence[ArrayLike], width: int) -> Pools:
    if not len(features):
        raise PomonaError("there are no pools", where="features", remedy="give at least one")
    pools = [np.asarray(pool, np.float64) for pool in features]
    for at, pool in enumerate(pools):
        if pool.ndim != 2 or not len(pool) or pool.shape[1] != width:
            message = f"has the shape {list(pool.shape)}, and {width} features have names"
            remedy = "give every candidate of a pool one number a name, and a pool a candidate"
            raise PomonaError(message, where=f"pool {at + 1}", remedy=remedy)
        if not np.isfinite(pool).all():
            remedy = "give 0 and a feature that says so where a number is not known"
            raise PomonaError(
                "has features that are no numbers", where=f"pool {at + 1}", remedy=remedy
            )
    return pools


def _worth(utilities: Sequence[ArrayLike], pools: Pools) -> NDArray[np.float64]:
    """The utilities end to end, less the mean of their pool, in units of what is left."""
    if len(utilities) != len(pools):
        message = f"{len(utilities)} utilities of {len(pools)} pools"
        raise PomonaError(message, where="utilities", remedy="give those of every candidate")
    centred = []
    for at, (values, pool) in enumerate(zip(utilities, pools, strict=True)):
        worth = np.asarray(values, np.float64)
        if worth.shape != (len(pool),) or not np.isfinite(worth).all():
            message = f"has {len(pool)} candidates, and utilities of the shape {list(worth.shape)}"
            remedy = "give one finite number a candidate"
            raise PomonaError(message, where=f"pool {at + 1}", remedy=remedy)
        centred.append(worth - worth.mean())
    every = np.concatenate(centred)
    unit = float(np.sqrt(np.mean(every**2)))
    if unit <= 1e-12:
        remedy = "give pools in which one candidate is better than another"
        raise PomonaError("no candidate is better than another of its pool", remedy=remedy)
    return every / unit


def _maximised(
    unit: NDArray[np.float64], worth: NDArray[np.float64], sizes: NDArray[np.intp], penalty: float
) -> NDArray[np.float64]:
    """The weights `[f]` of most expected worth a pool, less the penalty."""
    n, owner = len(sizes), np.repeat(np.arange(len(sizes)), sizes)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Minus the expected worth of a choice by softmax, penalised, and its slope."""
        score = unit @ weights
        odds = np.exp(score - np.maximum.reduceat(score, starts)[owner])
        p = odds / np.add.reduceat(odds, starts)[owner]
        expected = np.add.reduceat(p * worth, starts)
        slope = unit.T @ (p * (worth - expected[owner])) / n
        return (
            float(penalty / 2 * weights @ weights - expected.mean()),
            penalty * weights - slope,
        )

    found: Any = minimize(loss, np.zeros(unit.shape[1]), jac=True, method="L-BFGS-B")
    return found.x
