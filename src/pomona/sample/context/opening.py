"""Contexts by the names of files, functions and programs, open for as long as they are needed; and
the files that steering takes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pomona import records
from pomona.errors import PomonaError, nearest
from pomona.models import load, wait_for
from pomona.places import check_outputs
from pomona.sample.context.index import no_text

if TYPE_CHECKING:
    from pomona.models.torch import Datastore
    from pomona.records import Where
    from pomona.sample.context.protocol import Context
    from pomona.sample.context.steering import Steering
    from pomona.sample.context.tools.definition import Tool

BUILT_IN = ("calculator", "clock")


@contextmanager
def open_contexts(
    *,
    retrieve: str | Path | None = None,
    tool: Sequence[str] | None = None,
    mcp: Sequence[str] | None = None,
    steer_to: str | Path | None = None,
    steer_from: str | Path | None = None,
    steer_strength: float = 2.0,
    steer_temperature: float = 100.0,
    think: bool = False,
) -> Iterator[list[Context]]:
    """The contexts asked for, in the order in which they change a request; MCP servers run until
    the block ends.

    Args:
        retrieve: Folder that `pomona sample index` wrote: passages near the question are shown,
            and answers cite them.
        tool: calculator, clock or MODULE:FUNCTION, for the model to call. Give it once for each
            tool.
        mcp: MCP server to start, as "PROGRAM ARGUMENTS", whose tools the model may call;
            NAME=PROGRAM… puts NAME_ before their names.
        steer_to: Datastore of `pomona sample datastore`: answers are led towards its texts
            (torch).
        steer_from: Datastore whose texts answers are led away from.
        steer_strength: How strongly.
        steer_temperature: Of the neighbours' weights; it divides squared distances of states, so
            small models need less.
        think: Ask for steps before the answer; they are taken off it.

    Raises:
        PomonaError: something cannot be opened, or one of two datastores is missing.
    """
    contexts: list[Context] = []
    if retrieve is not None:
        from pomona.sample.context.index import Index
        from pomona.sample.context.retrieval import Retrieval

        contexts.append(Retrieval(Index(retrieve)))
    if steer_to is not None or steer_from is not None:
        contexts.append(_steering(steer_to, steer_from, steer_strength, steer_temperature))
    with ExitStack() as running:
        if tool or mcp:
            from pomona.sample.context import tools

            own = list(map(_tool, tool or ()))
            served = running.enter_context(tools.running(mcp or ()))
            contexts.append(tools.Tools([*own, *served]))
        if think:
            from pomona.sample.context.thought import Thought

            contexts.append(Thought())
        yield contexts


def build_datastore(
    inputs: Where, column: str = "text", *, out: str | Path, model: str
) -> Datastore:
    """Keep what a model's network sees in texts of one kind, to lead answers towards or away from
    it (--steer-to, --steer-from).

    `inputs` are a path, glob, list of them or table.

    Args:
        column: Column of the text, as the model reads it: with its prompt, where it has one.
        out: The file to write (safetensors).
        model: URI of the checkpoint whose answers will be led: ui-s, hf:PATH_OR_ID.

    Raises:
        PomonaError: the column is missing, a text is null, no text has two tokens, or the model is
            none of torch.
    """
    read = records.read(inputs)
    check_outputs({"the datastore": out}, read.paths)
    if os.path.isdir(out):  # noqa: PTH112
        raise PomonaError("is no file", where=out, remedy="name a file for the datastore")
    if os.path.lexists(out):
        from pomona.models.torch import Datastore

        Datastore.open(out)  # only one of ours is replaced
    rows = read.complete(column).select(column)
    texts = rows.to_table()[column].to_pylist()
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise no_text(column, text, rows.row_name(row))
    opened: Any = load(model)
    try:
        if "states" not in opened.abilities:
            remedy = "use a torch model, such as ui-s or hf:PATH"
            raise PomonaError("gives no states of its network", where=model, remedy=remedy)
        from pomona.models.torch import Datastore  # torch takes seconds

        built = Datastore.build(opened, texts)
    finally:
        wait_for(opened.close())
    built.save(out)
    return built


def _steering(
    wanted: str | Path | None, unwanted: str | Path | None, strength: float, temperature: float
) -> Steering:
    if wanted is None or unwanted is None:
        raise PomonaError(
            "give both or none",
            where="--steer-to and --steer-from",
            remedy="write each with `pomona sample datastore`",
        )
    from pomona.models.torch import Datastore
    from pomona.sample.context.steering import Steering

    stores = Datastore.open(wanted), Datastore.open(unwanted)
    return Steering(*stores, alpha=strength, temperature=temperature)


def _tool(name: str) -> Tool:
    from pomona._lazy import function_named
    from pomona.sample.context import tool, tools

    if name not in BUILT_IN and ":" not in name:
        remedy = f"{nearest(name, BUILT_IN)}, or name a MODULE:FUNCTION"
        raise PomonaError("is no tool", where=name, remedy=remedy)
    return tool(getattr(tools, name) if name in BUILT_IN else function_named(name))
