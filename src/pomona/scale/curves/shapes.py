"""Shapes of a curve over sizes, smooth and broken, and how well each predicts a size that it has
not seen.

Every shape is linear but for one or two numbers on a grid, so that fits to any number of curves
over the same sizes are products of matrices (variable projection). Predictions average over the
grid: with flat priors on the linear part and on the logarithm of the noise, each member predicts
by Student's t and weighs as its squared error says (Gelman et al. 2013, §14.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, gammaln

Floats = NDArray[np.float64]
SMOOTH, BROKEN = ("power law", "logistic"), ("kink", "jump")
LEAST = 5  # sizes: four of them must leave three numbers of a kink a degree of freedom
# Of a curve's range: what is closer counts as this close. Members of the grids are as far apart as
# that, and a break that is smaller is none that matters.
_EXACT = 0.01
# A logistic curve rises from 12 to 88 % within four of its widths. Half of all sizes is the least:
# what rises faster is no smooth curve at these sizes, and a jump is what it would imitate.
_RATES = np.geomspace(0.05, 8, 5)  # of a power law that breaks
_WIDTHS = np.geomspace(0.125, 1.0, 6)


@dataclass(frozen=True)
class Fitted:
    """The member of a shape with the least squared error: its values at the sizes `[k]`, the
    variance that is left, and the size at which it turns, None for a power law.
    """

    shape: str
    values: Floats
    variance: float
    turn: float | None


class Shapes:
    """All shapes over the same k ascending sizes, of which there are `LEAST` or more."""

    def __init__(self, sizes: Floats) -> None:
        self._logs = np.log(sizes)
        self.at = (self._logs - self._logs[0]) / (self._logs[-1] - self._logs[0])

    def __len__(self) -> int:
        return len(self.at)

    def held_out(self, shape: str, curves: Floats, least: float = 0.0) -> Floats:
        """The log density of each size of curves `[b, k]`, predicted from the others, `[b, k]`. No
        fit is believed to be closer than the variance `least`.
        """
        floor = np.maximum((_EXACT * np.ptp(curves, axis=1)) ** 2, least) + 1e-300
        density = np.empty_like(curves)
        for k, stack in enumerate(self._left_out[shape]):
            density[:, k] = stack.density(np.delete(curves, k, axis=1), curves[:, k], floor)
        return density

    def totals(self, curves: Floats, least: float = 0.0) -> dict[str, Floats]:
        """The held-out log density of each shape, summed over sizes, `[b]`."""
        names = (*SMOOTH, *BROKEN)
        return {name: self.held_out(name, curves, least).sum(1) for name in names}

    def fit(self, shape: str, curve: Floats) -> Fitted:
        """The member of a shape that is closest to a curve `[k]`."""
        stack = self._whole[shape]
        best = int(np.argmin(stack.errors(curve[None])[0]))
        place = stack.members[best][0]
        turn = None if shape == "power law" else np.interp(place, self.at, self._logs)
        variance = float(self.left(shape, curve[None])[0])
        variance = max(variance, (_EXACT * float(np.ptp(curve))) ** 2)
        values = stack.bases[best] @ (stack.bases[best].T @ curve)
        return Fitted(shape, values, variance, None if turn is None else float(np.exp(turn)))

    def left(self, shape: str, curves: Floats) -> Floats:
        """The variance that the closest members leave of curves `[b, k]`, `[b]`."""
        stack = self._whole[shape]
        freedom = max(1, stack.freedom - len(stack.members[0]))
        return stack.errors(curves).min(1) / freedom

    @cached_property
    def _whole(self) -> dict[str, _Stack]:
        return {
            shape: _Stack(shape, _members(shape, self.at, self.at), self.at, 0.0)
            for shape in (*SMOOTH, *BROKEN)
        }

    @cached_property
    def _left_out(self) -> dict[str, list[_Stack]]:
        found: dict[str, list[_Stack]] = {}
        for shape in (*SMOOTH, *BROKEN):
            rests = [np.delete(self.at, k) for k in range(len(self))]
            found[shape] = [
                _Stack(shape, _members(shape, rest, self.at), rest, out)
                for rest, out in zip(rests, self.at, strict=True)
            ]
        return found


class _Stack:
    """The members of a shape over the sizes that are fitted, and one that is not."""

    def __init__(
        self, shape: str, members: list[tuple[float, ...]], at: Floats, out: float
    ) -> None:
        self.members = members
        bases, predictors = [], []
        for member in members:
            left, triangle = np.linalg.qr(_basis(shape, member, at))
            bases.append(left)
            last = _basis(shape, member, np.array([out]))[0]
            predictors.append(left @ np.linalg.lstsq(triangle.T, last, rcond=None)[0])
        self.bases, self.predictors = np.array(bases), np.array(predictors)
        self.freedom = len(at) - self.bases.shape[2]

    def errors(self, curves: Floats) -> Floats:
        """Squared errors of every member, `[b, g]`."""
        explained = np.tensordot(curves, self.bases, axes=(1, 1))
        whole = (curves**2).sum(1)[:, None]
        # A difference of large numbers: below their rounding there is nothing to see.
        return np.maximum(whole - (explained**2).sum(2), 1e-14 * whole)

    def density(self, others: Floats, out: Floats, floor: Floats) -> Floats:
        """Log density of the sizes `[b]` that were left out, from the others `[b, n]`."""
        centre = others.mean(1, keepdims=True)  # every shape has a constant: nothing but rounding
        others, out = others - centre, out - centre[:, 0]
        freedom = self.freedom
        variance = np.maximum(self.errors(others) / freedom, floor[:, None])
        weight = -freedom / 2 * np.log(variance)
        spread = variance * (1 + (self.predictors**2).sum(1))
        rest = out[:, None] - others @ self.predictors.T
        norm = gammaln((freedom + 1) / 2) - gammaln(freedom / 2)
        told = norm - 0.5 * np.log(np.pi * freedom * spread)
        told -= (freedom + 1) / 2 * np.log1p(rest**2 / (freedom * spread))
        return _log_mean(weight, told)


def _log_mean(weight: Floats, told: Floats) -> Floats:
    """The logarithm of the mean density, from logarithms of weights and densities `[b, g]`."""
    both = weight + told
    most, largest = both.max(1, keepdims=True), weight.max(1, keepdims=True)
    upper = np.log(np.exp(both - most).sum(1)) + most[:, 0]
    lower = np.log(np.exp(weight - largest).sum(1)) + largest[:, 0]
    return (upper - lower).astype(np.float64)


def _members(shape: str, at: Floats, every: Floats) -> list[tuple[float, ...]]:
    """The grid of a shape, from the places `at` that are fitted and `every` place that there is:
    two sizes at least are on each side of where a curve breaks.
    """
    if shape == "power law":
        return [(rate,) for rate in np.geomspace(0.05, 12, 32)]
    if shape == "logistic":
        return [(float(c), float(w)) for c, w in product(np.linspace(-0.25, 1.25, 17), _WIDTHS)]
    if shape == "kink":
        turns = np.linspace(at[1], at[-2], 11)
    else:
        middles = (every[1:] + every[:-1]) / 2
        turns = middles[(at[1] < middles) & (middles < at[-2])]
    return [(float(turn), float(rate)) for turn, rate in product(turns, _RATES)]


def _basis(shape: str, member: tuple[float, ...], at: Floats) -> Floats:
    ones = np.ones_like(at)
    if shape == "power law":
        return np.column_stack([ones, np.exp(-member[0] * at)])
    if shape == "logistic":
        return np.column_stack([ones, expit((at - member[0]) / member[1])])
    after = np.maximum(at - member[0], 0) if shape == "kink" else at > member[0]
    return np.column_stack([ones, np.exp(-member[1] * at), after.astype(np.float64)])
