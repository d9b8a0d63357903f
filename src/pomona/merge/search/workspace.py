"""What one command over a merge recipe works with: the recipe, plans for its variants, and scores
that are kept beside the output.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from pomona.documents import read_json
from pomona.errors import PomonaError, first_line
from pomona.files import atomic_file, read_array, write_json
from pomona.ledger import Meter
from pomona.merge.plan import MergePlan
from pomona.merge.search.judge import Judge, digest_of
from pomona.merge.search.results import System
from pomona.merge.search.space import SECTIONS
from pomona.places import check_outputs
from pomona.tasks import Items
from pomona.workspace import Lock, Workspace, disk_guard


def read_document(recipe: str | Path | Mapping[str, Any]) -> tuple[dict[str, Any], Path]:
    """A recipe with its sections about searching, and the folder that its records are relative to.

    Raises PomonaError when it is not YAML, not a mapping, or gives a key twice.
    """
    if isinstance(recipe, Mapping):
        return dict(recipe), Path()
    from pomona.merge.reading.reader import MergekitDocument

    document = MergekitDocument(Path(recipe))
    if document.twice:
        line, key = document.twice[0]
        raise PomonaError(
            f'"{key}" is given twice', where=f"{recipe}, line {line}", remedy="keep one"
        )
    if not isinstance(document.value, dict):
        raise PomonaError(
            "a recipe is a mapping of keys and values, and this is not",
            where=recipe,
            remedy="see mergekit's examples",
        )
    return document.value, Path(recipe).parent


class SearchWorkspace:
    """Plans and scores for one output. Everything it keeps is in `OUT.work`, which `clear` removes
    when the result is written.
    """

    def __init__(
        self,
        out: Path,
        *,
        models: Mapping[str, Path] | None,
        seed: int | None,
        document: Mapping[str, Any],
    ) -> None:
        self.out, self._root = out, Path(f"{out}.work")
        # What is kept says itself what it is of: plan and name are those of any search for OUT.
        self._workspace = Workspace(self._root, {"out": out.name})
        self._models = models
        self.seed = seed if seed is not None else document.get("seed") or 0
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise PomonaError(
                f"{self.seed!r} is not a whole number", where="seed", remedy="write seed: 0"
            )

    @property
    def work(self) -> Path:
        """Where what is kept is."""
        return self._workspace.folder

    def plan(self, recipe: Mapping[str, Any], *, dry_run: bool = False) -> MergePlan:
        """The plan of a recipe without free parameters."""
        from pomona.merge.planning.planner import plan_merge

        plain = {key: value for key, value in recipe.items() if key not in SECTIONS}
        planned = plan_merge(
            plain, models=self._models, seed=self.seed, work=self.work / "prepared", dry_run=dry_run
        )
        own = {"the result": self.out, "the work folder": self._root}
        check_outputs(own, planned.sources, folders=list(own))
        return planned

    def score(self, plan: MergePlan, judge: Judge, items: Items) -> System:
        """What a merge does on the items; computed once, then read from the work folder."""
        about = {
            "recipe": plan.recipe,
            "inputs": inputs_of(plan),
            "judge": judge.signature,
            "items": digest_of(items),
        }
        digest = sha256(json.dumps(about, sort_keys=True, default=str).encode()).hexdigest()[:24]
        kept = self.work / "scores" / f"{digest}.npy"
        told = kept.with_suffix(".json")
        if not told.is_file():
            with Meter() as meter:
                judged = judge(plan, items)
            with disk_guard(str(kept)):
                with atomic_file(kept) as partial, partial.open("wb") as stream:
                    np.save(stream, judged.statistics, allow_pickle=False)
                write_json(
                    told,
                    {"flops": judged.flops, "seconds": meter.cpu_seconds, "tokens": judged.tokens},
                )
        try:
            return System(np.array(read_array(kept)), **read_json(told))
        except (OSError, ValueError, TypeError) as error:
            message, remedy = f"is damaged: {first_line(error)}", f"delete {kept} and {told.name}"
            raise PomonaError(message, where=kept, remedy=remedy) from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Only one process works on an output at a time; a work folder without work goes. Raises
        PomonaError for the second process.
        """
        self._workspace.check()
        lock = self.out.with_name(f".{self._root.name}.lock")
        with Lock(lock, doing="working on it", where=self.out, other="name"):
            self._workspace.discard_another()
            self._workspace.begin()
            try:
                yield
            finally:
                if self._workspace.begun and not any(self.work.iterdir()):
                    self.clear()

    def created(self) -> str:
        """When this work began, the same after a kill: an ISO 8601 time."""
        path = self.work / "created.json"
        if not path.is_file():
            write_json(path, datetime.now(UTC).isoformat(timespec="seconds"))
        return read_json(path, top=None)

    def clear(self) -> None:
        """The result is written: nothing here is needed any more."""
        self._workspace.remove()


def inputs_of(plan: MergePlan) -> list[list[Any]]:
    """Every file of tensors that a plan reads: its name, size and time of change. They are not read
    for it.
    """
    files = sorted(file for folder in plan.models for file in Path(folder).glob("*.safetensors"))
    return [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files]
