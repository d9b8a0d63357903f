"""The context lever: what requests carry beside their prompts, and how answers are read with it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from typing import Annotated

from pydantic import Field

from pomona._lazy import function_named
from pomona.documents import StrictModel
from pomona.recipe.code import code_key
from pomona.recipe.fields import Names, Text, Texts
from pomona.recipe.graph import RunInput, Step
from pomona.recipe.inputs import record_sources
from pomona.recipe.lever import Lever
from pomona.recipe.steps.asking import index_passages
from pomona.recipe.system import Seen, System


class Passages(StrictModel):
    """Show the passages that are nearest to the question, which answers cite."""

    records: Names
    """Tables of the texts that are searched."""
    column: Text = "text"
    """Column of the text."""
    source: Text | None = None
    """Column that says where a text is from, such as its title; shown and searched too."""


class Carried(StrictModel):
    """Give models something beside the prompt: passages, functions that they may call, room to
    think.
    """

    retrieval: Passages | None = None
    """Passages near the question."""
    tools: Texts | None = None
    """Functions that the model may call: calculator, clock or MODULE:FUNCTION, the module beside
    the recipe or installed.
    """
    think: Annotated[bool, Field(strict=True)] = False
    """Ask for steps before the answer, which are taken off it."""


class ContextLever(Lever):
    """Measure everything that requests can carry, each by itself; stacks put it together."""

    name, Spec = "context", Carried
    spec: Carried

    def names(self) -> Iterable[str]:
        """One for each."""
        return self._seen

    def apply(self, name: str, system: System) -> System:
        """The system whose requests carry this too."""
        return replace(system, context=(*system.context, self._seen[name]))

    @cached_property
    def _seen(self) -> dict[str, Seen]:
        spec, seen = self.spec, dict[str, Seen]()
        if spec.retrieval:
            seen["context/retrieval"] = Seen({}, self._index(spec.retrieval))
        if spec.tools:
            seen["context/tools"] = Seen({"tool": list(spec.tools)}, code=self._code(spec.tools))
        if spec.think:
            seen["context/think"] = Seen({"think": True})
        return seen

    def _code(self, tools: Iterable[str]) -> dict[str, str]:
        """Hashes of the modules of a user's own functions. Raises PomonaError for one that is not
        there.
        """
        own = [tool for tool in tools if ":" in tool]
        for tool in own:
            function_named(tool, beside=self.plan.folder)
        return {tool: code_key(tool.partition(":")[0]) for tool in own}

    def _index(self, asked: Passages) -> Step:
        sources = record_sources(asked.records, self.plan.folder)
        inputs = {f"records-{i:04d}": RunInput(path.name, path) for i, path in enumerate(sources)}
        params = {"column": asked.column, "source": asked.source}
        return self.plan.step("index passages", index_passages, params, inputs)
