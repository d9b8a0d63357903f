"""What a run leaves: the rows that stay, the table of evidence, and the card."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pomona.data.duplicates._choose import AGAINST, KEPT, REASONS, TARGET, Verdict
from pomona.data.duplicates._signed import Ints
from pomona.errors import PomonaError
from pomona.files import atomic_file
from pomona.records import Records, filtered, is_remote, write


def write_kept(records: Records, verdict: Verdict, out: str | Path) -> Path:
    """Write the rows that stay, in their order and with all their columns."""
    return write(filtered(records, verdict.reason[verdict.old :] == KEPT), out)


def write_with(found: Records | pa.Table, place: str, rows: Records, out: str | Path) -> None:
    """Write the evidence `found` to `place` and `rows` to `out`. When either fails, both files are
    as they were (on S3, `out` is).
    """
    if is_remote(place):
        write(found, place)
        write(rows, out)
        return
    with atomic_file(place) as partial:
        try:
            write(found, partial, format="parquet")
        except PomonaError as error:
            error.where = place
            raise
        write(rows, out)


def evidence(records: Records, other: Records | None, verdict: Verdict, place: str) -> pa.Table:
    """One row for every removed one: what was removed, what is kept in its place (`kept_in`:
    inputs, against or index), and the confirmed pair by which it went: rows `row_a` (the removed
    one), `row_b`, their Jaccard similarity. Rows count from 0 in their own data.
    """
    old = verdict.old
    gone = np.flatnonzero(verdict.reason != KEPT)
    stays, via = verdict.kept[gone], verdict.via[gone]
    ids = _ids(records, np.concatenate([gone, stays]) - old)
    own, kept_ids = ids[: len(gone)], ids[len(gone) :]
    if other is not None:
        there = _ids(other, np.where(stays < old, stays, -1))
        kept_ids = pc.call_function(
            "coalesce", [kept_ids.cast(pa.string()), there.cast(pa.string())]
        )
    jaccard = pa.array(verdict.jaccard[gone], mask=np.isnan(verdict.jaccard[gone]))
    columns = {
        "removed": pa.array(gone - old),
        "removed_id": own,
        "kept": _numbers(stays, old),
        "kept_id": kept_ids,
        "kept_in": _places(stays, old, place),
        "row_a": pa.array(gone - old),
        "row_b": _numbers(via, old),
        "row_b_in": _places(via, old, place),
        "jaccard": jaccard,
        "reason": pa.array([REASONS[reason] for reason in verdict.reason[gone]], pa.string()),
    }
    return pa.table(columns)


def counts(verdict: Verdict) -> dict[str, int]:
    """Removed rows by reason."""
    found = np.bincount(verdict.reason[verdict.old :], minlength=len(REASONS))
    return {
        name: int(found[at])
        for at, name in enumerate(REASONS)
        if at != KEPT and (found[at] or at not in (AGAINST, TARGET))
    }


def _numbers(rows: Ints, old: int) -> pa.Array:
    return pa.array(np.where(rows >= old, rows - old, rows), mask=rows < 0)


def _places(rows: Ints, old: int, place: str) -> pa.Array:
    return pa.array(np.where(rows >= old, "inputs", place).tolist(), pa.string(), mask=rows < 0)


def _ids(records: Records, rows: Ints) -> pa.Array:
    """The column `id` of these rows; null where a row is negative or there is no such column."""
    if "id" not in records.column_names:
        return pa.nulls(len(rows), pa.string())
    wanted = np.unique(rows[rows >= 0])
    kind = records.schema.field("id").type
    found, start = [pa.array([], kind)], 0
    for batch in records.select("id")._stream():
        low, high = np.searchsorted(wanted, [start, start + batch.num_rows])
        found.append(batch.column(0).take(pa.array(wanted[low:high] - start)))
        start += batch.num_rows
    return pa.concat_arrays(found).take(
        pa.array(np.searchsorted(wanted, np.maximum(rows, 0)), mask=rows < 0)
    )
