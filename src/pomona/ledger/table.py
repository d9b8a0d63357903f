"""The ledger as a table in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pomona.ledger.store import Entry, Ledger
from pomona.pages import clean, count, flops, gained, interval, p_value

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

_COLUMNS = ("lever", "variant", "value", "gain", "95 %", "p (Holm)", "n", "extra FLOPs", "× scale")
# Where the terminal is narrow the first of these goes first: the variant and its gain stay.
_LESS = ("p (Holm)", "n", "value", "lever", "× scale", "extra FLOPs", "95 %")
_LEFT = {"lever", "variant", "× scale"}
_GAP = 3  # columns of the terminal around each of the table's
_WIDEST = 28  # letters of a variant's name in a line, where columns would be left out otherwise


def print_table(
    ledger: Ledger, groups: Sequence[str] | None = None, console: Console | None = None
) -> None:
    """Print one table per group to standard output, the less important columns only where the
    terminal is wide enough.

    `groups` is "overall" and, where measured, "tail" unless given. Warnings come first. Colour
    follows the terminal and NO_COLOR. Raises PomonaError for a group without entries.
    """
    from rich.console import Console
    from rich.text import Text

    console = console or Console()
    if groups is None:
        measured = {entry.group for entry in ledger.entries}
        groups = [name for name in ("overall", "tail") if name in measured]
    for warning in ledger.meta.warnings:
        console.print(Text(f"warning: {clean(warning)}", "yellow"))
    ledger.of_groups(groups)  # what is wrong with the last is said before the first is printed
    for group in groups:
        console.print(_table(ledger, group, console.width))


def _table(ledger: Ledger, group: str, width: int) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    meta, entries = ledger.meta, ledger.of(group)
    decimals = ledger.decimals()[group]
    rows = [_cells(ledger, entry, decimals) for entry in entries]
    scaled = any(entry.scale_equivalent for entry in entries)
    tested = any(entry.p_holm is not None for entry in entries)
    absent = {name for name, there in (("× scale", scaled), ("p (Holm)", tested)) if not there}
    measured = [name for name in _COLUMNS if name not in absent]
    names = _fitting(measured, rows, width)
    title = Text(f"{clean(group)}: {clean(meta.metric)} against {clean(meta.base)}", "bold")
    missing = [name for name in measured if name not in names]
    caption = Text(
        "gain: positive is better; faint: its 95 % interval includes zero. "
        f"Extra FLOPs: to make it and answer {count(meta.serve_items)} items."
        + (f" The tail has the fewest {meta.counted}." if group in ("head", "tail") else "")
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


def _fitting(names: Sequence[str], rows: Sequence[dict[str, Text]], width: int) -> list[str]:
    """The columns that have room beside the variant's name, the more important ones first."""
    wide = {name: max(len(name), *(row[name].cell_len for row in rows)) for name in names}
    wide["variant"] = min(wide["variant"], _WIDEST)
    kept = list(names)
    for name in _LESS:
        if sum(wide[one] + _GAP for one in kept) <= width:
            break
        kept = [one for one in kept if one != name]
    return kept


def _cells(ledger: Ledger, entry: Entry, decimals: int) -> dict[str, Text]:
    from rich.text import Text

    gain, low, high = ledger.gain(entry)
    style = "green" if low > 0 else "red" if high < 0 else "dim"
    scale = str(entry.scale_equivalent) if entry.scale_equivalent else "—"
    name = clean(entry.variant) + (" (bound)" if entry.variant in ledger.meta.bounds else "")
    return {
        "lever": Text(clean(entry.lever)),
        "variant": Text(name, style="bold")
        if entry.baseline == ledger.meta.base
        else Text(f"  against {clean(entry.baseline)}"),
        "value": Text(f"{entry.value:.{decimals}f}"),
        "gain": Text(gained(gain, low, high), style=style),
        "95 %": Text(interval(low, high), style=style),
        "p (Holm)": Text(p_value(entry.p_holm), style=style),
        "n": Text(count(entry.n)),
        "extra FLOPs": Text(flops(ledger.extra(entry))),
        "× scale": Text(scale),
    }
