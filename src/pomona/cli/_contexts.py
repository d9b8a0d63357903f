"""Options for what a model sees beside the prompt."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from pomona.errors import PomonaError, nearest

if TYPE_CHECKING:
    from pomona.sample.context import Context

BUILT_IN = ("calculator", "clock")


@Parameter(name="*", group="What the model sees")
@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Passages to look things up in, and tools to call."""

    retrieve: Path | None = None
    """Folder that `pomona sample index` wrote: passages near the question are shown, and answers cite them."""
    tool: Annotated[list[str] | None, Parameter(negative=())] = None
    """calculator, clock or MODULE:FUNCTION, for the model to call. Give it once for each tool."""

    def contexts(self) -> dict[str, Context]:
        """The levers asked for, by name. Raises PomonaError when an index or a function cannot be opened."""
        found: dict[str, Context] = {}
        if self.retrieve is not None:
            from pomona.sample.context import Index, Retrieval

            found["retrieval"] = Retrieval(Index(self.retrieve))
        if self.tool:
            from pomona.sample.context import Tools, tool, tools
            from pomona.sample.selection.function import function

            for name in self.tool:
                if name not in BUILT_IN and ":" not in name:
                    remedy = f"{nearest(name, BUILT_IN)}, or name a MODULE:FUNCTION"
                    raise PomonaError("is no tool", where=name, remedy=remedy)
            functions = [getattr(tools, name) if name in BUILT_IN else function(name) for name in self.tool]
            found["tools"] = Tools([tool(one) for one in functions])
        return found
