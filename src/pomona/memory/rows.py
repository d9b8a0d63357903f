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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pomona import records
from pomona.errors import PomonaError
from pomona.memory.candidates import usual_length, with_features
from pomona.memory.choice import weigh
from pomona.memory.kept import MOST, KeptRow, KeptRows
from pomona.memory.phrases import COMPOSED, EDITED, Composed, Phrases
from pomona.memory.selecting import MemorySelector, Shortlist
from pomona.stats import rows_of
from pomona.tasks import fields_of
from pomona.text import Nearest

Result = TypeVar("Result")
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
    {source}, {answer} and {group} in it. paths: files that the rows are from. columns: of source,
    answer and group there. selector: what chooses among all that the rows know of a question.
    owner: whose kept rows are meant.

    Phrases are learned from all rows of a group, the kept ones among them, at its first question
    after a change.
    """

    def __init__(
        self,
        rows: Sequence[KeptRow] = (),
        *,
        form: str = "{source}",
        example: str = "{prompt}\n{answer}\n\n",
        kept: KeptRows | None = None,
        paths: Sequence[str] = (),
        columns: tuple[str, str, str | None] = ("source", "answer", None),
        selector: MemorySelector | None = None,
    ) -> None:
        self.paths, self.columns, self.selector = tuple(paths), columns, selector
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
        self._learned: OrderedDict[tuple[str | None, str], _Learned] = OrderedDict()
        self._lock, self._learning = threading.Lock(), threading.Lock()
        told = hashlib.sha256(repr((form, example, kept and str(kept.path))).encode())
        if selector is not None:
            told.update(selector.signature.encode())
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

    def reads(self, question: str) -> bool:
        """Whether a question has the memory's form, and asks something."""
        read = self.form.read(question)
        return read is not None and bool(read[0].strip())

    async def recall(self, question: str, k: int) -> Recall:
        """What is known of a question, with the `k` nearest rows."""
        return await self._beside(partial(self.recall_now, question, k))

    def recall_now(self, question: str, k: int) -> Recall:
        """`recall`, in this thread."""
        read = self.form.read(question)
        if read is None:
            return Recall(None)
        source, group = read
        hits, flops = _nearest(self._indexes(group), source, k)
        weights = weigh([hit.similarity for hit in hits])
        rows = [
            RecalledRow(
                hit.row.source,
                hit.row.answer,
                hit.row.group,
                round(hit.similarity, 9),
                float(weight),
                hit.row.id if hit.kept else None,
            )
            for hit, weight in zip(hits, weights, strict=True)
        ]
        return Recall(source, tuple(rows), flops)

    async def put_together(self, question: str) -> str | None:
        """The best answer that is put together from the rows of a question's group (see `Phrases`),
        the source where there is none; None where the question has not the memory's form, or
        asks nothing.
        """
        return await self._beside(partial(self.put_together_now, question))

    def put_together_now(self, question: str) -> str | None:
        """`put_together`, in this thread."""
        read = self.form.read(question)
        if read is None or not read[0].strip():
            return None
        source, parts = read[0], self._indexes(read[1])
        learned = self._learned_of(read[1], parts)
        if learned is None:
            return source
        hits, _ = _nearest(parts, source, EDITED)
        made = learned.made(source, hits, EDITED, COMPOSED)
        return next((one.text for one in made if one.text.strip()), source)

    async def shortlist(self, question: str, drawn: Sequence[str]) -> Shortlist | None:
        """What the selector puts first of all that the rows know of a question, and of what was
        drawn; None where the question has not the memory's form, or asks nothing.
        """
        return await self._beside(partial(self.shortlist_now, question, drawn))

    def shortlist_now(self, question: str, drawn: Sequence[str]) -> Shortlist | None:
        """`shortlist`, in this thread. Raises PomonaError without a selector."""
        selector, read = self.selector, self.form.read(question)
        if selector is None:
            remedy = "learn one with `pomona sample selector`, and open the memory with it"
            raise PomonaError("has no selector", where="memory", remedy=remedy)
        if read is None or not read[0].strip():
            return None
        counts = {name: getattr(selector, name) for name in ("neighbours", "edited", "composed")}
        return selector.shortlisted(*self.gathered(*read, drawn, **counts))

    def gathered(
        self,
        source: str,
        group: str,
        drawn: Sequence[str],
        *,
        neighbours: int,
        edited: int,
        composed: int,
    ) -> tuple[list[str], NDArray[np.float64], float]:
        """The candidates that a selector chooses among (see `MemorySelector`), what is known of
        each `[k, f]`, and the FLOPs of the search.
        """
        parts = self._indexes(group)
        hits, flops = _nearest(parts, source, max(edited, neighbours))
        learned = self._learned_of(group, parts)
        made = []
        if learned is not None:
            made = learned.made(source, hits, edited, composed)
        near = hits[:neighbours]
        texts, known = with_features(
            source,
            made,
            [hit.row.answer for hit in near],
            [hit.similarity for hit in near],
            drawn,
            nearest=hits[0].similarity if hits else 0.0,
            usual=(0.0, 1.0) if learned is None else learned.usual,
        )
        return texts, known, flops

    def choose(self, found: Shortlist, logprobs: Sequence[float] | None) -> list[float]:
        """The score of each text of a shortlist, see `MemorySelector.scores`."""
        assert self.selector is not None  # it made the shortlist
        return self.selector.scores(found, logprobs)

    async def _beside(self, work: Callable[[], Result]) -> Result:
        if self.kept is not None:  # another process may hold its file for long
            return await self.kept.file.run(work)
        return await asyncio.to_thread(work)

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

    def _learned_of(self, group: str, parts: Sequence[_Searched]) -> _Learned | None:
        """What is learned of the rows of a group, which wait for it; None without rows."""
        filled = [part for part in parts if part.rows]
        if not filled:
            return None
        # What is of the table alone, all owners share.
        place = (self.owner if filled[0].kept else None, group)
        with self._learning:
            known = self._learned.pop(place, None)
            if known is None or known.parts != filled:
                known = _Learned(filled)
            self._learned[place] = known
            while len(self._learned) > _OPEN:
                self._learned.popitem(last=False)
        return known


@dataclass(frozen=True)
class _Hit:
    """A row that is near, and its place among all rows of its group."""

    place: int
    row: KeptRow
    kept: bool
    similarity: float


class _Searched:
    """The rows of a group with their index."""

    def __init__(self, rows: Sequence[KeptRow], *, kept: bool) -> None:
        self.rows, self.kept = rows, kept
        self._index = Nearest([row.source for row in rows]) if rows else None

    def nearest(self, source: str, k: int, first: int) -> tuple[list[_Hit], float]:
        """The k nearest rows to a source, the places of which begin at `first`, and the FLOPs of
        the search.
        """
        if self._index is None:
            return [], 0.0
        found = self._index.search([source], k)
        near = zip(found.rows[0].tolist(), found.similarity[0].tolist(), strict=True)
        hits = [_Hit(first + at, self.rows[at], self.kept, like) for at, like in near if like > 0]
        return hits, float(found.flops[0])


def _nearest(parts: Sequence[_Searched], source: str, k: int) -> tuple[list[_Hit], float]:
    """The k rows nearest to a source; of equally near ones those of earlier parts come first."""
    hits, flops, first = list[_Hit](), 0.0, 0
    for part in parts:
        found, cost = part.nearest(source, k, first)
        hits, flops, first = [*hits, *found], flops + cost, first + len(part.rows)
    hits.sort(key=lambda hit: -round(hit.similarity, 9))
    return hits[:k], flops


class _Learned:
    """The phrases of all rows of a group, and how long its answers usually are."""

    def __init__(self, parts: list[_Searched]) -> None:
        self.parts = parts
        rows = [row for part in parts for row in part.rows]
        pairs = [row.source for row in rows], [row.answer for row in rows]
        self._phrases, self.usual = Phrases(*pairs), usual_length(*pairs)

    def made(self, source: str, hits: Sequence[_Hit], edited: int, composed: int) -> list[Composed]:
        """See `Phrases.candidates`."""
        near = hits[:edited]
        asked = source, [hit.place for hit in near], [hit.similarity for hit in near]
        return self._phrases.candidates(*asked, edited=edited, composed=composed)


def filled_rows(
    table: records.Where, columns: Sequence[str | None]
) -> Iterator[tuple[dict[str, Any], records.RowName]]:
    """The rows of a table, of which the columns are read, and how errors name them. Raises
    PomonaError for a column that is not there, and for a null.
    """
    names, index = [name for name in columns if name is not None], 0
    rows = records.read(table).complete(*names).select(*names)
    for batch in rows.batches():
        for row in batch.to_pylist():
            where = records.RowName(rows, index)
            if any(row[name] is None for name in names):
                remedy = "fill it in, or leave the row out"
                raise PomonaError("a column of the memory is null", where=where, remedy=remedy)
            yield row, where
            index += 1


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
    selector: str | Path | None = None,
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
        selector: File of `pomona sample selector`, which chooses among what is put together from
            the rows, their answers and, where it learned so, what the model draws.

    Raises:
        PomonaError: there is neither table nor file, a column is missing, a text is null, or the
            selector is none.
    """
    if table is None and file is None:
        raise PomonaError("there is no table", where="memory", remedy="give a table of rows")
    rows: list[KeptRow] = []
    paths: Sequence[str] = ()
    if table is not None:
        paths = records.read(table).paths
        for row, _ in filled_rows(table, [source, answer, group]):
            of = str(row[group]) if group else ""
            rows.append(KeptRow(len(rows), str(row[source]), str(row[answer]), of))
    chooses = None if selector is None else MemorySelector.load(selector)
    if selector is not None:
        paths = [*paths, str(selector)]
    kept = None if file is None else KeptRows(file, most=most)
    return RowMemory(
        rows,
        form=form,
        example=example,
        kept=kept,
        paths=paths,
        columns=(source, answer, group),
        selector=chooses,
    )
