"""`dedup`: read, sign, join, choose, write."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa

import pomona.records
from pomona.data.duplicates import _sign
from pomona.data.duplicates._choose import Verdict, judge
from pomona.data.duplicates._index import Index, open_index
from pomona.data.duplicates._near import COUNTS
from pomona.data.duplicates._options import (
    NORMAL_FORM,
    Method,
    Options,
    Shingle,
    options_of,
    s_curve,
)
from pomona.data.duplicates._out import counts, evidence, write_kept
from pomona.data.duplicates._sign import check_columns
from pomona.data.duplicates._signed import Signed, chunks_in
from pomona.data.duplicates._work import Bench, Progress, bench, stamps, steps, work_at
from pomona.documents import read_json
from pomona.errors import PomonaError, nearest
from pomona.records import (
    Card,
    Input,
    Piece,
    Records,
    card_of,
    check_engine,
    inputs_of,
    read,
    split,
    write,
)

Inputs = str | Path | Sequence[str | Path] | pa.Table | Records
_METHODS = ("exact", "minhash", "substring", "semantic")


def dedup(
    inputs: Inputs,
    out: str | Path,
    *,
    method: Method = "minhash",
    column: str = "text",
    threshold: float | None = None,
    keep: str | None = None,
    n_bands: int | None = None,
    rows_per_band: int | None = None,
    shingle: Shingle = "auto",
    shingle_size: int = 5,
    edit_similarity: float | None = None,
    target_size: int | None = None,
    against: Inputs | None = None,
    pairs: str | Path | None = None,
    index: str | Path | None = None,
    work: str | Path | None = None,
    seed: int = 0,
    engine: str | None = "native",
    dry_run: bool = False,
    progress: Progress | None = None,
    **others: Any,
) -> Card:
    """Keep one of every group of duplicates, and say why each of the others went.

    Rows keep their order and columns; returns (and writes beside `out`) the card.

    `exact` compares bytes, by 128-bit fingerprints. `minhash` follows Lee et al. 2022 (arXiv
    2107.06499), §4.2: documents whose MinHash signatures agree in one of `n_bands` bands of
    `rows_per_band` hashes are candidates (`s_curve`; without them, `bands_for` takes them from 128
    hashes); only pairs whose exact Jaccard similarity of shingle sets is at least `threshold`, and
    whose edit similarity on tokens is at least `edit_similarity` if given, are joined (`threshold`
    is 0.8 unless given). Shingles are hashed to 64 bits: runs of `shingle_size` words, or
    characters where more than a fifth of them are of scripts without spaces (`shingle="auto"`), of
    text in NFC, lower case, with runs of white space as one space. A document shorter than a
    shingle only equals the same text. `substring` and `semantic` take the options of
    `dedup_substring` and `dedup_semantic`.

    `keep` says which document of a group stays: the first (the default), the longest in characters,
    or that with the greatest value in a column (`best:COLUMN`). `target_size` then cuts to that
    many rows in the same order of preference. `against` removes first what has a
    duplicate there. `index` is a folder that remembers all documents ever given with it: a new
    document stays if it is the first of its group among all of them, as in one run over all
    batches; the index grows when `out` is written. `pairs` is where the evidence goes (default
    `OUT.pairs.parquet`). After a kill the same call continues from `work` (default beside `out`; on
    Ray it must be a folder that all machines share) and gives the identical result, whatever the
    engine and chunks. One job is one file, or about 64 MiB of a larger Parquet or JSONL file.

    Args:
        out: File of what is kept; the card and the evidence are written beside it.
        method: exact, minhash (near-duplicates), substring (strikes long spans that occur
            twice) or semantic (cosine of embeddings).
        column: Column of the text.
        threshold: Similarity from which two documents are duplicates: Jaccard for minhash
            (0.8), cosine for semantic (0.95).
        n_bands: Bands of the signature; from the threshold when left out.
        rows_per_band: Hashes in a band.
        shingle: Word or character shingles; auto decides for each document by its script.
        shingle_size: Words or characters in a shingle (5).
        keep: Which one stays. minhash, exact: first, longest or best:COLUMN. substring:
            none or first. semantic: far, near or first.
        target_size: Then cut to this many rows.
        edit_similarity: Pairs must also have this edit similarity on tokens.
        against: Also remove what has a duplicate in these inputs.
        pairs: File of the evidence; OUT.pairs.parquet when left out.
        index: Folder that remembers documents between runs.
        work: Folder of what a killed run continues from; beside OUT when left out.
        seed: Seed.
        dry_run: Only count; write nothing.

    Raises:
        PomonaError: a parameter is wrong, a file unreadable, a column missing, not of its type,
            null or (scores) not finite.
        ResourceError: the disk is full.
    """
    if method not in _METHODS:
        raise PomonaError(
            f'there is no "{method}"', where="method", remedy=nearest(method, _METHODS)
        )
    given = {
        name: value
        for name, value in locals().items()
        if name not in ("inputs", "out", "method", "others")
    }
    if method in ("substring", "semantic"):
        return _other(method, inputs, out, given, others)
    if others:
        raise PomonaError(
            f'{method} has no option "{next(iter(others))}"',
            where="dedup",
            remedy=nearest(next(iter(others)), given),
        )
    check_engine(engine)
    threshold, keep = 0.8 if threshold is None else threshold, keep or "first"
    options = options_of(
        method,
        column,
        threshold,
        n_bands,
        rows_per_band,
        shingle,
        shingle_size,
        edit_similarity,
        keep,
        target_size,
        seed,
    )
    records = check_columns(_opened(inputs), options)
    other = None if against is None else check_columns(_opened(against), options)
    _check(records, out, options, other, index)
    known = None if index is None else open_index(index, options)
    plan = _plan(options, records, other, index)
    pieces = [split(part) for part in (records, other) if part is not None]
    total = steps(options, pieces, other is not None)
    with work_at(out, work, dry_run) as folder, bench(folder, plan, total, progress) as open_bench:
        if (
            known
            and known.batches
            and open_bench.name in (names := [batch["name"] for batch in known.batches])
        ):
            return _already(known, open_bench, names.index(open_bench.name), out)
        card, verdict, table = _decide(records, other, pieces, known, options, open_bench, engine)
        if not dry_run:
            write_kept(records, verdict, out)
            write(table, pairs or f"{out}.pairs.parquet")
            card.write(out)
            if known is not None:
                known.grow(open_bench.name, open_bench.folder / "inputs", verdict.components)
        open_bench.step()
    return card


def _plan(
    options: Options, records: Records, other: Records | None, index: str | Path | None
) -> dict[str, Any]:
    """What a killed run must have in common with the one that goes on."""
    plan = {
        "options": asdict(options),
        "inputs": stamps(records),
        "rows": _sign.CHUNK_ROWS,
        "pieces": pomona.records.PIECE_BYTES,
    }
    plan |= {"against": stamps(other)} if other is not None else {}
    return plan | ({"index": str(Path(index).resolve())} if index is not None else {})


def _decide(
    records: Records,
    other: Records | None,
    pieces: Sequence[Sequence[Piece]],
    known: Index | None,
    options: Options,
    open_bench: Bench,
    engine: str | None,
) -> tuple[Card, Verdict, pa.Table]:
    files = open_bench.sign(pieces[0], "inputs", options, engine, _sign.CHUNK_ROWS)
    chunks, before = chunks_in(open_bench.folder / "inputs"), known.chunks if known else []
    compared: list[tuple[str, int]] = []
    if other is not None:
        compared = open_bench.sign(pieces[1], "against", options, engine, _sign.CHUNK_ROWS)
        before = chunks_in(open_bench.folder / "against")
    old = len(Signed(before))
    signed = Signed([*before, *chunks])
    verdict = judge(
        signed, options, open_bench, old=old, known=None if known is None else known.components
    )
    card = _card(signed, options, verdict, inputs_of(files), inputs_of(compared), known)
    return card, verdict, evidence(records, other, verdict, "index" if known else "against")


def _card(
    signed: Signed,
    options: Options,
    verdict: Verdict,
    files: tuple[Input, ...],
    against: tuple[Input, ...],
    known: Index | None,
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


def _already(known: Index, open_bench: Bench, at: int, out: str | Path) -> Card:
    """Finish a run that was killed after the index had grown. Raises PomonaError when it was
    another run that took these inputs in.
    """
    if not (open_bench.folder / "inputs").exists():
        shutil.rmtree(open_bench.folder)
        message = f"these inputs are in the index already, as batch {at}"
        raise PomonaError(
            message,
            where=known.folder,
            remedy="give new documents; the result of that run is not touched",
        )
    found = read_json(card_of(out))
    found.pop("signature")
    return Card(**{**found, "inputs": tuple(Input(**file) for file in found["inputs"])})


def _opened(inputs: Inputs) -> Records:
    return inputs if isinstance(inputs, Records) else read(inputs)


def _check(
    records: Records,
    out: str | Path,
    options: Options,
    other: Records | None,
    index: str | Path | None,
) -> None:
    for part in records._source.parts():
        if Path(part.where).exists() and Path(out).exists() and Path(part.where).samefile(out):
            raise PomonaError(
                "is read and written at once", where=out, remedy="write to another path"
            )
    if index is not None:
        for name, wrong in (
            ("keep", options.keep != "first"),
            ("against", other is not None),
            ("target_size", options.target_size),
        ):
            if wrong:
                message = f"an index remembers which document was first: it does not go with {name}"
                raise PomonaError(message, where=name, remedy=f"leave out {name}, or the index")


def _other(
    method: str, inputs: Inputs, out: str | Path, given: dict[str, Any], others: dict[str, Any]
) -> Card:
    from inspect import signature

    if method == "substring":
        from pomona.data.duplicates.substring import dedup_substring as function
    else:
        from pomona.data.duplicates.semantic import dedup_semantic as function
    defaults = {name: parameter.default for name, parameter in signature(dedup).parameters.items()}
    wanted = {
        name: value
        for name, value in given.items()
        if value is not defaults[name] and value != defaults[name]
    } | others
    taken = signature(function).parameters
    for name in wanted:
        if name not in taken:
            raise PomonaError(
                f'{method} has no option "{name}"', where="dedup", remedy=nearest(name, taken)
            )
    return function(inputs, out, **wanted)
