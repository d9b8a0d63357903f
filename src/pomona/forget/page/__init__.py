"""The page of a comparison: what changed for whom, and the items behind it, both answers side by
side.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pomona import pages
from pomona.files import check_into, write_into
from pomona.pages import clean, count, p_value, render

if TYPE_CHECKING:
    from pomona.forget.change import Change, Comparison

NAME = "index.html"
_HERE = "pomona.forget.page"
MOST = 4000  # items on one page: a few megabytes
_KINDS = ("lost", "gained", "other")
_WIDTH, _LEVEL = 220, 0.05


def check_page(folder: Path) -> None:
    """Raise PomonaError where the page would replace what is none of ours."""
    check_into(folder, [NAME])


def write_page(compared: Comparison, folder: Path) -> Path:
    """Write the page into a folder; its path. Raises PomonaError where it would replace what is
    none of ours.
    """
    write_into(folder, {NAME: render_page(compared)}, "a page of exemplars")
    return folder / NAME


def render_page(compared: Comparison) -> str:
    """The page as one HTML text that loads nothing."""
    items, total = _shown(compared)
    names = list(compared.groups)
    worst = sorted(compared.groups.items(), key=lambda named: named[1].difference)
    rows = [("all items", compared.overall), *worst]
    reach = _reach([change for _, change in rows])
    script = files(_HERE).joinpath("page.js").read_text(encoding="utf-8")
    return render(
        _HERE,
        "page.html.j2",
        scripts=[script],
        compared=compared,
        headline=_headline(compared),
        facts=_facts(compared),
        rows=[_row(compared, name, change, reach) for name, change in rows],
        width=_WIDTH,
        zero=_at(0.0, reach),
        items=json.loads(json.dumps(items)),
        groups=[clean(name) for name in names],
        shown=len(items),
        total=total,
        notes=[*compared.notes, *_notes(compared)],
    ).text


def _headline(compared: Comparison) -> str:
    change = compared.overall
    return (
        f"{count(change.lost)} items lost, {count(change.gained)} gained of {count(change.n)}: "
        f"{_difference(change)} points of accuracy"
    )


def _facts(compared: Comparison) -> list[str]:
    change, sure = compared.overall, [_verdict(one) for one in compared.groups.values()]
    told = [
        f"{clean(compared.b)} against {clean(compared.a)}: {100 * change.accuracy_a:.1f} % right "
        f"before, {100 * change.accuracy_b:.1f} % after, p {p_value(change.p_mcnemar)} (exact "
        f"McNemar). {count(change.changed)} answers are not the same.",
    ]
    if sure:
        worse, better = sure.count("worse"), sure.count("better")
        told.append(
            f"Of {count(len(sure))} groups {count(worse)} lose and {count(better)} gain beyond "
            "chance: interval without zero, and p below .05 after Holm's correction."
        )
    if change.metric_difference is not None:
        ends = (change.metric_low, change.metric_high)
        better = "higher" if compared.higher_is_better else "lower"
        told.append(
            f"{compared.metric}, {better} being better: "
            f"{pages.change(change.metric_difference, *ends)}."
        )
    return told


def _verdict(change: Change) -> str:
    low, high = change.ci_low, change.ci_high
    if low is None or high is None or low <= 0 <= high or change.p_holm >= _LEVEL:
        return "unclear"
    return "better" if low > 0 else "worse"


def _difference(change: Change) -> str:
    return pages.change(change.difference, change.ci_low, change.ci_high, 100)


def _row(
    compared: Comparison, name: str, change: Change, reach: tuple[float, float]
) -> dict[str, Any]:
    low, high = change.ci_low, change.ci_high
    known = low is not None and high is not None
    return {
        "name": clean(name),
        "verdict": _verdict(change),
        "cells": [
            count(change.n),
            f"{100 * change.accuracy_a:.1f}",
            f"{100 * change.accuracy_b:.1f}",
            count(change.lost),
            count(change.gained),
        ],
        "difference": _difference(change),
        "p": "—" if change is compared.overall else p_value(change.p_holm),
        "at": _at(change.difference, reach),
        "ends": (_at(low, reach), _at(high, reach)) if known else None,  # pyright: ignore[reportArgumentType]
    }


def _reach(changes: Sequence[Change]) -> tuple[float, float]:
    """The range of all differences and intervals, with zero in it."""
    ends = [0.0, *(change.difference for change in changes)]
    ends += [end for one in changes for end in (one.ci_low, one.ci_high) if end is not None]
    margin = 0.04 * (max(ends) - min(ends)) or 0.01
    return min(ends) - margin, max(ends) + margin


def _at(value: float, reach: tuple[float, float]) -> float:
    return round(_WIDTH * (value - reach[0]) / (reach[1] - reach[0]), 1)


def _notes(compared: Comparison) -> list[str]:
    return [f"{name}: {one.note}" for name, one in compared.groups.items() if one.note]


def _shown(compared: Comparison) -> tuple[list[list[Any]], int]:
    """The items of the page, each as a list: kind, group, id, input, reference, both answers; and
    how many changed. Flips come first where there are too many; in an order by hash, so that no
    group goes before another.
    """
    if compared.items is None:
        return [], 0
    rows = [row for row in compared.items.to_pylist() if row["change"] != "same"]
    kept = sorted(rows, key=lambda row: (row["change"] == "other", _rank(row["id"])))[:MOST]
    place = {name: i for i, name in enumerate(compared.groups)}
    return [
        [
            _KINDS.index(row["change"]),
            place.get(row["group"], -1),
            clean(row["id"]),
            *(None if row[name] is None else _lines(row[name]) for name in _TEXTS),
        ]
        for row in sorted(kept, key=lambda row: (_KINDS.index(row["change"]), _order(row)))
    ], len(rows)


_TEXTS = ("input", "reference", "a", "b")


def _order(row: Mapping[str, Any]) -> tuple[str, bytes]:
    return row["group"] or "", _rank(row["id"])


def _rank(name: str) -> bytes:
    return hashlib.sha256(name.encode("utf-8", "backslashreplace")).digest()


def _lines(text: str) -> str:
    return "\n".join(map(clean, text.splitlines()))
