"""What `inflection` and `decide` found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from pomona.pages import UNKNOWN, clean, short
from pomona.scale.curves.scores import OVERALL

Verdict = Literal["smooth", "broken", "cannot tell"]
UNITS = {
    "densities": "log density of each size, predicted from the others, summed over sizes",
    "difference": "density of the better broken shape less that of the better smooth one; 95 % "
    "interval over items",
    "p_value": "share of curves from the smooth shape whose difference is as large; p_holm is "
    "corrected over metrics, and within a metric over groups",
    "turn": "size at which a kink, a jump or the middle of a logistic curve is",
    "detectable": "smallest kink at the middle size that would be found in four of five cases, as "
    "the share of the curve's range by which it moves the last size",
    "breakthrough": "change from end to end over the root of the median squared step (BIG-bench)",
}


RANKED = {
    "accuracy": "share of pairs of levers that are ordered as at the largest size; ties count half",
    "decided_accuracy": "the same over pairs whose difference at the largest size has a 95 % "
    "interval without zero",
    "regret": "value of the largest size's best lever less that of the one that is chosen, there, "
    "in the metric's unit and turned so that more is worse",
    "flops": "to measure the levers at these sizes; flops_share: as part of those at the largest",
    "over": "what intervals resample: items, values within their errors, or levers",
}


def shown(size: str) -> str:
    """The name of a size as people read it: one that is a number as `8.2M`."""
    return short(float(size)) if size.isdecimal() else clean(size)


@dataclass(frozen=True)
class RankFigure:
    """A number with its 95 % interval, ends None where there is none."""

    value: float
    low: float | None = None
    high: float | None = None

    def told(self, *, percent: bool = False) -> str:
        """`83% [67%, 92%]`, `0.71 [0.40, 0.88]`."""
        write = "{:.0%}".format if percent else "{:.2f}".format
        known = self.low is not None and self.high is not None
        ends = f" [{write(self.low)}, {write(self.high)}]" if known else ""
        return (write(self.value) + ends).replace("-", "−")


@dataclass(frozen=True)
class Method:
    """A way to rank `levers` before the largest size is trained: by "one size", by a curve through
    `sizes`, or at "random". Figures: see `RANKED`; None where one is not known or not defined, and
    `note` says why.
    """

    method: str
    sizes: Sequence[str]
    levers: int
    pairs: int = 0
    accuracy: RankFigure | None = None
    decided: int | None = None
    decided_accuracy: RankFigure | None = None
    kendall: RankFigure | None = None
    spearman: RankFigure | None = None
    chosen: str | None = None
    best: str | None = None
    regret: RankFigure | None = None
    flops: float | None = None
    flops_share: float | None = None
    over: str | None = None
    note: str = ""

    @property
    def name(self) -> str:
        """As people read it."""
        if self.method == "one size":
            return shown(self.sizes[0])
        return self.method if not self.sizes else f"{self.method} through {len(self.sizes)}"


@dataclass(frozen=True)
class Decision:
    """Levers by one metric in one group: `values` by lever and size, and ways to rank them, judged
    by the `largest` size.
    """

    metric: str
    group: str
    largest: str
    higher_is_better: bool
    values: Mapping[str, Mapping[str, float | None]]
    methods: Sequence[Method]
    note: str = ""

    @property
    def judge(self) -> str:
        """The largest size as people read it."""
        return shown(self.largest)


@dataclass(frozen=True)
class Decisions:
    """Decisions by metric and group, those over all items first; `sizes` ascend."""

    sizes: Sequence[str]
    decisions: Sequence[Decision]
    signature: str
    seed: int
    notes: Sequence[str]

    def headline(self) -> str:
        """What the smallest size decides, and what choosing by it costs."""
        first = self.decisions[0]
        one = first.methods[0]
        if one.accuracy is None:
            return f"{one.name}: {one.note or 'nothing to compare'}"
        alike = f"{one.accuracy.value:.0%} of {one.pairs} pairs"
        line = f"{one.name} orders {alike} as {first.judge} does"
        if one.decided and one.decided_accuracy is not None:
            line += f" ({one.decided_accuracy.value:.0%} of the {one.decided} decided ones)"
        if one.regret is not None:
            line += f"; choosing by it costs {one.regret.value:.2f} {first.metric} there"
        return line

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        told = {"headline": self.headline(), "sizes": list(self.sizes)}
        told |= {"decisions": [asdict(one) for one in self.decisions]}
        told |= {"seed": self.seed, "signature": self.signature, "notes": list(self.notes)}
        return {**told, "units": RANKED}


@dataclass(frozen=True)
class Curve:
    """A metric along sizes, of one group of items: `sizes` with `names`, `values` and their 95 %
    intervals `lows` and `highs`, null where nothing is known of the error.

    shape, turn, fitted: of the shape that predicts best. Other figures: see `UNITS`. What is not
    known is None, and `note` says why.
    """

    metric: str
    group: str
    series: str
    names: Sequence[str]
    sizes: Sequence[float]
    values: Sequence[float]
    lows: Sequence[float | None]
    highs: Sequence[float | None]
    verdict: Verdict = "cannot tell"
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    p_holm: float | None = None
    shape: str | None = None
    turn: float | None = None
    fitted: Sequence[float] | None = None
    detectable: float | None = None
    breakthrough: float | None = None
    densities: Mapping[str, float] = field(default_factory=dict)
    note: str = ""

    @property
    def name(self) -> str:
        """The metric, and what else all sizes share."""
        return " ".join(filter(None, (self.metric, self.series)))

    def ahead(self) -> str:
        """The difference as people read it: `+4.2 [+1.3, +7.9]`."""
        if self.difference is None:
            return UNKNOWN
        known = self.low is not None and self.high is not None
        ends = f" [{self.low:+.1f}, {self.high:+.1f}]" if known else ""
        return f"{self.difference:+.1f}{ends}".replace("-", "−")


@dataclass(frozen=True)
class Inflection:
    """Curves by metric and group, those of all items first, along "params", "tokens" or "flops"."""

    along: str
    curves: Sequence[Curve]
    signature: str
    seed: int
    notes: Sequence[str]

    def headline(self) -> str:
        """What is broken, what is smooth, and whose the break is."""
        of: dict[str, list[str]] = {"broken": [], "smooth": [], "cannot tell": []}
        for curve in self.curves:
            if curve.group == OVERALL:
                of[curve.verdict].append(curve.name)
        broken, smooth, unclear = (", ".join(of[what]) for what in of)
        told = [
            f"{broken}: broken" if broken else "",
            f"{smooth}: smooth" if smooth else "",
            f"{unclear}: cannot tell" if unclear else "",
        ]
        line = "; ".join(filter(None, told)) or "no curve of all items"
        if broken and smooth:
            line += ". The same models are smooth by one metric: the break is the metric's"
        return line

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        told = {"headline": self.headline(), "along": self.along}
        told |= {"curves": [asdict(curve) for curve in self.curves]}
        told |= {"seed": self.seed, "signature": self.signature, "notes": list(self.notes)}
        return {**told, "units": UNITS}
