"""Many merges of one recipe: `sweep` makes one for each value of a parameter, `leave_one_out` those
without one of the experts each — which expert helps or hurts whom?

The merges share one reading of the inputs, and each is computed from its own inputs alone. Taking
one expert out of a finished sum would be cheaper still, but rounds differently: these merges are
byte for byte those of a recipe without the expert.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pomona._version import __version__
from pomona.errors import PomonaError
from pomona.files import atomic_directory, write_json, write_text
from pomona.merge.plan import MERGED
from pomona.merge.reading.parameters import METHODS
from pomona.merge.search.experts import Expert, experts_of, without
from pomona.merge.search.judge import Judge, read_items
from pomona.merge.search.page import render_matrix
from pomona.merge.search.problem import files_of, read_task
from pomona.merge.search.results import Matrix, System, groups_of
from pomona.merge.search.space import fill
from pomona.merge.search.workspace import SearchWorkspace, read_search_recipe
from pomona.models.tensors import check_free
from pomona.stats import by_group
from pomona.tasks import Items

ALL = "all"
_SCORES = "the scores of merges"
_MOST = 10_000  # merges of one call


@dataclass(frozen=True)
class LeftOut:
    """What `leave_one_out` made: the folders of the merges, or the matrix of their scores; the
    recipe of each merge by its name.
    """

    out: Path
    recipes: Mapping[str, Mapping[str, Any]]
    folders: tuple[Path, ...] = ()
    matrix: Matrix | None = None


def leave_one_out(
    recipe: str | Path | Mapping[str, Any],
    out: str | Path,
    *,
    values: Mapping[str, Any] | Sequence[str] = (),
    models: Mapping[str, Path] | None = None,
    device: str | None = None,
    seed: int | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
    progress: Callable[[int, int], None] | None = None,
    **engine: Any,
) -> LeftOut:
    """Merge all experts, and all but each one: who helps and who hurts whom.

    Without a section `evaluate` (or `search`) in the recipe, `out` gets the checkpoints `all` and
    `without-EXPERT`, from one reading of the inputs. With one, nothing is written but what the
    merges score on its test items: `leave_one_out.json`, `matrix.parquet` and `leave_one_out.html`.
    A dry run plans every merge, which checks them. The other experts' weights stay as written;
    methods that normalise do so over what is left. `models`, `engine` and `progress` are as in
    `search_merge`.

    Args:
        recipe: A merge recipe. With a section `evaluate` (or `search`) the merges are scored on
            its test items and not written.
        out: Folder of the merges `all` and `without-EXPERT`, or of the scores.
        values: NAME=0.5 for each free parameter of the recipe.
        device: cpu, cuda, ...
        seed: Seed in place of the recipe's.
        overwrite: Write over folders that are there.
        dry_run: Only check every merge and list them.

    Raises:
        PomonaError: there are fewer than two experts, a value is no number (a mapping of names may
            stand in place of texts), or a merge cannot be made.
        ResourceError: the disk is full.
    """
    chosen = values if isinstance(values, Mapping) else _single(values)
    read = read_search_recipe(recipe)
    document = read.document
    out, experts = Path(out), experts_of(document)
    recipes = variants(document, experts, chosen)
    task = read_task(document)
    for place in [out] if task or not overwrite else map(out.joinpath, recipes):
        check_free(place, _SCORES if task else MERGED, overwrite)
    workspace = SearchWorkspace(out, models=models, seed=seed, recipe=read)
    if dry_run:
        with workspace.outlined():
            for one in recipes.values():
                workspace.plan(one, dry_run=True)
        return LeftOut(out, recipes)
    if task is None:
        from pomona.merge.engine.run import merge_many

        with workspace.locked(**engine):
            plans, folders = (
                list(map(workspace.plan, recipes.values())),
                tuple(map(out.joinpath, recipes)),
            )
            merge_many(plans, folders, overwrite=overwrite, progress=progress, **engine)
            workspace.clear()
        return LeftOut(out, recipes, folders)
    items = read_items(task, task.test, files_of(task, read.folder))
    with workspace.locked(**engine):
        judge = Judge.of(task, device=device, **engine)
        matrix = _scored(workspace, recipes, experts, judge, items, progress)
        with atomic_directory(out, _SCORES) as partial:
            _write(matrix, partial)
        workspace.clear()
    return LeftOut(out, recipes, (), matrix)


def variants(
    document: Mapping[str, Any], experts: list[Expert], values: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """The full recipe and the recipes without one expert each, by name. Raises PomonaError for
    fewer than two experts, and for methods of a fixed number of models.
    """
    method = METHODS.get(str(document.get("merge_method")))
    if method is not None and (most := method.most or method.experts[1]):
        raise PomonaError(
            f"merges exactly {most} model{'s' * (most > 1)}: without one of them nothing is left "
            "to merge",
            where=f"merge_method {method.name}",
            remedy="leave experts out of a method that takes any number, such as linear or ties",
        )
    if len(experts) < 2:
        raise PomonaError(
            f"{len(experts)} expert: without it nothing is left to merge",
            where="models",
            remedy="name two or more experts",
        )
    plain = fill(document, values)
    return {
        ALL: plain,
        **{f"without-{expert.name}": without(plain, [expert]) for expert in experts},
    }


def _scored(
    workspace: SearchWorkspace,
    recipes: Mapping[str, Mapping[str, Any]],
    experts: list[Expert],
    judge: Judge,
    items: Items,
    progress: Callable[[int, int], None] | None,
) -> Matrix:
    systems: dict[str, System] = {}
    for name, one in recipes.items():
        systems[name] = workspace.score(workspace.plan(one), judge, items)
        if progress is not None:
            progress(len(systems), len(recipes))
    groups, full = groups_of(items), systems[ALL].statistics
    contrasts = {
        expert.name: by_group(
            judge.metric,
            full,
            systems[f"without-{expert.name}"].statistics,
            groups,
            seed=workspace.seed,
        )
        for expert in experts
    }
    how = f"leave one out|seed:{workspace.seed}|{judge.signature}|test:{len(items)}"
    signature = f"{how}|version:{__version__}"
    return Matrix(contrasts, judge.metric.name, judge.metric.higher_is_better, signature, ())


def _write(matrix: Matrix, folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    about = {
        "signature": matrix.signature,
        "metric": matrix.metric,
        "higher_is_better": matrix.higher_is_better,
        "matrix": matrix.rows(),
        "notes": list(matrix.notes),
    }
    write_json(folder / "leave_one_out.json", about)
    pq.write_table(
        pa.Table.from_pylist(matrix.rows()), folder / "matrix.parquet", compression="zstd"
    )
    write_text(folder / "leave_one_out.html", render_matrix(matrix))


@dataclass(frozen=True)
class Swept:
    """One merge of a sweep: its folder, the values it was made with, and its recipe."""

    folder: Path
    values: Mapping[str, float]
    recipe: Mapping[str, Any]


def sweep(
    recipe: str | Path | Mapping[str, Any],
    out: str | Path,
    values: Mapping[str, Sequence[float]] | Sequence[str] = (),
    *,
    models: Mapping[str, Path] | None = None,
    seed: int | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
    progress: Callable[[int, int], None] | None = None,
    **engine: Any,
) -> list[Swept]:
    """Write a merge for each of several values, from one reading of the models.

    Each combination of `values` gets a folder of its own; a mapping of names to numbers may stand
    in place of texts. The place of a number is such as `models.0.parameters.weight`. A dry run
    plans every merge, which checks them. `models`, `engine` and `progress` are as in
    `pomona.merge.merge`.

    Args:
        recipe: A merge recipe.
        out: Folder of the merges, each in a folder such as alpha=0.25.
        values: NAME=0,0.25,0.5: a free parameter of the recipe, or the place of a number such as
            parameters.t. Several give all combinations.
        seed: Seed in place of the recipe's.
        overwrite: Write over folders that are there.
        dry_run: Only check every merge and list them.

    Raises:
        PomonaError: the recipe does not have a name, a value is no number or given twice, or a
            merge cannot be made.
        ResourceError: the disk is full.
    """
    if not isinstance(values, Mapping):
        values = {name: _numbers(name, text) for name, text in _given(values).items()}
    read = read_search_recipe(recipe)
    out = Path(out)
    swept = _combined(read.document, out, values)
    for one in swept:
        check_free(one.folder, MERGED, overwrite)
    workspace = SearchWorkspace(out, models=models, seed=seed, recipe=read)
    if dry_run:
        with workspace.outlined():
            for one in swept:
                workspace.plan(one.recipe, dry_run=True)
        return swept
    from pomona.merge.engine.run import merge_many

    with workspace.locked(**engine):
        plans = [workspace.plan(one.recipe) for one in swept]
        merge_many(
            plans, [one.folder for one in swept], overwrite=overwrite, progress=progress, **engine
        )
        workspace.clear()
    return swept


def _combined(
    document: Mapping[str, Any], out: Path, values: Mapping[str, Sequence[float]]
) -> list[Swept]:
    if not values:
        raise PomonaError("no value is set", where="sweep", remedy="give --set NAME=0,0.5,1")
    for name, given in values.items():
        if (
            not given
            or len(set(given)) < len(given)
            or not all(math.isfinite(value) for value in given)
        ):
            raise PomonaError(
                f"{list(given)} are not different numbers",
                where=name,
                remedy="give --set NAME=0,0.5,1",
            )
    if (count := math.prod(map(len, values.values()))) > _MOST:
        message = f"{count:,} merges, and {_MOST:,} are the most"
        raise PomonaError(message, where="--set", remedy="set fewer values")
    merges = []
    for chosen in itertools.product(*values.values()):
        point = dict(zip(values, chosen, strict=True))
        name = ",".join(f"{key}={_shortest(value)}" for key, value in point.items())
        merges.append(Swept(out / name, point, fill(document, point)))
    return merges


def _shortest(value: float) -> str:
    """A number in as few digits as tell it from all others."""
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


def _parted(text: str) -> tuple[str, str]:
    name, sign, values = text.partition("=")
    if not sign or not name or not values:
        raise PomonaError(
            f'"{text}" is not NAME=VALUE', where="--set", remedy="write --set alpha=0,0.5,1"
        )
    return name, values


def _number(name: str, text: str) -> float:
    try:
        number = float(text)
        if not math.isfinite(number):
            raise ValueError
        return number
    except ValueError:
        message, remedy = f'"{text}" is not a finite number', "write --set alpha=0.5"
        raise PomonaError(message, where=f"--set {name}", remedy=remedy) from None


def _single(values: Sequence[str]) -> dict[str, float]:
    return {name: _number(name, text) for name, text in _given(values).items()}


def _given(texts: Sequence[str]) -> dict[str, str]:
    """The text of the values of each name. Raises PomonaError for a name given twice."""
    parted = [_parted(text) for text in texts]
    for place, (name, _) in enumerate(parted):
        if name in dict(parted[:place]):
            remedy = f"write all its values in one: --set {name}=0,0.5,1"
            raise PomonaError("is given twice", where=f"--set {name}", remedy=remedy)
    return dict(parted)


def _numbers(name: str, text: str) -> list[float]:
    return [_number(name, part.strip()) for part in text.split(",")]
