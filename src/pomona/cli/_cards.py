"""What the data commands print: progress while they work, and the card of what they did."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from pomona.cli._out import Out

if TYPE_CHECKING:
    from pomona.records import Card


@contextmanager
def working(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """A bar on a terminal; elsewhere nothing is shown."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as display:
        task = display.add_task(what, total=None)
        yield lambda done, total: display.update(task, completed=done, total=total)


def show_card(show: Out, card: Card, out: Path, dry_run: bool) -> None:
    """Rows in and out, what was removed and why, details, the signature, and where the result
    is.
    """
    if show.format == "json":
        show.json({"out": None if dry_run else out, "signature": card.signature, **asdict(card)})
        return
    rows = [{"rows": "in", "count": card.rows_in}]
    rows += [
        {"rows": f"removed: {reason}", "count": count} for reason, count in card.removed.items()
    ]
    rows.append({"rows": "out", "count": card.rows_out})
    show.table(rows)
    show.line(card.signature)
    for name, value in card.details.items():
        if isinstance(value, str | int | float):
            show.line(f"{name.replace('_', ' ')}: {value}")
        elif (
            isinstance(value, dict)
            and value
            and all(isinstance(v, str | int | float) for v in value.values())
        ):
            show.line(
                f"{name.replace('_', ' ')}: "
                f"{', '.join(f'{key} → {number}' for key, number in value.items())}"
            )
    show.line("nothing was written" if dry_run else out)


def show_cards(show: Out, cards: Sequence[Card]) -> None:
    """One line a card."""
    rows = [
        {"rows in": card.rows_in, "rows out": card.rows_out, "signature": card.signature}
        for card in cards
    ]
    show.table(
        rows
        if show.format == "human"
        else [{"signature": card.signature, **asdict(card)} for card in cards],
        rows,
    )
