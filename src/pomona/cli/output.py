"""What commands print: tables for people, JSON for programs, both on standard output."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from cyclopts.help import HelpPanel
    from rich.console import Console, ConsoleOptions

    from pomona.records import Card

Format = Annotated[Literal["human", "json"], Parameter(help="human or json.")]
Row = dict[str, Any]

PIPE_WIDTH = 160
_WORD = 10  # letters a line that a folded column must hold


def console() -> Console:
    """Standard output for people: as wide as the terminal, and wide when it is no terminal."""
    from rich.console import Console

    return Console(
        width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH,
        highlight=False,
    )


class HelpPages:
    """Help as cyclopts shows it, in paragraphs: docstrings break lines where the source ends, not
    where the terminal does.
    """

    def __call__(self, console: Console, options: ConsoleOptions, panel: HelpPanel) -> None:
        """Print one box of a page."""
        from cyclopts.help import DefaultFormatter

        for entry in panel.entries:
            _reflow(entry.description)
        DefaultFormatter()(console, options, panel)

    def render_usage(self, console: Console, options: ConsoleOptions, usage: Any) -> None:
        """Print how the command is called."""
        from cyclopts.help import DefaultFormatter

        DefaultFormatter().render_usage(console, options, usage)

    def render_description(
        self, console: Console, options: ConsoleOptions, description: Any
    ) -> None:
        """Print what the command does."""
        _reflow(description)
        console.print(description)


def _reflow(shown: Any) -> None:
    from cyclopts.help import InlineText
    from rich.text import Text

    text = shown.primary_renderable if isinstance(shown, InlineText) else shown
    if isinstance(text, Text) and "\n" in text.plain:
        text.plain = "\n\n".join(" ".join(part.split()) for part in text.plain.split("\n\n"))


@dataclass(frozen=True)
class Out:
    """Standard output in one of the two formats."""

    format: Format

    def table(
        self, rows: Sequence[Row], show: Sequence[Row] | None = None, caption: str | None = None
    ) -> None:
        """A table with the keys of its rows as columns. `show` is how people see the rows; JSON
        always gives `rows`.
        """
        if self.format == "json":
            self.json(list(rows))
            return
        from rich import box
        from rich.table import Table
        from rich.text import Text

        shown, screen = rows if show is None else show, console()
        if _needed(shown) > screen.width:
            self._lines(shown, caption)
            return
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption=caption, caption_justify="left")
        for place, name in enumerate(shown[0] if shown else ()):
            right = all(
                isinstance(row[name], int | float) for row in (rows[0], shown[0]) if name in row
            )
            table.add_column(
                name, justify="right" if right else "left", overflow="fold", no_wrap=place == 0
            )
        for row in shown:
            table.add_row(*(Text(_cell(value)) for value in row.values()))
        screen.print(table)

    def _lines(self, rows: Sequence[Row], caption: str | None) -> None:
        """Each row as lines of their own, for a terminal in which columns would vanish."""
        for row in rows:
            self.write("".join(f"{name}: {_cell(value)}\n" for name, value in row.items()) + "\n")
        if caption:
            self.line(caption)

    def json(self, value: Any) -> None:
        """A JSON document."""
        sys.stdout.write(json.dumps(value, indent=1, ensure_ascii=False, default=str) + "\n")

    def line(self, text: object) -> None:
        """A line of text."""
        self.write(f"{text}\n")

    def rest(self, *lines: object, page: Path | None = None) -> None:
        """What stands below tables, and last the page, where one was written into a folder."""
        for line in lines:
            self.line(line)
        if page:
            self.line(page / "index.html")

    def write(self, text: str) -> None:
        """Text that is formatted already."""
        sys.stdout.write(text)


def _needed(rows: Sequence[Row]) -> int:
    """Columns of a terminal that a table needs: the first one whole, a word of each other."""
    wide = [max(len(_cell(row.get(name))) for row in rows) for name in (rows[0] if rows else ())]
    return sum(3 + (size if place == 0 else min(size, _WORD)) for place, size in enumerate(wide))


def _cell(value: Any) -> str:
    if value is None:
        return "—"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)


def show_result(show: Out, result: Any, given: Mapping[str, Any]) -> None:
    """What a function of the library returned: a card, cards, an object with rows, a path or paths,
    or a server, which works until it is told to stop.
    """
    if hasattr(result, "wait"):
        with result:
            show.line(result.url)
            sys.stdout.flush()
            result.wait()
        return
    from pomona.records import Card

    if isinstance(result, Card):
        place = given["out"] if "out" in given else given["folder"]
        show_card(show, result, place, given.get("dry_run", False))
    elif isinstance(result, list):
        show_cards(show, result)
    elif isinstance(result, tuple):
        for path in result:
            show.line(path)
    elif hasattr(result, "rows"):
        show.table(result.rows())
    else:
        show.line(result)


def show_card(show: Out, card: Card, out: Path, dry_run: bool) -> None:
    """Rows in and out, what was removed and why, details, the signature, and where the result
    is.
    """
    _tell_notes([card])
    if show.format == "json":
        show.json({"out": None if dry_run else out, "signature": card.signature, **asdict(card)})
        return
    rows = [{"rows": "in", "count": card.rows_in}]
    if card.left_out:
        rows.insert(0, {"rows": "left out: malformed, or without a value", "count": card.left_out})
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


def _tell_notes(cards: Sequence[Card]) -> None:
    """On stderr, each once."""
    from pomona.pages import clean

    for note in dict.fromkeys(note for card in cards for note in card.notes):
        sys.stderr.write(f"note: {clean(note)}\n")


def show_cards(show: Out, cards: Sequence[Card]) -> None:
    """One line a card."""
    _tell_notes(cards)
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
