"""What the systems of a finished run answered, item by item, for whoever compares them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pomona.documents import read_json
from pomona.errors import PomonaError, nearest
from pomona.files import file_sha256
from pomona.ledger import Entry, Examples, ledger_of
from pomona.recipe.graph import STEP_FOLDER, RunFolder, Step
from pomona.recipe.plan import RunPlan
from pomona.recipe.steps.controls import nearest_of, read_neighbours
from pomona.recipe.steps.results import read_rows, read_statistics, statistics_name
from pomona.recipe.steps.scoring import LOSSES
from pomona.recipe.steps.tables import rarest, read_counts, read_items, read_projects
from pomona.scale import Measured, ScoredSystem
from pomona.stats import rows_of
from pomona.tasks import BitsPerByte, Items, metrics

KEY = "answers"  # of the manifest
_REMEDY = "run `pomona run` on the recipe again, which writes it anew from the finished steps"
_SEP = "#"


@dataclass(frozen=True)
class Listing:
    """Which results of steps, by the names of their folders, hold the answers of a run and what is
    known of its items. `systems` gives those of each system by the seed of its training.
    """

    items: str
    learned: str | None
    memory: str | None
    neighbours: str | None
    systems: dict[str, dict[int, str]]


def listing(plan: RunPlan) -> Listing:
    """What the manifest of a run lists."""

    def folder(step: Step | None) -> str | None:
        return None if step is None else step.folder

    found = None if plan.memory is None else plan.neighbours(plan.items)
    return Listing(
        plan.items.folder,
        folder(plan.learned),
        folder(plan.memory),
        folder(found),
        {
            m.variant: {
                seed: step.folder for seed, step in zip(m.system.seeds, m.answers, strict=True)
            }
            for m in plan.measurements()
        },
    )


def answers_at(source: str) -> str | pa.Table:
    """The answers that `RUN#SYSTEM` names, or `RUN#SYSTEM#SEED` of several trainings; anything else
    as it is. See `answers_of`.
    """
    if Path(source).exists():
        if (Path(source) / "manifest.json").is_file():
            few = ", ".join(f"{source}{_SEP}{name}" for name in ("base", "best"))
            raise PomonaError("is a run", where=source, remedy=f"name a system of it: {few}")
        return source
    for place in (i for i, letter in enumerate(source) if letter == _SEP):
        run, rest = source[:place], source[place + 1 :]
        if not Path(run).is_dir():
            continue
        system, _, seed = rest.rpartition(_SEP)
        if system and seed.isdecimal() and rest not in _read(Path(run))[0].systems:
            return answers_of(run, system, int(seed))
        return answers_of(run, rest)
    return source


def sizes_at(sources: Sequence[str]) -> list[str | pa.Table]:
    """The answers of several sizes: each as in `answers_at`, or, of a finished run alone, those of
    its ladder, the smallest first. Raises PomonaError where that has fewer than two.
    """
    if len(sources) != 1 or not (Path(sources[0]) / "manifest.json").is_file():
        return [answers_at(source) for source in sources]
    run = sources[0]
    rungs = [rung.variant for rung in ledger_of(run).meta.rungs]
    if len(rungs) < 2:
        remedy = "give a recipe a `ladder`, or name the systems as RUN#SYSTEM"
        raise PomonaError("the run has no ladder", where=run, remedy=remedy)
    return [answers_of(run, name).replace_schema_metadata({"pomona.name": name}) for name in rungs]


def systems_of(run: str | Path) -> dict[str, list[int]]:
    """The systems of a finished run, each with the seeds of its trainings. Raises PomonaError as
    `answers_of` does.
    """
    return {name: list(seeds) for name, seeds in _read(Path(run))[0].systems.items()}


def measured_at(sources: Sequence[str]) -> list[str | Measured]:
    """What finished runs measured, item by item; whatever else is named as it is, and so is a run
    on tasks of lm-evaluation-harness, which has a ledger alone.
    """
    found: list[str | Measured] = []
    for source in sources:
        finished = (Path(source) / "manifest.json").is_file()
        items = finished and not _read(Path(source))[1]["task"].get("harness")
        found.append(measured_of(source) if items else source)
    return found


def measured_of(run: str | Path) -> Measured:
    """The statistics behind the ledger of a finished run: of its sizes, its levers and controls on
    every test item, by every metric of the task and, where the run scored what it trained, by bits
    per byte. Raises PomonaError where a result is damaged.
    """
    root = Path(run)
    listed, recipe = _read(root)
    ledger, steps = ledger_of(root), RunFolder(root).steps
    items = read_items(steps / listed.items)
    sizes = {rung.variant: float(rung.parameters) for rung in ledger.meta.rungs}
    if ledger.meta.base_parameters is not None:
        sizes |= {ledger.meta.base: float(ledger.meta.base_parameters)}
    judged = metrics(_asked(recipe["task"]["metric"]), references=items.reference_count)
    first: dict[str, Entry] = {}
    for entry in ledger.entries:
        if entry.variant in listed.systems and entry.variant not in ledger.meta.bounds:
            first.setdefault(entry.variant, entry)
    told = [_scored_system(entry, ledger.meta.base, sizes) for entry in first.values()]
    statistics = {}
    for system, variant in enumerate(first):
        for place in range(len(judged)):
            files = [steps / at / statistics_name(place) for at in listed.systems[variant].values()]
            read = [read_statistics(file, len(items)) for file in files]
            statistics[system, place] = np.stack(read)
    losses = _losses(root, steps, list(first), len(items))
    if losses and all(one.name != BitsPerByte.name for one in judged):
        statistics |= {(system, len(judged)): rows for system, rows in losses.items()}
        judged = [*judged, BitsPerByte()]
    parts = {"overall": np.arange(len(items))}
    for column in (*_parts(steps, listed, recipe, items).values(), items.groups):
        parts |= rows_of(column) if len(set(column)) > 1 else {}
    clusters = items.clusters if recipe["task"]["cluster"] else None
    about = (
        file_sha256(root / "ledger.json")[:12],
        items.ids,
        clusters,
        parts,
        told,
        judged,
        statistics,
    )
    return Measured(str(run), *about)


def _asked(asked: Any) -> list[str | dict[str, Any]]:
    """Metrics as a recipe writes them, from those of a manifest, which has every option."""
    every = asked if isinstance(asked, list) else [asked]
    found: list[str | dict[str, Any]] = []
    for one in every:
        if isinstance(one, str):
            found.append(one)
            continue
        given = {key: value for key, value in one.items() if value is not None}
        schema = given.pop("json_schema", None)
        found.append(given if schema is None else {**given, "schema": schema})
    return found


def _scored_system(entry: Entry, base: str, sizes: Mapping[str, float]) -> ScoredSystem:
    """A size by its own name; whatever else as a lever at the size of the base."""
    once, each, is_size = entry.flops_once, entry.flops_per_item, entry.lever == "scale"
    size = entry.variant if is_size else base
    flops = None if once is None or each is None else once + each * entry.n
    lever = "scale" if is_size else entry.variant
    return ScoredSystem(lever, size, sizes.get(size), flops=flops, kind=entry.lever)


def _losses(
    root: Path, steps: Path, variants: Sequence[str], items: int
) -> dict[int, NDArray[np.float64]]:
    """Bits and bytes of each item by the models that the run trained and scored."""
    named = read_json(root / "manifest.json", remedy=_REMEDY).get("steps") or {}
    found = {}
    for place, variant in enumerate(variants):
        folder = named.get(f"loss of {variant}")
        if folder is not None and STEP_FOLDER.fullmatch(folder):
            nats, size = read_statistics(steps / folder / LOSSES, items)[:, 2:].T
            found[place] = np.column_stack([nats / np.log(2), size])[None]
    return found


def answers_of(run: str | Path, system: str, seed: int | None = None) -> pa.Table:
    """What a system of a finished run answered: a row for each of n test items, in their order.

    Columns are id, group, input, prediction and reference (a list where there are several); of what
    the run knows also `cluster`, `resource` (head or tail), `distance` (near, middle or far from
    the nearest training item) and `familiarity` (warm or cold, by project).

    Args:
        run: Folder of the run.
        system: Its name in the ledger, or its role: base, best (of the levers) or control.
        seed: Of which training, where there were several; the first unless given.

    Raises:
        PomonaError: there is no such run, system or seed, or a result is damaged.
    """
    root = Path(run)
    listed, recipe = _read(root)
    name = _system(root, system, listed, recipe["base"])
    seeds = listed.systems[name]
    if seed is not None and seed not in seeds:
        remedy = f"known: {', '.join(map(str, seeds))}"
        raise PomonaError(f"was not trained with seed {seed}", where=f"{run}#{name}", remedy=remedy)
    steps = RunFolder(root).steps
    items = read_items(steps / listed.items)
    path = steps / seeds[next(iter(seeds)) if seed is None else seed] / "answers.parquet"
    rows = read_rows(path, "id", "answer").to_pydict()
    given = dict(zip(rows["id"], rows["answer"], strict=True))
    if set(given) != set(items.ids):
        raise PomonaError("has not the items of the run", where=path, remedy=_REMEDY)
    columns: dict[str, Any] = {
        "id": items.ids,
        "group": items.groups,
        "input": items.sources,
        "prediction": [given[id_] for id_ in items.ids],
        "reference": items.references,
        **({"cluster": items.clusters} if recipe["task"]["cluster"] else {}),
        **_parts(steps, listed, recipe, items),
    }
    called = name if seed is None else f"{name}{_SEP}{seed}"
    files = json.dumps([str(path), *map(str, root.glob("*.json"))])
    told = {"pomona.name": f"{run}{_SEP}{called}", "pomona.system": called, "pomona.files": files}
    return pa.table(columns).replace_schema_metadata(told)


def _read(root: Path) -> tuple[Listing, Mapping[str, Any]]:
    """What the manifest lists, and the recipe in it."""
    from pydantic import TypeAdapter, ValidationError

    path = root / "manifest.json"
    missing = "there is no finished run here: it has no manifest.json"
    manifest = read_json(path, missing=missing, remedy=_REMEDY)
    try:
        listed = TypeAdapter(Listing).validate_python(manifest[KEY])
        recipe = manifest["recipe"]
        asked = (recipe["base"], recipe["task"]["cluster"], recipe["task"]["tail"])
        ends = (recipe["controls"]["near"], recipe["controls"]["far"], recipe["task"]["tail"])
        assert len(asked) == 3 and all(isinstance(end, int | float) for end in ends)
        assert all(listed.systems.values())
    except (KeyError, TypeError, AttributeError, AssertionError, ValidationError):
        message = "does not say which of its steps hold the answers"
        raise PomonaError(message, where=path, remedy=_REMEDY) from None
    folders = [listed.items, listed.learned, listed.memory, listed.neighbours]
    folders += [folder for seeds in listed.systems.values() for folder in seeds.values()]
    for folder in filter(None, folders):
        if not STEP_FOLDER.fullmatch(folder):
            raise PomonaError(f'"{folder}" names no step', where=path, remedy=_REMEDY)
    return listed, recipe


def _system(root: Path, system: str, listed: Listing, base: str) -> str:
    """The system of a name or a role."""
    if system in listed.systems:
        return system
    roles = {"base": base}
    if system in ("best", "control"):
        roles |= Examples.read(root / "examples.json").systems
    if roles.get(system) in listed.systems:
        return roles[system]
    remedy = nearest(system, [*listed.systems, "base", "best"])
    raise PomonaError(f'has no system "{system}"', where=root, remedy=remedy)


def _parts(
    steps: Path, listed: Listing, recipe: Mapping[str, Any], items: Items
) -> dict[str, list[str]]:
    """What is known of each item, as far as it is."""
    counts = read_counts(steps / (listed.learned or listed.items))
    own = {group: counts[group] for group in set(items.groups)}
    rare = set(rarest(own, recipe["task"]["tail"]))
    parts = {"resource": ["tail" if g in rare else "head" for g in items.groups]} if rare else {}
    if listed.neighbours is not None:
        found = read_neighbours(steps / listed.neighbours / "neighbours.parquet", 1)
        similarity, asked = nearest_of(found), recipe["controls"]
        far, near = similarity < asked["far"], similarity >= asked["near"]
        parts["distance"] = np.select([far, near], ["far", "near"], "middle").tolist()
    if listed.memory is not None and recipe["task"].get("project") is not None:
        of = read_projects(steps / listed.items)
        known = set(read_projects(steps / listed.memory).values())
        parts["familiarity"] = ["warm" if of[id_] in known else "cold" for id_ in items.ids]
    return parts
