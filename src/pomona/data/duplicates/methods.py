"""`dedup`: one call for the four methods, which hands what was asked to the one that does it."""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from typing import Any

from pomona.data.duplicates.minhash import Progress
from pomona.data.duplicates.near import dedup_near
from pomona.data.duplicates.signed import Method, options_of
from pomona.data.inputs import Inputs
from pomona.errors import PomonaError, nearest
from pomona.records import Card, check_engine
from pomona.shingles import Shingle

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
    shingle_size: int | None = None,
    edit_similarity: float | None = None,
    target_size: int | None = None,
    against: Inputs | None = None,
    inside: bool = False,
    strike: bool = False,
    against_column: str | None = None,
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
    that with the greatest value in a column (`best:COLUMN`), or none. `target_size` then cuts to
    that many rows in the same order of preference. `against` removes first what has a duplicate
    there. With `inside` nothing else is done, and what is removed are rows that hold `shingle_size`
    (8 to 13) words in a row of a text there, without punctuation, or with `threshold` that share of
    the text's runs; with `strike` only these are cut out (`dedup_inside`). `index` is a folder that
    remembers all documents ever given with it: a new document stays if it is the first of its group
    among all of them, as in one run over all batches; the index grows when `out` is written.
    `pairs` is where the evidence goes (default `OUT.pairs.parquet`). After a kill the same call
    continues from `work` (default beside `out`; on Ray it must be a folder that all machines share)
    and gives the identical result, whatever the engine and chunks. One job is one file, or about 64
    MiB of a larger Parquet or JSONL file.

    Args:
        out: File of what is kept; the card and the evidence are written beside it.
        method: exact, minhash (near-duplicates), substring (strikes long spans that occur
            twice) or semantic (cosine of embeddings).
        column: Text of a row: a column of strings or of conversations, a field (meta.text), what a
            role says (messages.user), or a template of these ("{prompt}\\n{completion}").
        threshold: Similarity from which two documents are duplicates: Jaccard for minhash
            (0.8), cosine for semantic (0.95).
        n_bands: Bands of the signature; from the threshold when left out.
        rows_per_band: Hashes in a band.
        shingle: Word or character shingles; auto decides for each document by its script.
        shingle_size: Words or characters in a shingle (5; with inside 13, or 8 to 12 where items
            are shorter).
        keep: Which one stays. minhash, exact: first, longest, best:COLUMN or none. substring:
            none or first. semantic: far, near, first or none.
        target_size: Then cut to this many rows.
        edit_similarity: Pairs must also have this edit similarity on tokens.
        against: Also remove what has a duplicate in these inputs.
        against_column: With inside, the text of an item, where it is called otherwise.
        inside: Only remove what holds a run of words of these inputs: a benchmark's items.
        strike: With inside, only cut the runs out, with 200 characters on either side; each piece
            that is left is a row.
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
    if inside and method != "minhash":
        remedy = "leave out the method"
        raise PomonaError(f"inside does not go with {method}", where="dedup", remedy=remedy)
    if method in ("substring", "semantic"):
        return _other(method, inputs, out, given, others)
    if others:
        raise PomonaError(
            f'{method} has no option "{next(iter(others))}"',
            where="dedup",
            remedy=nearest(next(iter(others)), given),
        )
    check_engine(engine)
    if inside:
        return _inside(inputs, out, given)
    if strike:
        raise PomonaError(
            "goes with inside", where="strike", remedy="add --inside, or leave it out"
        )
    if against_column is not None:
        remedy = "leave it out, or rename the column"
        raise PomonaError("goes with inside", where="against_column", remedy=remedy)
    threshold, keep = 0.8 if threshold is None else threshold, keep or "first"
    options = options_of(
        method,
        column,
        threshold,
        n_bands,
        rows_per_band,
        shingle,
        5 if shingle_size is None else shingle_size,
        edit_similarity,
        keep,
        target_size,
        seed,
    )
    return dedup_near(
        inputs,
        out,
        options,
        against=against,
        pairs=pairs,
        index=index,
        engine=engine,
        work=work,
        dry_run=dry_run,
        progress=progress,
    )


def _inside(inputs: Inputs, out: str | Path, given: dict[str, Any]) -> Card:
    from pomona.data.duplicates.inside import dedup_inside

    if given["against"] is None:
        remedy = "give against: the benchmark"
        raise PomonaError("means nothing without against", where="inside", remedy=remedy)
    taken = signature(dedup_inside).parameters
    defaults = signature(dedup).parameters
    wanted = {
        name: value
        for name, value in given.items()
        if name != "inside" and value is not defaults[name].default
    }
    for name in wanted:
        if name not in taken:
            message = f"inside has no option {name}: rows are not compared with each other"
            raise PomonaError(message, where="dedup", remedy="leave one of them out")
    return dedup_inside(inputs, out, **wanted)


def _other(
    method: str, inputs: Inputs, out: str | Path, given: dict[str, Any], others: dict[str, Any]
) -> Card:
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
