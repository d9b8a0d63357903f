"""Tables: from records to items, and from items to fewer of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pomona.errors import PomonaError, nearest, quantity
from pomona.files import write_json
from pomona.ledger import Meter
from pomona.recipe.steps import Cost, StepContext
from pomona.recipe.steps.results import read_result, read_rows
from pomona.tasks import COLUMNS, Items, fields_of, items_from, limit, source_of

if TYPE_CHECKING:
    from pomona.records import Records

PROJECTS = "projects.json"
RECORDS = "records-"  # begins the names of inputs that are records
_OF_ROWS = re.compile("--on-error|drop the row")  # remedies that commands and Python have
MANY = 40  # values that an error compares with, or lists


def read_items(folder: Path) -> Items:
    """The items a `table` step wrote."""
    return Items.from_table(read_rows(folder / "items.parquet", *COLUMNS))


def read_counts(folder: Path) -> Counter[str]:
    """How many rows of each group there were, before `per_group`."""
    return Counter(read_result(folder / "counts.json", dict[str, int]))


def read_projects(folder: Path) -> dict[str, str]:
    """The project of every item, before `per_group`, by its id."""
    return read_result(folder / PROJECTS, dict[str, str])


def rarest(counts: Mapping[str, int], number: int) -> list[str]:
    """The `number` groups with the least, in order, with all that have as little as the last of
    them: a tie is not cut by the alphabet. Where that would be every group, only those below the
    tie; none where no group would be left over.
    """
    if not 0 < number < len(counts):
        return []
    cut = sorted(counts.values())[number - 1]
    rare = [group for group in counts if counts[group] <= cut]
    if len(rare) == len(counts):
        rare = [group for group in counts if counts[group] < cut]
    return sorted(rare, key=lambda group: (counts[group], group))


def conditions(rows: Records, where: Mapping[str, Sequence[str]], place: object) -> Records:
    """The rows whose columns have one of the values asked for. Raises PomonaError for a value that
    no row has, and where no row passes all of the conditions.
    """
    passing = rows
    for column, values in where.items():
        passing = passing.require(column).where(**{column: values})
        seen: set[Any] = set()
        for batch in rows.select(column).stream():
            seen.update(batch.column(0).unique().to_pylist())
        for value in values:
            if value not in seen:
                message = f'no row has "{value}" in the column "{column}"'
                remedy = among(value, [str(other) for other in seen if other is not None])
                raise PomonaError(message, where=place, remedy=remedy)
    if next(iter(passing.stream()), None) is None:
        told = ", ".join(f"{column}: {' or '.join(values)}" for column, values in where.items())
        message = f"no row has all of these: {told}" if told else "there are no rows"
        raise PomonaError(message, where=place, remedy="change `where`")
    return passing


def among(name: str, known: Sequence[str]) -> str:
    """The nearest of `known`, or the first few of them."""
    few = sorted(known)[:MANY]
    if len(few) == len(known) or "did you mean" in nearest(name, few):
        return nearest(name, few)
    return f"one of {len(known):,} values, such as {', '.join(few[:5])}"


def write_items(folder: Path, items: Items) -> None:
    """Write items as a step's result."""
    pq.write_table(items.to_table(), folder / "items.parquet", compression="zstd")


def write_items_and_counts(folder: Path, items: Items, whole: Items) -> None:
    """Write items as a step's result, with how many of each group there were in the whole."""
    write_items(folder, items)
    write_json(folder / "counts.json", Counter(whole.groups))


@contextmanager
def rejectable(on_error: str) -> Iterator[None]:
    """In this block an error of a row tells how a recipe leaves such rows out."""
    try:
        yield
    except PomonaError as error:
        if on_error == "stop" and _OF_ROWS.search(error.remedy or ""):
            error.remedy = "mend the row, or set such rows aside: on_error: reject under data"
        raise


def make_table(step: StepContext) -> Cost:
    """Records to items: filter, fill the templates, limit the groups; `counts.json` has the size of
    each group before the limit.
    """
    p = step.params
    with Meter() as meter, rejectable(p["on_error"]):
        rows = wanted_rows(step)
        templates = (p["prompt"], p["completion"], p["group"])
        more = {name: p[name] for name in ("source", "cluster", "options")}
        items = items_from(rows, *templates, **more)
        write_items_and_counts(step.out, limit(items, p["per_group"], p["groups"]), items)
        if p["project"]:
            more["cluster"] = p["project"]
            of = items_from(rows, *templates, **more)
            write_json(step.out / PROJECTS, dict(zip(of.ids, of.clusters, strict=True)))
    return Cost(cpu_seconds=meter.cpu_seconds, wall_seconds=meter.wall_seconds)


def wanted_rows(step: StepContext) -> Records:
    """The rows of a table's records that pass its conditions, before templates are filled; where
    rows are rejected, those of them that have what templates and columns need.
    """
    from pomona import records

    p = step.params
    sources = [str(step.inputs[name]) for name in sorted(step.inputs) if name.startswith(RECORDS)]
    if p["on_error"] == "reject":
        rows = records.read(sources, on_error="reject", rejects=step.out / "rejects.jsonl")
    else:
        rows = records.read(sources)
    rows = conditions(rows, p["where"], rows.source.where)
    rows = _of_groups(rows, p["group"], p["groups"])
    source = p["source"] or source_of(p["prompt"], p["group"])
    named = [*map(fields_of, (p["prompt"], p["completion"], source))]
    named += [[p[name]] for name in ("group", "cluster", "project", "options") if p[name]]
    needed = [*dict.fromkeys(name for each in named for name in each)]
    there = [name for name in needed if name in rows.column_names]  # else a better error comes
    kept = rows.complete(*there, texts=[one for one in there if p["completion"] == f"{{{one}}}"])
    if kept.rejected and next(iter(kept.stream()), None) is None:
        message = f"{quantity(kept.rejected, 'row is', 'rows are')} rejected, and none is left"
        remedy = "fill what templates and columns need; on_error: stop names the first such row"
        raise PomonaError(message, where=rows.source.where, remedy=remedy)
    return kept


def _of_groups(rows: Records, column: str | None, groups: Sequence[str] | None) -> Records:
    """The rows of the groups, before templates are filled for them; all where their column is no
    text, which is only known then.
    """
    if column is None or groups is None or not pa.types.is_string(rows.schema.field(column).type):
        return rows
    return rows.where(**{column: groups})


def subset(step: StepContext) -> Cost:
    """The training items of some groups."""
    with Meter() as meter:
        items = read_items(step.inputs["items"])
        write_items(step.out, limit(items, None, step.params["groups"]))
    return Cost(cpu_seconds=meter.cpu_seconds, wall_seconds=meter.wall_seconds)


def together(step: StepContext) -> Cost:
    """The training items of all experts, each once."""
    with Meter() as meter:
        parts = [read_items(step.inputs[name]) for name in sorted(step.inputs)]
        rows = {id_: (part, row) for part in parts for row, id_ in enumerate(part.ids)}
        ordered = sorted(rows)
        columns = [
            [getattr(rows[id_][0], field.name)[rows[id_][1]] for id_ in ordered]
            for field in fields(Items)
        ]
        write_items(step.out, type(parts[0])(*columns))
    return Cost(cpu_seconds=meter.cpu_seconds, wall_seconds=meter.wall_seconds)
