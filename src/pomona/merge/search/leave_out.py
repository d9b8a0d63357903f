"""`leave_one_out`: the full merge and the merges without one of its experts each — which expert
helps or hurts whom?

The merges share one reading of the inputs, and each is computed from its own inputs alone. Taking
one expert out of a finished sum would be cheaper still, but rounds differently: these merges are
byte for byte those of a recipe without the expert.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pomona._version import __version__
from pomona.errors import PomonaError
from pomona.files import atomic_directory, write_json, write_text
from pomona.merge.search.bench import Bench, read_document, refuse_existing
from pomona.merge.search.contrast import System, groups_of
from pomona.merge.search.experts import Expert, experts_of, without
from pomona.merge.search.judge import Judge, read_items
from pomona.merge.search.page import Gain, render_matrix
from pomona.merge.search.settings import files_of, read_task
from pomona.merge.search.space import fill
from pomona.tasks.bootstrap import Comparison, by_group
from pomona.tasks.items import Items

ALL = "all"


@dataclass(frozen=True)
class Matrix:
    """Expert × group: the full merge (`value`) against the merge without the expert
    (`baseline_value`), with paired intervals.
    """

    contrasts: Mapping[str, Mapping[str, Comparison]]
    metric: str
    higher_is_better: bool
    signature: str
    notes: tuple[str, ...]

    def gains(self) -> dict[str, dict[str, Gain]]:
        """What each expert brings to each group; positive is better, so an expert with a negative
        gain hurts the group.
        """
        return {
            expert: {
                group: Gain.of(found, self.higher_is_better) for group, found in groups.items()
            }
            for expert, groups in self.contrasts.items()
        }

    def rows(self) -> list[dict[str, Any]]:
        """One row an expert and group: the two values, the gain with its interval, and the
        verdict.
        """
        return [
            {
                "expert": expert,
                "group": group,
                "with": found.value,
                "without": found.baseline_value,
                "gain": gain.value,
                "ci_low": gain.low,
                "ci_high": gain.high,
                "p_value": found.p_value,
                "n": found.n,
                "verdict": gain.verdict,
            }
            for expert, groups in self.contrasts.items()
            for group, found in groups.items()
            for gain in [Gain.of(found, self.higher_is_better)]
        ]


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
    values: Mapping[str, Any] | None = None,
    models: Mapping[str, Path] | None = None,
    seed: int | None = None,
    device: str | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
    progress: Callable[[int, int], None] | None = None,
    **engine: Any,
) -> LeftOut:
    """Merge all experts of a recipe, and all but one for each; `values` fill its free parameters.

    Without a section `evaluate` (or `search`) in the recipe, `out` gets the checkpoints `all` and
    `without-EXPERT`, from one reading of the inputs. With one, nothing is written but what the
    merges score on its test items: `leave_one_out.json`, `matrix.parquet` and `leave_one_out.html`.
    A dry run plans every merge, which checks them, and writes nothing. The other experts' weights
    stay as written; methods that normalise do so over what is left. Raises PomonaError when fewer
    than two experts are there, and for every merge that cannot be made.
    """
    document, folder = read_document(recipe)
    out, experts = Path(out), experts_of(document)
    recipes = variants(document, experts, values or {})
    refuse_existing(out, overwrite)
    bench = Bench(out, models=models, seed=seed, document=document)
    task = read_task(document)
    if dry_run:
        for one in recipes.values():
            bench.plan(one, dry_run=True)
        return LeftOut(out, recipes)
    if task is None:
        with bench.locked():
            folders = _written(
                bench, recipes, {**engine, "overwrite": overwrite, "progress": progress}
            )
            bench.clear()
        return LeftOut(out, recipes, folders)
    items = read_items(task, task.test, files_of(task, folder))
    with bench.locked():
        judge = Judge.of(task, device=device, **engine)
        matrix = _scored(bench, recipes, experts, judge, items, progress)
        with atomic_directory(out) as partial:
            _write(matrix, partial)
        bench.clear()
    return LeftOut(out, recipes, (), matrix)


def variants(
    document: Mapping[str, Any], experts: list[Expert], values: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """The full recipe and the recipes without one expert each, by name. Raises PomonaError for
    fewer than two experts.
    """
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


def _written(
    bench: Bench, recipes: Mapping[str, Mapping[str, Any]], engine: Mapping[str, Any]
) -> tuple[Path, ...]:
    from pomona.merge.engine.run import merge_many

    folders = tuple(bench.out / name for name in recipes)
    merge_many([bench.plan(one) for one in recipes.values()], list(folders), **engine)
    return folders


def _scored(
    bench: Bench,
    recipes: Mapping[str, Mapping[str, Any]],
    experts: list[Expert],
    judge: Judge,
    items: Items,
    progress: Callable[[int, int], None] | None,
) -> Matrix:
    systems: dict[str, System] = {}
    for name, one in recipes.items():
        systems[name] = bench.score(bench.plan(one), judge, items)
        if progress is not None:
            progress(len(systems), len(recipes))
    groups, full = groups_of(items), systems[ALL].statistics
    contrasts = {
        expert.name: by_group(
            judge.metric,
            full,
            systems[f"without-{expert.name}"].statistics,
            groups,
            seed=bench.seed,
        )
        for expert in experts
    }
    signature = (
        f"leave one out|seed:{bench.seed}|{judge.signature}|test:{len(items)}|version:{__version__}"
    )
    return Matrix(contrasts, judge.metric.name, judge.metric.higher_is_better, signature, ())


def _write(matrix: Matrix, folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    about = {
        "signature": matrix.signature,
        "metric": matrix.metric,
        "higher_is_better": matrix.higher_is_better,
    }
    write_json(
        folder / "leave_one_out.json",
        {**about, "matrix": matrix.rows(), "notes": list(matrix.notes)},
    )
    pq.write_table(
        pa.Table.from_pylist(matrix.rows()), folder / "matrix.parquet", compression="zstd"
    )
    write_text(folder / "leave_one_out.html", render_matrix(matrix))
