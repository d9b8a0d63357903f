"""`pomona merge extract`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from pomona.cli.command import Flag
from pomona.cli.output import Format, Out, size
from pomona.cli.progress import working


def extract(
    finetuned: str,
    base: str,
    out: Path,
    /,
    *,
    rank: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    energy: Annotated[float | None, Parameter(validator=Number(gt=0, lte=1))] = None,
    modules: Annotated[list[str] | None, Parameter(consume_multiple=True)] = None,
    adapter_only: Flag = False,
    dtype: Literal["F32", "BF16", "F16"] = "F32",
    dry_run: Flag = False,
    format: Format = "human",
) -> None:
    """Write what fine-tuning changed as a LoRA adapter that PEFT loads: for every matrix the
    nearest one of low rank.

    Parameters
    ----------
    finetuned
        The fine-tuned model: a folder, a name of `pomona models`, or a Hugging Face id.
    base
        The model it was fine-tuned from.
    out
        Folder of the adapter.
    rank
        Rank of every module; give this or energy.
    energy
        Share of the squared change that every module keeps, such as 0.95.
    modules
        Modules to take, by name or glob; all linear ones when left out.
    adapter_only
        Leave out embeddings, heads and norms, which are otherwise saved whole where they changed.
    dtype
        Type of the adapter's matrices.
    dry_run
        Compute ranks and errors, and write nothing.
    """
    from dataclasses import asdict

    from pomona.merge import extract_adapter, locate_model

    with working("extracting") as progress:
        found = extract_adapter(
            locate_model(finetuned),
            locate_model(base),
            out,
            rank=rank,
            energy=energy,
            modules=modules or ("*",),
            whole=not adapter_only,
            dtype=dtype,
            dry_run=dry_run,
            progress=progress,
        )
    show = Out(format)
    if show.format == "json":
        show.json({"out": None if dry_run else out, **asdict(found)})
        return
    show.table(
        [
            {"module": module.name, "rank": module.rank, "relative error": f"{module.error:.3f}"}
            for module in found.modules
        ]
    )
    show.line(
        f"{len(found.whole):,} modules saved whole, {found.unchanged:,} tensors unchanged, "
        f"{size(found.size)}"
    )
    for name in found.left:
        show.line(f"left out, though it changed: {name}")
    show.line("nothing was written" if dry_run else out)
