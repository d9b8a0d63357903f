"""A run's ledger: its entries with the header that says what they were measured on, in one file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pomona.documents import read_json
from pomona.errors import PomonaError, nearest
from pomona.files import json_text, write_text
from pomona.ledger.entry import Axis, Entry, Meta
from pomona.pages import places

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = 1
LARGEST = 1e100
PARTIAL = "ledger.partial.json"  # of a run that still has something to measure
LEVEL = 0.05  # below which a corrected p-value is no chance


@dataclass
class Ledger:
    """Entries and their header. Every `entry.baseline` must itself have an entry, because extra
    compute is counted from it.
    """

    meta: Meta
    entries: list[Entry]

    @property
    def leading(self) -> str:
        """The metric that decides: the one that the header names or, where that is a label, the
        metric of the first entry.
        """
        named = any(entry.metric == self.meta.metric for entry in self.entries)
        return self.meta.metric if named or not self.entries else self.entries[0].metric

    @property
    def metrics(self) -> list[str]:
        """The metrics of the entries, the leading one first."""
        return list(dict.fromkeys([self.leading, *(entry.metric for entry in self.entries)]))

    def of(self, group: str) -> list[Entry]:
        """The entries of one group by the leading metric, in the ledger's order."""
        leading = self.leading
        return [e for e in self.entries if e.group == group and e.metric == leading]

    def parts(self) -> dict[str, str]:
        """The groups that stand for "all", "head", "tail" and "cold" items, as far as they were
        measured: where some items are of a kind that nothing was trained on, "all" are the others.
        """
        measured = {entry.group for entry in self.entries}
        found = {"all": "warm" if "warm" in measured else "overall"}
        for name in ("head", "tail"):
            names = [f"warm {name}", name] if found["all"] == "warm" else [name]
            found |= {name: next((one for one in names if one in measured), "")}
        found |= {"cold": "cold" if "cold" in measured else ""}
        return {name: group for name, group in found.items() if group}

    def of_groups(self, groups: Sequence[str]) -> list[Entry]:
        """The entries of several groups, one group after the other. Raises PomonaError for one
        without entries.
        """
        measured = {entry.group for entry in self.entries}
        for group in groups:
            if group not in measured:
                remedy = nearest(group, measured)
                raise PomonaError("no entry has this group", where=group, remedy=remedy)
        return [entry for group in groups for entry in self.entries if entry.group == group]

    def gain(self, entry: Entry) -> tuple[float, float, float]:
        """The difference with its interval, turned so that positive is better."""
        if self.meta.higher.get(entry.metric, self.meta.higher_is_better):
            return entry.delta, entry.ci_low, entry.ci_high
        return -entry.delta, -entry.ci_high, -entry.ci_low

    def verdict(self, entry: Entry) -> str:
        """`better` or `worse` where the interval says so and, as far as it is known, the p-value
        that is corrected for the number of comparisons as well; else `unclear`.
        """
        _, low, high = self.gain(entry)
        if low <= 0 <= high or (entry.p_holm is not None and entry.p_holm >= LEVEL):
            return "unclear"
        return "better" if low > 0 else "worse"

    def baseline_of(self, entry: Entry) -> Entry:
        """The entry that this one is compared with. Raises PomonaError if there is none."""
        return self._baselines([entry])[0]

    def extra(self, entry: Entry, axis: Axis = "flops") -> float | None:
        """Extra compute over the entry's own baseline, or extra money, tokens or seconds (see
        `extra_compute`). Raises PomonaError if that has no entry.
        """
        return extra_compute(entry, self.baseline_of(entry), self.meta.serve_items, axis)

    def first_of_variants(self) -> dict[tuple[str, str | None], Entry]:
        """The first entry of every variant and group and, with None as the group, of every
        variant.
        """
        first = dict[tuple[str, str | None], Entry]()
        for entry in self.entries:
            first.setdefault((entry.variant, entry.group), entry)
            first.setdefault((entry.variant, None), entry)
        return first

    def _baselines(self, entries: Sequence[Entry]) -> list[Entry]:
        """`baseline_of` for several entries, in one pass."""
        first, found = self.first_of_variants(), []
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
        leading = self.leading
        for entry in self.entries:
            if entry.metric != leading:
                continue
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

        kinds = {"str": pa.string(), "float": pa.float64(), "int": pa.int64(), "bool": pa.bool_()}
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
    "bytes": "int",
    **dict.fromkeys(("money_once", "money_per_item", "tokens_per_item"), "float"),
    **dict.fromkeys(("seconds_once", "seconds_per_item"), "float"),
    "optimised": "bool",
}


def extra_compute(
    entry: Entry, base_entry: Entry, serve_items: int, axis: Axis = "flops"
) -> float | None:
    """FLOPs to make the variant and answer `serve_items` items, beyond what the base spends on
    answering them; by another axis money, tokens or CPU seconds. None where a part of it is not
    known.
    """
    (once, each), its = entry.spent(axis), base_entry.spent(axis)[1]
    if once is None or each is None or its is None:
        return None
    return once + (each - its) * serve_items


def ledger_of(run: str | Path, *, group: Sequence[str] | None = None) -> Ledger:
    """The ledger of a run, whole or the entries of some groups; of one that works what it has
    measured so far.

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
    if run.is_dir() and not path.exists() and (run / PARTIAL).exists():
        path = run / PARTIAL
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
    base, metrics = ledger.meta.base, ledger.metrics
    if not any(entry.variant == base for entry in ledger.of("overall")):
        message = f'the base "{base}" has no "overall" entry'
        raise PomonaError(message, where=path, remedy="measure the base first")
    if len(metrics) > 1 and ledger.meta.metric not in metrics:
        message = f"entries of several metrics ({', '.join(metrics)}), none the header's"
        remedy = "name the one that leads as `metric` of the header"
        raise PomonaError(message, where=path, remedy=remedy)
    numbers = [name for name, kind in _COLUMNS.items() if kind not in ("str", "bool")]
    for row in ledger.rows():
        for name in numbers:
            if row[name] is not None and not abs(row[name]) <= LARGEST:
                message = f"`{name}` of {row['variant']}, {row['group']} is {str(row[name])[:20]}"
                remedy = "measure it again on more items, or leave the entry out"
                raise PomonaError(message, where=path, remedy=remedy)
