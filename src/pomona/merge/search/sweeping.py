"""`sweep`: one merge for each value of a parameter, all from one reading of the inputs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pomona.errors import PomonaError
from pomona.merge.search.bench import Bench, read_document, refuse_existing
from pomona.merge.search.space import fill


@dataclass(frozen=True)
class Swept:
    """One merge of a sweep: its folder, the values it was made with, and its recipe."""

    folder: Path
    values: Mapping[str, float]
    recipe: Mapping[str, Any]


def sweep(
    recipe: str | Path | Mapping[str, Any],
    out: str | Path,
    values: Mapping[str, Sequence[float]],
    *,
    models: Mapping[str, Path] | None = None,
    seed: int | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
    progress: Callable[[int, int], None] | None = None,
    **engine: Any,
) -> list[Swept]:
    """Merge once for every combination of `values`, into folders of `out` called `alpha=0.25`; the
    inputs are read once.

    values: by the name of a free parameter of the recipe, or by the place of a number, such as
        `models.0.parameters.weight`.
    A dry run plans every merge, which checks them, and writes nothing. `engine` are options of
    `pomona.merge.merge`. Raises PomonaError for names the recipe does not have, for values given
    twice, and for every merge that cannot be made.
    """
    document, _ = read_document(recipe)
    out = Path(out)
    swept = _combined(document, out, values)
    bench = Bench(out, models=models, seed=seed, document=document)
    if dry_run:
        for one in swept:
            bench.plan(one.recipe, dry_run=True)
        return swept
    from pomona.merge.engine.run import merge_many

    for one in swept:
        refuse_existing(one.folder, overwrite)
    with bench.locked():
        plans = [bench.plan(one.recipe) for one in swept]
        merge_many(
            plans, [one.folder for one in swept], overwrite=overwrite, progress=progress, **engine
        )
        bench.clear()
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
    found = []
    for chosen in itertools.product(*values.values()):
        point = dict(zip(values, chosen, strict=True))
        name = ",".join(f"{key}={value:g}" for key, value in point.items())
        found.append(Swept(out / name, point, fill(document, point)))
    return found
