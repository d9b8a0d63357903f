"""How `pomona scale inflection` and `pomona scale decide` print what they found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pomona.cli.output import Out
from pomona.errors import quantity
from pomona.pages import UNKNOWN, clean, p_value, short

if TYPE_CHECKING:
    from pomona.scale import Curve, Decision, Decisions, Inflection, RankFigure

_MOST = 40  # curves that are all shown


def show_inflection(show: Out, result: Inflection, given: Mapping[str, Any]) -> None:
    """A line, then a row for each metric and group."""
    if show.format == "json":
        show.json(result.to_json())
        return
    show.line(clean(result.headline()))
    few = len(result.curves) <= _MOST
    kept = [
        one for one in result.curves if few or one.group == "overall" or one.verdict == "broken"
    ]
    left = len(result.curves) - len(kept)
    rest = f" {quantity(left, 'further curve is', 'further curves are')} in --format json."
    rest = "" if few else rest
    show.table(
        [_curve(one) for one in kept],
        caption="broken − smooth: log density of each size predicted from the others, of the "
        "better broken shape less that of the better smooth one. p: curves drawn from the smooth "
        f"shape whose difference is as large.{rest}",
    )
    of: dict[str, list[str]] = {}
    for one in kept:
        of.setdefault(one.note, []).append(f"{clean(one.name)} of {clean(one.group)}")
    told = [f"{_several(names)}: {note}" for note, names in of.items() if note]
    show.rest(*told, *result.notes, result.signature, page=given.get("page"))


def _several(names: Sequence[str]) -> str:
    rest = f" and {len(names) - 2} others" if len(names) > 3 else ""
    return ", ".join(names[:2] if rest else names) + rest


def _curve(one: Curve) -> dict[str, Any]:
    return {
        "metric": clean(one.name),
        "items": clean(one.group),
        "sizes": len(one.sizes),
        "verdict": one.verdict,
        "broken − smooth": one.ahead(),
        "p": p_value(one.p_value),
        "p (Holm)": p_value(one.p_holm),
        "shape": one.shape or UNKNOWN,
        "turns at": "—" if one.turn is None else short(one.turn),
    }


def show_decisions(show: Out, result: Decisions, given: Mapping[str, Any]) -> None:
    """A line, then a table of the ways to rank levers, of all items and in short of each group."""
    if show.format == "json":
        show.json(result.to_json())
        return
    show.line(clean(result.headline()))
    for one in result.decisions:
        if one.group == "overall":
            _show_decision(show, one)
    rows = [_group(one) for one in result.decisions if one.group != "overall"]
    if rows:
        show.table(rows[:_MOST], caption="pairs ordered alike by each size, and its regret")
    show.rest(*result.notes, result.signature, page=given.get("page"))


def _show_decision(show: Out, one: Decision) -> None:
    rows = [
        {
            "ranked by": method.name,
            "levers": method.levers,
            "alike": _told(method.accuracy, percent=True),
            "decided": f"{_told(method.decided_accuracy, percent=True)} of {method.decided}"
            if method.decided
            else UNKNOWN,
            "Kendall": _told(method.kendall),
            "takes": clean(method.chosen or "—"),
            "regret": _told(method.regret),
            "compute": UNKNOWN if method.flops_share is None else f"{method.flops_share:.0%}",
        }
        for method in one.methods
    ]
    show.table(
        rows,
        caption=f"{clean(one.metric)}: pairs of levers ordered as at {one.judge}, of all "
        "and of those whose difference there is sure; regret: what the lever that it takes is "
        "worth less there than the best; compute: of what measuring at that size takes.",
    )
    for method in one.methods:
        if method.note:
            show.line(f"{method.name}: {method.note}")


def _group(one: Decision) -> dict[str, Any]:
    cells: dict[str, Any] = {"metric": clean(one.metric), "items": clean(one.group)}
    for method in one.methods:
        if method.method == "one size":
            cells[method.name] = _told(method.accuracy, percent=True)
            cells[f"regret by {method.name}"] = _told(method.regret)
    return cells


def _told(one: RankFigure | None, *, percent: bool = False) -> str:
    return UNKNOWN if one is None else one.told(percent=percent)
