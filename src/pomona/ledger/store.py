"""A run's ledger: its entries with the header that says what they were measured on, in one file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, astuple, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pomona.documents import read_json
from pomona.errors import PomonaError, nearest
from pomona.files import json_text, write_text
from pomona.pages import places

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = 1
LARGEST = 1e100


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
    is what answering one item costs. `seconds` are CPU seconds. What is not known is None. `seeds`
    is how often the variant was trained. `group` is "overall", "tail", "head", "near", "middle",
    "far" or a value of the group column. `p_value` is that of the difference, and `p_holm` the same
    corrected for all comparisons of the group (Holm 1979); None where nothing is tested.
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
    flops_per_item: float
    tokens: int | None
    seconds: float | None
    scale_equivalent: ScaleEquivalent | None
    seed: int
    signature: str
    seeds: int = 1
    p_value: float | None = None
    p_holm: float | None = None

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary, `scale_equivalent` nested or null."""
        return asdict(self)

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
class Meta:
    """What all entries share. `metric` is the label for people; `groups` run from head to tail;
    `serve_items` is the number of answered items over which the cost of answering is counted;
    `bounds` are variants that only the references could choose; `copying` is the metric of each
    group if the source were the answer; `warnings` say what makes the numbers worth less than they
    look; `created` is an ISO 8601 time.
    """

    name: str
    metric: str
    higher_is_better: bool
    base: str
    base_parameters: int
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

    @property
    def counted(self) -> str:
        """What the groups are counted in."""
        trained = not self.groups or any(each.train_examples is not None for each in self.groups)
        return "training examples" if trained else "test items"


@dataclass
class Ledger:
    """Entries and their header. Every `entry.baseline` must itself have an entry, because extra
    compute is counted from it.
    """

    meta: Meta
    entries: list[Entry]

    def of(self, group: str) -> list[Entry]:
        """The entries of one group, in the ledger's order."""
        return [entry for entry in self.entries if entry.group == group]

    def of_groups(self, groups: Sequence[str]) -> list[Entry]:
        """The entries of several groups, one group after the other. Raises PomonaError for one
        without entries.
        """
        measured = {entry.group for entry in self.entries}
        for group in groups:
            if group not in measured:
                remedy = nearest(group, measured)
                raise PomonaError("no entry has this group", where=group, remedy=remedy)
        return [entry for group in groups for entry in self.of(group)]

    def gain(self, entry: Entry) -> tuple[float, float, float]:
        """The difference with its interval, turned so that positive is better."""
        if self.meta.higher_is_better:
            return entry.delta, entry.ci_low, entry.ci_high
        return -entry.delta, -entry.ci_high, -entry.ci_low

    def baseline_of(self, entry: Entry) -> Entry:
        """The entry that this one is compared with. Raises PomonaError if there is none."""
        return self._baselines([entry])[0]

    def extra(self, entry: Entry) -> float | None:
        """Extra compute in FLOPs over the entry's own baseline (see `extra_compute`). Raises
        PomonaError if that has no entry.
        """
        return extra_compute(entry, self.baseline_of(entry), self.meta.serve_items)

    def _baselines(self, entries: Sequence[Entry]) -> list[Entry]:
        """`baseline_of` for several entries, in one pass."""
        names, first = {entry.baseline for entry in entries}, dict[tuple[str, str | None], Entry]()
        for entry in self.entries:
            if entry.variant in names:
                first.setdefault((entry.variant, entry.group), entry)
                first.setdefault((entry.variant, None), entry)
        found = []
        for entry in entries:
            name = entry.baseline
            same = first.get((name, entry.group)) or first.get((name, None))
            if same is None:
                known = nearest(name, {other.variant for other in self.entries})
                message = f'the baseline "{name}" has no entry'
                raise PomonaError(message, where=f"{entry.variant}, {entry.group}", remedy=known)
            found.append(same)
        return found

    def _with_extra(self) -> list[tuple[Entry, float | None]]:
        pairs = zip(self.entries, self._baselines(self.entries), strict=True)
        items = self.meta.serve_items
        return [(entry, extra_compute(entry, base, items)) for entry, base in pairs]

    def decimals(self) -> dict[str, int]:
        """For every group how many decimals its values are shown with: those of its narrowest
        interval.
        """
        most: dict[str, int] = {}
        for entry in self.entries:
            shown = places(entry.ci_low, entry.ci_high)
            most[entry.group] = max(most.get(entry.group, 2), shown)
        return most

    def write(self, path: str | Path) -> None:
        """Write `path` (ledger.json), whole or not at all. Raises PomonaError for numbers that are
        not finite or a missing baseline.
        """
        write_text(path, self.text(path))

    def text(self, path: str | Path) -> str:
        """What `write` writes to `path`."""
        _check(self, path)
        entries = [entry.to_json() for entry in self.entries]
        about = {"pomona_ledger": FORMAT, "meta": asdict(self.meta), "entries": entries}
        return json_text(about)

    @classmethod
    def read(cls, path: str | Path) -> Ledger:
        """Read what `write` wrote. Raises PomonaError for a missing, broken or newer file."""
        from pydantic import TypeAdapter, ValidationError

        remedy = (
            "run `pomona run` on the recipe again, which writes it anew from the finished steps"
        )
        document = read_json(
            path,
            top=None,
            missing="cannot be read: no such file or no permission",
            wrong="is not a whole JSON file",
            remedy=remedy,
        )
        version = document.get("pomona_ledger") if isinstance(document, dict) else None
        if version is None:
            message = "is not a ledger: it has no `pomona_ledger` key"
            raise PomonaError(message, where=path, remedy="name a run's ledger.json")
        if version != FORMAT:
            message = f"has format {version}; this Pomona reads format {FORMAT}"
            raise PomonaError(message, where=path, remedy="upgrade pomona, or run again")
        if key := next(_excessive(document, ""), None):
            message = f"`{key}` is larger than any count or cost"
            raise PomonaError(message, where=path, remedy=remedy)
        try:
            ledger = TypeAdapter(cls).validate_python(
                {key: document.get(key) for key in ("meta", "entries")}
            )
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"]))
            raise PomonaError(f"`{key}`: {first['msg']}", where=path, remedy=remedy) from error
        _check(ledger, path)
        return ledger

    def rows(self) -> list[dict[str, Any]]:
        """One flat row per entry: its fields, `extra_flops`, and the scale-equivalent as four
        `scale_…` columns.
        """
        return [_row(entry, extra) for entry, extra in self._with_extra()]

    def documents(self) -> list[dict[str, Any]]:
        """Every entry with its fields as they are, and `extra_flops`."""
        return [entry.to_json() | {"extra_flops": extra} for entry, extra in self._with_extra()]

    def to_table(self) -> pa.Table:
        """`rows()` as a table with a fixed schema, also when a column holds no value."""
        import pyarrow as pa

        kinds = {"str": pa.string(), "float": pa.float64(), "int": pa.int64()}
        columns = [(name, kinds[kind]) for name, kind in _COLUMNS.items()]
        return pa.Table.from_pylist(self.rows(), schema=pa.schema(columns))


_COLUMNS = {
    **dict.fromkeys(("lever", "variant", "metric", "group", "baseline"), "str"),
    **dict.fromkeys(("value", "delta", "ci_low", "ci_high"), "float"),
    "n": "int",
    **dict.fromkeys(("flops_once", "flops_per_item", "extra_flops"), "float"),
    "tokens": "int",
    **dict.fromkeys(("seconds", "scale_ratio", "scale_low", "scale_high"), "float"),
    "scale_note": "str",
    "seed": "int",
    "seeds": "int",
    "signature": "str",
    **dict.fromkeys(("p_value", "p_holm"), "float"),
}


def extra_compute(entry: Entry, base_entry: Entry, serve_items: int) -> float | None:
    """FLOPs to make the variant and answer `serve_items` items, beyond what the base spends on
    answering them; None where it is not known what making it took.
    """
    if entry.flops_once is None:
        return None
    return entry.flops_once + (entry.flops_per_item - base_entry.flops_per_item) * serve_items


def ledger_of(run: str | Path, *, group: Sequence[str] | None = None) -> Ledger:
    """The ledger of a run, whole or the entries of some groups.

    Args:
        run: Folder of the run.
        group: Only this group; may be repeated. The table shows overall and tail if not given, JSON
            and CSV all.

    Raises:
        PomonaError: there is no such run, it is not finished, its ledger.json cannot be read, or no
            entry has a group.
    """
    run = Path(run)
    path = run / "ledger.json" if run.is_dir() else run
    if run.is_dir() and not path.exists():
        raise PomonaError(
            "this folder has no ledger.json",
            where=run,
            remedy="finish the run: `pomona run RECIPE` continues it",
        )
    if not run.exists():
        beside = [str(ledger.parent) for ledger in run.parent.glob("*/ledger.json")]
        raise PomonaError(
            "there is no such run",
            where=run,
            remedy=nearest(str(run), beside) if beside else "`pomona run RECIPE` makes one",
        )
    ledger = Ledger.read(path)
    return ledger if group is None else replace(ledger, entries=ledger.of_groups(group))


def to_csv(ledger: Ledger) -> str:
    """`ledger.rows()` as CSV with a header; an absent number is an empty cell."""
    import csv
    import io

    stream = io.StringIO()
    writer = csv.DictWriter(stream, fieldnames=list(_COLUMNS), lineterminator="\n")
    writer.writeheader()
    writer.writerows(ledger.rows())
    return stream.getvalue()


def to_json(ledger: Ledger) -> str:
    """The entries as a JSON array, one a line, each with its `extra_flops`; `scale_equivalent` is
    nested or null.
    """
    rows = (json.dumps(entry, ensure_ascii=False, allow_nan=False) for entry in ledger.documents())
    return "[\n" + ",\n".join(rows) + "\n]\n"


def _row(entry: Entry, extra: float | None) -> dict[str, Any]:
    names = ("scale_ratio", "scale_low", "scale_high", "scale_note")
    scale = entry.scale_equivalent
    flat = dict(zip(names, astuple(scale) if scale else [None] * 4, strict=True))
    flat |= {"extra_flops": extra}
    return {name: flat[name] if name in flat else getattr(entry, name) for name in _COLUMNS}


def _excessive(value: Any, key: str) -> Iterator[str]:
    """The keys of numbers that would overflow in what is computed from them."""
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for name, inner in pairs:
            yield from _excessive(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, int | float) and abs(value) > LARGEST:
        yield key


def _check(ledger: Ledger, path: str | Path) -> None:
    base, metrics = ledger.meta.base, sorted({entry.metric for entry in ledger.entries})
    if not any(entry.variant == base for entry in ledger.of("overall")):
        message = f'the base "{base}" has no "overall" entry'
        raise PomonaError(message, where=path, remedy="measure the base first")
    if len(metrics) > 1:
        message = f"entries of several metrics: {', '.join(metrics)}"
        raise PomonaError(message, where=path, remedy="write one ledger per metric")
    numbers = [name for name, kind in _COLUMNS.items() if kind != "str"]
    for row in ledger.rows():
        for name in numbers:
            if row[name] is not None and not abs(row[name]) <= LARGEST:
                message = f"`{name}` of {row['variant']}, {row['group']} is {str(row[name])[:20]}"
                remedy = "measure it again on more items, or leave the entry out"
                raise PomonaError(message, where=path, remedy=remedy)
