"""What `frontier`, `returns` and `growth` find."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pomona.scale.tables.fits import Estimate
from pomona.scale.tables.flags import RowFlag

CURVES: dict[str, str] = {
    "all": "all models but hoaxes, and those that are small only by a column",
    "consistent": "also without rows whose size or compute contradicts itself",
    "no_merges": "of these, what is labelled pretrained and is neither merged nor tuned",
    "bases": "curated bases: really pretrained models alone",
}
APART = 3.2  # times the compute: half an order of magnitude
FRONTIER_UNITS = {
    "score": "as the table has it, in the metric that is named",
    "params": "parameters; compute: training FLOP",
    "share": "of the larger models, those that the best small one beats: 0 to 1",
    "ratio": "parameters of the larger model over those of the smaller one that beats it",
    "r2": "share of the variance of the score that a line on the logarithm explains",
    "discordant": "share of pairs of different size in which the smaller one scores higher",
}
RETURNS_UNITS = {
    "points": "points of the score for each doubling of parameters",
    "error": "share of the error (100 - score) that each doubling takes away, 0 to 1",
    "halving": "doublings of parameters that halve the error; null where it does not fall",
    "bend": "points that a doubling buys less with each doubling; below 0: diminishing returns",
}


QUANTITIES = {"params": "parameters", "tokens": "training data", "flop": "training compute"}
GROWTH_UNITS = {
    "months": "months in which it doubles; high is null where it may as well not grow at all",
    "per_year": "times as much after a year",
    "r2": "share of the variance of the logarithm that the date explains",
    "share": "of the models whose makers are known, 0 to 1, with Wilson's interval",
}


@dataclass(frozen=True)
class ListedModel:
    """A row of the table, counted from 1."""

    row: int
    model: str
    params: float
    score: float


@dataclass(frozen=True)
class Overcome:
    """A smaller model that beats a larger one, and how many times larger that is."""

    smaller: ListedModel
    larger: ListedModel
    ratio: float


@dataclass(frozen=True)
class FrontierCurve:
    """What is true of some rows at a date, in `FRONTIER_UNITS`.

    best: the best model of at most the small size; larger: how many are larger; beaten: how many of
        these it beats; share: beaten / larger, None without larger models or small ones.
    overcome: the largest ratio of sizes in which the smaller model wins.
    half: the smallest model that beats at least half of the larger ones.
    r2: by what explains the score: params, flop, and params where flop is known too.
    discordant: by what is smaller, params or flop, of all pairs and of those `APART` times apart;
        with intervals in the last month.
    """

    models: int
    best: ListedModel | None
    larger: int
    beaten: int
    share: float | None
    overcome: Overcome | None
    half: ListedModel | None
    r2: Mapping[str, Estimate]
    discordant: Mapping[str, Mapping[str, Estimate]]


@dataclass(frozen=True)
class ArenaFit:
    """Arena ratings against known sizes: the share of their variance that the logarithm of
    parameters explains, and points of rating for each doubling; `unknown` models have a rating and
    no known size.
    """

    r2: Estimate
    per_doubling: Estimate
    unknown: int


@dataclass(frozen=True)
class Month:
    """All that was published until a day. `flags` are of the models of this month alone, so that
    the flags of all months are those of the table; undated ones, and those later than all that
    counts, stand in the last month.
    """

    month: str | None
    until: str | None
    new: int
    curves: Mapping[str, FrontierCurve]
    arena: ArenaFit | None
    flags: Sequence[RowFlag]


@dataclass(frozen=True)
class Frontier:
    """Small against larger models, month by month; `to_json` gives the list of months."""

    name: str
    metric: str
    small: float
    months: Sequence[Month]
    flags: Sequence[RowFlag]
    bases: str
    resampled: str
    signature: str
    seed: int
    notes: Sequence[str]

    def to_json(self) -> list[dict[str, Any]]:
        """One object a month. The share of the curve `all` stands in it too, and what is of the
        whole table in every month, so that one month can be read by itself.
        """
        about = {"metric": self.metric, "small": self.small, "bases": self.bases}
        about |= {"seed": self.seed, "signature": self.signature, "notes": list(self.notes)}
        about |= {"units": FRONTIER_UNITS}
        told = []
        for month in self.months:
            first = asdict(month.curves["all"])
            top = {name: first[name] for name in ("share", "larger", "beaten", "best")}
            when = {"month": month.month, "until": month.until}
            told.append({**when, **top, **asdict(month), **about})
        return told


@dataclass(frozen=True)
class DoublingGain:
    """What a doubling of parameters buys some models, in `RETURNS_UNITS`.

    points: the slope of the score on the binary logarithm of parameters.
    error: the same of the error that is left, None where scores have no ceiling.
    halving: doublings that halve the error.
    bend: by how much the slope itself changes with each doubling.
    fit_points, fit_error: the share of the variance of the score that a line in points explains,
        and that a line in the logarithm of the error does; None within families.
    """

    n: int
    points: Estimate
    error: Estimate | None
    halving: Estimate | None
    bend: Estimate
    fit_points: float | None
    fit_error: float | None


@dataclass(frozen=True)
class SizeStep:
    """From one of the best models for their size to the next that is a quarter larger or more.
    `error` is the share of the error that each doubling takes away, None where scores have no
    ceiling. It is a comparison of two models: nothing is known of its error.
    """

    smaller: str
    larger: str
    ratio: float
    gain: float
    points: float
    error: float | None


@dataclass(frozen=True)
class MetricReturns:
    """What size buys in one metric.

    within: the common slope of models of one family, with a level of its own for each family.
    bands: the slopes among the smallest, the middle and the largest third of models.
    families: each by itself, with Student's intervals, since their models are few.
    """

    metric: str
    overall: DoublingGain
    within: DoublingGain | None
    bands: Mapping[str, DoublingGain]
    families: Mapping[str, DoublingGain]
    steps: Sequence[SizeStep]


@dataclass(frozen=True)
class Contrast:
    """How much more a doubling buys in one metric than in the first, of the same models and over
    the same resamples: in points, and in the binary logarithm of the error.
    """

    metric: str
    against: str
    points: Estimate
    log_error: Estimate | None


@dataclass(frozen=True)
class SizeReturns:
    """Returns in each metric, and contrasts of the others with the first."""

    name: str
    metrics: Sequence[MetricReturns]
    contrasts: Sequence[Contrast]
    signature: str
    seed: int
    notes: Sequence[str]

    def to_json(self) -> dict[str, Any]:
        """All of it, as JSON has it."""
        return {**asdict(self), "units": RETURNS_UNITS}


@dataclass(frozen=True)
class Trend:
    """How fast something grows, from a line of its logarithm on the date. `why` says why there is
    none. first, last: the days of the first and last model.
    """

    n: int
    first: str | None
    last: str | None
    months: Estimate
    per_year: Estimate
    r2: Estimate
    why: str | None = None


@dataclass(frozen=True)
class Quantity:
    """Parameters, training data or compute: of all models, and of those that were among the `top`
    largest until their day.
    """

    column: str
    overall: Trend
    frontier: Trend


@dataclass(frozen=True)
class Makers:
    """Who made the models of a year: `n` of them, `known` those whose makers are known; `both` are
    of academia and industry together.
    """

    year: int
    n: int
    known: int
    academia: Estimate
    industry: Estimate
    both: Estimate
    other: Estimate


@dataclass(frozen=True)
class Growth:
    """Doubling times, and who made the models of each year."""

    name: str
    top: int
    quantities: Mapping[str, Quantity]
    makers: Sequence[Makers]
    resampled: str
    signature: str
    seed: int
    notes: Sequence[str]

    def to_json(self) -> dict[str, Any]:
        """All of it, as JSON has it."""
        return {**asdict(self), "units": GROWTH_UNITS}
