"""`pomona merge`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number

from pomona.cli.command import Flag
from pomona.cli.output import Format, Out, size
from pomona.cli.progress import working

if TYPE_CHECKING:
    from pomona.merge import MergeResult

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
    "extract": ("merge_extract:extract", "Write what fine-tuning changed as a LoRA adapter."),
}
for _name, (_place, _help) in _MORE.items():
    app.command(f"pomona.cli.{_place}", name=_name, help=_help)


@app.default
def merge(
    recipe: Path,
    out: Path,
    /,
    *,
    memory: str = "1GiB",
    threads: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    shard_size: str = "5GB",
    seed: int | None = None,
    no_report: Flag = False,
    overwrite: Flag = False,
    allow_mixed: Flag = False,
    dry_run: Flag = False,
    format: Format = "human",
) -> None:
    """Merge checkpoints as a recipe says, in mergekit's format, into a folder that transformers
    loads.

    Parameters
    ----------
    recipe
        YAML file. Models are folders, names of `pomona models`, or Hugging Face ids.
    out
        Folder of the result. A killed merge goes on when the same command is given again.
    memory
        Memory for blocks of tensors, such as 1GiB.
    threads
        CPU threads; all when left out. The result does not depend on them.
    shard_size
        Largest safetensors file, such as 5GB.
    seed
        Seed in place of the recipe's.
    no_report
        Do not measure how the models differ.
    overwrite
        Replace a checkpoint that is there.
    allow_mixed
        Merge models of different architectures whose tensors fit.
    dry_run
        Only print what would be read, written and merged.
    """
    from pomona.merge import merge as combine

    with working("merging") as progress:
        result = combine(
            recipe,
            out,
            memory=memory,
            threads=threads,
            shard_size=shard_size,
            seed=seed,
            report=not no_report,
            overwrite=overwrite,
            allow_mixed=allow_mixed,
            dry_run=dry_run,
            progress=progress,
        )
    _tell(Out(format), result)


def _tell(show: Out, result: MergeResult) -> None:
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
