"""The ledger as one page that opens without a network, and its main picture as an SVG."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pomona.ledger.store import Ledger

__all__ = ["publish", "write_picture", "write_report"]


def publish(ledger: Ledger, folder: Path) -> list[Path]:
    """Write `report.html` and, where some variant takes extra compute, `picture.svg` into the run's
    folder; the paths written.
    """
    from pomona.ledger.report.points import drawn

    page, picture = folder / "report.html", folder / "picture.svg"
    write_report(ledger, page)
    if not drawn(ledger):
        picture.unlink(missing_ok=True)
        return [page]
    write_picture(ledger, picture)
    return [page, picture]


def write_report(ledger: Ledger, path: str | Path) -> None:
    """Write the report as one HTML file of about 1.3 MB that loads nothing. Raises PomonaError if a
    baseline has no entry.
    """
    from pomona.files import write_text
    from pomona.ledger.report.page import render

    write_text(path, render(ledger))


def write_picture(ledger: Ledger, path: str | Path) -> None:
    """Write the main picture as SVG with the answer as its title.

    Raises PomonaError if no variant takes extra compute, or if a baseline has no entry.
    """
    import textwrap

    import vl_convert

    from pomona.errors import PomonaError
    from pomona.files import write_text
    from pomona.ledger.report.answer import answer
    from pomona.ledger.report.picture import picture
    from pomona.ledger.report.theme import light

    chart = picture(ledger, width=760, height=400)
    if chart is None:
        raise PomonaError(
            "no variant takes extra compute, so there is nothing to draw",
            where=path,
            remedy="print the ledger as a table",
        )
    chart["title"] = textwrap.wrap(answer(ledger).headline, 84)
    write_text(path, vl_convert.vegalite_to_svg(chart, config=light(), allowed_base_urls=[]))
