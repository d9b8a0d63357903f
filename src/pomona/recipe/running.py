"""Run a recipe: its steps, each once, then its ledger and page. A finished step is a folder under
its final name, an unfinished one is nothing but its scratch folder.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import ValidationError
from safetensors import SafetensorError

from pomona.documents import read_json
from pomona.errors import PomonaError, ResourceError
from pomona.files import (
    atomic_directory,
    check_into,
    check_ours,
    json_text,
    remove_from,
    sweep,
    write_into,
    write_json,
)
from pomona.models import Request
from pomona.places import check_outputs
from pomona.recipe.asked import Says
from pomona.recipe.costs import total
from pomona.recipe.graph import STEP_FOLDER, RunFolder, RunInput, Step, ancestors
from pomona.recipe.inputs import tokenizer_folder
from pomona.recipe.levers import add_levers, load_recipe
from pomona.recipe.plan import RunPlan
from pomona.recipe.stacks import Chosen
from pomona.recipe.steps import Runtime, Served, StepContext
from pomona.workspace import Lock, is_full, refuse_changed, stamp

if TYPE_CHECKING:
    from pomona.ledger import Entry, Ledger
    from pomona.scale import Planned

FLOPS_PER_SECOND = {"train": 4e10, "generate": 2e10, "score": 4e10, "table": 1e9}
START_SECONDS = 2.0
ANSWER_SECONDS = 0.25  # of a server that is asked for several at once
_KIND = "a run"
SOMETIMES = ("stack.json", "training-runs.csv", "markers.csv")  # what not every run writes
NEARLY_NOTHING = 1 << 16  # bytes


class Progress(Protocol):
    """Told by a run what it does. Calls come in order: `plan`, then for each step `start`, any
    number of `advance`, `finish`, and `measured` for what that finished; and again, where what is
    finished decides on more steps.
    """

    def plan(self, steps: list[tuple[str, float]]) -> None:
        """The steps that come, in order, with the estimated seconds of each."""
        ...

    def start(self, step: str) -> None:
        """A step begins."""
        ...

    def advance(self, done: int, total: int) -> None:
        """`done` of `total` parts of the current step are finished."""
        ...

    def finish(self, step: str, seconds: float, skipped: bool) -> None:
        """A step ended after `seconds` of wall clock; `skipped` when an earlier run had finished
        it, which needs no `start`.
        """
        ...

    def measured(self, entry: Entry, higher_is_better: bool) -> None:
        """A variant has been measured: what it does on all test items."""
        ...


class Silent:
    """Says nothing."""

    def plan(self, steps: list[tuple[str, float]]) -> None:
        """All steps of the run, each with the seconds it may take."""

    def start(self, step: str) -> None:
        """A step begins."""

    def advance(self, done: int, total: int) -> None:
        """`done` of `total` parts of the step are done."""

    def finish(self, step: str, seconds: float, skipped: bool) -> None:
        """A step ended after so many seconds, or was done before."""

    def measured(self, entry: Entry, higher_is_better: bool) -> None:
        """A system has its entry."""


_TOKENS = ("prompt_tokens", "completion_tokens")


@dataclass(frozen=True)
class DryRun:
    """What a run would do."""

    steps: list[Step]
    folder: RunFolder
    typical: Callable[[], Request]

    def rows(self) -> list[dict[str, Any]]:
        """One row a step: `state` is "done" or "to do"; estimated FLOPs, seconds on one core, bytes
        of disk, the most that servers are paid, and the tokens that models read and answer at most
        (training reads others).
        """
        typical = self.typical()
        return [
            {
                "step": step.name,
                "state": "done" if self.folder.done(step) else "to do",
                "flops": step.estimate.flops,
                "seconds": expected_seconds(step),
                "disk": step.estimate.disk,
                "money": step.estimate.money,
                **dict(zip(_TOKENS, step.estimate.tokens(typical), strict=True)),
            }
            for step in self.steps
        ]

    def totals(self) -> dict[str, Any]:
        """Sums over the steps that are still to do; None where a part is not known."""
        rows = [row for row in self.rows() if row["state"] == "to do"]
        names = ("flops", "seconds", "disk", "money", *_TOKENS)
        return {name: total(row[name] for row in rows) for name in names}


def _planned(
    path: Path, out: str | Path | None, wanted: Mapping[str, Any], *, insist: bool
) -> tuple[RunPlan, RunFolder, Chosen]:
    recipe = load_recipe(path)
    changed = {name: value for name, value in wanted.items() if value is not None}
    for name, value in changed.items():
        try:
            recipe.__pydantic_validator__.validate_assignment(recipe, name, value)
        except ValidationError as error:
            said = error.errors()[0]["msg"].removeprefix("Input ")
            text = said if name == "base" else f"{value} {said}"
            raise PomonaError(text, where=name, remedy="choose another") from None
    folder = RunFolder(Path(out) if out else Path("runs") / recipe.name)
    check_run(folder.root)
    asked = {one.uri or name: one.wait_for_server for name, one in recipe.models.items()}
    waits = {uri: seconds for uri, seconds in asked.items() if seconds is not None}
    says = Says(folder.root / "models.json", insist=insist, waits=waits)
    plan = RunPlan(recipe, path.parent.resolve(), says)
    levers = add_levers(plan, path.parent)
    inputs = [path, *(node.path for node in _run_inputs(plan))]
    check_outputs({"the run": folder.root}, inputs, folders=["the run"])
    for given in map(Path, map(os.path.realpath, inputs)):
        if given in folder.root.resolve().parents:
            wrong, remedy = f"lies in {given}, which is an input", "name a folder elsewhere"
            raise PomonaError(wrong, where=folder.root, remedy=remedy)
    return plan, folder, Chosen(plan, levers, folder)


def _run_inputs(plan: RunPlan) -> list[RunInput]:
    nodes = [node for step in ancestors(plan.targets) for node in step.inputs.values()]
    return [node for node in nodes if isinstance(node, RunInput)]


def check_run(root: Path) -> None:
    """Raise PomonaError unless a run may work in a folder: it is not there, is empty, or is one
    that a run has made.
    """
    check_ours(root.resolve(), _KIND)
    written = (
        "recipe.yaml",
        "manifest.json",
        "ledger.json",
        "report.html",
        "picture.svg",
        "examples.json",
        "examples.html",
        "models.json",
        *SOMETIMES,
        "ledger.partial.json",
    )
    check_into(root, written)
    for name in ("steps", "work"):
        if os.path.lexists(root / name) and not (root / name).is_dir():
            raise PomonaError("is no folder", where=root / name, remedy="take it away")


def dry_run(
    recipe: str | Path,
    out: str | Path | None = None,
    *,
    base: str | None = None,
    seed: int | None = None,
    threads: int | None = None,
) -> DryRun:
    """The steps that `run` with these arguments would take, with what they would cost; nothing is
    written.
    """
    wanted = {"base": base, "seed": seed, "threads": threads}
    plan, folder, chosen = _planned(Path(recipe), out, wanted, insist=False)
    steps = list(plan.targets)
    for more in chosen.pending():
        steps += more
        if not all(folder.done(step) for step in more):
            break  # what comes then depends on what these say
    steps = list(ancestors([*steps, *plan.targets]))
    return DryRun(steps, folder, lambda: plan.typical)


def planned_sizes(model: str) -> str | dict[str, Planned]:
    """The sizes of the recipe that `model` names: those that it trains from nothing and those of
    its ladder, with the tokens of each; anything else as it is.

    Raises PomonaError for a mistake in the recipe, and where servers alone answer.
    """
    path = Path(model)
    if path.suffix not in {".yaml", ".yml"}:
        return model
    from pomona.scale import Planned

    recipe = load_recipe(path)
    made, rungs = recipe.pretrain, {one.model: one.tokens for one in recipe.ladder or []}
    names = dict.fromkeys([*(made.sizes if made else ()), *rungs, recipe.base])
    sizes = {
        name: Planned(recipe.uri(name), rungs.get(name))
        for name in names
        if not recipe.uri(name).startswith(("http:", "https:"))
    }
    if made is not None:
        table = read_json(tokenizer_folder(made.tokenizer, path.parent) / "tokenizer.json")
        for name, size in made.sizes.items():
            config = {
                "model_type": "llama",
                "vocab_size": len(table["model"]["vocab"]),
                "hidden_size": size.hidden,
                "intermediate_size": size.intermediate,
                "num_hidden_layers": size.layers,
                "num_attention_heads": size.heads,
                "max_position_embeddings": made.context,
                "tie_word_embeddings": True,
            }
            sizes[name] = Planned(config, max(made.tokens))
    if not sizes:
        message = "has models behind servers alone, whose configurations are not here"
        raise PomonaError(message, where=path, remedy="count the model by its own folder")
    return sizes


def run(
    recipe: str | Path,
    out: str | Path | None = None,
    *,
    base: str | None = None,
    seed: int | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Run a recipe: its steps, then its ledger and report.

    Returns the folder of the run, with `ledger.json`, `report.html` and `picture.svg`. Nothing
    half-written stays, and a killed run continues.

    Args:
        recipe: The recipe, a YAML file.
        out: Folder of the run; runs/NAME if not given. A folder with finished steps is continued.
        base: Model in place of the recipe's base: a URI, or a name under its `models`.
        seed: Seed in place of the recipe's.
        threads: CPU threads in place of the recipe's.
        progress: Told what the run does.

    Raises:
        PomonaError: bad input.
        ResourceError: the disk is full.
    """
    from pomona.ledger.report import publish
    from pomona.recipe.ledgers import Told, build_ledger, examples
    from pomona.recipe.trained import training_runs

    before = stamp([recipe])
    wanted = {"base": base, "seed": seed, "threads": threads}
    plan, folder, chosen = _planned(Path(recipe), out, wanted, insist=True)
    if plan.needs_torch:
        _set_threads(plan.recipe.threads)
    with locked(folder.root):
        if plan.says:
            write_into(folder.root, {"models.json": json_text(dict(plan.says))})
        runtime = Runtime(
            plan.recipe.device,
            plan.recipe.threads,
            folder.root / "answers.db",
            plan.recipe.budget.limits,
            plan.tasks,
        )
        shown, known = progress or Silent(), set[Step]()
        told = Told(plan, folder, shown.measured)
        for steps in _phases(plan, chosen):
            execute(steps, folder, runtime, shown, known, told.update)
        beside = [lever.beside(folder) for lever in chosen.levers]
        plan.notes += [note for one in beside for note in one.notes]
        ledger = build_ledger(plan, folder)
        refuse_changed(before, stamp([recipe]), recipe)
        for node in _run_inputs(plan):
            node.refuse_changed()
        files = {
            "recipe.yaml": Path(recipe).read_text(encoding="utf-8"),
            "manifest.json": json_text(_manifest(plan, folder, ledger)),
            "ledger.json": ledger.text(folder.root / "ledger.json"),
            "examples.json": examples(plan, folder).text(),
        }
        for one in beside:
            files |= one.files
        if plan.recipe.stack:
            files["stack.json"] = json_text(chosen.to_json())
        if plan.training_runs:
            files["training-runs.csv"] = training_runs(plan, folder)
        for name in SOMETIMES:
            if name not in files:
                remove_from(folder.root, name)  # of a recipe that had it
        write_into(folder.root, files)
        publish(ledger, folder.root)
        # Scratch of steps that a changed recipe no longer has; results stay, in case it changes
        # back.
        current = {step.folder for step in ancestors([*plan.targets, *chosen.asked])}
        for scratch in (folder.root / "work").iterdir():
            ours = STEP_FOLDER.fullmatch(scratch.name) and scratch.is_dir()
            if ours and scratch.name not in current:
                shutil.rmtree(scratch)
    return folder.root


def _phases(plan: RunPlan, chosen: Chosen) -> Iterator[list[Step]]:
    """What the recipe names, then what its choices ask for, then what they chose."""
    yield plan.targets
    yield from chosen.pending()
    if chosen.path:
        yield plan.targets


def _manifest(plan: RunPlan, folder: RunFolder, ledger: Ledger) -> dict[str, Any]:
    from pomona.recipe.answered import KEY, listing
    from pomona.recipe.ledgers import trained_in

    return {
        KEY: asdict(listing(plan)),
        "recipe": plan.recipe.model_dump(),
        "versions": ledger.meta.versions,
        "steps": {step.name: step.folder for step in ancestors(plan.targets)},
        "trained_in": trained_in(plan, folder),
        "warnings": ledger.meta.warnings,
    }


def _set_threads(threads: int) -> None:
    try:
        import torch
    except ImportError as error:
        raise PomonaError(
            "running a recipe needs PyTorch", remedy="pip install 'pomona[torch]'"
        ) from error
    torch.set_num_threads(threads)


def expected_seconds(step: Step) -> float:
    """A first guess; the run corrects it by what its steps really take."""
    estimate = step.estimate
    computing = (estimate.flops or 0.0) / FLOPS_PER_SECOND[estimate.kind]
    return START_SECONDS + computing + estimate.asked * ANSWER_SECONDS


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Only one process works in a run at a time; leftovers of a killed one are swept."""
    place = root.resolve()
    lock = place.with_name(f".{place.name}.lock")
    with Lock(lock, doing="working in this run", where=root, other="folder"):
        write_into(root, {}, _KIND)
        sweep(root)
        sweep(root / "steps")
        yield


def execute(
    targets: Sequence[Step],
    folder: RunFolder,
    runtime: Runtime,
    progress: Progress,
    known: set[Step] | None = None,
    after: Callable[[], None] = lambda: None,
) -> None:
    """Bring every target about, but for the steps of `known`, to which these are added; `after`
    each something is called. Finished steps are not repeated; a full disk ends the run with what is
    finished kept.
    """
    known = set() if known is None else known
    order = [step for step in ancestors(targets) if step not in known]
    known.update(order)
    left = [0.0 if folder.done(step) else expected_seconds(step) for step in order]
    progress.plan([(step.name, seconds) for step, seconds in zip(order, left, strict=True)])
    for step in order:
        if folder.done(step):
            progress.finish(step.name, 0.0, skipped=True)
            continue
        progress.start(step.name)
        began = time.perf_counter()
        _run(step, folder, runtime, progress)
        progress.finish(step.name, time.perf_counter() - began, skipped=False)
        after()


@contextmanager
def _disk_watched(root: Path) -> Iterator[None]:
    """A full disk shows as an OSError, or as whatever a library makes of it; it ends the run as
    what it is.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        said = is_full(error) or "No space left" in str(error)
        if not said and shutil.disk_usage(root).free >= NEARLY_NOTHING:
            raise
        remedy = "free some space and run again: finished steps are kept"
        raise ResourceError("the disk is full", where=root, remedy=remedy) from error


def _given(step: Step, folder: RunFolder) -> tuple[dict[str, Path], dict[str, Served]]:
    """The inputs of a step that are files or folders, and the others."""
    served = {name: node for name, node in step.inputs.items() if isinstance(node, Served)}
    others = {n: folder.result(i) for n, i in step.inputs.items() if not isinstance(i, Served)}
    return others, served


def _run(step: Step, folder: RunFolder, runtime: Runtime, progress: Progress) -> None:
    scratch = folder.scratch(step)
    scratch.mkdir(parents=True, exist_ok=True)
    # Watched twice: inside, before the partial folder is removed and space is free again; outside,
    # because the folder is made and synced there.
    with (
        _disk_watched(folder.root),
        atomic_directory(folder.result(step)) as out,
        _disk_watched(folder.root),
    ):
        inputs, served = _given(step, folder)
        context = StepContext(step.params, inputs, out, scratch, runtime, progress.advance, served)
        cost = step.work(context)
        # Before the result has its name: under this key it would be found again for what the
        # inputs were.
        for node in step.inputs.values():
            if isinstance(node, RunInput):
                node.refuse_changed()
        write_json(out / "cost.json", asdict(cost))
        keys = {name: node.key for name, node in step.inputs.items()}
        about = {"name": step.name, "key": step.key, "params": dict(step.params), "inputs": keys}
        write_json(out / "step.json", about)
    shutil.rmtree(scratch)
