"""The page of a profile: every figure of every side, and what differs. It carries no script."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pomona.errors import quantity
from pomona.files import write_into
from pomona.pages import UNKNOWN, clean, forest, p_value, picture, render
from pomona.synth.profile.measures import Difference
from pomona.synth.profile.results import (
    Compared,
    Profile,
    SideProfile,
    counted,
    difference,
    estimate,
    unit_of,
)

NAME = "index.html"
_MOST = 60  # groups of a picture
Table = tuple[str, str, list[str], list[dict[str, Any]], int]


def write_page(result: Profile, folder: Path) -> None:
    """Write the page into a folder."""
    page = render(
        "pomona.pages",
        "figures.html.j2",
        eyebrow="Pomona profile",
        headline=result.headline(),
        lines=_lines(result),
        pictures=_pictures(result),
        tables=[*_tables(result), *_group_tables(result)],
        notes=[*result.reasons(), *result.notes],
        signature=result.signature,
    )
    write_into(folder, {NAME: page.text}, "a page of a profile")


def _lines(result: Profile) -> list[str]:
    told = [
        f"Means over texts with {result.level:.0%} intervals, from {result.resamples:,} resamples "
        "of texts, or of clusters of them."
    ]
    if result.others:
        told.append(
            "Differences are those of the side that is named less the first, paired where both "
            "have the text's id; p-values are corrected over all figures (Holm)."
        )
    return told


def _pictures(result: Profile) -> list[tuple[str, dict[str, str], str]]:
    pictures = []
    for other in result.others:
        rows = _relative(result.first, other)
        if rows:
            words = (
                f"How much {clean(other.profile.name)} has above {clean(result.first.name)}, in "
                "percent of it, with intervals. The line is no difference."
            )
            pictures.append(
                (
                    f"What differs: {clean(other.profile.name)}",
                    picture(forest(rows, "difference, %")),
                    words,
                )
            )
    if not result.others and result.first.groups:
        for name in ("length", "mtld"):
            rows = _by_group(result.first, name)
            words = f"{unit_of(name)}, with intervals."
            pictures.append((f"{name} by group", picture(forest(rows, name, zero=False)), words))
    return pictures


def _relative(first: SideProfile, other: Compared) -> list[dict[str, Any]]:
    rows = []
    for name, one in other.differences.items():
        base = first.metrics[name].value
        if not base or one.delta is None or one.ci_low is None or one.ci_high is None:
            continue
        ends = (100 * one.ci_low / base, 100 * one.ci_high / base)
        rows.append(
            {"name": name, "value": 100 * one.delta / base, "low": min(ends), "high": max(ends)}
        )
    return rows


def _by_group(side: SideProfile, name: str) -> list[dict[str, Any]]:
    return [
        {"name": clean(group)[:48], "value": one.value, "low": one.ci_low, "high": one.ci_high}
        for group, metrics in list(side.groups.items())[:_MOST]
        if (one := metrics[name]).ci_low is not None
    ]


def _tables(result: Profile) -> list[Table]:
    tables = [_side_table(result.first)]
    for other in result.others:
        tables += [_side_table(other.profile), _change_table(result.first, other)]
    return tables


def _side_table(side: SideProfile) -> Table:
    rows = [
        {"cells": [name, unit_of(name), estimate(one), counted(one)], "verdict": ""}
        for name, one in side.metrics.items()
    ]
    words = f"{quantity(side.rows, 'text')}."
    return (clean(side.name), words, ["figure", "unit", "value", "of"], rows, 2)


def _change_table(first: SideProfile, other: Compared) -> Table:
    rows = [
        {"cells": [name, *_change(one)], "verdict": ""} for name, one in other.differences.items()
    ]
    heading = f"{clean(other.profile.name)} less {clean(first.name)}"
    columns = ["figure", "difference", "p", "p (Holm)", "units"]
    return (heading, "Paired: over what both sides have by its id.", columns, rows, 1)


def _change(one: Difference) -> list[str]:
    units = f"{one.n:,}{' paired' if one.paired else ''}" if one.n else UNKNOWN
    return [difference(one), p_value(one.p_value), p_value(one.p_holm), units]


def _group_tables(result: Profile) -> list[Table]:
    tables: list[Table] = []
    for name in result.names:
        rows = []
        for group in result.first.groups:
            cells = [clean(group), estimate(result.first.groups[group].get(name))]
            for other in result.others:
                cells.append(estimate(other.profile.groups.get(group, {}).get(name)))
                cells.append(difference(other.groups.get(group, {}).get(name)))
            rows.append({"cells": cells, "verdict": ""})
        if not rows or all(set(row["cells"][1:]) == {UNKNOWN} for row in rows):
            continue
        columns = ["group", clean(result.first.name)]
        for other in result.others:
            columns += [clean(other.profile.name), "difference"]
        tables.append((f"{name} by group", unit_of(name), columns, rows, 1))
    return tables
