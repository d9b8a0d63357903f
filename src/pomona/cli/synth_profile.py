"""How `pomona synth profile` prints what sides have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pomona.cli.command import Command, Made, Options
from pomona.cli.output import Out
from pomona.errors import quantity
from pomona.pages import clean

if TYPE_CHECKING:
    from pomona.synth.profile import Profile

_GROUPS = 12  # of which tables are printed


def show_profile(show: Out, result: Profile, given: Mapping[str, Any]) -> None:
    """A row a figure, a table a group, what is not there, and what to know of it."""
    if show.format == "json":
        show.json(result.to_json())
        return
    show.line(result.headline())
    caption = f"means over texts with {result.level:.0%} intervals"
    if result.others:
        caption += "; −A: less the first, paired where texts share an id; p over all figures"
    show.table(result.cells(), caption=caption)
    groups = list(result.group_cells())
    for group, rows in groups[:_GROUPS]:
        show.table(rows, caption=f"group {clean(group)}")
    lines = [f"unknown: {reason}" for reason in result.reasons()]
    if len(groups) > _GROUPS:
        lines.append(
            f"{quantity(len(groups) - _GROUPS, 'more group')}: --format json or --page has them"
        )
    show.rest(*lines, *map(clean, result.notes), result.signature, page=given.get("page"))


PROFILE = Command(
    "pomona.synth.profile:profile",
    "profiling",
    Options(
        kinds={
            "sides": list[str],
            "prompts": str,
            "bias": str,
            "score": list[str],
        },
        names={"scores": "score"},
        made={
            "columns": Made(
                "pomona.synth.profile:TextColumns",
                {"Columns": "column lang group cluster id prompt confidence correct"},
            ),
            "asking": Made(
                "pomona.synth.profile:Asking",
                {"Of models": "prompts answers template raw temperature max_tokens bias"},
            ),
        },
        tables="*",
    ),
    show_profile,
)
