"""The ledger as a table in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pomona.ledger.entry import Entry
from pomona.ledger.store import Ledger
from pomona.ledger.systems import View
from pomona.pages import clean, count, gained, interval, p_value, places

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

_LEFT = {"lever", "variant", "× scale"}
_STYLES = {"better": "green", "worse": "red", "unclear": "dim"}
_GAP = 3  # columns of the terminal around each of the table's
_WIDEST = 28  # letters of a variant's name in a line, where columns would be left out otherwise


def print_table(
    ledger: Ledger, groups: Sequence[str] | None = None, console: Console | None = None
) -> None:
    """Print one table per group to standard output, the less important columns only where the
    terminal is wide enough.

    `groups` are, unless given, "overall" or "warm", and "tail" and "cold" where they were measured.
    Warnings come first, and last what the best system costs whom. Colour follows the terminal and
    NO_COLOR. Raises PomonaError for a group without entries.
    """
    from rich.console import Console
    from rich.text import Text

    console, ledger, whole = console or Console(), View(ledger), groups is None
    if groups is None:
        parts = ledger.parts()
        groups = [parts[name] for name in ("all", "tail", "cold") if name in parts]
    for warning in ledger.meta.warnings:
        console.print(Text(f"warning: {clean(warning)}", "yellow"))
    if ledger.meta.pending:
        to_come = ", ".join(map(clean, ledger.meta.pending))
        console.print(Text(f"warning: the run is not finished; still to come: {to_come}", "yellow"))
    ledger.of_groups(groups)  # what is wrong with the last is said before the first is printed
    for group in groups:
        console.print(_table(ledger, group, console.width))
    if whole:
        for line in exchanged(ledger):
            console.print(Text(line))


def exchanged(ledger: Ledger) -> list[str]:
    """What the best system costs whom, a question and a line for each part; nothing where no lever
    was measured.
    """
    meta = ledger.meta
    if not meta.exchange:
        return []
    parts = " and ".join(f"the {each.part}" for each in meta.exchange if each.part != "overall")
    named, base, metric = (clean(s) for s in (meta.exchange[0].variant, meta.base, meta.metric))
    return [
        f"What did {named} cost{' ' + parts if parts else ''}? "
        f"Items answered better and worse than by {base}:",
        *(
            f"  {clean(each.part)}: {count(each.gained)} better, {count(each.lost)} worse of "
            f"{count(each.n)}; {metric} {gained(each.gain, each.low, each.high)} "
            f"{interval(each.low, each.high)}"
            for each in meta.exchange
        ),
    ]


def _table(ledger: View, group: str, width: int) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    meta, entries = ledger.meta, ledger.of(group)
    decimals, unit = ledger.decimals()[group], ledger.words.unit
    rows = [_cells(ledger, entry, decimals) for entry in entries]
    there = {
        "× scale": any(entry.scale_equivalent for entry in entries),
        "p (Holm)": any(entry.p_holm is not None for entry in entries),
    }
    measured = [name for name in rows[0] if there.get(name, True)]
    names = _fitting(measured, rows, width, [f"extra {unit}", *map(clean, ledger.metrics[1:])])
    title = Text(f"{clean(group)}: {clean(meta.metric)} against {clean(meta.base)}", "bold")
    missing = [name for name in measured if name not in names]
    rare = group in (ledger.parts().get("head"), ledger.parts().get("tail"))
    caption = Text(
        "gain: positive is better; faint: it is not measurable. "
        f"Extra {unit}: to make it and answer {count(meta.serve_items)} items."
        + (f" The tail has the fewest {meta.counted}." if rare else "")
        + (
            " ‡: chosen by the metric that judges it here."
            if any(entry.optimised for entry in entries)
            else ""
        )
        + (f" Too narrow for: {', '.join(missing)}." if missing else "")
    )
    table = Table(
        title=title,
        caption=caption,
        box=box.SIMPLE_HEAD,
        title_justify="left",
        caption_justify="left",
        pad_edge=False,
    )
    for name in names:
        table.add_column(
            name,
            justify="left" if name in _LEFT else "right",
            no_wrap=name != "variant",
            overflow="fold",
        )
    for place, entry in enumerate(entries):
        last = place + 1 == len(entries) or entries[place + 1].lever != entry.lever
        table.add_row(*(rows[place][name] for name in names), end_section=last)
    return table


def _fitting(
    names: Sequence[str], rows: Sequence[dict[str, Text]], width: int, more: Sequence[str]
) -> list[str]:
    """The columns that have room beside the variant's name, the more important ones first; `more`
    are that of costs and those of further metrics.
    """
    extra, *metrics = more
    # Where the terminal is narrow the first of these goes first: the variant and its gain stay.
    less = ["p (Holm)", "n", *metrics[::-1], "value", "lever", "× scale", extra, "95 %"]
    wide = {name: max(len(name), *(row[name].cell_len for row in rows)) for name in names}
    wide["variant"] = min(wide["variant"], _WIDEST)
    kept = list(names)
    for name in less:
        if sum(wide[one] + _GAP for one in kept) <= width:
            break
        kept = [one for one in kept if one != name]
    return kept


def _cells(ledger: View, entry: Entry, decimals: int) -> dict[str, Text]:
    from rich.text import Text

    gain, low, high = ledger.gain(entry)
    style = _STYLES[ledger.verdict(entry)]
    scale = str(entry.scale_equivalent) if entry.scale_equivalent else "—"
    name = clean(entry.variant) + (" (bound)" if entry.variant in ledger.meta.bounds else "")
    name += " ‡" if entry.optimised else ""
    others = {name: ledger.within(entry, entry.group, name) for name in ledger.metrics[1:]}
    return {
        "lever": Text(clean(entry.lever)),
        "variant": Text(name, style="bold")
        if entry.baseline == ledger.meta.base
        else Text(f"  against {clean(entry.baseline)}"),
        "value": Text(f"{entry.value:.{decimals}f}"),
        "gain": Text(gained(gain, low, high), style=style),
        "95 %": Text(interval(low, high), style=style),
        "p (Holm)": Text(p_value(entry.p_holm), style=style),
        **{clean(name): _other(ledger, other) for name, other in others.items()},
        "n": Text(count(entry.n)),
        f"extra {ledger.words.unit}": Text(ledger.write_cost(ledger.extra(entry))),
        "× scale": Text(scale),
    }


def _other(ledger: View, entry: Entry | None) -> Text:
    """What another metric gains."""
    from rich.text import Text

    if entry is None:
        return Text("—")
    return Text(gained(*ledger.gain(entry)), style=_STYLES[ledger.verdict(entry)])


def format_entry(entry: Entry, *, higher_is_better: bool = True) -> str:
    """An entry in one line, as it appears while a run measures:
    `hedged5-mbr: chrf 32.18 overall, +1.33 [+0.76, +1.88] over ui-s`.

    What is the base's own has no difference. The interval is that of the entry's difference, turned
    so that positive is better.
    """
    ends = (entry.delta, entry.ci_low, entry.ci_high)
    gain, low, high = ends if higher_is_better else (-ends[0], -ends[2], -ends[1])
    decimals = max(2, places(entry.ci_low, entry.ci_high))
    told = f"{clean(entry.variant)}: {clean(entry.metric)} {entry.value:.{decimals}f} "
    told += clean(entry.group)
    if entry.variant == entry.baseline:
        return told
    tested = "" if entry.p_holm is None else f", p (Holm) {p_value(entry.p_holm)}"
    gains = f"{gained(gain, low, high)} {interval(low, high)}"
    return f"{told}, {gains} over {clean(entry.baseline)}{tested}"
