"""Which teacher is best for which group, measured on answers whose worth is known."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pomona.stats import rows_of
from pomona.synth.routing.policies import Fixed, Group, grouped
from pomona.synth.routing.pool import Pool

PRIOR = 5.0  # rows that the teachers' standing in all groups counts as, in each


def measure_fixed(pool: Pool, rewards: ArrayLike, by: Group | None = None) -> Fixed:
    """The table of a fixed policy: in each group the teachers by what they gain, the highest first;
    after those that answered there, the others.

    What a teacher gains is fitted beside what each row is worth (two-way least squares), since not
    all answer the same rows. In a group of few rows it is drawn to what it gains in all groups
    (ridge of five rows).

    Args:
        pool: Answers, of validation rows.
        rewards: Of its candidates `[c]`, NaN where unknown.
        by: The group of a row, its language when left out.
    """
    matrix = pool.matrix(rewards)
    groups = [row.lang for row in grouped(pool.rows, by)]
    every = gains(matrix)
    overall = _ranking(pool.teachers, every, np.any(np.isfinite(matrix), axis=0))
    table = {}
    for group, rows in rows_of(groups).items():
        part = matrix[rows]
        own = gains(part, PRIOR, every)
        table[group] = _ranking(pool.teachers, own, np.any(np.isfinite(part), axis=0))
    return Fixed(table, overall, by)


def gains(
    matrix: NDArray[np.float64], prior: float = 1e-9, centre: ArrayLike = 0.0
) -> NDArray[np.float64]:
    """What each teacher gains over the mean of teachers, `[t]`, from rewards `[n, t]` that are NaN
    where there is none: least squares of a row's and a teacher's effect, with `prior` rows that
    say `centre`.
    """
    there = np.isfinite(matrix).astype(np.float64)
    count = there.sum(1, keepdims=True)
    told = np.where(there > 0, matrix, 0.0)
    mean = np.divide(told.sum(1, keepdims=True), count, out=np.zeros_like(count), where=count > 0)
    share = np.divide(there, count, out=np.zeros_like(there), where=count > 0)
    left = np.diag(there.sum(0)) - there.T @ share + prior * np.eye(matrix.shape[1])
    right = (there * (told - mean)).sum(0) + prior * np.broadcast_to(centre, matrix.shape[1])
    return np.linalg.solve(left, right)


def _ranking(
    teachers: tuple[str, ...], worth: NDArray[np.float64], there: NDArray[np.bool_]
) -> tuple[str, ...]:
    order = np.lexsort((np.arange(len(teachers)), -np.round(worth, 9), ~there))
    return tuple(teachers[int(at)] for at in order)
