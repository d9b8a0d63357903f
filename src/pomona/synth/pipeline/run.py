"""`synthesize`: a recipe's rows, answered, checked and written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

from pomona._version import __version__
from pomona.answers import open_store
from pomona.errors import GateFailed, PomonaError
from pomona.files import (
    check_into,
    check_ours,
    check_outputs,
    json_text,
    remove_from,
    sweep,
    write_into,
)
from pomona.synth.pipeline.inputs import Input
from pomona.synth.pipeline.journal import Journal
from pomona.synth.pipeline.pool import Pool, parts_with_paths
from pomona.synth.pipeline.recipe import SynthRecipe, load_synth
from pomona.synth.pipeline.results import KIND, NAMES, Synthesized, write_tables
from pomona.synth.pipeline.routing import route_of
from pomona.synth.pipeline.tally import Tally
from pomona.synth.pipeline.window import Windows
from pomona.workspace import Lock, Workspace, refuse_changed, stamp

Progress = Callable[[int, int], None]
_WINDOW = 256


def synthesize(
    recipe: str | Path,
    out: str | Path,
    *,
    licences: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Synthesized:
    """Answer the rows of a recipe by its teachers, and write what came of it: rows, rejects and a
    card.

    Rows in are rows out and rejects. A killed run goes on, and what was paid is not paid twice;
    the same command on a finished set tries again what failed.

    Args:
        recipe: The recipe, a YAML file.
        out: Folder of rows.parquet, rejects.parquet, preferences.jsonl, card.json and README.md.
        licences: Licences of answers and texts that are let through, such as Apache-2.0; "unknown"
            lets those through that nobody knows. Any when left out.
        progress: Called with the rows done and all.

    Raises:
        PomonaError: the recipe or a table is wrong, or OUT is something else. Nothing was asked.
        GateFailed: no row came out; the most frequent reasons are told.
        ResourceError: the disk is full.
    """
    made, folder = load_synth(recipe), Path(out)
    rows = Input(made.data)
    inputs = [*rows.paths, *parts_with_paths(made)]
    _check(folder, [recipe, *inputs])
    before = stamp([recipe, *inputs])
    survey = rows.survey()
    if not survey.count:
        raise PomonaError("there are no rows", where=recipe, remedy="change `data`")
    place = folder.resolve()
    lock = place.with_name(f".{place.name}.lock")
    with Lock(lock, doing="writing this set", where=folder, other="folder"):
        write_into(folder, {}, KIND)
        sweep(folder)
        plan = _plan(made, before, licences)
        with (
            closing(Pool(made, folder, licences)) as pool,
            Workspace(folder / "work", plan).resumed() as work,
        ):
            tally = _answered(made, rows, survey.count, pool, licences, work, progress)
            refuse_changed(before, stamp([recipe, *inputs]), recipe)
            licence = {name: one.licence for name, one in pool.teachers.items()}
            result = Synthesized(
                tally, _signature(made), plan["recipe"], pool.absent, pool.notes, licence
            )
            if tally.rows_out:
                _write(result, work, folder, made)
    if not tally.rows_out:
        raise _nothing(result, recipe)
    return result


def _check(folder: Path, inputs: Sequence[str | Path]) -> None:
    """Raise PomonaError unless a set may be written into a folder."""
    check_outputs({"the set": folder}, inputs, folders=["the set"])
    check_ours(folder.resolve(), KIND)
    check_into(folder, NAMES)
    for name in ("answers.db", "programs.db"):
        if (folder / name).is_dir():
            raise PomonaError("is no file", where=folder / name, remedy="take it away")
    if (folder / "answers.db").exists():
        open_store(folder / "answers.db").close()
    Workspace(folder / "work", {}).check()


def _plan(recipe: SynthRecipe, before: Any, licences: Sequence[str] | None) -> dict[str, Any]:
    said = recipe.model_dump(mode="json", by_alias=True)
    return {"recipe": said, "inputs": before, "licences": licences, "version": __version__}


def _answered(
    recipe: SynthRecipe,
    rows: Input,
    count: int,
    pool: Pool,
    licences: Sequence[str] | None,
    work: Path,
    progress: Progress | None,
) -> Tally:
    """Answer all windows that the journal does not have."""
    journal, tally, done = Journal(work / "windows.jsonl"), Tally(), 0
    for window in journal.windows():
        tally, done = Tally.from_json(window["tally"]), done + 1
    taking = Windows(recipe, pool, route_of(recipe, pool), tally, licences)
    size = min(_WINDOW, recipe.stop.window)
    for window in islice(rows.windows(size), done, None):
        journal.add(taking.take(window))
        if progress is not None:
            progress(tally.rows_in, count)
    return tally


def _write(result: Synthesized, work: Path, folder: Path, recipe: SynthRecipe) -> None:
    tables = write_tables(Journal(work / "windows.jsonl"), work, recipe)
    if recipe.preferences is None:
        remove_from(folder, "preferences.jsonl")  # of a recipe that asked for them
    texts = {"card.json": json_text(result.to_json()), "README.md": result.readme()}
    write_into(folder, {**tables, **texts}, KIND)


def _signature(recipe: SynthRecipe) -> str:
    parts = [
        f"teachers:{','.join(recipe.teachers)}",
        f"route:{recipe.route.by}",
        f"refill:{recipe.refill}",
        f"seed:{recipe.seed}",
        f"version:{__version__}",
    ]
    return "|".join(["synth", *parts])


def _nothing(result: Synthesized, recipe: str | Path) -> GateFailed:
    told = "; ".join(f"{count:,} × {reason}" for reason, count in result.reasons()[:5])
    return GateFailed(
        f"none of {result.tally.rows_in:,} rows came out: {told}",
        where=recipe,
        remedy="mend the most frequent reason; what was answered is kept in answers.db",
    )
