"""`pomona merge`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter
from cyclopts.validators import Number

from pomona.cli.command import Command, Count, Options
from pomona.cli.output import Out, size

if TYPE_CHECKING:
    from pomona.merge import Extraction, MergeResult

app = App(
    name="merge", help="Merge checkpoints.", help_format="plaintext", result_action="return_value"
)
_MORE = {
    "search": (
        "merge_search:search",
        "Search the free parameters of a recipe against a task, and write the best merge.",
    ),
    "sweep": (
        "merge_search:sweep",
        "Write a merge for each of several values, from one reading of the models.",
    ),
    "leave-one-out": (
        "merge_search:leave_one_out",
        "Merge all experts, and all but each one: who helps and who hurts whom.",
    ),
}
for _name, (_place, _help) in _MORE.items():
    app.command(f"pomona.cli.{_place}", name=_name, help=_help)


def _show_merge(show: Out, result: MergeResult, _: Mapping[str, Any]) -> None:
    if show.format == "json":
        show.json(result.document())
        return
    methods = ", ".join(f"{count:,} {method}" for method, count in result.methods.items())
    show.line(f"{result.parameters:,} parameters in {result.tensors:,} tensors: {methods}")
    free = "" if result.written else f", {size(result.free)} free"
    show.line(
        f"read {size(result.read)}; written {size(result.disk)}{free}; memory at most "
        f"{size(result.memory)}"
    )
    if result.found:
        show.line(f"{result.found:,} tensors were finished before")
    for note in result.notes:
        show.line(note)
    if not result.written:
        show.line(f"files: {', '.join(result.files)}")
    show.line(result.signature)
    show.line(result.out if result.written else "nothing was written")


def _show_adapter(show: Out, result: Extraction, given: Mapping[str, Any]) -> None:
    out, dry_run = given["out"], given.get("dry_run", False)
    if show.format == "json":
        show.json({"out": None if dry_run else out, **asdict(result)})
        return
    show.table(
        [
            {"module": module.name, "rank": module.rank, "relative error": f"{module.error:.3f}"}
            for module in result.modules
        ]
    )
    show.line(
        f"{len(result.whole):,} modules saved whole, {result.unchanged:,} tensors unchanged, "
        f"{size(result.size)}"
    )
    for name in result.left:
        show.line(f"left out, though it changed: {name}")
    show.line("nothing was written" if dry_run else out)


app.default(
    Command(
        "pomona.merge:merge",
        "merging",
        Options(
            positional=2,
            hidden="models",
            kinds={"recipe": Path, "memory": str, "shard_size": str},
            inverted={"report": ("no_report", "Do not measure how the models differ.")},
        ),
        _show_merge,
    )
)
app.command(
    Command(
        "pomona.merge:extract_adapter",
        "extracting",
        Options(
            positional=3,
            kinds={
                "finetuned": str,
                "base": str,
                "rank": Count,
                "energy": Annotated[float | None, Parameter(validator=Number(gt=0, lte=1))],
                "modules": Annotated[list[str], Parameter(consume_multiple=True)],
            },
            inverted={
                "whole": (
                    "adapter_only",
                    "Leave out embeddings, heads and norms, which are otherwise saved whole where "
                    "they changed.",
                )
            },
        ),
        _show_adapter,
    ),
    name="extract",
    help="Write what fine-tuning changed as a LoRA adapter.",
)
