"""What one command over a merge recipe works with: the recipe, plans for its variants, and scores
that are kept beside the output.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from pomona.documents import read_json
from pomona.errors import PomonaError, first_line
from pomona.files import atomic_file, read_array, write_json
from pomona.ledger import Meter
from pomona.merge.merging import Made, Stage, in_order
from pomona.merge.plan import MergePlan
from pomona.merge.reading.reader import MergekitDocument
from pomona.merge.search.judge import Judge, digest_of
from pomona.merge.search.results import System
from pomona.merge.search.space import SECTIONS, fill, has_free, space_of
from pomona.models.tensors import SHARD
from pomona.places import check_outputs
from pomona.tasks import Items
from pomona.workspace import Lock, Workspace, disk_guard


@dataclass(frozen=True)
class SearchRecipe:
    """A recipe with its sections about searching, the folder that its records are relative to, and
    the documents of its file that are merged before it; `last` is its own.
    """

    document: dict[str, Any]
    folder: Path
    before: tuple[Stage, ...] = ()
    last: Stage | None = None


def read_search_recipe(recipe: str | Path | Mapping[str, Any]) -> SearchRecipe:
    """A recipe, or of a file with several documents that of the result: only it may have free
    parameters.

    Raises PomonaError when it is not YAML, not a mapping, or gives a key twice, and for mistakes in
    the other documents.
    """
    if isinstance(recipe, Mapping):
        return SearchRecipe(dict(recipe), Path())
    documents = MergekitDocument.all_of(Path(recipe))
    for document in documents:
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
    result = next((one for one in documents if "name" not in one.value), documents[-1])
    found = result.value
    if len(documents) == 1:
        return SearchRecipe(found, Path(recipe).parent)
    for document in documents:
        if document is not result and (has_free(document.value) or {*SECTIONS} & {*document.value}):
            message = "is searched, and only the document of the result can be: the others are made"
            where = f'{recipe}, document "{document.value["name"]}"'
            remedy = "write a number, or search it in a file of its own"
            raise PomonaError(f"{message} once", where=where, remedy=remedy)
    found = {key: value for key, value in found.items() if key != "name"}
    result.value = {**_middle(found), **{k: v for k, v in result.value.items() if k == "name"}}
    stages, spare = in_order(documents)
    if spare:
        remedy = "name it among the models of another, or take it out"
        raise PomonaError("no other document needs it", where=spare[0].label, remedy=remedy)
    return SearchRecipe(found, Path(recipe).parent, tuple(stages[:-1]), stages[-1])


def _middle(document: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe that is like those of a search."""
    return fill(document, space_of(document).middle() if has_free(document) else {})


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
        recipe: SearchRecipe,
    ) -> None:
        self.out, self._root = out, Path(f"{out}.work")
        self._recipe = recipe
        document = recipe.document
        # What is kept says itself what it is of: plan and name are those of any search for OUT.
        self._workspace = Workspace(self._root, {"out": out.name})
        self._models, self._seed = dict(models or {}), seed
        self._made: Made | None = None
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
        made, last = self._made, self._recipe.last
        models = made.models if made else self._models
        with made.told(last) if made and last else nullcontext():
            planned = plan_merge(
                plain, models=models, seed=self.seed, work=self.work / "prepared", dry_run=dry_run
            )
        own = {"the result": self.out, "the work folder": self._root}
        ours = made.folders.values() if made else ()
        check_outputs(own, [one for one in planned.sources if one not in ours], folders=list(own))
        if made is None or last is None:
            return planned
        told = last.after(self._recipe.before).raw["documents"]
        cards = {} if dry_run else made.cards()
        return replace(
            planned,
            recipe={**planned.recipe, "documents": told},
            extra={**planned.extra, **cards},
        )

    @contextmanager
    def outlined(self) -> Iterator[None]:
        """Dry runs in the block are planned on outlines of the documents before the recipe."""
        with TemporaryDirectory(prefix="pomona-") as scratch:
            self._made = Made(Path(scratch), self._models, {"seed": self._seed})
            for stage in self._recipe.before:
                with self._made.told(stage):
                    self._made.write(stage, *self._made.outline(stage))
            try:
                yield
            finally:
                self._made = None

    def _merge_before(self, engine: Mapping[str, Any]) -> None:
        """Merge the documents before the recipe, which stay until the result is written."""
        if not self._recipe.before:
            return
        with self.outlined():  # a mistake in the recipe is told before the first is made
            self.plan(_middle(self._recipe.document), dry_run=True)
        made = Made(self.work / "documents", self._models, {"seed": self._seed})
        for stage in self._recipe.before:
            usual = {"memory": "1GiB", "threads": None, "shard_size": SHARD, "progress": None}
            made.make(stage, {**usual, **engine, "report": False})
        self._made = made

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
    def locked(self, **engine: Any) -> Iterator[None]:
        """Only one process works on an output at a time; a work folder without work goes. The
        documents before the recipe are merged first (engine: memory, threads, shard_size). Raises
        PomonaError for the second process.
        """
        self._workspace.check()
        lock = self.out.with_name(f".{self._root.name}.lock")
        with Lock(lock, doing="working on it", where=self.out, other="name"):
            self._workspace.discard_another()
            self._workspace.begin()
            try:
                self._merge_before(engine)
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
