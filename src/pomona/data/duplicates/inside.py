"""What of a benchmark is inside of documents: runs of words that both have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pomona.data.duplicates import minhash
from pomona.data.duplicates.choose import ids_of
from pomona.data.duplicates.minhash import (
    Progress,
    SigningScratch,
    check_columns,
    scratch_at,
    steps,
)
from pomona.data.duplicates.signed import DedupOptions, Ints, Signed, chunks_in, options_of
from pomona.data.duplicates.striking import Pieces, StruckRows, check_column, runs_of
from pomona.data.inputs import Inputs, opened
from pomona.data.work import results_of, stamps, work_at, work_of
from pomona.errors import PomonaError
from pomona.records import Card, Records, as_records, filtered, inputs_of, split, with_text
from pomona.shingles import Shingle, composed

SHORT = 2  # a flag of facts: fewer words than a run
_LISTED = 100  # items that the pairs name of one row
_SIZES = (8, 13)  # words of a run
_SPACELESS = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}]"
_NORMAL_FORM = "nfc+lower+no-punctuation+single-spaces"
Words = NDArray[np.uint64]


def dedup_inside(
    inputs: Inputs,
    out: str | Path,
    *,
    against: Inputs,
    against_column: str | None = None,
    column: str = "text",
    threshold: float | None = None,
    shingle: Shingle = "auto",
    shingle_size: int | None = None,
    strike: bool = False,
    pairs: str | Path | None = None,
    engine: str | None = "native",
    work: str | Path | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Card:
    """Keep the rows that hold nothing of the texts of `against`, a benchmark's items.

    A row holds an item when they share a run of `shingle_size` words, as GPT-3's were held against
    its benchmarks (Brown et al. 2020, arXiv 2005.14165, appendix C): as many as all but the
    shortest 5 % of the items have, at least 8 and at most 13, unless it is given. With `threshold`,
    when that share of the item's different runs is in the row. Words are cut at white space, in
    NFC and lower case, with punctuation and symbols as spaces; texts of which more than a fifth is
    of scripts without spaces have runs of characters (`shingle="auto"`). An item of fewer words
    cannot be found, and is counted.

    `OUT.pairs.parquet` has a row for each removed row and item that it holds, the 100 with the
    largest share at most: rows `removed` and `item`, from 0, their `removed_id` and `item_id`, how
    many `runs` they share, and their `share` of the item's. Rows are not compared with each other.

    With `strike` the runs alone are cut out of such rows, with 200 characters on either side, also
    as there. Each piece of 200 characters or more that is left is a row, with the other columns as
    they were; a text that falls into more than ten pieces goes as a whole.

    Args:
        against_column: Column of the items' texts; that of the rows when left out.
        strike: Only cut the runs out, with 200 characters on either side, and keep the pieces.

    Raises:
        PomonaError: a parameter is wrong, a file unreadable, a column missing, not of its type or
            null; or no item has as many words.
        ResourceError: the disk is full.
    """
    least = 1.0 if threshold is None else threshold
    options = options_of(
        "minhash", column, least, 1, 1, shingle, shingle_size, None, "first", None, 0
    )
    options = replace(options, inside=True)
    of_items = replace(options, column=against_column or column)
    records = check_columns(opened(inputs), options)
    other = check_columns(opened(against), of_items)
    if shingle_size is None:
        size = _SIZES[1] if shingle == "character" else _usual_size(other, of_items.column)
        options, of_items = (replace(one, shingle_size=size) for one in (options, of_items))
    if strike:
        check_column(records, column)
    plan = {"options": asdict(options), "inputs": stamps(records), "against": stamps(other)}
    plan |= {"rows": minhash.CHUNK_ROWS, "items": of_items.column}
    pieces = [split(part) for part in (records, other)]
    files = {"out": out, "pairs": pairs or f"{out}.pairs.parquet"}
    with (
        results_of([records, other], files, work=work_of(out, work), dry_run=dry_run) as results,
        work_at(out, work, dry_run) as folder,
        scratch_at(folder, plan, steps(options, pieces, False), progress) as scratch,
    ):
        counts = [
            scratch.sign(pieces[0], "inputs", options, engine, minhash.CHUNK_ROWS),
            scratch.sign(pieces[1], "against", of_items, engine, minhash.CHUNK_ROWS),
        ]
        items = _items(scratch, other)
        signed = Signed(chunks_in(scratch.folder / "inputs"))
        found = _found(signed, items, threshold)
        card = _card(options, of_items.column, threshold, counts, items, found)
        card = replace(card, left_out=records.rejected)
        left, tally = filtered(records, ~found.gone), Pieces()
        if strike:
            size, chars = options.shingle_size or 1, (signed.column("facts")[:, 1] & 1) != 0
            runs = runs_of(other, of_items.column, found.items, items.chars, size)
            left = Records.of(StruckRows(records, column, found.gone, chars, runs, size, tally))
            if dry_run:
                for _ in left.stream():
                    pass
        if not dry_run:
            results.write("out", left)
        card = _struck(card, tally, "id" in records.column_names) if strike else card
        if not dry_run:
            results.write("pairs", as_records(_evidence(records, other, found)))
            card = results.publish(card)
        scratch.step()
    return card


@dataclass(frozen=True)
class _Items:
    """The runs of all items, ascending `[k]`, with the item that each is of; how many different
    ones each item has, `[items]`; which are too short, and which have runs of characters.
    """

    runs: Words
    owner: Ints
    sizes: Ints
    short: NDArray[np.bool_]
    chars: NDArray[np.bool_]


@dataclass(frozen=True)
class _Found:
    """Rows that go, bool `[rows]`; for each of these and an item it holds, `[m]`: the row, the
    item, and how many runs they share and what share of the item's that is; and the items found.
    """

    gone: NDArray[np.bool_]
    row: Ints
    item: Ints
    runs: Ints
    share: NDArray[np.float64]
    items: NDArray[np.bool_]


def _usual_size(other: Records, column: str) -> int:
    """The words that all but the shortest 5 % of the items have, from 8 to 13. Items of scripts
    without spaces, whose runs are of characters, say nothing of it.
    """
    made, name = with_text(other, column)
    counts = [np.zeros(0)]
    for batch in made.select(name).stream():
        texts = minhash.bare(composed(batch.column(0).cast(pa.string()).drop_null()))
        words, letters = (
            pc.call_function(
                "count_substring_regex", [texts], options=pc.MatchSubstringOptions(what)
            ).to_numpy()
            for what in (r"[^\s\p{Z}]+", _SPACELESS)
        )
        length = pc.call_function("utf8_length", [texts]).to_numpy()
        counts.append(words[letters * 5 <= length])
    sizes = np.concatenate(counts)
    return int(np.clip(np.floor(np.percentile(sizes, 5)), *_SIZES)) if len(sizes) else _SIZES[1]


def _struck(card: Card, tally: Pieces, has_ids: bool) -> Card:
    """The card of rows that were cut."""
    rows = f"{tally.several:,} row" + ("s" if tally.several > 1 else "")
    repeats = has_ids and tally.several > 0
    notes = (f'the pieces of {rows} repeat the "id" of their row',) if repeats else ()
    told = {"rows_cut": tally.cut, "pieces": tally.pieces, "characters_cut": tally.characters}
    out = card.rows_in - tally.gone - tally.cut + tally.pieces
    removed = {"holds an item": tally.gone}
    parameters = {**card.parameters, "strike": True}
    details = {**card.details, **told}
    card = replace(card, parameters=parameters, rows_out=out, removed=removed, details=details)
    return replace(card, notes=(*card.notes, *notes))


def _items(scratch: SigningScratch, other: Records) -> _Items:
    signed = Signed(chunks_in(scratch.folder / "against"))
    rows = np.arange(len(signed))
    flags = signed.column("facts")[:, 1]
    short, chars = (flags & SHORT) != 0, (flags & 1) != 0
    if short.all():
        size = scratch.plan["options"]["shingle_size"]
        message, remedy = f"no item has {size} words", "set a smaller shingle size"
        if not len(rows):
            message, remedy = "there are no items", "give a table with rows"
        raise PomonaError(message, where=other.source.where, remedy=remedy)
    runs, offsets = signed.gather("sets", rows)
    owner = np.repeat(rows, np.diff(offsets))
    kept = ~short[owner]
    runs, owner = runs[kept], owner[kept]
    order = np.argsort(runs, kind="stable")
    sizes = np.bincount(owner, minlength=len(rows))
    return _Items(runs[order], owner[order], sizes, short, chars)


def _found(signed: Signed, items: _Items, threshold: float | None) -> _Found:
    """Hold all documents against the items, chunk by chunk."""
    gone, seen = np.zeros(len(signed), np.bool_), np.zeros(len(items.sizes), np.bool_)
    none = np.zeros(0, np.int64)
    parts: list[tuple[Ints, Ints, Ints]] = [(none, none, none)]
    few = (signed.column("facts")[:, 1] & SHORT) != 0
    for start, stop in zip(signed.starts[:-1], signed.starts[1:], strict=True):
        rows = np.arange(start, stop)
        runs, offsets = signed.gather("sets", rows)
        first = np.searchsorted(items.runs, runs)
        last = np.searchsorted(items.runs, runs, side="right")
        hits = np.flatnonzero(last > first)
        owners = np.repeat(rows, np.diff(offsets))[hits]
        hits, owners = hits[~few[owners]], owners[~few[owners]]
        for row, of_row in _by_row(owners, hits):
            held, shared = _held(items, first[of_row], last[of_row])
            share = shared / items.sizes[held]
            enough = share >= (threshold or 0.0)
            held, shared, share = held[enough], shared[enough], share[enough]
            if not len(held):
                continue
            gone[row], seen[held] = True, True
            order = np.lexsort((held, -share))[:_LISTED]
            parts.append((np.full(len(order), row), held[order], shared[order]))
    row, item, runs = (np.concatenate(column) for column in zip(*parts, strict=True))
    return _Found(gone, row, item, runs, runs / np.maximum(items.sizes[item], 1), seen)


def _by_row(owners: Ints, hits: Ints) -> Iterator[tuple[int, Ints]]:
    """Each row with its hits; `owners` are ascending."""
    rows, begins = np.unique(owners, return_index=True)
    yield from zip(rows.tolist(), np.split(hits, begins)[1:], strict=True)


def _held(items: _Items, first: Ints, last: Ints) -> tuple[Ints, Ints]:
    """The items whose runs lie in these ranges, and how many of each do."""
    counts = last - first
    places = np.repeat(first - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
    return np.unique(items.owner[places], return_counts=True)


def _evidence(records: Records, other: Records, found: _Found) -> pa.Table:
    return pa.table(
        {
            "removed": pa.array(found.row),
            "removed_id": ids_of(records, found.row),
            "item": pa.array(found.item),
            "item_id": ids_of(other, found.item),
            "runs": pa.array(found.runs),
            "share": pa.array(found.share),
        }
    )


def _card(
    options: DedupOptions,
    items_in: str,
    threshold: float | None,
    counts: Sequence[list[tuple[str, int]]],
    items: _Items,
    found: _Found,
) -> Card:
    read, compared = map(inputs_of, counts)
    rows, gone = len(found.gone), int(found.gone.sum())
    parameters: dict[str, Any] = {
        "method": "inside",
        "column": options.column,
        "against_column": items_in if items_in != options.column else None,
        "shingle": options.shingle,
        "shingle_size": options.shingle_size,
        "threshold": threshold,
        "normal_form": _NORMAL_FORM,
        "against": [file.path for file in compared],
    }
    details = {
        "items": len(items.sizes),
        "items_found": int(found.items.sum()),
        "items_too_short": int(items.short.sum()),
        "against": [asdict(file) for file in compared],
    }
    removed = {"holds an item": gone}
    return Card("dedup", parameters, read, rows, rows - gone, removed, details=details)
