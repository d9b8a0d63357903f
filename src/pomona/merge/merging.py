"""`merge`: a recipe becomes a checkpoint; of a file with several, all that the result needs do, in
the order in which they need each other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pomona._version import __version__
from pomona.errors import PomonaError, quantity
from pomona.merge.engine.run import Progress, merge_many, merge_recipe
from pomona.merge.engine.writing import write_outline
from pomona.merge.plan import MERGED, MergePlan, MergeResult
from pomona.merge.planning.models import folders_of, locate_model
from pomona.merge.planning.planner import plan_merge
from pomona.merge.reading.reader import MergekitDocument
from pomona.merge.reading.recipe import MergeRecipe
from pomona.merge.reading.sections import read_recipe
from pomona.models.tensors import ResultWorkspace, check_free
from pomona.places import check_outputs
from pomona.workspace import Workspace, stamp

_NAME = re.compile(r"[^\W_][^+@\\]{0,199}")


def merge(
    recipe: str | Path | Mapping[str, Any],
    out: str | Path,
    *,
    models: Mapping[str, Path] | None = None,
    memory: int | str = "1GiB",
    threads: int | None = None,
    shard_size: int | str = "5GB",
    seed: int | None = None,
    report: bool = True,
    overwrite: bool = False,
    allow_mixed: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> MergeResult:
    """Merge checkpoints as a recipe says, in mergekit's format, into a folder that transformers
    loads.

    `recipe` may also be a mapping, and `models` names folders that are taken before any other. The
    program itself takes about 150 MB beside `memory`. The result's bytes depend on neither memory
    nor threads. The report has task vectors (norm, cosine, sign conflicts), measured on the way. A
    checkpoint at `out` stays as it is until the new one is whole. After a dry run the result tells
    what would be read and written, the peak memory and the plan's notes. `progress` is called with
    bytes done and all bytes.

    A file may hold several recipes, parted by `---`, as for mergekit-multi: what one of them calls
    its `name` is a model of the others. They are merged in the order in which they need each other,
    all planned before the first; the one without a name, or the last, becomes `out`. The others are
    kept in `OUT.work` until that is whole, also over a kill or an error.

    A killed merge called again goes on with the tensors it has finished, in `.OUT.partial`, and
    gives the same bytes. Raises PomonaError for recipes and models that do not fit and for NaN or
    infinity in an input, and ResourceError for a full disk; nothing is left behind then.

    Args:
        recipe: YAML file. Models are folders, names of `pomona models`, Hugging Face ids, or the
            `name` of another document of the file.
        out: Folder of the result. A killed merge goes on when the same command is given again.
        memory: Memory for blocks of tensors, such as 1GiB.
        threads: CPU threads; all when left out. The result does not depend on them.
        shard_size: Largest safetensors file, such as 5GB.
        seed: Seed in place of the recipe's.
        report: Measure how the models differ, and write report.html.
        overwrite: Replace a checkpoint that is there and that Pomona wrote; files that others have
            put into its folder stay.
        allow_mixed: Merge models of different architectures whose tensors fit.
        dry_run: Only print what would be read, written and merged.
    """
    out = Path(out).absolute()
    given = dict(models or {})
    plain: dict[str, Any] = {"seed": seed, "allow_mixed": allow_mixed}
    engine: dict[str, Any] = {"memory": memory, "threads": threads, "shard_size": shard_size}
    final: dict[str, Any] = {"report": report, "overwrite": overwrite}
    documents = [] if isinstance(recipe, Mapping) else MergekitDocument.all_of(Path(recipe))
    if len(documents) < 2:
        whole = {**plain, **engine, **final, "progress": progress, "dry_run": dry_run}
        return merge_recipe(documents[0] if documents else recipe, out, models=given, **whole)
    return _merge_all(documents, out, given, plain, engine, final, dry_run, progress)


def _merge_all(
    documents: Sequence[MergekitDocument],
    out: Path,
    given: Mapping[str, Path],
    plain: Mapping[str, Any],
    engine: Mapping[str, Any],
    final: Mapping[str, Any],
    dry_run: bool,
    progress: Progress | None,
) -> MergeResult:
    stages, spare = in_order(documents)
    notes = [f"{stage.label} is not made: no other needs it" for stage in spare]
    check_free(out, MERGED, final["overwrite"])
    workspace = Workspace(Path(f"{out}.work"), {"merges for": out.name})
    sources = [folder for stage in stages for folder in stage.folders(given, stages).values()]
    outputs = {"the result": out, "the work folder": workspace.root}
    check_outputs(outputs, [documents[0].path, *sources], folders=list(outputs))
    forecasts = forecast_all(stages, out, given, final["overwrite"], plain, engine)
    notes += [_told(stage, told) for stage, told in zip(stages, forecasts[:-1], strict=False)]
    if dry_run:
        return replace(forecasts[-1], notes=(*forecasts[-1].notes, *notes))
    _check_place(out, final["overwrite"])
    steps = _Steps(progress, [told.read for told in forecasts])
    with workspace.resumed() as folder:
        made = Made(folder, given, plain)
        for stage in stages[:-1]:
            made.make(stage, {**engine, "report": False, "progress": steps.step()})
        with made.told(stages[-1]):
            result = merge_recipe(
                stages[-1].after(stages[:-1]),
                out,
                models=made.models,
                beside=made.cards(),
                **{**plain, **engine, **final, "progress": steps.step()},
            )
    return replace(result, notes=(*result.notes, *notes))


def _check_place(out: Path, overwrite: bool) -> None:
    """Raise PomonaError where the result could not be made in the end."""
    place = ResultWorkspace(out, MERGED, "merging", overwrite=overwrite)
    place.remove() if place.new else place.release()


@dataclass(frozen=True)
class Stage:
    """One document of a file: its name, None for the result's; how errors call it; its recipe; and
    the names of those whose results it merges.
    """

    name: str | None
    label: str
    recipe: MergeRecipe
    needs: frozenset[str]

    def folders(self, given: Mapping[str, Path], stages: Sequence[Stage]) -> dict[str, Path]:
        """The folders of its models that no other document makes."""
        made = {stage.name: Path() for stage in stages if stage.name}
        with _within(self.label, {}):
            found = folders_of(self.recipe.named, {**given, **made}, locate_model)
        return {name: folder for name, folder in found.items() if name not in made}

    def after(self, others: Iterable[Stage]) -> MergeRecipe:
        """Its recipe, which tells in its card of the others that went before."""
        earlier = [{"name": stage.name, **stage.recipe.raw} for stage in others]
        return replace(self.recipe, raw={**self.recipe.raw, "documents": earlier})


def in_order(documents: Sequence[MergekitDocument]) -> tuple[list[Stage], list[Stage]]:
    """The documents that the result needs, each after those that it needs itself, the result's
    last; and those that it does not need.

    Raises PomonaError for names that are missing, wrong or there twice, for documents that need
    each other, and for mistakes in any.
    """
    names = [_name(document) for document in documents]
    places: dict[str, MergekitDocument] = {}
    for document, name in zip(documents, names, strict=True):
        if name is not None and places.setdefault(name, document) is not document:
            raise document.refused(("name",), f'another document is named "{name}" too')
    bare = [document for document, name in zip(documents, names, strict=True) if name is None]
    if len(bare) > 1:
        raise bare[0].refused((), '"name" is missing: only the document of the result has none')
    stages = [
        _stage(document, name, number, names)
        for number, (document, name) in enumerate(zip(documents, names, strict=True), 1)
    ]
    last = next((stage for stage in stages if stage.name is None), stages[-1])
    by_name = {stage.name or "": stage for stage in stages}
    try:
        graph = {name: stage.needs for name, stage in by_name.items()}
        ordered = [by_name[name] for name in TopologicalSorter(graph).static_order()]
    except CycleError as error:
        circle = " → ".join(f'"{name}"' for name in error.args[1])
        message = f"documents need each other: {circle}"
        remedy = "each merges only what is there before it"
        raise PomonaError(message, where=documents[0].path, remedy=remedy) from None
    needed = {last.name or ""}
    for stage in reversed(ordered):
        if (stage.name or "") in needed:
            needed |= stage.needs
    wanted = [stage for stage in ordered if (stage.name or "") in needed and stage is not last]
    return [*wanted, last], [stage for stage in stages if (stage.name or "") not in needed]


def _name(document: MergekitDocument) -> str | None:
    value = document.value
    name = value.get("name") if isinstance(value, dict) else None
    if name is not None and not (isinstance(name, str) and _NAME.fullmatch(name)):
        text = f'"name" is {name!r}: expected text that begins with a letter or number, without + @'
        raise document.refused(("name",), text)
    return name


def _stage(
    document: MergekitDocument, name: str | None, number: int, names: Sequence[str | None]
) -> Stage:
    called = f'"{name}"' if name is not None else str(number)
    label = f"{document.path}, document {called}"
    document.label = label
    if isinstance(document.value, dict):
        document.value = {key: part for key, part in document.value.items() if key != "name"}
    recipe = read_recipe(document)
    paths = {path for ref in recipe.named for path in (ref.path, ref.lora)}
    return Stage(name, label, recipe, frozenset(name for name in names if name in paths and name))


def forecast_all(
    stages: Sequence[Stage],
    out: Path,
    given: Mapping[str, Path],
    overwrite: bool,
    plain: Mapping[str, Any],
    engine: Mapping[str, Any],
) -> list[MergeResult]:
    """What each merge would do: every document is planned on outlines of those before it, so that
    a mistake in the last is found before the first is made.
    """
    told: list[MergeResult] = []
    with TemporaryDirectory(prefix="pomona-") as scratch:
        made = Made(Path(scratch), given, plain)
        for stage in stages[:-1]:
            with made.told(stage):
                plan, place = made.outline(stage)
                told += merge_many([plan], [place], **{**engine, "dry_run": True})
                made.write(stage, plan, place)
        with made.told(stages[-1]):
            plan, _ = made.outline(stages[-1])
            settings = {**engine, "dry_run": True, "overwrite": overwrite}
            told += merge_many([plan], [out], **settings)
    return told


class Made:
    """What is made of the documents in a folder, and may be there from an earlier call."""

    def __init__(self, folder: Path, given: Mapping[str, Path], plain: Mapping[str, Any]) -> None:
        self.folder, self._given, self._plain = folder, given, plain
        self.folders: dict[str, Path] = {}

    @property
    def models(self) -> dict[str, Path]:
        """Folders by the names that recipes have for them."""
        return {**self._given, **self.folders}

    def make(self, stage: Stage, engine: Mapping[str, Any]) -> None:
        """Merge a document, unless that is done."""
        folders = folders_of(stage.recipe.named, self.models, locate_model)
        about = [__version__, stage.recipe.raw, dict(self._plain), stamp(folders.values())]
        digest = sha256(json.dumps(about, default=str).encode()).hexdigest()[:16]
        place = self.folder / f"{_plain_name(stage)}-{digest}"
        if not place.exists():
            with self.told(stage):
                merge_recipe(stage.recipe, place, models=self.models, **self._plain, **engine)
        self.folders[str(stage.name)] = place

    def outline(self, stage: Stage) -> tuple[MergePlan, Path]:
        """The plan of a document on outlines of those before it, and where its own outline goes."""
        plan = plan_merge(
            stage.recipe,
            models=self.models,
            dry_run=True,
            tokenizers=self.folder / "tokenizers",
            **self._plain,
        )
        return plan, self.folder / f"outline-{len(self.folders)}"

    def write(self, stage: Stage, plan: MergePlan, place: Path) -> None:
        """Write an outline: all of a result but its numbers."""
        write_outline(plan, place)
        self.folders[str(stage.name)] = place

    def told(self, stage: Stage) -> Any:
        """Errors in the block name the document, and others by their names."""
        return _within(stage.label, self.folders)

    def cards(self) -> dict[str, bytes]:
        """What is told of each: its recipe, and its inputs with their SHA-256."""
        return {
            f"pomona_merge.{place.name.rpartition('-')[0]}.json": (
                place / "pomona_merge.json"
            ).read_bytes()
            for place in self.folders.values()
        }


@contextmanager
def _within(label: str, folders: Mapping[str, Path]) -> Iterator[None]:
    def named(text: object) -> str:
        shown = str(text)
        for name, folder in folders.items():
            shown = shown.replace(str(folder), f'document "{name}"')
        return shown

    try:
        yield
    except PomonaError as error:
        error.message = named(error.message)
        error.where = label if error.where is None else f"{label}: {named(error.where)}"
        error.remedy = error.remedy and named(error.remedy)
        raise


def _plain_name(stage: Stage) -> str:
    return re.sub(r"[^\w.-]+", "-", str(stage.name))[-40:].strip("-.") or "document"


def _told(stage: Stage, told: MergeResult) -> str:
    counts = ", ".join(f"{count:,} {method}" for method, count in told.methods.items())
    size = f"{told.disk / 1e6:,.1f} MB"
    return (
        f'document "{stage.name}": {quantity(told.tensors, "tensor")}'
        f" ({counts}), {size} until all is done"
    )


class _Steps:
    """Several merges as one that goes on: bytes done, of all bytes."""

    def __init__(self, progress: Progress | None, sizes: Sequence[int]) -> None:
        self._progress, self._sizes, self._next = progress, sizes, 0

    def step(self) -> Progress | None:
        """How the next merge tells how far it is."""
        before, total, progress = sum(self._sizes[: self._next]), sum(self._sizes), self._progress
        self._next += 1
        if progress is None:
            return None
        return lambda done, _: progress(min(before + done, total), total)
