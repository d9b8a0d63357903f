"""Exact and near-duplicates from end to end: read, sign, join, choose, write."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

import pomona.records
from pomona.data.duplicates import minhash
from pomona.data.duplicates.choose import Verdict, counts, evidence, judge, kept_rows
from pomona.data.duplicates.minhash import (
    Progress,
    SigningScratch,
    check_columns,
    scratch_at,
    steps,
)
from pomona.data.duplicates.pairs import COUNTS
from pomona.data.duplicates.signed import (
    NORMAL_FORM,
    DedupOptions,
    Signed,
    SignedIndex,
    chunks_in,
    index_at,
)
from pomona.data.inputs import Inputs, opened
from pomona.data.work import results_of, stamps, work_at, work_of, write_kept
from pomona.documents import read_json
from pomona.errors import PomonaError
from pomona.records import (
    Card,
    Input,
    Piece,
    Records,
    Written,
    as_records,
    card_of,
    inputs_of,
    split,
)
from pomona.shingles import s_curve


def dedup_near(
    inputs: Inputs,
    out: str | Path,
    options: DedupOptions,
    *,
    against: Inputs | None,
    pairs: str | Path | None,
    index: str | Path | None,
    engine: str | None,
    work: str | Path | None,
    dry_run: bool,
    progress: Progress | None,
) -> Card:
    """`dedup` by the methods exact and minhash, with checked options; see there."""
    records = check_columns(opened(inputs), options)
    other = None if against is None else check_columns(opened(against), options)
    _check(options, other, index)
    evidence_at = pairs or f"{out}.pairs.parquet"
    plan = _plan(options, records, other, index)
    pieces = [split(part) for part in (records, other) if part is not None]
    total = steps(options, pieces, other is not None)
    with (
        results_of(
            [records, other],
            {"out": out, "pairs": evidence_at},
            work=work_of(out, work),
            index=index,
            dry_run=dry_run,
        ) as results,
        index_at(index, options, dry_run) as known,
        work_at(out, work, dry_run) as folder,
        scratch_at(folder, plan, total, progress) as scratch,
    ):
        if (
            known
            and known.batches
            and scratch.name in (names := [batch["name"] for batch in known.batches])
        ):
            return _already(known, scratch, names.index(scratch.name), out)
        card, verdict, table = _decide(records, other, pieces, known, options, scratch, engine)
        card = replace(card, left_out=records.rejected)
        if not dry_run:
            write_kept(results, out, records, lambda rows: kept_rows(rows, verdict))
            results.write("pairs", as_records(table))
            card = results.publish(card)
            # The index grows last: a run killed before finds its own batch missing and writes the
            # same files again, and one killed after finds the batch and has nothing left to do.
            if known is not None:
                known.grow(scratch.name, scratch.folder / "inputs", verdict.components)
        scratch.step()
    return card


def _plan(
    options: DedupOptions, records: Records, other: Records | None, index: str | Path | None
) -> dict[str, Any]:
    """What a killed run must have in common with the one that goes on."""
    plan = {
        "options": asdict(options),
        "inputs": stamps(records),
        "rows": minhash.CHUNK_ROWS,
        "pieces": pomona.records.PIECE_BYTES,
    }
    plan |= {"against": stamps(other)} if other is not None else {}
    return plan | ({"index": str(Path(index).resolve())} if index is not None else {})


def _decide(
    records: Records,
    other: Records | None,
    pieces: Sequence[Sequence[Piece]],
    known: SignedIndex | None,
    options: DedupOptions,
    scratch: SigningScratch,
    engine: str | None,
) -> tuple[Card, Verdict, pa.Table]:
    files = scratch.sign(pieces[0], "inputs", options, engine, minhash.CHUNK_ROWS)
    chunks, before = chunks_in(scratch.folder / "inputs"), known.chunks if known else []
    compared: list[tuple[str, int]] = []
    if other is not None:
        compared = scratch.sign(pieces[1], "against", options, engine, minhash.CHUNK_ROWS)
        before = chunks_in(scratch.folder / "against")
    old = len(Signed(before))
    signed = Signed([*before, *chunks])
    verdict = judge(
        signed, options, scratch, old=old, known=None if known is None else known.components
    )
    card = _card(signed, options, verdict, inputs_of(files), inputs_of(compared), known)
    return card, verdict, evidence(records, other, verdict, "index" if known else "against")


def _card(
    signed: Signed,
    options: DedupOptions,
    verdict: Verdict,
    files: tuple[Input, ...],
    against: tuple[Input, ...],
    known: SignedIndex | None,
) -> Card:
    rows = len(signed) - verdict.old
    removed = counts(verdict)
    parameters = {name: value for name, value in asdict(options).items() if value is not None}
    details: dict[str, Any] = {}
    if options.method == "minhash":
        flags = signed.column("facts")[verdict.old :, 1]
        bands, per_band = options.n_bands or 1, options.rows_per_band or 1
        parameters["normal_form"] = NORMAL_FORM
        details["s_curve"] = {
            f"{tenth / 10}": round(s_curve(bands, per_band, tenth / 10), 4)
            for tenth in range(1, 10)
        }
        details["at_threshold"] = round(s_curve(bands, per_band, options.threshold or 1), 4)
        details["character_shingles"], details["shorter_than_a_shingle"] = (
            int((flags & 1).sum()),
            int((flags >> 1).sum()),
        )
        details |= {name: int(value) for name, value in zip(COUNTS, verdict.counts, strict=True)}
    if against:
        parameters["against"] = [file.path for file in against]
        details["against"] = [asdict(file) for file in against]
    if known is not None:
        details["index"] = {
            "folder": str(known.folder),
            "rows_before": known.rows,
            "rows_after": known.rows + rows,
        }
    return Card(
        "dedup", parameters, files, rows, rows - sum(removed.values()), removed, details=details
    )


def _already(known: SignedIndex, scratch: SigningScratch, at: int, out: str | Path) -> Card:
    """Finish a run that was killed after the index had grown. Raises PomonaError when it was
    another run that took these inputs in.
    """
    if not (scratch.folder / "inputs").exists():
        shutil.rmtree(scratch.folder)
        message = f"these inputs are in the index already, as batch-{at:05d}"
        raise PomonaError(
            message,
            where=known.folder,
            remedy="give new documents; the result of that run is not touched",
        )
    card = read_json(card_of(out))
    card.pop("signature")
    read = {"inputs": Input, "outputs": Written}
    files = {name: tuple(kind(**file) for file in card[name]) for name, kind in read.items()}
    return Card(**{**card, **files})


def _check(options: DedupOptions, other: Records | None, index: str | Path | None) -> None:
    if index is not None:
        for name, wrong in (
            ("keep", options.keep != "first"),
            ("against", other is not None),
            ("target_size", options.target_size),
        ):
            if wrong:
                message = f"an index remembers which document was first: it does not go with {name}"
                raise PomonaError(message, where=name, remedy=f"leave out {name}, or the index")
