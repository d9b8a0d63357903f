"""What a doubling of parameters buys, in points and in halved errors: over all models, within
families, and from step to step of the best models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pomona import stats
from pomona.errors import PomonaError, are, quantity
from pomona.records import Where
from pomona.scale.tables.columns import (
    Columns,
    Published,
    read_published,
    require_models,
)
from pomona.scale.tables.fits import Estimate, estimate, exact_line, line, resamples_of, slopes_of
from pomona.scale.tables.results import Contrast, DoublingGain, MetricReturns, SizeReturns, SizeStep

Floats = NDArray[np.float64]
_SIZES = 3  # of a family, so that its line has an error
_STEP = 1.25  # times the size at least: of nearly equal sizes any difference is an endless slope
_BANDS = ("smallest third", "middle third", "largest third")
_BAND = 10  # models of a third at least


def returns(
    table: Where,
    *,
    columns: Columns | None = None,
    beside: Sequence[str] = (),
    resamples: int = 1000,
    seed: int = 0,
    page: str | Path | None = None,
) -> SizeReturns:
    """Say what a doubling of parameters buys, overall, within families, and step by step.

    Gains are told in points and as the share of the error that goes: near the ceiling points must
    shrink, and an error that halves again and again is no saturation.

    Args:
        table: Table of published models: names, parameters, a score, and where known families.
        columns: Which columns hold what; see `Columns`.
        beside: Further columns of scores of the same models, such as those under a shift: what
            size buys there is compared with the first.
        resamples: Resamples behind each interval.
        seed: Seed of the resamples.
        page: Folder for a page with pictures.

    Raises:
        PomonaError: the table cannot be read, a column is missing, a value is not what its column
            holds, or fewer than two models of different sizes have a score.
    """
    if page is not None:
        from pomona.scale.tables.page import check_page

        check_page(Path(page), table)
    columns = columns or Columns()
    published, scores = read_published(table, columns, ("params", "score"), beside)
    found = _Sizes(published, scores, resamples, seed).returns()
    if page is not None:
        from pomona.scale.tables.page import write_returns

        write_returns(found, published, Path(page))
    return found


class _Sizes:
    """Models with known sizes, in every metric."""

    def __init__(
        self, published: Published, beside: Mapping[str, Floats], resamples: int, seed: int
    ) -> None:
        self.published, self.resamples, self.seed = published, resamples, seed
        factor = published.factor()
        first = published.columns["score"]
        metrics = {first: published.numbers["score"], **beside}
        self.metrics = {name: factor * values for name, values in metrics.items()}
        self.params = published.numbers["params"]
        self.bounded = published.score_unit != "other"
        # The same models in every metric, or a contrast would be of different models.
        known = np.isfinite(self.params)
        for values in self.metrics.values():
            known &= np.isfinite(values)
        self.rows = np.flatnonzero(known)
        require_models(published, self.rows)
        if len(np.unique(self.params[self.rows])) < 2:
            message = f"all models have {self.params[self.rows[0]]:,.0f} parameters"
            remedy = "give models of two sizes or more"
            raise PomonaError(message, where=published.where(int(self.rows[0])), remedy=remedy)
        self.size = np.log2(self.params[self.rows])
        self.labels, self.called = published.clusters(self.rows)
        self.draws = resamples_of(self.labels, resamples, seed)

    def returns(self) -> SizeReturns:
        """Every metric, and the contrasts."""
        told = [self._returns(name, values[self.rows]) for name, values in self.metrics.items()]
        first, *others = self.metrics
        contrasts = [self._contrast(name, first) for name in others]
        name = self.published.name
        return SizeReturns(name, told, contrasts, self.signature, self.seed, self._notes())

    def _errors(self, score: Floats) -> Floats | None:
        """The binary logarithm of the error that is left, which is none at the ceiling."""
        if not self.bounded:
            return None
        left = 100 - score
        return np.log2(left) if bool(np.all(left > 0)) else None

    def _returns(self, metric: str, score: Floats) -> MetricReturns:
        errors = self._errors(score)
        overall = _gain(self.size, score, errors, self.draws)
        families = self._families()
        within = self._within(score, errors, families)
        apart = {}
        for name, rows in families.items():
            logs = None if errors is None else errors[rows]
            apart[name] = _gain(self.size[rows], score[rows], logs, None, exact=True)
        return MetricReturns(
            metric, overall, within, self._bands(score, errors), apart, self._steps(score)
        )

    def _bands(self, score: Floats, errors: Floats | None) -> dict[str, DoublingGain]:
        """Slopes of thirds of the models by size, where each third has enough."""
        told = {}
        ends = np.quantile(self.size, [1 / 3, 2 / 3])
        third = np.searchsorted(ends, self.size, side="left")
        for place, name in enumerate(_BANDS):
            rows = np.flatnonzero(third == place)
            if len(rows) < _BAND or len(np.unique(self.size[rows])) < _SIZES:
                return {}
            draws = resamples_of([self.labels[i] for i in rows], self.resamples, self.seed)
            logs = None if errors is None else errors[rows]
            told[name] = _gain(self.size[rows], score[rows], logs, draws)
        return told

    def _families(self) -> dict[str, NDArray[np.intp]]:
        """Rows of each family that has enough sizes."""
        if "family" not in self.published.texts:
            return {}
        found = stats.rows_of(self.labels)
        return {
            name: rows for name, rows in found.items() if len(np.unique(self.size[rows])) >= _SIZES
        }

    def _within(
        self, score: Floats, errors: Floats | None, families: Mapping[str, NDArray[np.intp]]
    ) -> DoublingGain | None:
        """The slope that families have in common: everything is taken as distance from the mean of
        its family (Wooldridge 2010, §10.5).
        """
        if len(families) < 2:
            return None
        rows = np.concatenate(list(families.values()))
        centred = []
        for values in (self.size, score, errors):
            if values is None:
                centred.append(None)
                continue
            means = {name: values[of].mean() for name, of in families.items()}
            centred.append(values[rows] - [means[self.labels[i]] for i in rows])
        draws = resamples_of([self.labels[i] for i in rows], self.resamples, self.seed)
        size, points, logs = centred
        # Of distances from means the two readings cannot be compared by what they explain.
        return replace(_gain(size, points, logs, draws), fit_points=None, fit_error=None)

    def _steps(self, score: Floats) -> list[SizeStep]:
        """Between models that no model of their size or smaller beats."""
        best: list[int] = []
        top = -np.inf
        for i in np.lexsort((-score, self.size)):
            if score[i] <= top:
                continue
            top = score[i]
            # What is hardly larger and better stands in for the one before, if it is far enough
            # from the one before that.
            near = best and self.size[i] - self.size[best[-1]] < np.log2(_STEP) - 1e-9
            if near and (len(best) < 2):
                continue
            if near:
                best.pop()
            best.append(int(i))
        told = []
        for i, j in pairwise(best):
            doublings = float(self.size[j] - self.size[i])
            gain = float(score[j] - score[i])
            error = None
            if self.bounded and score[j] < 100:
                error = 1 - float((100 - score[j]) / (100 - score[i])) ** (1 / doublings)
            smaller, larger = (self.published.models[self.rows[k]] for k in (i, j))
            told.append(SizeStep(smaller, larger, 2**doublings, gain, gain / doublings, error))
        return told

    def _contrast(self, name: str, first: str) -> Contrast:
        pairs = [(self.metrics[one][self.rows]) for one in (name, first)]
        points = self._difference(pairs[0], pairs[1])
        errors = [self._errors(one) for one in pairs]
        log_error = None
        if errors[0] is not None and errors[1] is not None:
            log_error = self._difference(errors[0], errors[1])
        return Contrast(name, first, points, log_error)

    def _difference(self, one: Floats, other: Floats) -> Estimate:
        value = line(self.size, one - other, None).slope.value
        drawn = None if self.draws is None else slopes_of(self.size, one - other, self.draws)
        return estimate(np.nan if value is None else value, drawn, self.draws, len(one))

    def _notes(self) -> list[str]:
        notes = list(self.published.notes)
        left = len(self.published) - len(self.rows)
        if left:
            notes.append(
                f"{quantity(left, 'row')} without parameters or a score {are(left)} left out"
            )
        if self.draws is None:
            count = len(set(self.labels))
            notes.append(f"the models are of {count} {self.called}: too few for an interval")
        if not self.bounded:
            notes.append("scores have no ceiling, so that there is no error to halve")
        elif any(self._errors(values[self.rows]) is None for values in self.metrics.values()):
            notes.append("a score of 100 leaves no error, whose halving is then not told")
        if "family" not in self.published.texts:
            notes.append("there is no column of families: differences between them count as size")
        return notes

    @property
    def signature(self) -> str:
        """All that the numbers depend on."""
        parts = [
            "returns",
            f"table:{self.published.digest}",
            f"metrics:{'+'.join(self.metrics)}",
            f"by:{self.called}",
            f"resamples:{self.resamples}",
            f"seed:{self.seed}",
            f"pomona:{version('pomona')}",
        ]
        return "|".join(parts)


def _gain(
    size: Floats,
    score: Floats,
    errors: Floats | None,
    draws: stats.Resamples | None,
    *,
    exact: bool = False,
) -> DoublingGain:
    """What a doubling buys, by a line in points and by one in the logarithm of the error; `exact`:
    with Student's intervals, where models are too few to resample.
    """
    points = exact_line(size, score) if exact else line(size, score, draws)
    error = halving = fit = None
    if errors is not None:
        logs = exact_line(size, errors) if exact else line(size, errors, draws)
        error, halving = _shares(logs.slope)
        fit = _fit_of_errors(size, score, errors)
    bend = Estimate(None, n=len(size)) if exact else _bend(size, score, draws)
    return DoublingGain(len(size), points.slope, error, halving, bend, points.r2.value, fit)


def _shares(logs: Estimate) -> tuple[Estimate, Estimate]:
    """The share of the error that goes with each doubling, and the doublings that halve it."""
    if logs.value is None:
        return Estimate(None, n=logs.n), Estimate(None, n=logs.n)

    def gone(slope: float | None) -> float | None:
        return None if slope is None else 1 - 2**slope

    def needed(slope: float | None) -> float | None:
        # Where the error may as well grow, no number of doublings halves it.
        return None if slope is None or slope >= 0 else -1 / slope

    error = Estimate(gone(logs.value), gone(logs.high), gone(logs.low), logs.n)
    return error, Estimate(needed(logs.value), needed(logs.low), needed(logs.high), logs.n)


def _fit_of_errors(size: Floats, score: Floats, errors: Floats) -> float | None:
    """The share of the variance of the score that the line of the errors' logarithm explains, so
    that both readings are compared in the same unit.
    """
    fitted = line(size, errors, None)
    if fitted.slope.value is None or fitted.intercept is None or score.std() == 0:
        return None
    # Of centred errors this is not the score itself but its distance, which is all that R² needs.
    told = 2 ** (fitted.intercept + fitted.slope.value * size)
    left = 2**errors - told
    return float(1 - (left**2).sum() / ((score - score.mean()) ** 2).sum())


def _bend(size: Floats, score: Floats, draws: stats.Resamples | None) -> Estimate:
    """Twice the square term of a parabola: how the slope changes with each doubling."""
    if len(np.unique(size)) < 4:
        return Estimate(None, n=len(size))
    x = size - size.mean()
    design = np.column_stack([np.ones(len(x)), x, x * x])
    value = 2 * float(stats.least_squares(design, score)[2])
    if draws is None:
        return Estimate(value, n=len(size))
    blocks = [stats.least_squares(design, score, block) for block in draws.counts()]
    return estimate(value, 2 * np.concatenate(blocks)[:, 2], draws, len(size))
