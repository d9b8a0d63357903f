"""The scale-equivalent of a gain: how many times the baseline's parameters the ladder needs for the
same value.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pomona.errors import PomonaError
from pomona.ledger.entry import ScaleEquivalent

_BEYOND, _BELOW = "beyond the ladder", "below the ladder"


@dataclass(frozen=True)
class Ladder:
    """The same recipe at m sizes, ascending: `parameters` `[m]`, the metric's `values` `[m]`, and
    `resampled` `[m, R]` over R resamples.

    Raises PomonaError for sizes that are not ascending and for shapes that do not fit.
    """

    parameters: NDArray[np.float64]
    values: NDArray[np.float64]
    resampled: NDArray[np.float64]
    higher_is_better: bool = True

    def __post_init__(self) -> None:
        m = len(self.parameters)
        if np.any(np.asarray(self.parameters) <= 0) or np.any(np.diff(self.parameters) <= 0):
            remedy = "list each size once, from small to large"
            raise PomonaError("the sizes are not ascending", where="ladder", remedy=remedy)
        fits = np.ndim(self.resampled) == 2 and len(self.resampled) == m
        if np.shape(self.values) != (m,) or not fits:
            shapes = (
                f"{m} sizes, values {np.shape(self.values)}, resampled {np.shape(self.resampled)}"
            )
            raise PomonaError(
                shapes, where="ladder", remedy="give one value and one row of resamples a size"
            )

    def scale_equivalent(
        self, value: float, resampled: NDArray[np.float64], baseline: int
    ) -> ScaleEquivalent | None:
        """The ratio to rung `baseline` of the size with `value`, with the 95 % interval of its
        bootstrap; None below two rungs.

        The ladder is piecewise linear in the logarithm of the parameters. It is walked from the
        baseline, up for a better value and down for a worse one, to the first size that reaches the
        value: so the answer is monotone in the value even where the ladder is not, and the
        baseline's own value gives exactly 1. `resampled` `[R]` is `value` in the ladder's own
        resamples; each gives a ratio, and their 2.5th and 97.5th percentile (the outer of the
        nearest two) are the interval (Efron & Tibshirani 1993, §13.3). What no
        measured size reaches is None, with a note.
        """
        if len(self.parameters) < 2:
            return None
        if np.shape(resampled) != self.resampled.shape[1:]:
            resamples = self.resampled.shape[1]
            shapes = f"{np.shape(resampled)} resampled values for a ladder of {resamples} resamples"
            remedy = "resample both with the same Resamples"
            raise PomonaError(shapes, where="scale equivalent", remedy=remedy)
        point = float(self._log_ratios(self.values[:, None], np.array([value]), baseline)[0])
        drawn = np.sort(self._log_ratios(self.resampled, resampled, baseline))
        low, high = drawn[int(0.025 * (drawn.size - 1))], drawn[-1 - int(0.025 * (drawn.size - 1))]
        if np.isinf(point):
            note = _BEYOND if point > 0 else _BELOW
        else:
            note = "; ".join(n for end, n in ((low, _BELOW), (high, _BEYOND)) if np.isinf(end))
        return ScaleEquivalent(_ratio(point), _ratio(low), _ratio(high), note)

    def _log_ratios(
        self, curve: NDArray[np.float64], value: NDArray[np.float64], baseline: int
    ) -> NDArray[np.float64]:
        """Log of the ratio in each of R cases, from the ladder `[m, R]` and the value `[R]`;
        infinite outside the ladder.
        """
        sign = 1 if self.higher_is_better else -1
        curve, value = sign * curve, sign * value
        sizes = np.log(self.parameters) - np.log(self.parameters[baseline])
        up = _first_reach(sizes[baseline:], curve[baseline:], value)
        down = -_first_reach(-sizes[baseline::-1], -curve[baseline::-1], -value)
        return np.where(value >= curve[baseline], up, down)


def _first_reach(
    sizes: NDArray[np.float64], curve: NDArray[np.float64], value: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The first size `[R]` along `sizes` `[m]` where `curve` `[m, R]` is at least `value` `[R]`;
    infinity where it never is.
    """
    reached = np.where(curve[0] >= value, sizes[0], np.inf)
    for i in range(len(sizes) - 1):
        now = np.isinf(reached) & (curve[i + 1] >= value)
        share = (value[now] - curve[i, now]) / (curve[i + 1, now] - curve[i, now])
        reached[now] = (1 - share) * sizes[i] + share * sizes[i + 1]
    return reached


def _ratio(log_ratio: float) -> float | None:
    return float(np.exp(log_ratio)) if np.isfinite(log_ratio) else None
