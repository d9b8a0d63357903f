"""How `pomona synth run` prints what became of a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pomona.cli.command import Command, Options
from pomona.cli.errors import tell
from pomona.cli.output import Out
from pomona.errors import PomonaError
from pomona.pages import clean

if TYPE_CHECKING:
    from pomona.synth.pipeline import Synthesized


def show_set(show: Out, result: Synthesized | dict[str, Any], given: Mapping[str, Any]) -> int:
    """The card: a row a teacher, and why rows were rejected."""
    if isinstance(result, dict):
        show.json(result)
        return 0
    if show.format == "json":
        show.json(result.to_json())
    else:
        show.line(result.headline())
        show.table(result.table())
        for name, reason in result.absent.items():
            show.line(f"not asked: {clean(name)}, which {clean(reason)}")
        for reason, count in result.reasons()[:10]:
            show.line(f"rejects: {count:,} × {clean(reason)}")
        show.rest(*map(clean, result.notes), result.signature, given["out"])
    for name, one in result.tally.teachers.items():
        if one.stopped:
            tell(f"{name} was stopped: {one.stopped}")
    return 0


RUN = Command(
    "pomona.synth.pipeline:synthesize",
    "answering",
    Options(
        kinds={"licences": list[str]},
        instead={
            "schema": (
                "pomona.synth.pipeline:synth_schema",
                "Only print the JSON Schema of recipes.",
            ),
        },
        missing={
            "recipe": PomonaError(
                "no recipe is given",
                remedy="pomona synth run RECIPE --out DIR, for example examples/synthesis.yaml",
            ),
            "out": PomonaError("no folder is given", remedy="name one: --out DIR"),
        },
    ),
    show_set,
)
