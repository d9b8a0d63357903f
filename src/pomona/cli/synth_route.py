"""How `pomona synth route` prints what policies are worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pomona.cli.command import Command, Made, Options
from pomona.cli.output import Out
from pomona.errors import quantity
from pomona.pages import clean

if TYPE_CHECKING:
    from pomona.synth.routing import Routing

_GROUPS = 12  # of which tables are printed


def show_routing(show: Out, result: Routing, given: Mapping[str, Any]) -> None:
    """A row a policy in each group, or the table of who is best where."""
    if show.format == "json":
        show.json(result.to_json())
        return
    show.line(result.headline())
    routes, rest = result.routes, list(result.lines())
    if routes is None:
        rows = [
            {"language": clean(group), "teachers": ", ".join(map(clean, names))}
            for group, names in result.fixed.table.items()
        ]
        show.table(rows, caption="the table of the fixed policy, the best teacher first")
    else:
        for group in routes.groups[:_GROUPS]:
            show.table(routes.cells(group), caption=clean(group))
        if len(routes.groups) > _GROUPS:
            more = len(routes.groups) - _GROUPS
            rest.append(f"{quantity(more, 'more group')}: --format json or --page has them")
    show.rest(*rest, result.signature, page=given.get("page"))


ROUTE = Command(
    "pomona.synth.routing:route",
    "routing",
    Options(
        kinds={"reward": list[str], "learn": list[str], "answers": str, "test": str},
        made={
            "columns": Made(
                "pomona.synth.routing:AnswerColumns",
                {"Columns": "id text lang teacher answer reference cluster sample cost"},
            ),
        },
        tables="*",
    ),
    show_routing,
)
