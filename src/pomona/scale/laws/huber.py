"""The least Huber loss of log residuals for many weightings of the same runs at once: Newton's
steps, damped where they would go up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
SCALE = 1e3  # of the objective, so that what it stops at is no rounding
_STEPS, _LONGEST = 100, 2.0
_STUCK = 6  # steps that gain nothing, each shorter than the last
_FLAT, _NOTHING = 1e-13, 1e-12  # relative and absolute gains that are none


class Loss(NamedTuple):
    """What a residual costs: Huber's loss, squares up to `delta` and straight from there on; what
    the law puts above the run (a residual > 0) counts `above` times.
    """

    delta: float = 1e-3
    above: float = 1.0

    def __call__(self, residuals: Floats) -> Floats:
        """The loss of each residual, times `SCALE`."""
        size = np.abs(residuals)
        inside = np.minimum(size, self.delta)
        return self._side(residuals) * (SCALE * inside * (size - inside / 2))

    def weights(self, residuals: Floats) -> Floats:
        """The loss's slope over the residual: the weights of squares with the same slope."""
        size = np.maximum(np.abs(residuals), self.delta)
        return self._side(residuals) * (SCALE * self.delta / size)

    def bends(self, residuals: Floats) -> Floats:
        """The loss's second derivative."""
        return self._side(residuals) * np.where(np.abs(residuals) <= self.delta, SCALE, 0.0)

    def _side(self, residuals: Floats) -> Floats | float:
        return 1.0 if self.above == 1 else np.where(residuals > 0, self.above, 1.0)


class Derivatives(NamedTuple):
    """Residuals `[b, n]`, their slopes `[b, n, p]`, and the sum of their second derivatives by
    weights `[b, n]`, `[b, p, p]`; None where it is left out.
    """

    residuals: Floats
    slopes: Floats
    bent: Callable[[Floats], Floats] | None


class Residuals(Protocol):
    """Log residuals of a form, as functions of its parameters `[b, p]`."""

    def residuals(self, theta: Floats) -> Floats:
        """Log of the predicted over the observed loss, `[b, n]`."""
        ...

    def derivatives(self, theta: Floats) -> Derivatives:
        """The same with slopes."""
        ...

    def clipped(self, theta: Floats) -> Floats:
        """The nearest parameters that mean something."""
        ...


def minimise(form: Residuals, starts: Floats, weights: Floats, loss: Loss) -> tuple[Floats, Floats]:
    """The local minimum at each start `[b, p]` under its own weights `[b, n]`, and the objective
    there, `[b]`.

    Levenberg and Marquardt's damping of Newton's steps: the Hessian has the second derivatives of
    the residuals, without which steps along the valley of (A, alpha) are far too short.
    """
    theta = form.clipped(starts.copy())
    value = _objective(form, theta, weights, loss)
    damping, active = np.full(len(theta), 1e-3), np.arange(len(theta))
    still = np.zeros(len(theta), int)
    for _ in range(_STEPS):
        step = _step(form, theta[active], weights[active], loss, damping[active])
        tried = form.clipped(theta[active] + step)
        reached = _objective(form, tried, weights[active], loss)
        better = reached < value[active]
        gain = np.where(better, value[active] - reached, 0.0)
        rests = gain <= _FLAT * value[active] + _NOTHING
        theta[active[better]], value[active[better]] = tried[better], reached[better]
        damping[active] = np.clip(damping[active] * np.where(better, 0.1, 8.0), 1e-12, 1e10)
        still[active] = np.where(rests, still[active] + 1, 0)
        moved = np.abs(step).max(1) > 1e-10
        active = active[(still[active] < _STUCK) & moved]
        if not len(active):
            break
    return theta, value


def _objective(form: Residuals, theta: Floats, weights: Floats, loss: Loss) -> Floats:
    return np.einsum("bn,bn->b", weights, loss(form.residuals(theta)))


def _step(form: Residuals, theta: Floats, weights: Floats, loss: Loss, damping: Floats) -> Floats:
    residuals, slopes, bent = form.derivatives(theta)
    pull = weights * loss.weights(residuals)
    gradient = np.einsum("bn,bnp->bp", pull * residuals, slopes)
    majorant = np.matmul((slopes * pull[..., None]).transpose(0, 2, 1), slopes)
    if bent is None:
        hessian = majorant.copy()
    else:
        curved = weights * loss.bends(residuals)
        hessian = np.matmul((slopes * curved[..., None]).transpose(0, 2, 1), slopes)
        hessian += bent(pull * residuals)
    diagonal = np.einsum("bpp->bp", majorant)
    floor = 1e-12 * diagonal.max(1, keepdims=True) + 1e-300
    added = damping[:, None] * np.maximum(diagonal, floor)
    places = np.arange(theta.shape[1])
    hessian[:, places, places] += added
    step = -_solved(hessian, gradient)
    longest = np.abs(step).max(1, keepdims=True)
    return step * np.minimum(1.0, _LONGEST / np.maximum(longest, 1e-300))


def _solved(hessian: Floats, gradient: Floats) -> Floats:
    """Newton's step; where the Hessian bends down somewhere, by the size of what it does there."""
    try:
        np.linalg.cholesky(hessian)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(hessian)
        least = 1e-14 * np.abs(values).max(1, keepdims=True) + 1e-300
        inside = np.einsum("bpq,bp->bq", vectors, gradient) / np.maximum(np.abs(values), least)
        return np.einsum("bpq,bq->bp", vectors, inside)
    return np.asarray(np.linalg.solve(hessian, gradient[..., None])[..., 0], np.float64)
