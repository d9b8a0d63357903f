"""The documents on which two models are compared, and the windows in which they are read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pomona.errors import PomonaError, nearest
from pomona.forget.plain import read_plain
from pomona.models.torch import Unit
from pomona.records import Where, as_text, read

_PLAIN = (".txt", ".text", ".raw")
_REMEDY = "fill it, or leave the row out"


@dataclass(frozen=True)
class Document:
    """A text whose every token is scored, after a prompt where there is one; `row` is its place in
    the table, from 1.
    """

    row: int
    text: str
    prompt: str = ""
    group: str | None = None
    cluster: str | None = None


class Documents:
    """The rows of a table with the column text, or prompt and completion; or the paragraphs of a
    plain text file, or with `whole` all of it. They are read anew each time, in their order.
    """

    def __init__(
        self, source: Where, group: str | None, cluster: str | None, *, whole: bool = False
    ) -> None:
        """Raises PomonaError for a column that is missing."""
        self._plain, self._records = None, None
        if isinstance(source, str | Path) and Path(source).suffix in _PLAIN:
            for column in (group, cluster):
                if column:
                    message, remedy = f'a plain text has no column "{column}"', "give a table"
                    raise PomonaError(message, where=str(source), remedy=remedy)
            text = read_plain(Path(source))
            parts = [text.removesuffix("\n")] if whole else text.split("\n\n")
            self._plain = [
                Document(row, part) for row, part in enumerate(filter(str.strip, parts), 1)
            ]
            self.where, self.labels = str(source), dict[str, str]()
            self.paths = [str(source)]
            return
        records = read(source)
        self.where, self.paths = records.source.where, records.paths
        names = records.column_names
        self.labels = {what: what for what in ("group", "cluster") if what in names}
        self.labels |= {"group": group} if group else {}
        self.labels |= {"cluster": cluster} if cluster else {}
        self._columns = {"text": "text"}
        if "text" not in names and {"prompt", "completion"} <= set(names):
            self._columns = {"text": "completion", "prompt": "prompt"}
        for column in (*self._columns.values(), *self.labels.values()):
            if column not in names:
                remedy = nearest(column, names)
                raise PomonaError(f'there is no column "{column}"', where=self.where, remedy=remedy)
        self._records = records.complete(*self._columns.values(), *self.labels.values())

    def count(self) -> int:
        """The number of documents."""
        return len(self._plain or ()) if self._records is None else self._records.count()

    def __iter__(self) -> Iterator[Document]:
        if self._records is None:
            yield from self._plain or ()
            return
        columns, row = {**self._columns, **self.labels}, 0
        for batch in self._records.select(*columns.values()).stream():
            values = {n: self._values(batch, c, row, n) for n, c in columns.items()}
            for at in range(batch.num_rows):
                row += 1
                yield Document(row, **{name: column[at] for name, column in values.items()})

    def _values(self, batch: pa.RecordBatch, column: str, row: int, what: str) -> list[Any]:
        texts = as_text(batch.column(column)).to_pylist()
        for at, value in enumerate(texts):
            if value is None:
                assert self._records is not None
                where = self._records.row_name(row + at)
                raise PomonaError(f'"{column}" has no value', where=where, remedy=_REMEDY)
        return texts


def windows(ids: Sequence[int], first: int, context: int, stride: int) -> list[Unit]:
    """The windows in which tokens are read so that those from index `first` on are each scored
    once: `stride` of them a window, after as many before them as fit into `context`, which is what
    a network reads: the last token of a window is not.
    """
    units = []
    for start in range(first, len(ids), stride):
        end = min(start + stride, len(ids))
        begin = max(0, end - 1 - context)
        units.append(Unit(np.asarray(ids[begin:end], np.int32), start - begin))
    return units


def halves(ids: Sequence[int], context: int, prefix: int | None) -> list[Unit]:
    """The chunks of `context` tokens of which llama.cpp's `perplexity` scores the second half; what
    is left at the end is not read. `prefix` stands in place of the first token of each.
    """
    units = []
    for start in range(0, len(ids) - context + 1, context):
        chunk = np.array(ids[start : start + context], np.int32)
        if prefix is not None:
            chunk[0] = prefix
        units.append(Unit(chunk, context // 2 + 1))
    return units


def streams(documents: Iterable[Document]) -> Iterator[Document]:
    """One document for each group: all its texts, with a new line between them."""
    texts: dict[str | None, list[str]] = {}
    for document in documents:
        texts.setdefault(document.group, []).append(document.prompt + document.text)
    for row, (group, parts) in enumerate(texts.items(), 1):
        yield Document(row, "\n".join(parts), group=group)
