"""`pomona merge`: a merge, an adapter, and merges by the dozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter
from cyclopts.validators import Number

from pomona.cli.command import Command, Count, Flag, Options, given
from pomona.cli.output import Format, Out, clock, size
from pomona.cli.progress import working
from pomona.errors import PomonaError

if TYPE_CHECKING:
    from pomona.merge import Extraction, MergeResult
    from pomona.merge.search import Matrix, Searched, SearchForecast

app = App(
    name="merge", help="Merge checkpoints.", help_format="plaintext", result_action="return_value"
)


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


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Merging:
    """How merges are made, not what they are."""

    seed: int | None = None
    """Seed in place of the recipe's."""
    threads: Count = None
    """CPU threads; all when left out."""
    memory: str | None = None
    """Memory of a merge to stay within, such as 1GiB."""
    shard_size: str | None = None
    """Largest file of a result, such as 5GB."""
    overwrite: Flag = False
    """Write over folders that are there."""


Settings = Annotated[list[str] | None, Parameter(name="--set")]


@app.command
def search(
    recipe: Path,
    out: Path,
    /,
    *,
    trials: Count = None,
    device: str | None = None,
    merging: Merging | None = None,
    dry_run: Flag = False,
    format: Format = "human",
) -> None:
    """Search the free parameters of a recipe against a task, and write the best merge.

    Parameters
    ----------
    recipe
        A merge recipe with {search: [low, high]} in place of numbers, and a section `search` that
        names the task.
    out
        Folder of the best merge, with search.json, trials.parquet, ledger.json and search.html. The
        same command goes on after a kill.
    trials
        Candidates to try, in place of the recipe's.
    device
        cpu, cuda, ...
    dry_run
        Only print the number of trials and what they would cost.
    """
    from pomona.merge import search as searching

    show = Out(format)
    if dry_run:
        _forecast(
            show,
            searching.forecast(recipe, out, trials=trials, seed=merging.seed if merging else None),
        )
        return
    _use_threads(merging)
    with working("searching") as progress:
        found = searching.search_merge(
            recipe, out, trials=trials, device=device, progress=progress, **given(merging)
        )
    _searched(show, found)


@app.command(help="Write a merge for each of several values, from one reading of the models.")
def sweep(
    recipe: Path,
    out: Path,
    /,
    *,
    values: Settings = None,
    merging: Merging | None = None,
    dry_run: Flag = False,
    format: Format = "human",
) -> None:
    """Merge once for each value of a parameter, from one reading of the inputs.

    Parameters
    ----------
    recipe
        A merge recipe.
    out
        Folder of the merges, each in a folder such as alpha=0.25.
    values
        NAME=0,0.25,0.5: a free parameter of the recipe, or the place of a number such as
        parameters.t. Several give all combinations.
    dry_run
        Only check every merge and list them.
    """
    from pomona.merge import search as searching

    chosen = {name: _numbers(name, text) for name, text in map(_parted, values or [])}
    with working("merging") as progress:
        swept = searching.sweep(
            recipe, out, chosen, dry_run=dry_run, progress=progress, **given(merging)
        )
    show = Out(format)
    show.table([{"folder": str(one.folder), **one.values} for one in swept])
    if dry_run and format == "human":
        show.line("nothing was written")


@app.command(help="Merge all experts, and all but each one: who helps and who hurts whom.")
def leave_one_out(
    recipe: Path,
    out: Path,
    /,
    *,
    values: Settings = None,
    device: str | None = None,
    merging: Merging | None = None,
    dry_run: Flag = False,
    format: Format = "human",
) -> None:
    """Merge all experts, and all but one for each: who is helped and hurt by whom?

    Parameters
    ----------
    recipe
        A merge recipe. With a section `evaluate` (or `search`) the merges are scored on its test
        items and not written.
    out
        Folder of the merges `all` and `without-EXPERT`, or of the scores.
    values
        NAME=0.5 for each free parameter of the recipe.
    device
        cpu, cuda, ...
    dry_run
        Only check every merge and list them.
    """
    from pomona.merge import search as searching

    chosen = {name: _number(name, text) for name, text in map(_parted, values or [])}
    _use_threads(merging)
    with working("merging") as progress:
        found = searching.leave_one_out(
            recipe,
            out,
            values=chosen,
            device=device,
            dry_run=dry_run,
            progress=progress,
            **given(merging),
        )
    show = Out(format)
    if found.matrix is not None:
        _matrix(show, found.matrix, out)
        return
    rows = [
        {"merge": name, "folder": str(found.folders[at]) if found.folders else None}
        for at, name in enumerate(found.recipes)
    ]
    show.table(rows)


def _forecast(show: Out, found: SearchForecast) -> None:
    from pomona.pages import flops

    if show.format == "json":
        show.json(asdict(found))
        return
    show.line(f"{found.method}: at most {found.trials} trials over {', '.join(found.free)}")
    show.line(
        f"each merges {size(found.read)} in memory and scores {found.valid} validation "
        f"items; the best is tested on {found.test}"
    )
    show.line(
        f"about {flops(found.flops_per_trial)} FLOPs a trial, {flops(found.flops)} in all, "
        f"{clock(found.seconds)} on one core"
    )
    for note in found.notes:
        show.line(note)
    show.line("nothing was written")


def _searched(show: Out, found: Searched) -> None:
    if show.format == "json":
        show.json({"out": found.out, **found.document()})
        return
    from pomona.merge.search import Gain, number

    rows = [
        {
            "group": group,
            "against": name,
            found.metric: number(one.value),
            "gain": str(Gain.of(one, found.higher_is_better)),
            "items": one.n,
        }
        for name, groups in found.contrasts.items()
        for group, one in groups.items()
    ]
    show.table(
        rows,
        caption=", ".join(
            f"{name} = {value:g}" for name, value in found.optimum.best.values.items()
        ),
    )
    for note in found.notes:
        show.line(note)
    show.line(found.signature)
    show.line(found.out)


def _matrix(show: Out, matrix: Matrix, out: Path) -> None:
    if show.format == "json":
        show.json(
            {
                "out": out,
                "signature": matrix.signature,
                "metric": matrix.metric,
                "matrix": matrix.rows(),
            }
        )
        return
    gains = matrix.gains()
    groups = next(iter(gains.values()))
    show.table(
        [
            {"group": group, **{expert: str(gains[expert][group]) for expert in gains}}
            for group in groups
        ],
        caption=f"what each expert brings, in {matrix.metric}; positive is better",
    )
    show.line(matrix.signature)
    show.line(out)


def _use_threads(merging: Merging | None) -> None:
    if merging is not None and merging.threads is not None:
        import torch

        torch.set_num_threads(merging.threads)


def _parted(text: str) -> tuple[str, str]:
    name, sign, values = text.partition("=")
    if not sign or not name or not values:
        raise PomonaError(
            f'"{text}" is not NAME=VALUE', where="--set", remedy="write --set alpha=0,0.5,1"
        )
    return name, values


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise PomonaError(
            f'"{text}" is not a number', where=f"--set {name}", remedy="write --set alpha=0.5"
        ) from None


def _numbers(name: str, text: str) -> list[float]:
    return [_number(name, part.strip()) for part in text.split(",")]
