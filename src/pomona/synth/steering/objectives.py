"""What the answers that are kept should have more of, less of, or between which bounds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from pomona.documents import StrictModel, model_of, problems
from pomona.errors import PomonaError, nearest
from pomona.synth.profile import Scorer, TextFigures, scored, scorer
from pomona.synth.steering.shares import Quota, Tempered
from pomona.synth.teachers import Candidate

Floats = NDArray[np.float64]
Direction = Literal["up", "down"]
How = Literal["best", "pareto"]
Whole = Annotated[int, Field(ge=0)]
Bounds = tuple[float | None, float | None]
FIGURES = tuple(TextFigures().values)
_ONE = "give either a direction, up or down, or a band"


class ObjectiveSpec(StrictModel):
    """An objective as a recipe writes it."""

    metric: str
    """length, words, sentences, sentence_length, mtld, gunning_fog, rix; or what scores texts:
    words:FILE, hf:FOLDER#LABEL, MODULE:FUNCTION."""
    direction: Direction | None = None
    """Keep what has most of it, or least."""
    band: Annotated[list[float | None], Field(min_length=2, max_length=2)] | None = None
    """Keep what is between these, or least far from it; null where there is no bound."""
    weight: Annotated[float, Field(gt=0)] = 1
    """What it counts beside the others."""
    name: str | None = None
    """What results call it; the metric when left out."""


class SteeringSpec(StrictModel):
    """What a recipe says of steering."""

    objectives: list[ObjectiveSpec] = Field(default_factory=list[ObjectiveSpec])
    """What the answers that are kept should have; without any they are drawn."""
    how: How = "best"
    """The highest weighted sum, or a compromise among those that nothing dominates (pareto)."""
    per_group: Whole | dict[str, Whole] | None = None
    """How many rows of each group, or of those that are named."""
    total: Whole | None = None
    """Rows of all groups together, at `temperature`; beside no `per_group`."""
    temperature: Annotated[float, Field(ge=1)] = 1
    """1 leaves shares as they are, and the higher it is the more alike groups become."""

    @model_validator(mode="after")
    def _one_quota(self) -> Self:
        if self.per_group is not None and self.total is not None:
            raise problems([(("total",), 'give "per_group" or "total", one of them')])
        if self.temperature != 1 and self.total is None:
            raise problems([(("temperature",), '"temperature" needs a "total"')])
        return self

    @property
    def quota(self) -> Quota | None:
        """What `quotas` and `places` take; None where all rows are wanted once."""
        return self.per_group if self.total is None else Tempered(self.total, self.temperature)


@dataclass(frozen=True)
class Objective:
    """A metric of answers, and what it should be: as high or low as possible (`direction`), or in a
    `band` (low, high), None where that has no bound.

    metric: a figure of single texts by `profile` (Shimabucoro et al. 2024, arXiv 2407.01490, §4),
    or a scorer: words:FILE, hf:FOLDER#LABEL or MODULE:FUNCTION, which may give NaN to a text that
    it does not apply to. weight: beside other objectives. name: the metric when left out.
    Raises PomonaError for a metric that there is not, and for what is neither direction nor band.
    """

    metric: str
    direction: Direction | None = None
    band: Bounds | None = None
    weight: float = 1.0
    name: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", self.metric)
        where = f'objective "{self.name}"'
        if (self.direction is None) == (self.band is None):
            raise PomonaError("has no one aim", where=where, remedy=_ONE)
        if self.direction not in (None, "up", "down"):
            message = f'"{self.direction}" is no direction'
            raise PomonaError(message, where=where, remedy="give up or down")
        if not (self.weight > 0 and math.isfinite(self.weight)):
            message = f"weight is {self.weight:g}"
            raise PomonaError(message, where=where, remedy="give a positive number")
        if self.band is not None:
            _check_band(self.band, where)
        if self.metric not in FIGURES:
            _check_scorer(self.metric, where)
            assert self._scored is not None  # what cannot be used is told before anything is asked

    @cached_property
    def _scored(self) -> tuple[Scorer, str] | None:
        return None if self.metric in FIGURES else scorer(self.metric)

    @property
    def signature(self) -> str:
        """What it measures and how it judges that."""
        aim = self.direction
        if self.band is not None:
            aim = "..".join("" if end is None else f"{end:g}" for end in self.band)
        measure = self.metric if self._scored is None else self._scored[1]
        return f"{measure}:{aim}" + (f"*{self.weight:g}" if self.weight != 1 else "")

    def scores(self, texts: Sequence[str]) -> Floats | None:
        """The metric of each text by its scorer, NaN where it does not apply; None where the metric
        is a figure of `profile`. Raises PomonaError where the scorer fails, or gives infinity.
        """
        if self._scored is None:
            return None
        values = scored(self.metric, self._scored[0], texts)
        if len(endless := np.flatnonzero(np.isinf(values))):
            message = f"gave infinity for text {endless[0] + 1}"
            raise PomonaError(message, where=self.metric, remedy="return numbers, or NaN")
        return values

    def utility(self, values: Floats) -> Floats:
        """How well values do by this objective, higher is better: themselves, their negatives, or
        how far outside the band they are, as a negative.
        """
        if self.band is None:
            return values if self.direction == "up" else -values
        low, high = self.band
        below = 0 if low is None else low - values
        above = 0 if high is None else values - high
        return -np.maximum(np.maximum(below, above), 0)


def objectives_from(spec: Sequence[ObjectiveSpec | Mapping[str, object]]) -> list[Objective]:
    """The objectives of a recipe's list. Raises PomonaError for a mistake in it, and where two have
    one name.
    """
    told: dict[str, Objective] = {}
    for one in spec:
        if not isinstance(one, ObjectiveSpec):
            one = model_of(dict(one), ObjectiveSpec, kind="objective")
        band = None if one.band is None else (one.band[0], one.band[1])
        made = Objective(one.metric, one.direction, band, one.weight, one.name or "")
        if made.name in told:
            remedy = "give each a name of its own"
            raise PomonaError("is there twice", where=f'objective "{made.name}"', remedy=remedy)
        told[made.name] = made
    return list(told.values())


def measured(candidates: Sequence[Candidate], objectives: Sequence[Objective]) -> Floats:
    """The metric of each answer by each objective, float64 `[candidates, objectives]`; NaN where it
    does not apply.
    """
    texts = [one.lesson.text for one in candidates]
    values = np.full((len(texts), len(objectives)), np.nan)
    figures = TextFigures()
    if any(one.metric in FIGURES for one in objectives):
        for one in candidates:
            figures.add(one.lesson.text, one.row.lang)
    for place, one in enumerate(objectives):
        told = one.scores(texts)
        values[:, place] = figures.values[one.metric] if told is None else told
    return values


def _check_band(band: Bounds, where: str) -> None:
    ends = [end for end in band if end is not None]
    right = ends and all(map(math.isfinite, ends)) and ends == sorted(ends)
    if not right:
        message = f"{list(band)} is no band"
        raise PomonaError(message, where=where, remedy="give [low, high], one of them may be null")


def _check_scorer(metric: str, where: str) -> None:
    if ":" not in metric:
        message = f'there is no metric "{metric}"'
        raise PomonaError(message, where=where, remedy=nearest(metric, FIGURES))
    if metric.startswith("column:"):
        remedy = "give a figure, words:FILE, hf:FOLDER#LABEL or MODULE:FUNCTION"
        raise PomonaError("answers have no columns", where=where, remedy=remedy)
