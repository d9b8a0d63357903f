"""The runs of the largest compute left out and predicted from the others: how good a law is where
it is needed, and how much wider its bands must be there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.errors import PomonaError
from pomona.scale.laws.fitting import Fitted, fit_form
from pomona.scale.laws.huber import Loss
from pomona.scale.runs import Runs

_EXACT = 1e-9  # widths of bands of runs without noise are rounding
_CHANCE = 0.05  # so many outside a band of 95 % are not left to it


@dataclass(frozen=True)
class HeldOut:
    """How well the n runs of more than `flops` are predicted from the others.

    error: mean of |predicted − observed| / observed, and `bias` with its sign: above 0 where the
        runs turned out better than predicted.
    coverage: share of the runs inside their 95 % band; None where there is none.
    """

    n: int
    fitted: int
    flops: float
    error: float | None = None
    bias: float | None = None
    coverage: float | None = None
    note: str | None = None


@dataclass(frozen=True)
class Procedure:
    """How a form is fitted, again and again."""

    form: str
    loss: Loss
    share: float
    resamples: int
    seed: int

    def fit(self, runs: Runs, clusters: Sequence[Any] | None) -> Fitted:
        """Once."""
        return fit_form(
            runs,
            self.form,
            self.loss,
            resamples=self.resamples,
            seed=self.seed,
            clusters=clusters,
        )


def fitted(
    procedure: Procedure, runs: Runs, clusters: Sequence[Any] | None
) -> tuple[Fitted, HeldOut]:
    """The law of all runs, and how well the law of the smaller ones predicts the largest. Bands
    beyond the runs are stretched until 95 % of those would have been inside, where more are outside
    than chance has it.
    """
    whole, (small, told) = procedure.fit(runs, clusters), _smaller(procedure, runs, clusters)
    if small is None:
        return whole, told
    part, rest, within = _split(procedure, runs, clusters)
    beyond = _stretch(small, rest)
    inner, _ = _smaller(procedure, part, within)
    if inner is not None:
        small = replace(small, stretch=_stretch(inner, _split(procedure, part, within)[1]))
    return replace(whole, stretch=beyond), _judged(small, rest, told)


def held_out(procedure: Procedure, runs: Runs, clusters: Sequence[Any] | None) -> HeldOut:
    """How well the law of the smaller runs predicts the largest."""
    small, told = _smaller(procedure, runs, clusters)
    return told if small is None else _judged(small, _split(procedure, runs, clusters)[1], told)


def _split(
    procedure: Procedure, runs: Runs, clusters: Sequence[Any] | None
) -> tuple[Runs, Runs, list[Any] | None]:
    fits = runs.flops <= np.quantile(runs.flops, 1 - procedure.share)
    within = None if clusters is None else [c for c, f in zip(clusters, fits, strict=True) if f]
    return runs.take(fits), runs.take(~fits), within


def _smaller(
    procedure: Procedure, runs: Runs, clusters: Sequence[Any] | None
) -> tuple[Fitted | None, HeldOut]:
    small, large, within = _split(procedure, runs, clusters)
    told = HeldOut(len(large), len(small), float(small.flops.max()))
    if not len(large):
        return None, replace(told, note="no run is larger than all others")
    try:
        return procedure.fit(small, within), told
    except PomonaError as error:
        return None, replace(told, note=f"without the largest, {error.message}")


def _off(law: Fitted, runs: Runs) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Predicted losses, and how far each run is off in widths of its half of the band."""
    value, low, high = law.predict(runs.params, runs.tokens, runs.more.get("unique_tokens"))
    if low is None or high is None:
        return value, None
    off = np.log(runs.loss / value)
    width = np.where(off > 0, np.log(high / value), -np.log(low / value))
    return value, np.abs(off) / np.maximum(width, _EXACT)


def _stretch(law: Fitted, runs: Runs) -> float:
    from scipy import special

    _, off = _off(law, runs)
    outside = 0 if off is None else int((off > 1).sum())
    if off is None or not outside or special.bdtrc(outside - 1, len(off), 0.05) > _CHANCE:
        return 1.0
    return float(max(1.0, np.quantile(off, 0.95)))


def _judged(law: Fitted, runs: Runs, told: HeldOut) -> HeldOut:
    value, off = _off(law, runs)
    wrong = value / runs.loss - 1
    inside = None if off is None else float(np.mean(off <= 1))
    return replace(
        told, error=float(np.abs(wrong).mean()), bias=float(wrong.mean()), coverage=inside
    )
