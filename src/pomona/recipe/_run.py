"""Run a recipe: its steps, then its ledger and page."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pomona.errors import PomonaError
from pomona.files import write_json, write_text
from pomona.recipe.document import load_recipe
from pomona.recipe.execute import Room, execute, expected_seconds, locked
from pomona.recipe.graph import Runtime, Step, ancestors
from pomona.recipe.levers import add_all
from pomona.recipe.plan import Plan
from pomona.recipe.progress import Progress, Silent
from pomona.recipe.schema import Recipe


@dataclass(frozen=True)
class DryRun:
    """What a run would do."""

    steps: list[Step]
    room: Room

    def rows(self) -> list[dict[str, Any]]:
        """One row a step: `state` is "done" or "to do"; estimated FLOPs, seconds on one core, and
        bytes of disk.
        """
        return [
            {
                "step": step.name,
                "state": "done" if self.room.done(step) else "to do",
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
) -> tuple[Plan, Room]:
    recipe = load_recipe(path)
    changed: dict[str, Any] = {
        name: value for name, value in (("seed", seed), ("threads", threads)) if value is not None
    }
    if changed:
        recipe = Recipe.model_validate({**recipe.model_dump(), **changed})
    plan = Plan(recipe, path.parent.resolve())
    add_all(plan)
    return plan, Room(out or Path("runs") / recipe.name)


def dry_run(
    path: str | Path,
    out: Path | None = None,
    *,
    seed: int | None = None,
    threads: int | None = None,
) -> DryRun:
    """The steps of a recipe with what they would cost; nothing is written."""
    plan, room = _planned(Path(path), out, seed, threads)
    return DryRun(list(ancestors(plan.targets)), room)


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

    plan, room = _planned(Path(path), out, seed, threads)
    _set_threads(plan.recipe.threads)
    with locked(room.root):
        runtime = Runtime(plan.recipe.device, plan.recipe.threads)
        execute(plan.targets, room, runtime, report or Silent())
        write_text(room.root / "recipe.yaml", Path(path).read_text(encoding="utf-8"))
        ledger = build_ledger(plan, room)
        steps = list(ancestors(plan.targets))
        write_json(
            room.root / "manifest.json",
            {
                "recipe": plan.recipe.model_dump(),
                "versions": ledger.meta.versions,
                "steps": {step.name: step.folder for step in steps},
            },
        )
        ledger.write(room.root / "ledger.json")
        publish(ledger, room.root)
        _sweep(room, {step.folder for step in steps})
    return room.root


def _set_threads(threads: int) -> None:
    try:
        import torch
    except ImportError as error:
        raise PomonaError(
            "running a recipe needs PyTorch", remedy="pip install 'pomona[torch]'"
        ) from error
    torch.set_num_threads(threads)


def _sweep(room: Room, current: set[str]) -> None:
    """Benches of steps that a changed recipe no longer has; their results stay, in case it changes
    back.
    """
    for bench in (room.root / "work").glob("*"):
        if bench.name not in current:
            shutil.rmtree(bench)
