"""The page of an audit: pictures of what is fragile, of providers and voters, and all tables. It
carries no script.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from pomona.arena.auditing.results import ArenaAudit
from pomona.arena.battles import is_list
from pomona.arena.votes import Votes
from pomona.files import check_into, write_into
from pomona.pages import (
    SCHEMA,
    UNKNOWN,
    change,
    clean,
    count,
    nominal,
    p_value,
    picture,
    quantitative,
    render,
    signed,
    within,
)
from pomona.places import check_outputs
from pomona.records import Where, read

NAME = "index.html"
_MOST = 40  # bars of a picture
Table = tuple[str, str, list[str], list[dict[str, Any]], int]


def check_page(folder: Path, *sources: Where | Votes | None) -> None:
    """Raise PomonaError where the page would replace an input, or what is none of ours."""
    given = [one for one in sources if one is not None and not isinstance(one, pa.Table | Votes)]
    paths = [path for one in given for path in ([str(one)] if _is_list(one) else read(one).paths)]
    check_outputs({"--page": folder}, paths, folders=["--page"])
    check_into(folder, [NAME])


def _is_list(source: Where) -> bool:
    return isinstance(source, str | Path) and is_list(source)


def write_page(audit: ArenaAudit, folder: Path) -> None:
    """Write the page into a folder."""
    page = render(
        __package__ or "",
        "page.html.j2",
        audit=audit,
        pictures=list(_pictures(audit)),
        tables=list(_tables(audit)),
    )
    write_into(folder, {NAME: page.text}, "a page of an arena audit")


def _pictures(audit: ArenaAudit) -> Iterator[tuple[str, Any, str]]:
    words = "The fewest votes that, dropped, put the next model above, best neighbours first. "
    words += "Where both cannot be told apart even by all votes, few are enough."
    if any(one.votes is not None for one in audit.neighbours[:_MOST]):
        yield "What changes the board", picture(_fragile(audit)), words
    if audit.voters is not None and audit.voters.tested:
        words = (
            f"Each voter's agreement with {audit.voters.against}, against what the null expects "
        )
        words += "of the same votes; by size, the votes that count."
        yield "Voters", picture(_agreement(audit)), words
    if audit.providers is not None:
        words = "How many times as often as the average model a provider's models are shown."
        yield "Providers", picture(_shown(audit)), words


def _fragile(audit: ArenaAudit) -> dict[str, Any]:
    values = [
        {
            "pair": f"{one.rank}. {clean(one.model)}",
            "votes": one.votes,
            "told": "yes" if one.p_value is not None and one.p_value <= 0.05 else "no",
        }
        for one in audit.neighbours[:_MOST]
        if one.votes is not None
    ]
    told = {"orient": "top", "title": "differs from the next (p ≤ 0.05)"}
    return _bars(
        values,
        nominal("pair", title=None, sort=None, axis={"labelLimit": 300}),
        quantitative("votes", title="votes", scale={"type": "symlog"}),
        nominal("told", sort=["yes", "no"], legend=told),
    )


def _shown(audit: ArenaAudit) -> dict[str, Any]:
    assert audit.providers is not None
    rows = audit.providers.providers
    half = _MOST // 2
    values = [
        {
            "provider": f"{clean(one.provider)} ({one.models})",
            "ratio": one.ratio,
            "flagged": "yes" if one.p_holm <= 0.05 else "no",
        }
        for one in (rows if len(rows) <= _MOST else [*rows[:half], *rows[-half:]])
    ]
    return _bars(
        values,
        nominal("provider", title=None, sort=None, axis={"labelLimit": 300}),
        quantitative("ratio", title="times as often as the average model"),
        nominal("flagged", sort=["yes", "no"], legend={"orient": "top", "title": "alarm"}),
    )


def _bars(values: list[Any], y: Any, x: Any, colour: Any) -> dict[str, Any]:
    return {
        "$schema": SCHEMA,
        "data": {"values": values},
        "mark": {"type": "bar", "height": {"band": 0.7}},
        # Names are measured in another font than the reader's
        "padding": {"left": 60, "right": 5},
        "width": 560,
        "height": {"step": 18},
        "encoding": {"y": y, "x": x, "color": colour},
    }


def _agreement(audit: ArenaAudit) -> dict[str, Any]:
    assert audit.voters is not None
    values = [
        {
            "expected": 100 * one.expected,
            "agreement": 100 * one.agreement,
            "votes": one.decisive,
            "flagged": "yes" if one.flagged else "no",
        }
        for one in audit.voters.voters
        if one.q_value is not None and one.expected is not None and one.agreement is not None
    ]
    ends = [{"at": 0}, {"at": 100}]
    flagged = nominal("flagged", sort=["yes", "no"], legend={"orient": "top", "title": "alarm"})
    across = quantitative("expected", title="expected agreement, %", scale={"zero": False})
    return {
        "$schema": SCHEMA,
        "width": 560,
        "height": 320,
        "layer": [
            {
                "data": {"values": ends},
                "mark": {"type": "line", "style": "control", "clip": True},
                "encoding": {"x": quantitative("at"), "y": quantitative("at")},
            },
            {
                "data": {"values": values},
                "mark": {"type": "point", "filled": True, "opacity": 0.7},
                "encoding": {
                    "x": across,
                    "y": quantitative("agreement", title="agreement, %"),
                    "size": quantitative("votes", legend=None),
                    "color": flagged,
                    "shape": nominal("flagged", sort=["no", "yes"], legend=None),
                },
            },
        ],
    }


def _row(*cells: object) -> dict[str, Any]:
    return {"cells": [str(cell) for cell in cells], "verdict": ""}


def _tables(audit: ArenaAudit) -> Iterator[Table]:
    rows = [
        _row(
            one.title,
            one.found,
            one.null,
            p_value(one.p_value),
            {True: "yes", False: "no", None: ""}[one.alarm],
        )
        for one in audit.summary()
    ]
    words = "Each alarms by itself at 0.05; its p-value is corrected for what it tests."
    yield "Audits", words, ["audit", "found", "null", "p", "alarm"], rows, 3
    yield _neighbours(audit)
    if audit.best_of_n is not None:
        yield _winners(audit)
    if audit.providers is not None:
        yield _providers(audit)
    if audit.voters is not None:
        yield _voters(audit)
    if audit.twins is not None:
        yield _twins(audit)
    if audit.drift is not None:
        moved = [(one.model, one) for one in audit.drift.models]
        yield _changes("Ratings over time", "From the first vote to the last.", moved)
    if audit.retired is not None and audit.retired.shifted:
        moved = [(one.model, one) for one in audit.retired.shifted]
        gone = ", ".join(audit.retired.retired)
        yield _changes("Without retired models", f"Retired: {gone}.", moved)


def _neighbours(audit: ArenaAudit) -> Table:
    rows = [
        _row(
            one.rank,
            one.model,
            one.by,
            change(one.difference, one.low, one.high),
            p_value(one.p_value),
            count(one.votes),
            UNKNOWN if one.share is None else f"{100 * one.share:.2g} %",
            count(one.with_margin),
        )
        for one in audit.neighbours
    ]
    columns = ["place", "model", "above", "by Elo", "p", "votes", "share", "with margin"]
    words = (
        "votes: the fewest that a refit confirms; with margin: 3 % more than influence predicts."
    )
    return "Neighbours", words, columns, rows, 3


def _winners(audit: ArenaAudit) -> Table:
    assert audit.best_of_n is not None
    rows = [
        _row(
            one.family,
            one.model,
            one.n,
            within(one.rating, one.low, one.high, 1, 0),
            within(one.corrected, one.corrected_low, one.corrected_high, 1, 0),
            ("up to " if one.bound else "") + signed(one.bias),
            p_value(one.p_value),
        )
        for one in audit.best_of_n.winners
    ]
    columns = [audit.best_of_n.by, "best", "of", "rating", "corrected", "owed", "p of the lead"]
    return "The best of n", "What the best owes to being chosen, in Elo.", columns, rows, 2


def _providers(audit: ArenaAudit) -> Table:
    assert audit.providers is not None
    rows = [
        _row(
            one.provider,
            one.models,
            f"{100 * one.share_models:.1f} %",
            f"{100 * one.share_shown:.1f} %",
            f"{one.ratio:.2f}",
            p_value(one.p_value),
            p_value(one.p_holm),
        )
        for one in audit.providers.providers
    ]
    columns = ["provider", "models", "of models", "of what is shown", "times", "p", "p (Holm)"]
    return "Providers", f"{audit.providers.null}; {audit.providers.rate}.", columns, rows, 1


def _voters(audit: ArenaAudit) -> Table:
    assert audit.voters is not None
    rows = [
        _row(
            one.voter,
            one.votes,
            one.decisive,
            within(one.agreement, None, None, 100, 0),
            within(one.expected, None, None, 100, 0),
            p_value(one.p_value),
            p_value(one.q_value),
        )
        for one in audit.voters.voters
        if one.q_value is not None
    ]
    columns = ["voter", "votes", "that count", "agrees, %", "expected, %", "p", "q"]
    return "Voters", f"Against {audit.voters.against}; {audit.voters.null}.", columns, rows, 1


def _twins(audit: ArenaAudit) -> Table:
    assert audit.twins is not None
    rows = [
        _row(
            one.first,
            one.second,
            one.found,
            one.reason or change(one.difference, one.low, one.high),
            p_value(one.p_value),
            p_value(one.p_holm),
        )
        for one in audit.twins.twins
    ]
    columns = ["first", "second", "found", "differ by Elo", "p", "p (Holm)"]
    return "Twins", audit.twins.null, columns, rows, 3


def _changes(title: str, words: str, moved: list[tuple[str, Any]]) -> Table:
    rows = [
        _row(name, change(one.elo, one.low, one.high), p_value(one.p_value), p_value(one.p_holm))
        for name, one in moved
    ]
    return title, words, ["model", "Elo", "p", "p (Holm)"], rows, 1
