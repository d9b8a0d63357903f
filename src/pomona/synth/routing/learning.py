"""How a router is learned: its temperature, penalty and cost term are chosen on rows whose sources
it has not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax

from pomona.errors import PomonaError, quantity
from pomona.stats import rows_of, softmax_regression
from pomona.synth.routing.features import Features, Sees
from pomona.synth.routing.measured import PRIOR, gains
from pomona.synth.routing.policies import Group, grouped, lot
from pomona.synth.routing.pool import Pool
from pomona.synth.routing.router import Router
from pomona.synth.teachers import Assignment

_TEMPERATURES = (0.25, 0.5, 1.0)  # of the targets, times the usual spread of a row's rewards
_PENALTIES = (1e-3, 3e-3, 1e-2)
_COST_WEIGHTS = (0.0, *(float(w) for w in np.geomspace(0.005, 2, 14)))


@dataclass(frozen=True)
class Form:
    """How a router is learned. `temperatures` are relative to the median of the standard deviation
    of a row's rewards; of them, of `penalties` and of `cost_weights` the best are chosen on folds
    of clusters. sees: of a prompt. tolerance: reward that may be given up for lower costs.
    """

    sees: Sees = "both"
    bits: int = 16
    temperatures: tuple[float, ...] = _TEMPERATURES
    penalties: tuple[float, ...] = _PENALTIES
    cost_weights: tuple[float, ...] = _COST_WEIGHTS
    tolerance: float = 0.0
    folds: int = 4
    seed: int = 0


def learn_router(
    pool: Pool,
    rewards: ArrayLike,
    *,
    costs: Mapping[str, float] | None = None,
    form: Form | None = None,
    by: Group | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Router:
    """Learn which teacher's answer has the highest reward, from answers to validation rows.

    Args:
        pool: The answers.
        rewards: Of its candidates `[c]`, NaN where unknown; higher is better.
        costs: Of an answer of each teacher, in one unit; without them none is taken off. They count
            as shares of the highest.
        form: How.
        by: A group of rows that the router sees in place of their language, such as the language
            and how near a memory's nearest row is.
        progress: Called with the temperatures done and all.

    Raises:
        PomonaError: fewer clusters than folds have two answers that differ, or a teacher has no
            cost.
    """
    form = form or Form()
    matrix = pool.matrix(rewards)
    useful = np.flatnonzero(np.ptp(np.nan_to_num(matrix, nan=0.0), axis=1) > 0)
    useful = np.array([at for at in useful if _differ(matrix[at])], np.intp)
    rows = grouped([pool.rows[int(at)] for at in useful], by)
    data = _Data(
        Features(tuple(sorted({row.lang for row in rows})), form.sees, form.bits),
        rows,
        matrix[useful],
        _folds(rows, form),
    )
    spread = float(np.median(np.nanstd(data.matrix, axis=1)))
    grid = []
    for done, relative in enumerate(form.temperatures):
        if progress is not None:
            progress(done, len(form.temperatures))
        every = data.cross_fitted(spread * relative, form.penalties)
        grid += [(data.worth(held), p, -relative, held) for p, held in every.items()]
    value, penalty, relative, held = max(grid, key=lambda each: each[:3])
    share = _shares(pool.teachers, costs)
    weight = _cost_weight(data, softmax(held, axis=1), share, form)
    weights = data.fitted(-spread * relative, penalty)
    learned: dict[str, Any] = {
        "rows": len(rows),
        "clusters": len({row.cluster or row.text for row in rows}),
        "temperature": -spread * relative,
        "penalty": penalty,
        "unseen": value,
        "fixed": data.worth(data.by_language()),
        "grid": [[-spread * r, p, v] for v, p, r, _ in grid],
        "seed": form.seed,
    }
    return Router(pool.teachers, data.features, weights, tuple(share.tolist()), weight, learned)


class _Data:
    """The rows that teach, their rewards `[n, t]` and their folds `[n]`. Columns of one row alone
    tell nothing of others, and are left out: most n-grams are such.
    """

    def __init__(
        self,
        features: Features,
        rows: Sequence[Assignment],
        matrix: NDArray[np.float64],
        fold: NDArray[np.int64],
    ) -> None:
        self.features, self.matrix, self.fold = features, matrix, fold
        whole = features.of(rows)
        self.used = np.flatnonzero(np.bincount(whole.indices, minlength=features.columns) > 1)
        self.x = whole[:, self.used].tocsr().astype(np.float64)
        self.there = np.isfinite(matrix)
        self.langs = rows_of([row.lang for row in rows])

    def targets(self, temperature: float) -> NDArray[np.float64]:
        """softmax(reward / temperature) over the teachers that answered."""
        return softmax(np.where(self.there, self.matrix / temperature, -np.inf), axis=1)

    def fitted(self, temperature: float, penalty: float) -> NDArray[np.float32]:
        """The weights of all columns, by all rows."""
        weights = np.zeros((self.features.columns, self.matrix.shape[1]), np.float32)
        weights[self.used] = softmax_regression(
            self.x, self.targets(temperature), self.there, penalty
        )
        return weights

    def cross_fitted(
        self, temperature: float, penalties: Sequence[float]
    ) -> dict[float, NDArray[np.float64]]:
        """For each penalty the logits `[n, t]` of each row by a router that has not seen its fold;
        −∞ where a teacher did not answer.
        """
        targets = self.targets(temperature)
        told = {penalty: np.full(self.matrix.shape, -np.inf) for penalty in penalties}
        for fold in np.unique(self.fold):
            seen, held = self.fold != fold, self.fold == fold
            x, own, there, weights = self.x[seen], targets[seen], self.there[seen], None
            for penalty in sorted(penalties, reverse=True):  # each starts from the one before
                weights = softmax_regression(x, own, there, penalty, weights)
                told[penalty][held] = self.x[held] @ weights
        return {penalty: np.where(self.there, each, -np.inf) for penalty, each in told.items()}

    def by_language(self) -> NDArray[np.float64]:
        """What each teacher gains in a row's language, by the rows of other folds, `[n, t]`; −∞
        where it did not answer.
        """
        told = np.full(self.matrix.shape, -np.inf)
        for fold in np.unique(self.fold):
            seen = np.flatnonzero(self.fold != fold)
            every = gains(self.matrix[seen])
            for rows in self.langs.values():
                held = rows[self.fold[rows] == fold]
                told[held] = gains(self.matrix[np.intersect1d(rows, seen)], PRIOR, every)
        return np.where(self.there, told, -np.inf)

    def worth(self, scores: NDArray[np.float64]) -> float:
        """The mean reward of the highest."""
        picks = scores.argmax(1)
        return float(self.matrix[np.arange(len(picks)), picks].mean())


def _differ(rewards: NDArray[np.float64]) -> bool:
    told = rewards[np.isfinite(rewards)]
    return len(told) > 1 and bool(np.ptp(told) > 0)


def _folds(rows: Sequence[Assignment], form: Form) -> NDArray[np.int64]:
    clusters = sorted({row.cluster or row.text for row in rows}, key=lambda c: lot(form.seed, c))
    if len(clusters) < form.folds:
        message = (
            f"{quantity(len(clusters), 'source has', 'sources have')} answers that differ in reward"
        )
        raise PomonaError(message, where="the router", remedy=f"give at least {form.folds}")
    number = {cluster: at % form.folds for at, cluster in enumerate(clusters)}
    return np.array([number[row.cluster or row.text] for row in rows])


def _shares(teachers: Sequence[str], costs: Mapping[str, float] | None) -> NDArray[np.float64]:
    if costs is None:
        return np.zeros(len(teachers))
    for name in teachers:
        if name not in costs:
            raise PomonaError("has no cost", where=name, remedy="give the costs of all teachers")
    told = np.array([costs[name] for name in teachers], np.float64)
    return told / max(float(told.max()), 1e-300)


def _cost_weight(
    data: _Data, told: NDArray[np.float64], share: NDArray[np.float64], form: Form
) -> float:
    """The largest weight whose reward on unseen rows is not below the best by more than the
    tolerance.
    """
    if not share.any():
        return 0.0
    told = np.where(data.there, told, -np.inf)
    worth = {weight: data.worth(told - weight * share) for weight in form.cost_weights}
    best = max(worth.values())
    return max(weight for weight, value in worth.items() if value >= best - form.tolerance)
