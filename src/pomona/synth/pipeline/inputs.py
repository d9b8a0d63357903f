"""The rows of a recipe: looked over once, then read in windows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pomona.errors import PomonaError, quantity
from pomona.records import Records, as_text
from pomona.synth.pipeline.sections import Data, refuse_lists
from pomona.synth.teachers import Assignment

_LANGUAGE = re.compile(r"[A-Za-z]{2,3}([-_@][A-Za-z0-9]+)*")


@dataclass(frozen=True)
class InputRow:
    """A row to be answered, its place among all of them, and the licence of its text."""

    place: int
    asked: Assignment
    licence: str | None = None


@dataclass
class Survey:
    """How many rows there are, of each language, and how long their texts are in bytes."""

    lengths: NDArray[np.int32]
    langs: NDArray[np.int32]
    names: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        """All rows."""
        return len(self.lengths)


class Input:
    """The rows of a recipe's `data`, in order."""

    def __init__(self, data: Data) -> None:
        self._data = data
        records = data.read().require(data.text)
        self.paths = records.paths
        self._langs = self._languages(records)
        optional = (data.id, data.reference, data.cluster)
        named = [name for name in optional if name is not None]
        either = [*data.lang, data.source_lang, *([data.licence] if data.licence else [])]
        if data.source_lang not in records.column_names:
            _check_language(data.source_lang, records)
        columns = [data.text, *named, *(name for name in either if name in records.column_names)]
        asked = [] if data.id is None else [data.id]  # other nulls are rejected with the reason
        self._records = records.require(*named).complete(*asked).select(*columns)

    def _languages(self, records: Records) -> list[str]:
        """The languages that each row is answered in; none where a column says it."""
        langs = self._data.lang
        if len(langs) == 1 and langs[0] in records.column_names:
            return []
        for lang in langs:
            _check_language(lang, records)
        return langs

    def survey(self) -> Survey:
        """Look all rows over. PomonaError where two have one id, or one has none."""
        data, several = self._data, max(1, len(self._langs))
        lengths, codes, ids = [np.zeros(0, np.int32)], [np.zeros(0, np.int32)], []
        names = {lang: code for code, lang in enumerate(self._langs)}
        for batch in self._records.stream():
            refuse_lists(batch, str(self._records.source.where))
            sizes = pc.call_function("binary_length", [as_text(batch[data.text])]).fill_null(0)
            lengths.append(np.repeat(np.asarray(sizes, np.int32), several))
            if self._langs:
                langs = self._langs * len(batch)
            else:
                langs = [_text(lang) for lang in as_text(batch[data.lang[0]]).to_pylist()]
            found = [names.setdefault(lang, len(names)) for lang in langs]
            codes.append(np.array(found, np.int32))
            if data.id is not None:
                ids.append(as_text(batch[data.id]))
        if data.id is not None:
            self._check_ids(pa.chunked_array(ids, pa.string()))
        return self._limited(Survey(np.concatenate(lengths), np.concatenate(codes), list(names)))

    def _limited(self, found: Survey) -> Survey:
        most = self._data.limit_per_group
        if most is None:
            return found
        keep = np.zeros(found.count, bool)
        for code in range(len(found.names)):
            keep[np.flatnonzero(found.langs == code)[:most]] = True
        return Survey(found.lengths[keep], found.langs[keep], found.names)

    def _check_ids(self, ids: pa.ChunkedArray) -> None:
        where = f'{self._records.source.where}, column "{self._data.id}"'
        if ids.null_count:
            remedy = "leave `id` out of the recipe: rows are then called by their numbers"
            raise PomonaError(
                f"{quantity(ids.null_count, 'row has', 'rows have')} no id",
                where=where,
                remedy=remedy,
            )
        counts = ids.value_counts()
        twice = np.flatnonzero(np.asarray(counts.field("counts")) > 1)
        if len(twice):
            name = counts.field("values")[int(twice[0])].as_py()
            remedy = "give every row an id of its own, or leave `id` out of the recipe"
            raise PomonaError(f'"{name}" is there twice', where=where, remedy=remedy)

    def rows(self) -> Iterator[InputRow]:
        """All rows, each in every language that it is answered in."""
        seen: Counter[str] = Counter()
        most = self._data.limit_per_group
        place = 0
        for number, row in enumerate(self._dictionaries(), 1):
            for lang in self._langs or [_text(row[self._data.lang[0]])]:
                seen[lang] += 1
                if most is None or seen[lang] <= most:
                    yield self._row(place, number, row, lang)
                    place += 1

    def windows(self, size: int) -> Iterator[list[InputRow]]:
        """Windows of `size` rows; the last may be shorter."""
        window: list[InputRow] = []
        for row in self.rows():
            window.append(row)
            if len(window) == size:
                yield window
                window = []
        if window:
            yield window

    def _dictionaries(self) -> Iterator[dict[str, Any]]:
        for batch in self._records.batches(1024):
            yield from batch.to_pylist()

    def _row(self, place: int, number: int, row: Mapping[str, Any], lang: str) -> InputRow:
        data = self._data
        name = str(number) if data.id is None else str(row[data.id])
        asked = Assignment(
            id=f"{name}-{lang}" if len(self._langs) > 1 else name,
            text=_text(row[data.text]),
            source_lang=_text(row.get(data.source_lang, data.source_lang)),
            lang=lang,
            reference=_maybe(row, data.reference),
            cluster=_maybe(row, data.cluster),
        )
        licence = data.licence
        return InputRow(place, asked, _maybe(row, licence) if licence in row else licence)


def _check_language(name: str, records: Records) -> None:
    """Raise PomonaError for what is neither a column nor looks like a language."""
    if not _LANGUAGE.fullmatch(name):
        records.require(name)


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _maybe(row: Mapping[str, Any], column: str | None) -> str | None:
    value = None if column is None else row[column]
    return None if value is None else str(value)
