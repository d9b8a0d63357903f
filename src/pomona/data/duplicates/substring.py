"""Strike what stands in the data more than once: exact repeats of at least `min_length` units,
wherever they are.

Lee et al. 2022 (arXiv 2107.06499, §4.1) find them with a suffix array. Only repeats of a least
length matter, and their union is the union of the repeated *grams* of exactly that length. So this
finds every gram that occurs again, by a rolling hash, and compares the text itself before it
believes one: the spans are those of the suffix array, in linear time and within a given memory.

The process stays within `memory` as long as it holds nothing else; a table given as input is
counted. Of it, 368 MiB are for Python, its libraries and batches of rows; the rest holds a table of
8 bytes an entry, filled to 0.6. Where there are more grams they are searched for in several passes,
each over one part of the hash space, with the same result; time is passes × bytes. The texts (with
`unit="token"` the tokens, 12 bytes each) and one bit a byte lie in the work folder; their pages are
given back as the search goes on. A document is held whole: 10 times its bytes, 340 times while a
tokenizer works on it. What cannot be done with `memory` is refused with the least amount that can;
384MiB is enough for texts below 6 MB (tokens: 180 kB). Parquet pages of more than 4 MiB are counted
three times (one of 64 MiB made 401 MiB of a run that takes 329 without); those of files on S3 are
not looked at.

A run that was killed goes on from the texts or tokens that lie there (kept every 32 MiB) and from
the passes that were finished. The folder is removed at the end.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from itertools import chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

import pomona
from pomona.data.duplicates.substring_texts import ColumnTexts, texts_of
from pomona.data.duplicates.whole_parts import PARTS, RepeatedParts
from pomona.data.inputs import BATCH_BYTES, Inputs, open_column, size_in_bytes, unheard
from pomona.data.work import results_of, stamps, work_at, work_of
from pomona.errors import PomonaError, nearest
from pomona.files import sha256_of
from pomona.records import (
    BATCH_ROWS,
    Batches,
    Card,
    Filter,
    ParquetSource,
    Records,
    Results,
    check_engine,
    fitted,
    format_of,
    kept,
    locate,
    unreadable,
)
from pomona.text import strings
from pomona.workspace import Workspace

if TYPE_CHECKING:
    from pomona.data.duplicates.substring_cut import Struck, Tally

_GROUP_BYTES = 8 << 20
_BUFFER = 1 << 20


@dataclass(frozen=True)
class _Paged(ParquetSource):
    """Parquet shards, read page by page."""

    def stream(self, columns: Sequence[str], keep: Filter) -> Batches:
        """Batches of about 4 MiB and at most 8,192 rows. A filter may ask for any column, so all
        are read for it.
        """
        names = list(columns) if keep is None else self.schema.names
        schema = pa.schema([self.schema.field(name) for name in names])
        for file in self.files:
            self.fragment(file)
            store, path = locate(file)
            try:
                with (
                    store.open_input_file(path) as handle,
                    pq.ParquetFile(handle, pre_buffer=False, buffer_size=_BUFFER) as shard,
                ):
                    there = [name for name in names if name in shard.schema_arrow.names]
                    for batch in shard.iter_batches(
                        _rows(shard.metadata), columns=there, use_threads=False
                    ):
                        yield kept(fitted(batch, schema, file), keep)
            except (OSError, pa.ArrowException) as error:
                raise unreadable(file, error) from error


def _rows(metadata: pq.FileMetaData) -> int:
    size = sum(
        metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups)
    )
    return max(1, min(BATCH_ROWS, BATCH_BYTES * metadata.num_rows // max(1, size)))


def paged(records: Records) -> Records:
    """The same records; Parquet comes in small batches."""
    return replace(records, source=_paged(records.source))


def _paged(source: Any) -> Any:
    if isinstance(source, ParquetSource):
        return _Paged(source.files, source.schema, source.first, notes=source.notes)
    inner = getattr(source, "source", None)
    return source if inner is None else replace(source, source=_paged(inner))


@dataclass(frozen=True, eq=False, repr=False)
class SmallBatches(Records):
    """Records to be written with few bytes at a time, where rows are long."""

    def batches(self, rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
        """Batches of at most `rows` rows, whole ones of the stream as long as they hold no more
        than 8 MiB.
        """
        held: list[pa.RecordBatch] = []
        count = size = 0
        for batch in self.stream():
            if held and (count + batch.num_rows > rows or size + batch.nbytes > _GROUP_BYTES):
                yield pa.concat_batches(held)
                held, count, size = [], 0, 0
            held.append(batch)
            count, size = count + batch.num_rows, size + batch.nbytes
        if held:
            yield pa.concat_batches(held)


EMBEDDED = "ui-tokenizer"


class Tokens:
    """A tokenizer, without special tokens, truncation and padding. `name` is as it was asked
    for.
    """

    def __init__(self, name: str | Path | None) -> None:
        if importlib.util.find_spec("tokenizers") is None:
            raise PomonaError(
                "unit token needs the package tokenizers",
                remedy="pip install 'pomona[torch]', or use unit word",
            )
        from tokenizers import Tokenizer

        self.name = str(name or EMBEDDED)
        self.file = _find(name)
        try:
            self._tokenizer: Any = Tokenizer.from_file(str(self.file))
        except Exception as error:
            raise PomonaError(
                f"cannot be read as a tokenizer: {error}",
                where=self.file,
                remedy="copy tokenizer.json again",
            ) from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def encode(
        self, texts: pa.StringArray
    ) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]:
        """Ids `[t]`, the bytes `[t, 2]` of each token within its text, and the number of tokens up
        to the end of each text.
        """
        data, offsets = strings(texts)
        encoded = self._tokenizer.encode_batch(texts.to_pylist(), add_special_tokens=False)
        ids = [np.array(one.ids, np.int32) for one in encoded]
        pieces = [
            np.array([*chain.from_iterable(one.offsets)], np.int32).reshape(-1, 2)
            for one in encoded
        ]
        for row, (start, stop) in enumerate(pairwise(offsets)):
            begins = np.flatnonzero((data[start:stop] & 0xC0) != 0x80)
            if len(begins) != stop - start:
                pieces[row] = np.append(begins, stop - start).astype(np.int32)[pieces[row]]
        counts = np.cumsum([len(one) for one in ids], dtype=np.int64)
        return (
            np.concatenate([*ids, np.zeros(0, np.int32)]),
            np.concatenate([*pieces, np.zeros((0, 2), np.int32)]),
            counts,
        )


def _find(name: str | Path | None) -> Path:
    """tokenizer.json of the embedded tokenizer, a file, a folder, or a model that `pomona.models`
    knows.
    """
    if name is None or str(name) == EMBEDDED:
        return Path(pomona.__file__).parent / "assets" / EMBEDDED / "tokenizer.json"
    path = Path(name).expanduser()
    if path.is_file():
        return path
    if not (path / "tokenizer.json").is_file():
        from pomona.models import locate

        path = locate(str(name))
    if not (path / "tokenizer.json").is_file():
        raise PomonaError(
            "there is no tokenizer.json",
            where=path,
            remedy="save the tokenizer as a fast one, or name another",
        )
    return path / "tokenizer.json"


Unit = Literal["word", "byte", "token", "line", "paragraph"]
_UNITS = ("word", "byte", "token", "line", "paragraph")
_REASONS = {"none": "occurs more than once", "first": "occurs earlier"}


def dedup_substring(
    inputs: Inputs,
    out: str | Path,
    *,
    column: str = "text",
    unit: Unit = "word",
    min_length: int | None = None,
    tokenizer: str | Path | None = None,
    keep: Literal["none", "first"] = "none",
    empty: Literal["keep", "drop"] = "keep",
    memory: int | str = "1GiB",
    engine: str | None = "native",
    work: str | Path | None = None,
    dry_run: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Card:
    """Strike from `column` every span of at least `min_length` units that occurs at least twice;
    write all rows and columns to `out`.

    unit: "word" (a run of letters, marks and digits; any other visible character, and each
        character of scripts without spaces, by itself; white space does not matter), "byte", or
        "token" of `tokenizer` (a folder, a tokenizer.json, any model; by default the embedded
        ui-tokenizer). 50 words are about 60 tokens of English; with bytes take about 200. "line"
        and "paragraph" (what blank lines part) are struck as wholes, with the white space behind
        them, where another of the same letters is anywhere; `min_length` is then how many words one
        must have (1). They have one engine.
    keep: "none" strikes all occurrences, as the paper does. "first" strikes a gram of `min_length`
        units when an equal one has *ended* before it begins, so the first copy stays and so does
        the first period of a run like "aaaa".
    empty: rows of which nothing but white space is left are kept as they are, or dropped and
        counted.
    memory: what the process stays within, see the module; the result does not depend on it. work:
        folder that a killed run continues from (default: a hidden one beside `out`; on Ray one that
        all machines share).
    engine: "native", or "ray": each worker does one pass at a time, with a table as large as
        `memory` allows here; there are as many passes as workers at least. Reading, tokenising and
        writing stay in this process.

    A span never crosses a text and is narrowed to whole characters. Of a conversation each message
    is a text, of a template each column: they are struck where they stand, and calls of tools not
    at all. What stood around a span is joined as it is. `OUT.spans.parquet` lists what was struck:
    row (from 0, over all inputs), start and end (bytes of the text in UTF-8, of a row with several
    texts of the one it is in) and reason. Raises PomonaError for a missing column, a null or
    invalid UTF-8 (file and row), too little memory, or a setting out of range; ResourceError on a
    full disk, with files that were there as they were.

    Args:
        unit: word, byte or token; or line or paragraph, which are struck as wholes.
        min_length: Shortest span that is struck, in units (50); words of a line or paragraph (1).
        tokenizer: Tokenizer of unit token.
        empty: Keep or drop rows of which nothing is left.
        memory: substring, semantic: memory to stay within, such as 1GiB.
    """
    min_length = (1 if unit in PARTS else 50) if min_length is None else min_length
    _check(unit, min_length, tokenizer, keep, empty)
    format_of(str(out))
    limit = size_in_bytes(memory)
    if unit in PARTS:
        if check_engine(engine) != "native":
            message, remedy = f"does not go with unit {unit}", "leave it out: it is one process"
            raise PomonaError(message, where="engine", remedy=remedy)
        texts = texts_of(paged(open_column(inputs, column)), column)
        asked = {"column": column, "unit": unit, "min_length": min_length}
        asked |= {"keep": keep, "empty": empty}
        return _strike_parts(texts, asked, out, limit, work, dry_run, progress or unheard)
    engine, records = check_engine(engine), paged(open_column(inputs, column))
    from pomona.data.duplicates.substring_memory import MemoryBudget
    from pomona.data.duplicates.substring_passes import Search, Stream
    from pomona.data.duplicates.substring_scan import BYTE, TOKEN, WORD

    texts = texts_of(records, column)
    search = Search(min_length, {"word": WORD, "byte": BYTE, "token": TOKEN}[unit], keep == "first")
    budget, tokens = (
        MemoryBudget(limit, search.kind, texts.records.source),
        Tokens(tokenizer) if unit == "token" else None,
    )
    digest = tokens and sha256_of(tokens.file)
    asked = {
        "column": column,
        "unit": unit,
        "min_length": min_length,
        "tokenizer": tokens and tokens.name,
        "keep": keep,
        "empty": empty,
    }
    plan = {"inputs": stamps(texts.records), "column": column, "unit": unit, "tokenizer": digest}
    files = {"out": out, "spans": f"{out}.spans.parquet"}
    with (
        results_of([texts.records], files, work=work_of(out, work), dry_run=dry_run) as results,
        work_at(out, work, dry_run) as root,
        Workspace(root, plan).resumed() as folder,
        closing(
            Stream.of(budget.watched(texts), search, folder, tokens and tokens.encode)
        ) as stream,
    ):
        units, grams = stream.count()
        passes, table = stream.mark(grams, budget.table(), progress or unheard, engine)
        tally = _struck(results, texts, stream, asked, dry_run)
        details = {
            "units": units,
            "memory": limit,
            "table_bytes": table,
            "passes": passes,
            "tokenizer_sha256": digest,
        }
        return _published(results, texts, asked, tally, details, dry_run)


def _struck(
    results: Results, texts: ColumnTexts, found: Struck, asked: dict[str, Any], dry_run: bool
) -> Tally:
    """Write the rows without what was found, and the list of that; of a dry run only count."""
    from pomona.data.duplicates.substring_cut import CutRows, StruckSpans, Tally

    tally = Tally()
    cut = SmallBatches.of(CutRows(texts, found, asked["empty"] == "drop", tally))
    if dry_run:
        for _ in cut.batches():
            pass
    else:
        reason = _REASONS[asked["keep"]]
        results.write("spans", SmallBatches.of(StruckSpans(found, texts, reason)))
        results.write("out", cut)
    return tally


def _published(
    results: Results,
    texts: ColumnTexts,
    asked: dict[str, Any],
    tally: Tally,
    details: dict[str, Any],
    dry_run: bool,
) -> Card:
    card = Card(
        operation="dedup_substring",
        parameters=asked,
        inputs=texts.inputs,
        rows_in=texts.rows,
        rows_out=tally.rows,
        removed={"nothing left": tally.rows_emptied} if asked["empty"] == "drop" else {},
        details=asdict(tally) | details,
        left_out=texts.records.rejected,
    )
    return card if dry_run else results.publish(card)


def _strike_parts(
    texts: ColumnTexts,
    asked: dict[str, Any],
    out: str | Path,
    memory: int,
    work: str | Path | None,
    dry_run: bool,
    progress: Callable[[int, int], None],
) -> Card:
    """`dedup_substring` by lines or paragraphs."""
    files = {"out": out, "spans": f"{out}.spans.parquet"}
    plan = {"inputs": stamps(texts.records), **asked, "memory": memory}
    with (
        results_of([texts.records], files, work=work_of(out, work), dry_run=dry_run) as results,
        work_at(out, work, dry_run) as root,
        Workspace(root, plan).resumed() as folder,
    ):
        unit, least, keep = asked["unit"], asked["min_length"], asked["keep"]
        found = RepeatedParts(texts, unit, least, keep, folder)
        found.find(memory, progress)
        tally = _struck(results, texts, found, asked, dry_run)
        details = {"units": found.count, "memory": memory, "passes": found.passes}
        return _published(results, texts, asked, tally, details, dry_run)


def _check(unit: str, min_length: int, tokenizer: object, keep: str, empty: str) -> None:
    for name, value, known in (
        ("unit", unit, _UNITS),
        ("keep", keep, _REASONS),
        ("empty", empty, ("keep", "drop")),
    ):
        if value not in known:
            raise PomonaError(f'"{value}" is unknown', where=name, remedy=nearest(value, known))
    if min_length < 1:
        raise PomonaError(
            f"{min_length} units are no repeat",
            where="min_length",
            remedy="use 1 or more; the paper uses 50 tokens",
        )
    if tokenizer is not None and unit != "token":
        raise PomonaError(
            f"unit {unit} uses no tokenizer",
            where="tokenizer",
            remedy="leave it out, or use unit token",
        )
