"""Tables without the rows outside a band: one file, or every band at every share with its random
control.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pomona.data.bands import Band, Floats, Ints, by_group, check_band, select_band
from pomona.errors import PomonaError
from pomona.places import address

if TYPE_CHECKING:
    from pomona.data.mixing.table_scan import Inputs, Scan
    from pomona.records import Card, Records

Progress = Callable[[int, int], None]


def prune(
    inputs: Inputs,
    out: str | Path,
    *,
    by: str,
    keep: float = 0.3,
    band: Band = "bottom",
    within: str | None = None,
    group: str | None = None,
    floor: int = 0,
    size: str = "rows",
    seed: int = 0,
    engine: str | None = "native",
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Card:
    """Keep the rows of one band of a score.

    Write to `out` the rows of one band of the score column `by`, in their order and with all
    their columns.

    `keep` is a share of rows, of bytes of the text (`size="bytes"`), or of a column that holds
    sizes. `within` names a column: the band is taken of each of its values. `floor` rows of each
    value of `within`, or else of `group`, stay whatever their score. `band="random"` is the
    control: it draws as much, by `seed`, and still wants `by` so that it draws from rows that have
    a score. With `engine="ray"` workers read the inputs and pick the rows; this process writes
        them. The file is the same.

    Args:
        out: File of what is kept.
        by: Column of the score.
        keep: Share that is kept.
        band: bottom, middle or top of the score, or random: the control.
        within: Column; take the band of each of its values.
        group: Column whose values the floor protects, where the band is global.
        floor: Rows of each group that stay whatever their score.
        size: What the share is of: rows, bytes, or a column of sizes.
        seed: Seed of random bands.
        dry_run: Only count; write nothing.

    Raises:
        PomonaError: a column is missing, a score is null or not finite (with file and row, from 1),
            or no row would be left.
        ResourceError: the disk is full. Nothing is left behind, and a file that was there is as it
            was.
    """
    from pomona.data.inputs import opened
    from pomona.data.work import results_of

    records = opened(inputs)
    with results_of([records], {"out": out}, dry_run=dry_run) as results:
        scan = _scanned(records, [(keep, band)], by, within, group, floor, size, engine)
        mask, card = _Pruning(scan, by, within, group, floor, size, seed).decide(keep, band, out)
        if not dry_run:
            from pomona.data.mixing.rows import chosen

            results.write("out", chosen(scan, mask, progress))
            card = results.publish(card)
    return card


def sweep(
    inputs: Inputs,
    folder: str | Path,
    *,
    by: str,
    keeps: Sequence[float] = (0.1, 0.3, 0.5, 0.7),
    bands: Sequence[Literal["bottom", "middle", "top"]] = ("bottom", "middle", "top"),
    within: str | None = None,
    group: str | None = None,
    floor: int = 0,
    size: str = "rows",
    seed: int = 0,
    engine: str | None = "native",
    dry_run: bool = False,
    progress: Progress | None = None,
) -> list[Card]:
    """Write every band at every share, each with its random control.

    Returns the cards of `FOLDER/BAND-KEEP.parquet`; a control is of the same size as its bands.

    The defaults are the shares of Marion et al. See `prune` for the rest. `progress` counts the
    rows of all files. With `engine="ray"` each file is written by a worker, to a folder that all
    machines share.

    Args:
        folder: Folder of the files.
        by: Column of the score.
        keeps: Shares; 0.1, 0.3, 0.5 and 0.7 when left out.
        bands: Bands; all three when left out.
        within: Column; take the band of each of its values.
        group: Column whose values the floor protects, where the band is global.
        floor: Rows of each group that stay whatever their score.
        size: What the share is of: rows, bytes, or a column of sizes.
        seed: Seed of random bands.
        dry_run: Only count; write nothing.

    Raises:
        PomonaError: as `prune`.
        ResourceError: the disk is full. Files that are there are whole.
    """
    wanted: list[tuple[float, Band]] = [
        (keep, band) for keep in dict.fromkeys(keeps) for band in dict.fromkeys(("random", *bands))
    ]
    from pomona.data.inputs import opened
    from pomona.data.work import results_of

    records = opened(inputs)
    names = [f"{band}-{keep:g}.parquet" for keep, band in wanted]
    outs = [f"{address(folder).rstrip('/')}/{name}" for name in names]
    with ExitStack() as stack:
        files = [
            stack.enter_context(results_of([records], {"out": out}, dry_run=dry_run))
            for out in outs
        ]
        scan = _scanned(records, wanted, by, within, group, floor, size, engine)
        pruning = _Pruning(scan, by, within, group, floor, size, seed)
        decided = (pruning.decide(*asked, out) for asked, out in zip(wanted, outs, strict=True))
        if dry_run:
            return [card for _, card in decided]
        jobs = (
            _File(scan.records, *decision, out, results.partial("out"))
            for decision, out, results in zip(decided, outs, files, strict=True)
        )
        if scan.engine == "native":
            written = _by_one(jobs, len(wanted), scan, progress)
        else:
            written = _by_workers(jobs, len(wanted), scan, progress)
        return [results.publish(card) for results, card in zip(files, written, strict=True)]


def _by_one(
    jobs: Iterable[_File], many: int, scan: Scan, progress: Progress | None
) -> Iterator[Card]:
    for number, job in enumerate(jobs):
        yield _write(job, progress and _offset(progress, number * len(scan), many * len(scan)))


def _offset(progress: Progress, before: int, total: int) -> Progress:
    return lambda done, _: progress(before + done, total)


@dataclass(frozen=True)
class _File:
    """One job of `sweep`: the rows of `records` that `mask`, bool `[n]`, marks go to `partial`,
    which will be `out`.
    """

    records: Records
    mask: NDArray[np.bool_]
    card: Card
    out: str
    partial: Path


def _write(job: _File, progress: Progress | None = None) -> Card:
    from pomona.data.mixing.rows import marked
    from pomona.records import write_partial

    write_partial(marked(job.records, job.mask, progress), job.partial, job.out)
    return job.card


def _by_workers(
    jobs: Iterable[_File], many: int, scan: Scan, progress: Progress | None
) -> Iterator[Card]:
    """Every file by a worker, which reads all the inputs by itself."""
    from pomona.records import spread

    for number, card in enumerate(spread(_write, jobs, scan.engine), 1):
        if progress is not None:
            progress(number * len(scan), many * len(scan))
        yield card


def _scanned(
    inputs: Inputs,
    wanted: Sequence[tuple[float, Any]],
    by: str,
    within: str | None,
    group: str | None,
    floor: int,
    size: str,
    engine: str | None,
) -> Scan:
    from pomona.data.mixing.table_scan import scan

    for keep, band in wanted:
        check_band(keep, band, floor)
    if within is not None and group is not None and within != group:
        raise PomonaError(
            "within and group name two columns",
            where="group",
            remedy="give one; a floor protects both",
        )
    if floor and within is None and group is None:
        raise PomonaError(
            "a floor needs to know the groups",
            where="floor",
            remedy="name their column with within or group",
        )
    return scan(inputs, score=by, group=within or group, size=size, engine=engine)


@dataclass(frozen=True)
class _Pruning:
    scan: Scan
    by: str
    within: str | None
    group: str | None
    floor: int
    size: str
    seed: int

    def decide(self, keep: float, band: Band, out: str | Path) -> tuple[NDArray[np.bool_], Card]:
        """Which rows a band has, bool `[n]`, and its card. Raises PomonaError when there are
        none.
        """
        scan = self.scan
        rows = select_band(
            _present(scan.scores), keep, band, sizes=scan.sizes, seed=self.seed,
            groups=scan.groups, within=self.within is not None, floor=self.floor,
        )  # fmt: skip
        if not len(rows):
            raise PomonaError(
                f"a share of {keep:g} of {len(scan)} rows is none",
                where=out,
                remedy="keep more, or set a floor",
            )
        mask = np.zeros(len(scan), np.bool_)
        mask[rows] = True
        return mask, self._card(keep, band, rows)

    def _card(self, keep: float, band: Band, rows: Ints) -> Card:
        from pomona.records import Card

        scan, scores = self.scan, _present(self.scan.scores)
        parameters = {
            "by": self.by,
            "band": band,
            "keep": keep,
            "within": self.within,
            "group": self.group,
            "floor": self.floor or None,
            "size": self.size,
            "seed": self.seed if band == "random" else None,
        }
        groups: dict[str, tuple[int, int]] = {}
        if scan.groups is not None:
            before, after = (
                np.bincount(codes, minlength=len(scan.names)).tolist()
                for codes in (scan.groups, scan.groups[rows])
            )
            groups = {name: (before[i], after[i]) for i, name in enumerate(scan.names)}
        details = {
            "size": {
                "unit": self.size,
                "in": float(scan.sizes.sum()),
                "out": float(scan.sizes[rows].sum()),
            },
            "score": {"in": _spread(scores), "out": _spread(scores[rows])},
        }
        return Card(
            "prune",
            parameters,
            scan.inputs,
            len(scan),
            len(rows),
            self._removed(band, rows),
            groups,
            details,
            scan.records.rejected,
        )

    def _removed(self, band: Band, rows: Ints) -> dict[str, int]:
        """Rows removed by reason; for `middle`, on which side of the band's own median they lie."""
        left = np.ones(len(self.scan), np.bool_)
        left[rows] = False
        if band != "middle":
            reason = {"bottom": "above the band", "top": "below the band", "random": "not drawn"}[
                band
            ]
            return {reason: int(left.sum())}
        scores, groups = _present(self.scan.scores), self.scan.groups
        below = 0
        for part in (
            by_group(groups)
            if self.within is not None and groups is not None
            else [np.arange(len(scores))]
        ):
            below += int((left[part] & (scores[part] < np.median(scores[part]))).sum())
        return {"below the band": below, "above the band": int(left.sum()) - below}


def _present(scores: Floats | None) -> Floats:
    return np.empty(0) if scores is None else scores


def _spread(scores: Floats) -> dict[str, float]:
    return dict(
        zip(
            ("min", "25 %", "median", "75 %", "max"),
            np.quantile(scores, [0, 0.25, 0.5, 0.75, 1]).tolist(),
            strict=True,
        )
    )
