"""How `pomona synth targets` prints a plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pomona.cli.command import Command, Options
from pomona.cli.output import Out
from pomona.pages import clean

if TYPE_CHECKING:
    from pomona.synth.targeting import Plan


def show_plan(show: Out, plan: Plan | dict[str, Any], given: Mapping[str, Any]) -> None:
    """The cells that want most."""
    if isinstance(plan, dict):
        show.json(plan)
        return
    if show.format == "json":
        show.json(plan.to_json())
        return
    show.line(plan.headline())
    show.table(plan.shown(), caption="the cells that want most; intervals cover 95 %")
    rest = [plan.rest()] if plan.rest() else []
    show.rest(*rest, *map(clean, plan.notes), plan.signature, page=given.get("page"))
    show.line(given["out"])


TARGETS = Command(
    "pomona.synth.targeting:plan_targets",
    "planning",
    Options(kinds={"recipe": str}, tables="*"),
    show_plan,
)
