"""`pomona merge search`, `pomona merge sweep` and `pomona merge leave-one-out`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from pomona.cli._cards import working
from pomona.cli._out import Format, Out, clock, size
from pomona.cli.run import FLAG
from pomona.errors import PomonaError

if TYPE_CHECKING:
    from pomona.merge.search import Forecast, Matrix, Searched

Count = Annotated[int | None, Parameter(validator=Number(gte=1))]
Settings = Annotated[list[str] | None, Parameter(name="--set", negative=())]


def search(
    recipe: Path,
    out: Path,
    /,
    *,
    trials: Count = None,
    seed: int | None = None,
    device: str | None = None,
    threads: Count = None,
    memory: str | None = None,
    shard_size: str | None = None,
    overwrite: Annotated[bool, FLAG] = False,
    dry_run: Annotated[bool, FLAG] = False,
    format: Format = "human",
) -> None:
    """Search the free parameters of a recipe against a task, and write the best merge.

    Parameters
    ----------
    recipe
        A merge recipe with {search: [low, high]} in place of numbers, and a section `search` that names the task.
    out
        Folder of the best merge, with search.json, trials.parquet, ledger.json and search.html. The same command goes on after a kill.
    trials
        Candidates to try, in place of the recipe's.
    seed
        Seed in place of the recipe's.
    device
        cpu, cuda, ...
    threads
        CPU threads.
    memory
        Memory of the merge to stay within, such as 1GiB.
    shard_size
        Largest file of the result, such as 5GB.
    overwrite
        Write over a folder that is there.
    dry_run
        Only print the number of trials and what they would cost.
    format
        human or json.
    """
    from pomona.merge import search as merging

    show = Out(format)
    if dry_run:
        _forecast(show, merging.forecast(recipe, out, trials=trials, seed=seed))
        return
    _use_threads(threads)
    engine = _given(threads=threads, memory=memory, shard_size=shard_size)
    with working("searching") as progress:
        found = merging.search_merge(recipe, out, trials=trials, seed=seed, device=device, overwrite=overwrite, progress=progress, **engine)
    _searched(show, found)


def sweep(
    recipe: Path,
    out: Path,
    /,
    *,
    values: Settings = None,
    seed: int | None = None,
    threads: Count = None,
    memory: str | None = None,
    shard_size: str | None = None,
    overwrite: Annotated[bool, FLAG] = False,
    dry_run: Annotated[bool, FLAG] = False,
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
        NAME=0,0.25,0.5: a free parameter of the recipe, or the place of a number such as parameters.t. Several give all combinations.
    seed
        Seed in place of the recipe's.
    threads
        CPU threads.
    memory
        Memory to stay within, such as 1GiB.
    shard_size
        Largest file of a result, such as 5GB.
    overwrite
        Write over folders that are there.
    dry_run
        Only check every merge and list them.
    format
        human or json.
    """
    from pomona.merge import search as merging

    chosen = {name: _numbers(name, text) for name, text in map(_parted, values or [])}
    engine = _given(threads=threads, memory=memory, shard_size=shard_size)
    with working("merging") as progress:
        swept = merging.sweep(recipe, out, chosen, seed=seed, overwrite=overwrite, dry_run=dry_run, progress=progress, **engine)
    show = Out(format)
    show.table([{"folder": str(one.folder), **one.values} for one in swept])
    if dry_run and format == "human":
        show.line("nothing was written")


def leave_one_out(
    recipe: Path,
    out: Path,
    /,
    *,
    values: Settings = None,
    seed: int | None = None,
    device: str | None = None,
    threads: Count = None,
    memory: str | None = None,
    shard_size: str | None = None,
    overwrite: Annotated[bool, FLAG] = False,
    dry_run: Annotated[bool, FLAG] = False,
    format: Format = "human",
) -> None:
    """Merge all experts, and all but one for each: who is helped and hurt by whom?

    Parameters
    ----------
    recipe
        A merge recipe. With a section `evaluate` (or `search`) the merges are scored on its test items and not written.
    out
        Folder of the merges `all` and `without-EXPERT`, or of the scores.
    values
        NAME=0.5 for each free parameter of the recipe.
    seed
        Seed in place of the recipe's.
    device
        cpu, cuda, ...
    threads
        CPU threads.
    memory
        Memory to stay within, such as 1GiB.
    shard_size
        Largest file of a result, such as 5GB.
    overwrite
        Write over a folder that is there.
    dry_run
        Only check every merge and list them.
    format
        human or json.
    """
    from pomona.merge import search as merging

    chosen = {name: _number(name, text) for name, text in map(_parted, values or [])}
    _use_threads(threads)
    engine = _given(threads=threads, memory=memory, shard_size=shard_size)
    with working("merging") as progress:
        found = merging.leave_one_out(
            recipe, out, values=chosen, seed=seed, device=device, overwrite=overwrite, dry_run=dry_run, progress=progress, **engine
        )
    show = Out(format)
    if found.matrix is not None:
        _matrix(show, found.matrix, out)
        return
    rows = [{"merge": name, "folder": str(found.folders[at]) if found.folders else None} for at, name in enumerate(found.recipes)]
    show.table(rows)


def _forecast(show: Out, found: Forecast) -> None:
    from dataclasses import asdict

    from pomona.ledger.report.numbers import flops

    if show.format == "json":
        show.json(asdict(found))
        return
    show.line(f"{found.method}: at most {found.trials} trials over {', '.join(found.free)}")
    show.line(f"each merges {size(found.read)} in memory and scores {found.valid} validation items; the best is tested on {found.test}")
    show.line(f"about {flops(found.flops_per_trial)} FLOPs a trial, {flops(found.flops)} in all, {clock(found.seconds)} on one core")
    for note in found.notes:
        show.line(note)
    show.line("nothing was written")


def _searched(show: Out, found: Searched) -> None:
    if show.format == "json":
        show.json({"out": found.out, **found.document()})
        return
    from pomona.merge.search.page import Gain, number

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
    show.table(rows, caption=", ".join(f"{name} = {value:g}" for name, value in found.found.best.values.items()))
    for note in found.notes:
        show.line(note)
    show.line(found.signature)
    show.line(found.out)


def _matrix(show: Out, matrix: Matrix, out: Path) -> None:
    if show.format == "json":
        show.json({"out": out, "signature": matrix.signature, "metric": matrix.metric, "matrix": matrix.rows()})
        return
    gains = matrix.gains()
    groups = next(iter(gains.values()))
    show.table(
        [{"group": group, **{expert: str(gains[expert][group]) for expert in gains}} for group in groups],
        caption=f"what each expert brings, in {matrix.metric}; positive is better",
    )
    show.line(matrix.signature)
    show.line(out)


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _use_threads(threads: int | None) -> None:
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def _parted(text: str) -> tuple[str, str]:
    name, sign, values = text.partition("=")
    if not sign or not name or not values:
        raise PomonaError(f'"{text}" is not NAME=VALUE', where="--set", remedy="write --set alpha=0,0.5,1")
    return name, values


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise PomonaError(f'"{text}" is not a number', where=f"--set {name}", remedy="write --set alpha=0.5") from None


def _numbers(name: str, text: str) -> list[float]:
    return [_number(name, part.strip()) for part in text.split(",")]
