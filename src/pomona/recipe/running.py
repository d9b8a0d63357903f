"""Run a recipe: its steps, then its ledger and page."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pomona.errors import PomonaError
from pomona.files import write_json, write_text
from pomona.recipe.document import load_recipe
from pomona.recipe.execute import Progress, RunFolder, Silent, execute, expected_seconds, locked
from pomona.recipe.graph import Step, ancestors
from pomona.recipe.levers import add_all
from pomona.recipe.plan import Plan
from pomona.recipe.schema import Recipe
from pomona.recipe.steps.context import Runtime


@dataclass(frozen=True)
class DryRun:
    """What a run would do."""

    steps: list[Step]
    folder: RunFolder

    def rows(self) -> list[dict[str, Any]]:
        """One row a step: `state` is "done" or "to do"; estimated FLOPs, seconds on one core, and
        bytes of disk.
        """
        return [
            {
                "step": step.name,
                "state": "done" if self.folder.done(step) else "to do",
                "flops": step.estimate.flops,
                "seconds": expected_seconds(step),
                "disk": step.estimate.disk,
            }
            for step in self.steps
        ]

    def totals(self) -> dict[str, float]:
        """Sums over the steps that are still to do."""
        rows = [row for row in self.rows() if row["state"] == "to do"]
        return {
            name: float(sum(row[name] for row in rows)) for name in ("flops", "seconds", "disk")
        }


def _planned(
    path: Path, out: Path | None, seed: int | None, threads: int | None
) -> tuple[Plan, RunFolder]:
    recipe = load_recipe(path)
    changed: dict[str, Any] = {
        name: value for name, value in (("seed", seed), ("threads", threads)) if value is not None
    }
    if changed:
        recipe = Recipe.model_validate({**recipe.model_dump(), **changed})
    plan = Plan(recipe, path.parent.resolve())
    add_all(plan)
    return plan, RunFolder(out or Path("runs") / recipe.name)


def dry_run(
    path: str | Path,
    out: Path | None = None,
    *,
    seed: int | None = None,
    threads: int | None = None,
) -> DryRun:
    """The steps of a recipe with what they would cost; nothing is written."""
    plan, folder = _planned(Path(path), out, seed, threads)
    return DryRun(list(ancestors(plan.targets)), folder)


def run(
    path: str | Path,
    out: Path | None = None,
    *,
    seed: int | None = None,
    threads: int | None = None,
    report: Progress | None = None,
) -> Path:
    """Run a recipe and return its folder, with `ledger.json`, `report.html` and `picture.svg`. A
    killed run continues.

    Raises PomonaError for bad input (nothing half-written stays) and ResourceError when the disk
    fills up.
    """
    from pomona.ledger.report import publish
    from pomona.recipe.accounts import build_ledger

    plan, folder = _planned(Path(path), out, seed, threads)
    _set_threads(plan.recipe.threads)
    with locked(folder.root):
        runtime = Runtime(plan.recipe.device, plan.recipe.threads)
        execute(plan.targets, folder, runtime, report or Silent())
        write_text(folder.root / "recipe.yaml", Path(path).read_text(encoding="utf-8"))
        ledger = build_ledger(plan, folder)
        steps = list(ancestors(plan.targets))
        write_json(
            folder.root / "manifest.json",
            {
                "recipe": plan.recipe.model_dump(),
                "versions": ledger.meta.versions,
                "steps": {step.name: step.folder for step in steps},
            },
        )
        ledger.write(folder.root / "ledger.json")
        publish(ledger, folder.root)
        _sweep(folder, {step.folder for step in steps})
    return folder.root


def _set_threads(threads: int) -> None:
    try:
        import torch
    except ImportError as error:
        raise PomonaError(
            "running a recipe needs PyTorch", remedy="pip install 'pomona[torch]'"
        ) from error
    torch.set_num_threads(threads)


def _sweep(folder: RunFolder, current: set[str]) -> None:
    """Scratch folders of steps that a changed recipe no longer has; their results stay, in case it
    changes back.
    """
    for scratch in (folder.root / "work").glob("*"):
        if scratch.name not in current:
            shutil.rmtree(scratch)
