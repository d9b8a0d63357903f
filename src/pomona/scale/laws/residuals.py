"""Log residuals of each form, as functions of what is fitted: logarithms of E, A and B at the mean
run, and exponents. So centred, what is fitted is much less correlated.
"""

from __future__ import annotations

from copy import copy
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pomona.scale.laws.forms import NAMES, evaluate
from pomona.scale.laws.huber import Derivatives
from pomona.scale.laws.projection import Columns

Floats = NDArray[np.float64]
LOW, HIGH = 0.01, 3.0  # exponents outside are none
_LOGS = 40.0
_GRID = np.geomspace(0.05, 2.0, 16)
_WORTH = (3.0, 12.0, 50.0)  # where R_D is tried first
_STEP = 1e-6


class Fitting(Protocol):
    """A form and the runs that it is fitted to."""

    size: int

    def residuals(self, theta: Floats) -> Floats: ...
    def derivatives(self, theta: Floats) -> Derivatives: ...
    def clipped(self, theta: Floats) -> Floats: ...
    def columns(self) -> list[Columns]: ...
    def values(self, theta: Floats) -> Floats: ...


class Terms:
    """Chinchilla's form, or without its floor: the logarithm of a sum of exponentials of what is
    linear in the parameters, so that second derivatives are exact and cheap.
    """

    def __init__(self, params: Floats, tokens: Floats, loss: Floats, *, floor: bool = True) -> None:
        self.n, self.d, self.observed = np.log(params), np.log(tokens), np.log(loss)
        self.middle = self.n.mean(), self.d.mean()
        self.n, self.d = self.n - self.middle[0], self.d - self.middle[1]
        self.floor, self.size = floor, 4 + floor

    def _terms(self, theta: Floats) -> Floats:
        """Logarithms of the two or three terms, `[k, b, n]`."""
        *_, a, b, alpha, beta = (theta[:, place, None] for place in range(self.size))
        terms = [a - alpha * self.n, b - beta * self.d]
        if self.floor:
            terms.insert(0, np.broadcast_to(theta[:, :1], terms[0].shape))
        return np.stack(terms)

    def residuals(self, theta: Floats) -> Floats:
        """Log of the predicted over the observed loss."""
        terms = self._terms(theta)
        highest = terms.max(0)
        return highest + np.log(np.exp(terms - highest).sum(0)) - self.observed

    def derivatives(self, theta: Floats) -> Derivatives:
        """The same, with slopes and what bends."""
        terms = self._terms(theta)
        highest = terms.max(0)
        shares = np.exp(terms - highest)
        total = shares.sum(0)
        shares /= total
        a, b = shares[-2], shares[-1]
        slopes = np.stack([*shares, -a * self.n, -b * self.d], -1)
        residuals = highest + np.log(total) - self.observed
        return Derivatives(residuals, slopes, lambda by: self._bent(by, shares, slopes))

    def _bent(self, by: Floats, shares: Floats, slopes: Floats) -> Floats:
        told = -np.matmul((slopes * by[..., None]).transpose(0, 2, 1), slopes)
        if self.floor:
            told[:, 0, 0] += (by * shares[0]).sum(1)
        first = self.size - 4
        for share, x, place in ((shares[-2], self.n, first), (shares[-1], self.d, first + 1)):
            weighted = by * share
            across = (weighted * x).sum(1)
            told[:, place, place] += weighted.sum(1)
            told[:, place, place + 2] -= across
            told[:, place + 2, place] -= across
            told[:, place + 2, place + 2] += (weighted * x * x).sum(1)
        return told

    def clipped(self, theta: Floats) -> Floats:
        """Exponents within their bounds."""
        logs, exponents = theta[:, :-2], theta[:, -2:]
        return np.hstack([np.clip(logs, -_LOGS, _LOGS), np.clip(exponents, LOW, HIGH)])

    def columns(self) -> list[Columns]:
        """What is linear in E, A and B on a grid of exponents."""
        alpha, beta = (one.ravel() for one in np.meshgrid(_GRID, _GRID, indexing="ij"))
        return [self._columns(alpha, beta, self.n, self.d)]

    def _columns(self, alpha: Floats, beta: Floats, n: Floats, d: Floats) -> Columns:
        parts = [np.exp(-alpha[:, None] * n), np.exp(-beta[:, None] * d)]
        if self.floor:
            parts.insert(0, np.ones_like(parts[0]))
        target = np.broadcast_to(np.exp(self.observed), parts[0].shape)
        return Columns(np.stack(parts, -1), target, 1.0, np.stack([alpha, beta], -1))

    def values(self, theta: Floats) -> Floats:
        """Laws `[b, 7]` in the order of `forms.NAMES`."""
        told = np.full((len(theta), len(NAMES)), np.nan)
        told[:, 0] = np.exp(theta[:, 0]) if self.floor else 0.0
        told[:, 3:5] = theta[:, -2:]
        told[:, 1:3] = np.exp(theta[:, -4:-2] + theta[:, -2:] * self.middle)
        return told


class Joint(Terms):
    """Kaplan's form: beta times the logarithm of a sum of exponentials. What is fitted is ln N_c
    and ln D_c at the mean run, alpha/beta and beta.
    """

    def __init__(self, params: Floats, tokens: Floats, loss: Floats) -> None:
        super().__init__(params, tokens, loss, floor=False)

    def _terms(self, theta: Floats) -> Floats:
        a, b, power = (theta[:, place, None] for place in range(3))
        return np.stack([a - power * self.n, b - self.d])

    def residuals(self, theta: Floats) -> Floats:
        """Log of the predicted over the observed loss."""
        return theta[:, 3:] * (super().residuals(theta) + self.observed) - self.observed

    def derivatives(self, theta: Floats) -> Derivatives:
        """The same, with slopes and what bends."""
        terms = self._terms(theta)
        total = np.logaddexp(*terms)
        a, b = np.exp(terms - total)
        inner = np.stack([a, b, -a * self.n], -1)
        beta = theta[:, 3:]
        slopes = np.concatenate([beta[..., None] * inner, total[..., None]], -1)

        def bent(by: Floats) -> Floats:
            told = np.zeros((len(theta), 4, 4))
            slanted = np.stack([a, np.zeros_like(a), -a * self.n], -1)
            scaled = (by * beta)[..., None]
            told[:, :3, :3] = -np.matmul((inner * scaled).transpose(0, 2, 1), inner)
            lines = np.stack([np.ones_like(self.n), 0 * self.n, -self.n], -1)
            told[:, :3, :3] += np.matmul((slanted * scaled).transpose(0, 2, 1), lines)
            told[:, 1, 1] += (by * beta * b).sum(1)
            mixed = np.einsum("bn,bnp->bp", by, inner)
            told[:, :3, 3], told[:, 3, :3] = mixed, mixed
            return told

        return Derivatives(beta * total - self.observed, slopes, bent)

    def clipped(self, theta: Floats) -> Floats:
        """Exponents within their bounds."""
        beta = np.clip(theta[:, 3:], LOW, HIGH)
        power = np.clip(theta[:, 2:3], LOW / beta, HIGH / beta)
        return np.hstack([np.clip(theta[:, :2], -1e3, 1e3), power, beta])

    def columns(self) -> list[Columns]:
        """What is linear in N_c^power and D_c: the loss to the power 1/beta."""
        found = []
        for beta in _GRID:
            power = _GRID / beta
            parts = [
                np.exp(-power[:, None] * self.n),
                np.exp(-np.ones_like(power)[:, None] * self.d),
            ]
            target = np.broadcast_to(np.exp(self.observed / beta), parts[0].shape)
            theta = np.stack([power, np.full_like(power, beta)], -1)
            found.append(Columns(np.stack(parts, -1), target, float(beta), theta))
        return found

    def values(self, theta: Floats) -> Floats:
        """Laws `[b, 7]` in the order of `forms.NAMES`."""
        told = np.full((len(theta), len(NAMES)), np.nan)
        a, b, power, beta = theta.T
        told[:, 0], told[:, 3], told[:, 4] = 0.0, power * beta, beta
        told[:, 1] = np.exp(beta * (a + power * self.middle[0]))
        told[:, 2] = np.exp(beta * (b + self.middle[1]))
        return told


class Repeated(Terms):
    """The data-constrained form: Chinchilla's of effective parameters and tokens, which depend on
    all of the law; slopes are differences.
    """

    def __init__(self, params: Floats, tokens: Floats, loss: Floats, unique: Floats) -> None:
        super().__init__(params, tokens, loss)
        self.params, self.tokens, self.unique = params, tokens, np.minimum(unique, tokens)
        self.size = 6

    def with_excess(self) -> Repeated:
        """The same with R_N, which only runs of too many parameters tell."""
        made = copy(self)
        made.size = 7
        return made

    def residuals(self, theta: Floats) -> Floats:
        """Log of the predicted over the observed loss."""
        law = self.values(theta)
        told = evaluate("data_constrained", law, self.params, self.tokens, self.unique)
        return np.log(told) - self.observed

    def derivatives(self, theta: Floats) -> Derivatives:
        """The same, with slopes by central differences."""
        slopes = []
        for place in range(self.size):
            moved = np.zeros(self.size)
            moved[place] = _STEP
            ahead, behind = self.residuals(theta + moved), self.residuals(theta - moved)
            slopes.append((ahead - behind) / (2 * _STEP))
        return Derivatives(self.residuals(theta), np.stack(slopes, -1), None)

    def clipped(self, theta: Floats) -> Floats:
        """Exponents within their bounds; repetitions are worth from a hundredth to 10,000 times
        the data.
        """
        worths = np.clip(theta[:, 5:], np.log(0.01), np.log(1e4))
        return np.hstack([super().clipped(theta[:, :5]), worths])

    def columns(self) -> list[Columns]:
        """What is linear in E, A and B for some worths of repetitions."""
        alpha, beta = (one.ravel() for one in np.meshgrid(_GRID, _GRID, indexing="ij"))
        found = []
        for worth in _WORTH:
            repeats = self.tokens / self.unique - 1
            d = np.log(self.unique * (1 + worth * -np.expm1(-repeats / worth))) - self.middle[1]
            columns = self._columns(alpha, beta, self.n, d)
            more = np.full((len(alpha), self.size - 5), np.log(worth))
            found.append(columns._replace(theta=np.hstack([columns.theta, more])))
        return found

    def values(self, theta: Floats) -> Floats:
        """Laws `[b, 7]` in the order of `forms.NAMES`."""
        told = super().values(theta[:, :5])
        told[:, 5 : self.size] = np.exp(theta[:, 5:])
        return told
