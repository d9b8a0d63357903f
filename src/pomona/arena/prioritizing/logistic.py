"""Logistic regression with effects of prompts, every group of coefficients shrunk as far as the
data say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pomona.arena.prioritizing.pairs import Floats, Ints

_INTERCEPT = 0.1  # precision of the first coefficient about 0: it is known from the first votes on
_ROUNDS, _STEPS = 40, 20
_LEAST, _MOST = 1e-2, 1e5  # precisions


@dataclass(frozen=True)
class Design:
    """What a share of votes is told from.

    common: float64 [n, g] columns with one coefficient each, the first of ones.
    common_group: [g] the group of each, whose precision is shared; -1 of the first.
    own: float64 [n, q] columns whose coefficients differ from prompt to prompt.
    own_group: [q] the group of each, numbered after those of `common`.
    prompt: int64 [n].
    """

    common: Floats
    common_group: NDArray[np.int64]
    own: Floats
    own_group: NDArray[np.int64]
    prompt: Ints

    @property
    def groups(self) -> int:
        """Groups of coefficients."""
        return int(max(self.common_group.max(), self.own_group.max(initial=-1))) + 1


@dataclass(frozen=True)
class Coefficients:
    """common [g]; own [prompts, q], 0 for a prompt without votes; precision [groups]."""

    common: Floats
    own: Floats
    precision: Floats

    def logits(self, design: Design) -> Floats:
        """The log odds of each row of a design [n]."""
        own = (design.own * self.own[design.prompt]).sum(1)
        return design.common @ self.common + own


def fit(
    design: Design,
    votes: Floats,
    hits: Floats,
    prompts: int,
    precision: Floats | None = None,
) -> Coefficients:
    """Coefficients with normal priors about 0, one precision a group: the most likely ones given
    the precisions, which are found by MacKay's fixed point (1992, "The evidence framework applied
    to classification networks") unless they are given.

    votes, hits: float64 [n] trials and successes of each row. Rows without votes do not count.
    The Hessian is an arrow: what prompts share, and a small block a prompt, so that time is linear
    in their number.
    """
    problem = _Problem(design, votes, hits, prompts)
    found = np.ones(design.groups) if precision is None else precision
    if precision is None:
        for _ in range(_ROUNDS):
            # Two steps a round: both the coefficients and their precisions are on their way.
            updated = problem.updated(found, problem.newton(found, 2))
            settled = np.allclose(np.log(updated), np.log(found), atol=0.05)
            found = updated
            if settled:
                break
    problem.newton(found, _STEPS)
    return Coefficients(problem.common, problem.own, found)


class _Problem:
    def __init__(self, design: Design, votes: Floats, hits: Floats, prompts: int) -> None:
        rows = np.flatnonzero(votes > 0)
        rows = rows[np.argsort(design.prompt[rows], kind="stable")]
        self.x, self.z = design.common[rows], design.own[rows]
        self.votes, self.hits = votes[rows], hits[rows]
        self.seen, starts = np.unique(design.prompt[rows], return_index=True)
        self.place = np.searchsorted(self.seen, design.prompt[rows])
        self.parts = list(zip(starts, [*starts[1:], len(rows)], strict=True))
        self.groups = design.common_group, design.own_group
        self.common, self.own = np.zeros(self.x.shape[1]), np.zeros((prompts, self.z.shape[1]))
        share = (self.hits.sum() + 0.5) / (self.votes.sum() + 1)
        self.common[0] = np.log(share / (1 - share))

    def newton(self, precision: Floats, steps: int) -> tuple[Floats, Floats]:
        """Move to the most likely coefficients, and return the diagonals of the inverse Hessian
        there: of common [g] and of own [prompts seen, q].
        """
        common_group, own_group = self.groups
        ridge = np.where(common_group < 0, _INTERCEPT, precision[common_group])
        own_ridge = precision[own_group] if len(own_group) else np.zeros(0)
        inner, folded, bread = (np.zeros(0),) * 3
        for _ in range(steps):
            own = self.own[self.seen]
            logits = self.x @ self.common + (self.z * own[self.place]).sum(1)
            mean = 1 / (1 + np.exp(-np.clip(logits, -30, 30)))
            rest, weight = self.hits - self.votes * mean, self.votes * mean * (1 - mean)
            blocks = list(self._blocks(weight))
            across = np.stack([block[0] for block in blocks])
            inner = np.linalg.inv(np.stack([block[1] for block in blocks]) + np.diag(own_ridge))
            slope = self.x.T @ rest - ridge * self.common
            own_slope = self._summed(rest) - own_ridge * own
            folded = across @ inner
            whole = (self.x.T * weight) @ self.x + np.diag(ridge)
            bread = np.linalg.inv(whole - np.einsum("pgq,phq->gh", folded, across))
            step = bread @ (slope - np.einsum("pgq,pq->g", folded, own_slope))
            own_step = np.einsum("pqr,pr->pq", inner, own_slope - across.transpose(0, 2, 1) @ step)
            scale = min(1.0, 4 / max(float(np.abs(step).max()), 1e-12))
            self.common += scale * step
            self.own[self.seen] += scale * own_step
            if np.abs(step).max() < 1e-6:
                break
        spread = np.einsum("pqq->pq", inner) + np.einsum("pgq,gh,phq->pq", folded, bread, folded)
        return np.diag(bread), spread

    def _blocks(self, weight: Floats) -> Iterator[tuple[Floats, Floats]]:
        """The part of the Hessian between common and own of each prompt, and that among own."""
        for start, stop in self.parts:
            own = self.z[start:stop]
            weighted = own * weight[start:stop, None]
            yield self.x[start:stop].T @ weighted, own.T @ weighted

    def _summed(self, rest: Floats) -> Floats:
        starts = [start for start, _ in self.parts]
        return np.add.reduceat(self.z * rest[:, None], starts, axis=0)

    def updated(self, precision: Floats, spread: tuple[Floats, Floats]) -> Floats:
        """Precisions by how much of each group's coefficients the data tell."""
        common_group, own_group = self.groups
        found = precision.copy()
        for group in range(len(precision)):
            mine, own = common_group == group, own_group == group
            values = np.concatenate([self.common[mine], self.own[self.seen][:, own].ravel()])
            variance = spread[0][mine].sum() + spread[1][:, own].sum()
            told = len(values) - precision[group] * variance
            square = max(float(values @ values), 1e-9)
            found[group] = np.clip(max(told, 1e-9) / square, _LEAST, _MOST)
        return found


def standard(columns: Sequence[Floats]) -> Floats:
    """Columns [n, k] with mean 0 and standard deviation 1; what is not known is at the mean."""
    if not columns:
        return np.zeros((0, 0))
    found = np.stack(columns, 1)
    known = np.isfinite(found)
    many = np.maximum(known.sum(0), 1)
    mean = np.where(known, found, 0).sum(0) / many
    off = np.where(known, found - mean, 0)
    spread = np.sqrt((off**2).sum(0) / many)
    return off / np.where(spread > 1e-12, spread, 1)


def standard_within(columns: Sequence[Floats], prompt: Ints) -> Floats:
    """The same within each prompt; 0 where a prompt has fewer than three rows."""
    found = standard(columns)
    many = np.bincount(prompt).astype(np.float64)
    at = np.maximum(many, 1)
    for column in found.T:
        column -= (np.bincount(prompt, column) / at)[prompt]
        spread = np.sqrt(np.bincount(prompt, column**2) / at)
        column /= np.where(spread > 1e-9, spread, 1)[prompt]
    found[many[prompt] < 3] = 0
    return found
