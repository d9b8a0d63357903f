"""Options for what a model sees beside the prompt, and what leads it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import Parameter

from pomona.errors import PomonaError, nearest

if TYPE_CHECKING:
    from pomona.sample.context import Context, Tool

BUILT_IN = ("calculator", "clock")


@Parameter(name="*", group="What the model sees")
@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Passages to look things up in, tools to call, and texts to be led towards."""

    retrieve: Path | None = None
    """Folder that `pomona sample index` wrote: passages near the question are shown, and answers
    cite them."""
    tool: list[str] | None = None
    """calculator, clock or MODULE:FUNCTION, for the model to call. Give it once for each tool."""
    mcp: list[str] | None = None
    """MCP server to start, as "PROGRAM ARGUMENTS", whose tools the model may call; NAME=PROGRAM…
    puts NAME_ before their names."""
    steer_to: Path | None = None
    """Datastore of `pomona sample datastore`: answers are led towards its texts (torch)."""
    steer_from: Path | None = None
    """Datastore whose texts answers are led away from."""
    steer_strength: float = 2.0
    """How strongly."""
    steer_temperature: float = 100.0
    """Of the neighbours' weights; it divides squared distances of states, so small models need
    less."""

    @contextmanager
    def contexts(self) -> Iterator[dict[str, Context]]:
        """The levers asked for, by name, while MCP servers run. Raises PomonaError when something
        cannot be opened.
        """
        found: dict[str, Context] = {}
        if self.retrieve is not None:
            from pomona.sample.context import Index, Retrieval

            found["retrieval"] = Retrieval(Index(self.retrieve))
        if self.steer_to is not None or self.steer_from is not None:
            found["steering"] = self._steering()
        if not (self.tool or self.mcp):
            yield found
            return
        from pomona.sample.context.tools import Tools, running

        functions = self._functions()
        with running(self.mcp or ()) as served:
            found["tools"] = Tools([*functions, *served])
            yield found

    def _steering(self) -> Context:
        if self.steer_to is None or self.steer_from is None:
            raise PomonaError(
                "give both or none",
                where="--steer-to and --steer-from",
                remedy="write each with `pomona sample datastore`",
            )
        from pomona.sample.context import Datastore, Steering

        stores = Datastore.open(self.steer_to), Datastore.open(self.steer_from)
        return Steering(*stores, alpha=self.steer_strength, temperature=self.steer_temperature)

    def _functions(self) -> list[Tool]:
        from pomona.sample import function
        from pomona.sample.context import tool, tools

        names = self.tool or ()
        for name in names:
            if name not in BUILT_IN and ":" not in name:
                remedy = f"{nearest(name, BUILT_IN)}, or name a MODULE:FUNCTION"
                raise PomonaError("is no tool", where=name, remedy=remedy)
        return [
            tool(getattr(tools, name) if name in BUILT_IN else function(name)) for name in names
        ]
