"""`mix`: several tables become one in the order of a schedule."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pomona.data.inputs import opened
from pomona.data.mixing.order import Block, Ints, check_extent, stream
from pomona.data.mixing.recipe import load_mix
from pomona.data.mixing.rows import Gathered, MappedTable, chosen, common_schema, counted
from pomona.data.mixing.schedule import Schedule, curve, exposures, schedule_of
from pomona.data.mixing.table_scan import Inputs, Scan, scan
from pomona.data.work import results_of
from pomona.errors import PomonaError
from pomona.places import check_outputs
from pomona.records import Card, Records, Results
from pomona.workspace import disk_guard

MOST_SIZE = 2.0**53  # whole numbers that a double holds; sums of sizes are kept as both
Phases = Schedule | Sequence[Mapping[str, Any]] | Mapping[str, Any]


def mix(
    inputs: Mapping[str, Inputs] | str | Path,
    out: str | Path,
    *,
    schedule: Phases | None = None,
    total: float | None = None,
    size: str = "rows",
    column: str = "dataset",
    engine: str | None = "native",
    seed: int = 0,
    dry_run: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Card:
    """Write the rows of a training in their order: weights, temperature, and schedules over its
    progress.

    Write the rows of a training to `out` in their order, repeated as often as the schedule shows
    them.

    `inputs` maps a dataset's name to its table, or is a YAML file with the keys `inputs`,
    `schedule`, `total`, `size`, `column` and `seed`. `schedule` is a `Schedule`, phases as
    `schedule_of` reads them, or one mixture as `mixture_of` reads it; without it, shares are
    natural. `total` is how much training sees, in units of `size` ("rows", "bytes" of the text, or
    a column of whole numbers); by default as much as the inputs hold. All columns are kept (null
    where a dataset does not have one), with `column`, the dataset's name, and `progress`, the share
    of training at which the row begins. With `engine="ray"` workers read the inputs; this process
    puts the rows in order and writes them. The card's details have the epochs over each dataset,
    warnings past four, and the schedule's curve.

    Args:
        inputs: YAML file with inputs, schedule, total, size, column and seed.
        out: File of the mixed rows.
        dry_run: Only count; write nothing.

    Raises:
        PomonaError: a dataset is missing, empty or holds a column as another type; a size is null
            or negative; a name is taken.
        ResourceError: the disk is full. Nothing is left behind, and a file that was there is as it
            was.
    """
    if isinstance(inputs, str | Path):
        options = _merged(
            inputs, schedule=schedule, total=total, size=size, column=column, seed=seed
        )
        check_outputs({"out": out}, [inputs])
        try:
            return mix(**options, out=out, engine=engine, dry_run=dry_run, progress=progress)
        except PomonaError as error:
            if error.where not in ("schedule", "total"):
                raise
            place = f"{inputs}, {error.where}"
            raise type(error)(error.message, where=place, remedy=error.remedy) from None
    if not inputs:
        raise PomonaError(
            "there are no inputs", where="inputs", remedy="name at least one dataset and its file"
        )
    tables: dict[str, Records] = {}
    for name, value in inputs.items():
        with _named(name):
            tables[name] = opened(value)
    with results_of([*tables.values()], {"out": out}, dry_run=dry_run) as results:
        plan = _planned(tables, schedule, total, size, column, engine, seed)
        card = plan.card({"size": size, "total": plan.total, "column": column, "seed": seed})
        if not dry_run:
            plan.write(results, str(out), progress)
            card = results.publish(card)
    return card


@dataclass(frozen=True)
class _Plan:
    """All that is known before rows are moved; `dataset`, `row` and `progress` are
    `[rows written]`.
    """

    scans: Mapping[str, Scan]
    schedule: Schedule
    sizes: Mapping[str, float]
    total: float
    schema: pa.Schema
    dataset: Ints
    row: Ints
    progress: NDArray[np.float64]

    def card(self, parameters: Mapping[str, Any]) -> Card:
        """Rows and epochs of every dataset, with their warnings and the schedule's curve."""
        shown = exposures(self.schedule, self.sizes, self.total)
        rows = np.bincount(self.dataset, minlength=len(self.schedule.names)).tolist()
        return Card(
            "mix",
            parameters,
            tuple(item for scanned in self.scans.values() for item in scanned.inputs),
            sum(map(len, self.scans.values())),
            len(self.row),
            groups={
                name: (len(self.scans[name]), rows[i]) for i, name in enumerate(self.schedule.names)
            },
            details={
                "schedule": self.schedule.to_list(),
                "exposures": [asdict(item) for item in shown],
                "warnings": [item.warning for item in shown if item.warning],
                "curve": curve(self.schedule, self.sizes, self.total),
            },
            left_out=sum(scanned.records.rejected for scanned in self.scans.values()),
        )

    def write(
        self, results: Results, out: str, progress: Callable[[int, int], None] | None
    ) -> None:
        """Gather the rows in the order of training, from copies that can be read at any place."""
        body = pa.schema(list(self.schema)[:-2])
        with tempfile.TemporaryDirectory(prefix="pomona-") as folder:
            tables: dict[int, MappedTable] = {}
            for index in np.unique(self.dataset).tolist():
                with disk_guard(f"{out} (by way of {tempfile.gettempdir()})"):
                    scanned = self.scans[self.schedule.names[index]]
                    rows = chosen(scanned, np.ones(len(scanned), np.bool_), None)
                    tables[index] = MappedTable.of(rows, Path(folder) / f"{index}.arrow", body)
            source = Gathered(
                tables,
                self.schedule.names,
                self.dataset,
                self.row,
                self.progress,
                self.schema,
                out,
            )
            results.write("out", counted(Records.of(source), len(self.row), progress))


def _planned(
    tables: Mapping[str, Records],
    schedule: Phases | None,
    total: float | None,
    size: str,
    column: str,
    engine: str | None,
    seed: int,
) -> _Plan:
    scans: dict[str, Scan] = {}
    for name, table in tables.items():
        with _named(name):
            scans[name] = scan(table, size=size, engine=engine)
    body = common_schema(
        {name: scanned.records.schema for name, scanned in scans.items()}, (column, "progress")
    )
    lengths = {name: _lengths(name, scanned, size) for name, scanned in scans.items()}
    sizes = {name: float(counts.sum()) for name, counts in lengths.items()}
    if not isinstance(schedule, Schedule):
        schedule = schedule_of(schedule or {}, sizes)
    _check_names(scans, schedule)
    total = sum(sizes.values()) if total is None else float(total)
    check_extent(lengths, schedule, total)
    order = Block.joined(list(stream(lengths, schedule, tokens=total, seed=seed).blocks()))
    used = np.concatenate([lengths[name] for name in schedule.names])
    first = np.cumsum([0, *(len(lengths[name]) for name in schedule.names)])
    taken = used[first[order.dataset] + order.row]
    schema = body.append(pa.field(column, pa.string())).append(pa.field("progress", pa.float64()))
    return _Plan(
        scans,
        schedule,
        sizes,
        total,
        schema,
        order.dataset,
        order.row,
        (np.cumsum(taken) - taken) / total,
    )


def _lengths(name: str, scanned: Scan, size: str) -> Ints:
    if not scanned.sizes.sum() <= MOST_SIZE:
        message = f'the values of "{size}" add up to {scanned.sizes.sum():.3g}'
        remedy = f"give sizes of at most {MOST_SIZE:.3g} in all"
        raise PomonaError(message, where=f'dataset "{name}"', remedy=remedy)
    return np.ceil(scanned.sizes).astype(np.int64)


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Errors of the block name the dataset."""
    try:
        yield
    except PomonaError as error:
        raise type(error)(
            error.message, where=f'dataset "{name}", {error.where}', remedy=error.remedy
        ) from None


def _check_names(scans: Mapping[str, Scan], schedule: Schedule) -> None:
    for name in scans:
        if name not in schedule.names:
            raise PomonaError(
                f'the schedule says nothing of "{name}"',
                where="schedule",
                remedy="give it a weight; 0 leaves it out",
            )
    for name in schedule.names:
        if name not in scans:
            raise PomonaError(
                f'no input is named "{name}"',
                where="schedule",
                remedy="add it to the inputs, or take it out",
            )


def _merged(path: str | Path, **given: Any) -> dict[str, Any]:
    """What the file says and what the call says. Raises PomonaError when both say something."""
    document = load_mix(path)
    defaults = {"schedule": None, "total": None, "size": "rows", "column": "dataset", "seed": 0}
    said = {
        key: value
        for key, value in given.items()
        if value is not defaults[key] and value != defaults[key]
    }
    for key in said:
        if key in document:
            raise PomonaError(
                f'"{key}" is given here and in the call', where=path, remedy="give it in one place"
            )
    return document | said
