"""Rows that were answered before, searched by what a prompt asks: those of a table, and those that
are added while it is used (a translator's memory).
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import string
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pomona import records
from pomona.errors import PomonaError
from pomona.memory.choice import weigh
from pomona.memory.kept import MOST, KeptRow, KeptRows
from pomona.memory.nearest import Nearest
from pomona.stats import rows_of
from pomona.tasks import fields_of

_LONGEST = 10_000  # characters of a question that is looked for
_OPEN = 64  # indexes of groups that change, held at once


@dataclass(frozen=True)
class RecalledRow:
    """A row near to a question: `similarity` in (0, 1], and what its answer counts as evidence
    where one of a model counts 1. `id` is None for rows of the table.
    """

    source: str
    answer: str
    group: str
    similarity: float
    weight: float
    id: int | None = None


@dataclass(frozen=True)
class Recall:
    """What a memory knows of a question: what it asks about (None where it has not the memory's
    form), the rows nearest to that, nearest first, and the FLOPs of finding them.
    """

    source: str | None
    rows: tuple[RecalledRow, ...] = ()
    flops: float = 0.0


class PromptForm:
    """How prompts are made of what they ask about, such as `<|{group}|>{source}<|to|>`.

    Raises PomonaError unless {source} is in it once, {group} at most once, and nothing else.
    """

    def __init__(self, form: str) -> None:
        self.form, names = form, fields_of(form)
        pattern, count = "", {"source": 0, "group": 0}
        for text, name, _, _ in string.Formatter().parse(form):
            pattern += re.escape(text)
            if name is not None and name in count:
                count[name] += 1
                pattern += "(?P<source>.*)" if name == "source" else "(?P<group>.{0,64}?)"
        if names - set(count) or count["source"] != 1 or count["group"] > 1:
            remedy = "write {source} in it once, and {group} where prompts name it"
            raise PomonaError("is no form of prompts", where=f'"{form}"', remedy=remedy)
        self.grouped, self._pattern = bool(count["group"]), re.compile(pattern, re.DOTALL)

    def filled(self, source: str, group: str) -> str:
        """The prompt that asks about a source."""
        return self.form.format(source=source, group=group)

    def read(self, prompt: str) -> tuple[str, str] | None:
        """Source and group of a prompt; None where it has another form or is very long."""
        found = self._pattern.fullmatch(prompt) if len(prompt) <= _LONGEST else None
        return None if found is None else (found["source"], found["group"] if self.grouped else "")


class RowMemory:
    """Rows by what they ask about. A prompt is searched for as the form reads it, among the rows of
    its group alone; among all where the form names no group.

    rows: of the table. kept: those that are added while it is used; of equally near rows these come
    first, the latest before others. example: how a row is shown in a plain prompt, with {prompt},
    {source}, {answer} and {group} in it. paths: files that the rows are from. owner: whose kept
    rows are meant.
    """

    def __init__(
        self,
        rows: Sequence[KeptRow] = (),
        *,
        form: str = "{source}",
        example: str = "{prompt}\n{answer}\n\n",
        kept: KeptRows | None = None,
        paths: Sequence[str] = (),
    ) -> None:
        self.paths = tuple(paths)
        self.form, self.example, self.kept, self.owner = PromptForm(form), example, kept, ""
        known = {"prompt", "source", "answer", "group"}
        if unknown := sorted(fields_of(example) - known):
            message, remedy = f'there is no "{unknown[0]}"', f"write {', '.join(sorted(known))}"
            raise PomonaError(message, where=f'example "{example}"', remedy=remedy)
        self._rows = list(rows)
        names = [row.group if self.form.grouped else "" for row in self._rows]
        self._groups = rows_of(names) if names else {}
        self._fixed: dict[str, _Searched] = {}
        self._growing: OrderedDict[tuple[str, str], tuple[Any, _Searched]] = OrderedDict()
        self._lock = threading.Lock()
        told = hashlib.sha256(repr((form, example, kept and str(kept.path))).encode())
        for row in self._rows:
            told.update(repr((row.source, row.answer, row.group)).encode())
        self.identity = f"memory:{told.hexdigest()[:16]}"

    def of(self, owner: str) -> RowMemory:
        """The same memory with the kept rows of another owner."""
        other = object.__new__(RowMemory)
        other.__dict__ = {**self.__dict__, "owner": owner}
        return other

    def asked(self, source: str, group: str) -> str:
        """The prompt that asks about a source."""
        return self.form.filled(source, group)

    def shown(self, source: str, answer: str, group: str) -> str:
        """A row as a plain prompt shows it."""
        prompt = self.asked(source, group)
        return self.example.format(prompt=prompt, source=source, answer=answer, group=group)

    async def recall(self, question: str, k: int) -> Recall:
        """What is known of a question, with the `k` nearest rows."""
        work = partial(self.recall_now, question, k)
        if self.kept is not None:  # another process may hold its file for long
            return await self.kept.file.run(work)
        return await asyncio.to_thread(work)

    def recall_now(self, question: str, k: int) -> Recall:
        """`recall`, in this thread."""
        read = self.form.read(question)
        if read is None:
            return Recall(None)
        source, group = read
        found: list[RecalledRow] = []
        flops = 0.0
        for searched in self._indexes(group):
            rows, cost = searched.nearest(source, k)
            found, flops = [*found, *rows], flops + cost
        found.sort(key=lambda row: -row.similarity)
        return Recall(source, tuple(found[:k]), flops)

    def add(self, source: str, answer: str, group: str = "") -> int:
        """Keep a row; see `KeptRows.add`. The next question finds it."""
        return self._file.add(source, answer, group if self.form.grouped else "", owner=self.owner)

    def delete(self, row: int) -> bool:
        """Remove a kept row; whether the owner had it."""
        return self._file.delete(row, owner=self.owner)

    @property
    def _file(self) -> KeptRows:
        if self.kept is None:
            remedy = "open it with a file for rows that are added"
            raise PomonaError("takes no further rows", where="memory", remedy=remedy)
        return self.kept

    def _indexes(self, group: str) -> list[_Searched]:
        """What is searched for a group: the rows that are kept, then those of the table."""
        indexes: list[_Searched] = []
        with self._lock:  # a second question for the same group waits for its index
            if self.kept is not None:
                indexes.append(self._changing(self.kept, group))
            if group in self._groups:
                if group not in self._fixed:
                    rows = [self._rows[int(at)] for at in self._groups[group]]
                    self._fixed[group] = _Searched(rows, kept=False)
                indexes.append(self._fixed[group])
        return indexes

    def _changing(self, kept: KeptRows, group: str) -> _Searched:
        place, version = (self.owner, group), kept.version(group, owner=self.owner)
        known = self._growing.pop(place, None)
        if known is None or known[0] != version:
            known = version, _Searched(kept.rows(group, owner=self.owner), kept=True)
        self._growing[place] = known
        while len(self._growing) > _OPEN:
            self._growing.popitem(last=False)
        return known[1]


class _Searched:
    """The rows of a group with their index."""

    def __init__(self, rows: Sequence[KeptRow], *, kept: bool) -> None:
        self._rows, self._kept = rows, kept
        self._index = Nearest([row.source for row in rows]) if rows else None

    def nearest(self, source: str, k: int) -> tuple[list[RecalledRow], float]:
        """The k nearest rows to a source, and the FLOPs of the search."""
        if self._index is None:
            return [], 0.0
        found = self._index.search([source], k)
        weights = weigh(found.similarity[0])
        recalled = []
        for at, like, weight in zip(found.rows[0], found.similarity[0], weights, strict=True):
            if like > 0:
                row = self._rows[int(at)]
                about = (row.source, row.answer, row.group, float(np.round(like, 9)), float(weight))
                recalled.append(RecalledRow(*about, row.id if self._kept else None))
        return recalled, float(found.flops[0])


def open_memory(
    table: records.Where | None = None,
    *,
    source: str = "source",
    answer: str = "answer",
    group: str | None = None,
    form: str = "{source}",
    example: str = "{prompt}\n{answer}\n\n",
    file: str | Path | None = None,
    most: int = MOST,
) -> RowMemory:
    """Rows that were answered before, of a table, of a file that grows, or of both.

    Args:
        table: Rows that were answered before: a file, glob or folder.
        source: Column of what a row asks about.
        answer: Column of its answer.
        group: Column of its group, such as the language; prompts are compared within it.
        form: How prompts are made, with {source} and {group} in it, as "<|{group}|>{source}<|to|>".
        example: How a row is shown in a plain prompt, with {prompt}, {source}, {answer}, {group}.
        file: SQLite file of rows that are added while a server runs.
        most: Most rows that are added for each API key.

    Raises:
        PomonaError: there is neither table nor file, a column is missing, or a text is null.
    """
    if table is None and file is None:
        raise PomonaError("there is no table", where="memory", remedy="give a table of rows")
    rows: list[KeptRow] = []
    paths: Sequence[str] = ()
    if table is not None:
        columns = [source, answer, *([group] if group else [])]
        read = records.read(table)
        paths = [str(path) for path in read.paths]
        for batch in read.require(*columns).select(*columns).batches():
            for row in batch.to_pylist():
                if any(row[name] is None for name in columns):
                    where = f"{table}, row {len(rows) + 1}"
                    remedy = "fill it in, or leave the row out"
                    raise PomonaError("a column of the memory is null", where=where, remedy=remedy)
                of = str(row[group]) if group else ""
                rows.append(KeptRow(len(rows), str(row[source]), str(row[answer]), of))
    kept = None if file is None else KeptRows(file, most=most)
    return RowMemory(rows, form=form, example=example, kept=kept, paths=paths)
