"""Names in a recipe that stand for files, and how many items these will give."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pomona.documents import read_json
from pomona.errors import PomonaError, nearest
from pomona.recipe.graph import RunInput
from pomona.recipe.schema import Data
from pomona.recipe.steps import Cost
from pomona.recipe.steps.tables import among, conditions, rejectable
from pomona.records import TABLES
from pomona.tasks import fields_of

ASSETS = Path(__file__).parents[1] / "assets"
# What a ledger calls all items, and parts of them.
RESERVED = {"overall", "head", "tail", "near", "middle", "far"}
RESERVED |= {"warm", "cold", "warm head", "warm tail", "cold head", "cold tail"}
QUICK = 100_000_000  # bytes


def record_sources(names: Sequence[str], folder: Path) -> list[Path]:
    """Files behind record names: the catalogue's, or paths and globs relative to the recipe's
    folder.

    Raises PomonaError for a name without a file.
    """
    files: list[Path] = []
    for name in names:
        if name in TABLES:
            files.append(TABLES[name])
            continue
        matches = sorted(glob.glob(str(folder / name), recursive=True))  # noqa: PTH207, an absolute pattern is allowed
        if not matches:
            message = f'"{name}" is no table of the catalogue and no file'
            remedy = nearest(name, [*TABLES, *_beside(name, folder)])
            raise PomonaError(message, where=folder, remedy=remedy)
        files.extend(Path(match) for match in matches)
    return files


def _beside(name: str, folder: Path) -> list[str]:
    beside = (folder / name).parent.glob("[!.]*")
    return [str(path.relative_to(folder)) for path in beside if path.is_file()]


def tokenizer_folder(name: str, folder: Path) -> Path:
    """The folder of an embedded tokenizer or of one beside the recipe."""
    for candidate in (ASSETS / name, folder / name):
        # os.path takes any text for a name: one too long is not there.
        if os.path.isfile(candidate / "tokenizer.json"):  # noqa: PTH113
            return candidate
    remedy = "name an embedded one or a folder with a tokenizer.json"
    raise PomonaError(f'there is no tokenizer "{name}"', where=folder, remedy=remedy)


def trained(checkpoint: Path) -> Cost:
    """What a checkpoint says of its training, in the `training.json` that a run writes; None where
    it says nothing. Raises PomonaError for a damaged file.
    """
    path = checkpoint / "training.json"
    remedy = "give the rung's `tokens` in the recipe's ladder, and take this file away"
    said = read_json(path, remedy=remedy) if path.is_file() else {}
    flops, tokens, seconds = (number(said.get(k)) for k in ("flops", "tokens", "cpu_seconds"))
    return Cost(flops, None if tokens is None else int(tokens), seconds, wall_seconds=None)


def trained_before(uri: str, model: object) -> RunInput:
    """The checkpoint of a training beside those of a recipe. PomonaError for what is none."""
    if isinstance(model, RunInput) and model.path.is_dir():
        return model
    remedy = "name checkpoints that torch reads, whose training.json says how they were trained"
    raise PomonaError(f'"{uri}" is no folder of a checkpoint', where="pretrain.also", remedy=remedy)


def number(value: Any) -> float | None:
    """A number that another program may have written; None for whatever is none."""
    known = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if known and 0 <= value < 1e300 else None


def group_counts(
    name: str,
    sources: Sequence[Path],
    data: Data,
    where: Mapping[str, list[str]],
    columns: Sequence[str | None] = (),
) -> Counter[str] | None:
    """Rows of each group that pass the conditions of the table `name`; None where counting takes
    too long, and the table's own step checks them.

    Raises PomonaError for files that cannot be read, columns that are missing, and values and
    groups that no row has.
    """
    if data.on_error == "reject" or sum(path.stat().st_size for path in sources) > QUICK:
        return None
    from pomona import records

    place = f"{sources[0]}, {name}"
    templates = (data.prompt, data.completion, data.source or "")
    named = set().union(*map(fields_of, templates), filter(None, columns))
    with rejectable(data.on_error):
        read = records.read([str(path) for path in sources])
        rows = conditions(read.require(*sorted(named)), where, place)
        if data.group is None:
            return Counter({"all": rows.count()})
        column = rows.require(data.group).select(data.group).to_table()[data.group]
    counts = Counter(map(str, column.to_pylist()))
    check_groups(data.groups or (), counts, place)
    check_names(data.groups or counts, place)
    return counts


def check_names(groups: Iterable[str], where: object) -> None:
    """Raise PomonaError for a group that is called as a part of a ledger is."""
    for group in sorted(RESERVED & set(groups)):
        message = f'a group cannot be called "{group}"'
        remedy = "rename it: it is the name of a part of every ledger"
        raise PomonaError(message, where=where, remedy=remedy)


def check_groups(groups: Iterable[str], counts: Mapping[str, int], where: object) -> None:
    """Raise PomonaError for a group that no row has."""
    for group in groups:
        if not counts.get(group):
            remedy = among(group, list(counts))
            raise PomonaError(f'group "{group}" has no items', where=where, remedy=remedy)
