"""How `pomona arena prioritize` and its replay print what they found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pomona.cli.output import Out

if TYPE_CHECKING:
    from pomona.arena import Priorities, Replay

_ROWS = 20


def show_priorities(show: Out, result: Priorities, given: Mapping[str, Any]) -> None:
    """A line, the first pairs, what was learnt of ties, measures and ratings."""
    if show.format == "json":
        show.json(result.to_json())
        return
    if result.spent is not None:
        costs = result.spent
        show.line(
            f"at most: {costs['prompt_tokens']:,} prompt tokens, {costs['completion_tokens']:,} "
            f"answer tokens, {costs['flops']:.3g} FLOPs"
        )
        show.rest(*result.notes, result.signature, "nothing was written")
        return
    show.line(result.headline())
    show.table(result.cells(_ROWS))
    if result.pilot is not None:
        for line in result.pilot.lines():
            show.line(line)
        show.table([one.cells() for one in result.measures])
    if result.ratings:
        show.table([one.cells() for one in result.ratings])
    out = [] if result.out is None else [result.out]
    show.rest(*result.notes, result.signature, *out, page=given.get("page"))


def show_replay(show: Out, result: Replay, given: Mapping[str, Any]) -> None:
    """A line, then ties, rankings and measures."""
    if show.format == "json":
        show.json(result.to_json())
        return
    show.line(result.headline())
    show.table([one.cells() for one in result.ties])
    show.table(
        [one.cells() for one in result.rankings],
        caption="votes for the ranking that half of the votes give at random",
    )
    show.table([one.cells() for one in result.measures])
    show.rest(*result.notes, result.signature, page=given.get("page"))
