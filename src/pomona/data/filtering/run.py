"""`filter`: one pass finds for every row the first condition that it does not pass, a second one
writes what is left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pomona.data.filtering.expression import condition
from pomona.data.inputs import Inputs, opened, values_of
from pomona.data.mixing.rows import chosen
from pomona.data.mixing.table_scan import Scanned, labels_of, refuse_empty
from pomona.data.work import results_of
from pomona.errors import PomonaError
from pomona.records import (
    Batches,
    Card,
    Derived,
    Filter,
    Piece,
    Records,
    check_engine,
    inputs_of,
    kept,
    rows_by_file,
    split,
    spread,
    with_text,
)
from pomona.text import language_confidence

Codes = NDArray[np.int16]
REASON = "reason"
UNKNOWN = " (unknown: null)"


class Test(Protocol):
    """A condition: how it is told, the columns it looks at, and what it is for each row of a
    batch, bool `[n]`, null where it is unknown.
    """

    @property
    def text(self) -> str:
        """How it is told."""
        ...

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns it looks at."""
        ...

    def test(self, rows: pa.RecordBatch) -> pa.BooleanArray:
        """True, false or null for each row."""
        ...


@dataclass(frozen=True)
class Language:
    """A text is in the language of its row, as far as py3langid is sure of that. The text that
    users call `called` is in `column`.
    """

    called: str
    column: str
    lang: str
    least: float

    @property
    def text(self) -> str:
        """How it is told."""
        return f"{self.called} is in {self.lang}: at least {self.least:g}"

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns it looks at."""
        return self.column, self.lang

    def test(self, rows: pa.RecordBatch) -> pa.BooleanArray:
        """Null where one is missing, or the language is none that can be told."""
        texts, langs = (values_of(rows.column(name)) for name in self.columns)
        there = [pair for pair in zip(texts, langs, strict=True) if None not in pair]
        sure = iter(language_confidence([t for t, _ in there], [str(g) for _, g in there]))
        found = [None if None in pair else next(sure) for pair in zip(texts, langs, strict=True)]
        return pa.array(
            [None if one is None or np.isnan(one) else bool(one >= self.least) for one in found],
            pa.bool_(),
        )


@dataclass(frozen=True)
class Asked:
    """The conditions as they were given, which each worker reads by itself; `not_empty` are texts
    as users call them, with their columns.
    """

    where: tuple[str, ...]
    not_null: tuple[str, ...]
    not_empty: tuple[tuple[str, str], ...]
    language: Language | None

    def tests(self, records: Records) -> list[Test]:
        """The conditions in order. Raises PomonaError for one that cannot be, or when there are
        none.
        """
        tests: list[Test] = []
        for name in self.not_null:
            read = condition(f"{_quoted(name)} is not None", records.require(name))
            tests.append(replace(read, text=f"{name} is not null"))
        for name, texts in self.not_empty:
            read = condition(f"not empty({_quoted(texts)})", records)
            tests.append(replace(read, text=f"{name} is not empty"))
        tests += [condition(text, records) for text in self.where]
        if self.language is not None:
            records.require(self.language.lang)
            tests.append(self.language)
        if not tests:
            remedy = "give where, not-null, not-empty or language"
            raise PomonaError("no condition is given", where="filter", remedy=remedy)
        return tests


def _quoted(name: str) -> str:
    return f"column({name!r})"


@dataclass(frozen=True)
class _Look:
    """One job: a piece, and what is asked of its rows."""

    piece: Piece
    asked: Asked
    group: str | None


@dataclass(frozen=True)
class _Seen:
    """What a job found: `codes` `[rows]`, 0 for a row that passes, else 2 i + 1 for condition i
    being false and 2 i + 2 for its being unknown; rows in and out of each group.
    """

    codes: Codes
    before: Counter[str]
    after: Counter[str]


def filter(
    inputs: Inputs,
    out: str | Path,
    *,
    where: Sequence[str] = (),
    not_null: Sequence[str] = (),
    not_empty: Sequence[str] = (),
    language: str | None = None,
    least: float = 0.5,
    column: str = "text",
    group: str | None = None,
    rejects: str | Path | None = None,
    engine: str | None = "native",
    dry_run: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Card:
    """Keep the rows that pass all conditions, and count how many fall by which.

    A condition is written like `lang == "de" and score > 0.3 and len(text) >= 20`: columns (of odd
    names `column("perplexity@ui-s")`, parts of structs `meta.url`), numbers, text in quotes, true,
    false; `== != < <= > >=` (also `0.1 < score < 0.5`), `in ["de", "en"]`, `"part" in text`, `is
    None`; `+ - * /`; `and`, `or`, `not`; and the functions len (characters, or items of a list),
    words, lower, upper, strip, startswith, endswith, matches (a pattern of RE2), number (of text),
    abs, empty. A time is compared with text such as "2024-05-01".

    A row falls by the first condition that it does not pass, in the order not_null, not_empty,
    where, language. Where a value is null (or NaN) a condition is unknown: such rows fall too, and
    are counted apart. `score is None or score > 0.3` keeps them.

    `language` names the column of each row's language; rows whose `column` is in it with less
    confidence than `least` fall (`language_confidence`; short texts get low numbers). The score
    "language" puts the same number into a column. Languages that py3langid does not know are
    unknown. With `engine="ray"` workers look at the rows and pick them; the files are the same.

    Args:
        out: File of the rows that are kept.
        where: Conditions, such as 'lang == "de" and score > 0.3'.
        not_null: Columns that must have a value.
        not_empty: Texts that must hold more than white space: columns, fields, conversations.
        language: Column of the language that a row's text must be in.
        least: Confidence that it is, from 0 to 1.
        column: Text of a row, for language: a column, a field, a conversation or a template.
        group: Column; the card has rows in and out of each of its values.
        rejects: File of the rows that fall, with all columns and the reason; malformed rows go to
            NAME.malformed.jsonl beside it.
        dry_run: Only count; write nothing.

    Raises:
        PomonaError: a condition cannot be read (with the character), a column is missing or of
            another kind, no row is left, or a file is malformed.
        ResourceError: the disk is full. Nothing is left behind, and a file that was there is as it
            was.
    """
    engine, records = check_engine(engine), opened(inputs)
    shown = records.column_names
    records, not_empty_in = _with_texts(records, _several(not_empty))
    of_language = None
    if language is not None:
        records, ((_, texts),) = _with_texts(records, (column,))
        of_language = _language(column, texts, language, least)
    asked = Asked(_several(where), _several(not_null), not_empty_in, of_language)
    tests = asked.tests(records)
    if rejects is not None and REASON in records.column_names:
        message = f'there is a column "{REASON}" already'
        raise PomonaError(message, where=records.source.where, remedy="rename it")
    records = records.require(*[group] if group else []).complete(*[group] if group else [])
    files = {"out": out, "rejects": rejects}
    with results_of([records], files, dry_run=dry_run) as results:
        scan, codes, groups = _scanned(records, shown, asked, tests, group, engine)
        card = _card(scan, asked, tests, codes, groups)
        if dry_run:
            return card
        if not card.rows_out:
            remedy = "look with --dry-run at how many fall by which condition"
            raise PomonaError("no row passes all conditions", where=out, remedy=remedy)
        results.write("out", chosen(scan, codes == 0, progress))
        if rejects is not None:
            fallen = chosen(scan, codes != 0, None)
            results.write("rejects", Records.of(_Reasoned(fallen, codes[codes != 0], _told(tests))))
        return results.publish(card)


def _several(given: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([given] if isinstance(given, str) else given))


def _with_texts(
    records: Records, texts: Sequence[str]
) -> tuple[Records, tuple[tuple[str, str], ...]]:
    """The records with these texts, as `with_text` takes them, null where a row has none; and each
    with its column.
    """
    made, names = replace(records, drops=True), list[tuple[str, str]]()
    for text in texts:
        made, name = with_text(made, text)
        names.append((text, name))
    return replace(made, drops=records.drops), tuple(names)


def _language(called: str, column: str, lang: str, least: float) -> Language:
    if not 0 <= least <= 1:
        raise PomonaError(f"{least} is no confidence", where="least", remedy="give 0 to 1")
    return Language(called, column, lang, least)


def _scanned(
    records: Records,
    shown: Sequence[str],
    asked: Asked,
    tests: Sequence[Test],
    group: str | None,
    engine: str,
) -> tuple[Scanned, Codes, dict[str, tuple[int, int]]]:
    names = dict.fromkeys(name for test in tests for name in test.columns)
    columns = [*names, *([group] if group and group not in names else [])]
    pieces = split(records)
    jobs = [
        _Look(replace(piece, records=piece.records.select(*columns)), asked, group)
        for piece in pieces
    ]
    seen = list(spread(_look, jobs, engine))
    counts = [len(part.codes) for part in seen]
    refuse_empty(records, counts)
    scan = Scanned(
        records.select(*shown),
        tuple(replace(piece, records=piece.records.select(*shown)) for piece in pieces),
        tuple(counts),
        engine,
        inputs_of(rows_by_file(pieces, counts)),
    )
    before, after = Counter[str](), Counter[str]()
    for part in seen:
        before.update(part.before)
        after.update(part.after)
    groups = {name: (before[name], after[name]) for name in before}
    return scan, np.concatenate([part.codes for part in seen]), groups


def _look(job: _Look) -> _Seen:
    tests, rows = job.asked.tests(job.piece.records), 0
    codes, before, after = [np.zeros(0, np.int16)], Counter[str](), Counter[str]()
    for batch in job.piece.records.stream():
        codes.append(_codes(batch, tests))
        if job.group is not None:
            labels = labels_of(batch, job.group, job.piece, rows)
            for counted, some in (
                (before, labels),
                (after, labels.filter(pa.array(codes[-1] == 0))),
            ):
                for one in some.value_counts().to_pylist():
                    counted[one["values"]] += one["counts"]
        rows += batch.num_rows
    return _Seen(np.concatenate(codes), before, after)


def _codes(batch: pa.RecordBatch, tests: Sequence[Test]) -> Codes:
    """By which condition each row of a batch falls. Each looks at the rows that are left."""
    codes, left, rows = np.zeros(batch.num_rows, np.int16), np.arange(batch.num_rows), batch
    for place, test in enumerate(tests):
        found = test.test(rows)
        unknown = found.is_null().to_numpy(zero_copy_only=False)
        passes = found.fill_null(False).to_numpy(zero_copy_only=False)
        codes[left] = np.where(passes, 0, 2 * place + 1 + unknown)
        if not passes.all():
            left, rows = left[passes], rows.filter(pa.array(passes))
    return codes


def _told(tests: Sequence[Test]) -> list[str]:
    """What each code above 0 says."""
    return [f"{test.text}{mark}" for test in tests for mark in ("", UNKNOWN)]


def _card(
    scan: Scanned,
    asked: Asked,
    tests: Sequence[Test],
    codes: Codes,
    groups: dict[str, tuple[int, int]],
) -> Card:
    counts = np.bincount(codes, minlength=2 * len(tests) + 1)
    parameters: dict[str, Any] = {
        "where": list(asked.where) or None,
        "not_null": list(asked.not_null) or None,
        "not_empty": [name for name, _ in asked.not_empty] or None,
        "language": asked.language and asked.language.lang,
        "least": asked.language and asked.language.least,
        "column": asked.language and asked.language.called,
    }
    falls = np.append(0, np.cumsum(counts[1:].reshape(-1, 2).sum(axis=1)))
    attrition = [
        {
            "condition": test.text,
            "rows_in": len(codes) - int(falls[place]),
            "false": int(counts[2 * place + 1]),
            "unknown": int(counts[2 * place + 2]),
            "rows_out": len(codes) - int(falls[place + 1]),
        }
        for place, test in enumerate(tests)
    ]
    removed = {
        name: int(count)
        for name, count in zip(_told(tests), counts[1:], strict=True)
        if count or not name.endswith(UNKNOWN)
    }
    details = {"attrition": attrition}
    return Card(
        "filter",
        parameters,
        scan.inputs,
        len(codes),
        int(counts[0]),
        removed,
        groups,
        details,
        scan.records.rejected,
    )


@dataclass(frozen=True)
class _Reasoned(Derived):
    """Rows that fell, with a column of why."""

    codes: Codes
    told: list[str]

    @property
    def schema(self) -> pa.Schema:
        """See `Source`."""
        return self.records.schema.append(pa.field(REASON, pa.string()))

    def stream(self, columns: Sequence[str], keep: Filter) -> Batches:
        """See `Source`."""
        done, names = 0, pa.array(self.told, pa.string())
        for batch in self.records.stream():
            places = pa.array(self.codes[done : done + batch.num_rows] - 1)
            whole = pa.record_batch([*batch.columns, names.take(places)], schema=self.schema)
            yield kept(whole, keep)
            done += batch.num_rows
