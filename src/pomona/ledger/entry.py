"""What a ledger is made of: its entries, and the header that they share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Axis = Literal["flops", "money", "tokens", "seconds"]
# What is counted once, beyond the baseline, and what answering one item takes.
AXES: dict[Axis, tuple[str, str]] = {
    "flops": ("flops_once", "flops_per_item"),
    "money": ("money_once", "money_per_item"),
    "tokens": ("tokens", "tokens_per_item"),
    "seconds": ("seconds_once", "seconds_per_item"),
}


@dataclass(frozen=True)
class ScaleEquivalent:
    """How many times the baseline's parameters the ladder needs for the same value, with the bounds
    of its interval.

    A bound outside the measured sizes is None and `note` says "beyond the ladder" or "below the
    ladder". The ratio of a rung itself is no estimate: both bounds are the ratio.
    """

    ratio: float | None
    ci_low: float | None
    ci_high: float | None
    note: str = ""

    def __str__(self) -> str:
        if self.ratio is None:
            return self.note
        if self.ratio == self.ci_low == self.ci_high:
            return f"×{self.ratio:.2f}"
        low = "<" if self.ci_low is None else f"{self.ci_low:.2g}"
        high = ">" if self.ci_high is None else f"{self.ci_high:.2g}"
        return f"×{self.ratio:.2f} [{low}, {high}]"


@dataclass(frozen=True)
class Entry:
    """A lever's variant measured on one group against a baseline. `delta` = value − baseline value,
    with a 95 % interval.

    `flops_once` and `tokens` are what making the variant cost beyond the baseline; `flops_per_item`
    is what answering one item costs; `money_…`, `tokens_per_item` and `seconds_…` are the same
    in money, tokens and CPU seconds (of a model that is asked one request at a time, the
    seconds until it answered), and `seconds` are those of making it and answering the test
    items together. `bytes` are those of its weights and stores. What is not known is None.
    `seeds` is how often the variant was trained. `group` is "overall", "warm", "cold", "tail",
    "head", "near", "middle", "far" or a value of the group column. `p_value` is that of the
    difference, and `p_holm` the same corrected for all comparisons of the group (Holm 1979);
    None where nothing is tested. `optimised` says that its answers were chosen by the metric
    that judges them here.
    """

    lever: str
    variant: str
    metric: str
    group: str
    baseline: str
    value: float
    delta: float
    ci_low: float
    ci_high: float
    n: int
    flops_once: float | None
    flops_per_item: float | None
    tokens: int | None
    seconds: float | None
    scale_equivalent: ScaleEquivalent | None
    seed: int
    signature: str
    seeds: int = 1
    p_value: float | None = None
    p_holm: float | None = None
    bytes: int | None = None
    money_once: float | None = None
    money_per_item: float | None = None
    tokens_per_item: float | None = None
    seconds_once: float | None = None
    seconds_per_item: float | None = None
    optimised: bool = False

    def spent(self, axis: Axis) -> tuple[float | None, float | None]:
        """What making it took beyond the baseline, and what an answer takes."""
        once, each = AXES[axis]
        return getattr(self, once), getattr(self, each)

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary, `scale_equivalent` nested or null."""
        scale = self.scale_equivalent  # `asdict` copies deeply, for seconds where entries are many
        return vars(self) | {"scale_equivalent": None if scale is None else vars(scale) | {}}

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Entry:
        """The inverse of `to_json`."""
        nested = row["scale_equivalent"]
        return cls(**{**row, "scale_equivalent": ScaleEquivalent(**nested) if nested else None})


@dataclass(frozen=True)
class GroupCount:
    """A group with its number of training examples, or of test items where nothing is trained;
    `tail` says whether it belongs to the tail.
    """

    group: str
    train_examples: int | None
    tail: bool
    test_items: int | None = None

    @property
    def size(self) -> int | None:
        """What groups are ordered by, from head to tail."""
        return self.test_items if self.train_examples is None else self.train_examples


@dataclass(frozen=True)
class Rung:
    """One size of the ladder: the variant's name in the entries and its number of parameters."""

    variant: str
    parameters: int


@dataclass(frozen=True)
class Exchange:
    """What a system does to the n items of one part against the base, by the leading metric:
    `gained` items are answered better, `lost` ones worse; `gain` is the difference of the metric
    with its interval, turned so that positive is better.
    """

    variant: str
    part: str
    n: int
    gained: int
    lost: int
    gain: float
    low: float
    high: float


@dataclass(frozen=True)
class Teaching:
    """What teachers wrote for a system: `answers` of which `rows` were kept to learn from.
    `flops_marginal` are those of the answers, with those to validation items that a policy is
    measured on, where the teachers are there already; `flops_full` are those of the teachers' own
    training too, which is what the entries count;
    `program_seconds` are CPU seconds of teachers that are programs, and `money` is what servers
    were paid. What is not known is None.
    """

    variant: str
    answers: int
    rows: int
    flops_marginal: float | None
    flops_full: float | None
    program_seconds: float
    money: float | None


@dataclass(frozen=True)
class Meta:
    """What all entries share. `metric` is the label for people and, where entries are of several
    metrics, the name of the one that leads; `higher` says of the others whether higher is better.
    `groups` run from head to tail; `serve_items` is the number of answered items over which the
    cost of answering is counted; `bounds` are variants that only the references could choose;
    `copying` is the metric of each group if the source were the answer; `warnings` say what makes
    the numbers worth less than they look; `created` is an ISO 8601 time. `pending` are the variants
    that a run still has to measure. `exchange` says what the best of the levers costs whom,
    `teaching` what the teachers of students cost.
    """

    name: str
    metric: str
    higher_is_better: bool
    base: str
    base_parameters: int | None
    serve_items: int
    seed: int
    created: str
    groups: list[GroupCount] = field(default_factory=list)
    rungs: list[Rung] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    bounds: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    copying: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    higher: dict[str, bool] = field(default_factory=dict)
    pending: list[str] = field(default_factory=list)
    exchange: list[Exchange] = field(default_factory=list)
    teaching: list[Teaching] = field(default_factory=list)

    @property
    def counted(self) -> str:
        """What the groups are counted in."""
        trained = not self.groups or any(each.train_examples is not None for each in self.groups)
        return "training examples" if trained else "test items"
