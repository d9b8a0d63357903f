"""What was answered before and is near to a question: its answer looked up, rows shown as examples,
and their answers as candidates beside a model's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from pomona.errors import PomonaError
from pomona.models import Model, Reply, Request
from pomona.sample.context.messages import before_question, harmless, question


class Remembered(Protocol):
    """A row near to a question; `weight` is what its answer counts as evidence, where one of a
    model counts 1.
    """

    @property
    def id(self) -> int | None: ...
    @property
    def source(self) -> str: ...
    @property
    def answer(self) -> str: ...
    @property
    def group(self) -> str: ...
    @property
    def similarity(self) -> float: ...
    @property
    def weight(self) -> float: ...


class Remembering(Protocol):
    """What a memory knows of a question: what it asks about, and the nearest rows."""

    @property
    def source(self) -> str | None: ...
    @property
    def rows(self) -> Sequence[Remembered]: ...
    @property
    def flops(self) -> float: ...


class AnswerMemory(Protocol):
    """Rows that were answered before; `pomona.memory.RowMemory` is one."""

    @property
    def identity(self) -> str:
        """Equal identities give equal answers, as far as no rows are added."""
        ...

    @property
    def paths(self) -> Sequence[str]:
        """The files that it was read from."""
        ...

    async def recall(self, question: str, k: int) -> Remembering:
        """The `k` rows nearest to what the question asks about."""
        ...

    def asked(self, source: str, group: str) -> str:
        """The prompt that asks about a source."""
        ...

    def shown(self, source: str, answer: str, group: str) -> str:
        """A row as a plain prompt shows it."""
        ...

    def reads(self, question: str) -> bool:
        """Whether a question has the form of those that the rows answer."""
        ...

    async def put_together(self, question: str) -> str | None:
        """The best answer made of pieces of the rows' answers; None for what it cannot read."""
        ...


@dataclass(frozen=True)
class Neighbours:
    """Uses the rows of a memory that are nearest to the question.

    lookup: from this similarity on the nearest row's answer is the answer, and no model is asked.
    copy: below this similarity what is asked about is the answer, as it is.
    phrases: what is put together from the rows is the answer, and no model is asked.
    examples: so many rows are shown, in a chat as earlier turns, the nearest next to the question.
    candidates: so many rows' answers stand beside the model's, as candidates and as evidence for
        the choice by `mbr`, each with its row's weight.
    Notes: `rows` (id, similarity), and `answer` or `candidates` where there are any; `flops` of the
    search.
    """

    memory: AnswerMemory
    lookup: float | None = None
    copy: float | None = None
    examples: int = 0
    candidates: int = 0
    phrases: bool = False
    name: str = "neighbours"

    def __post_init__(self) -> None:
        for name in ("lookup", "copy"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                remedy = "give a similarity from 0 to 1"
                raise PomonaError(f"{name} is {value}", where="Neighbours", remedy=remedy)
        if min(self.examples, self.candidates) < 0:
            remedy = "give numbers of rows from 0"
            raise PomonaError("a number of rows is negative", where="Neighbours", remedy=remedy)

    @property
    def identity(self) -> str:
        """The memory and how it is used."""
        used = [self.lookup, self.copy, self.examples, self.candidates]
        used += ["phrases"] if self.phrases else []
        return ":".join([self.memory.identity, *map(str, used)])

    def asks(self, request: Request) -> tuple[bool, int]:
        """Whether a model may have to draw an answer to a request, and to how many texts it has to
        give log-probabilities.
        """
        return not (self.phrases and self.memory.reads(question(request))), 0

    async def before(self, request: Request, model: Model) -> tuple[Request, Mapping[str, Any]]:
        """See the protocol."""
        known = await self.memory.recall(question(request), max(1, self.examples, self.candidates))
        rows = known.rows
        notes: dict[str, Any] = {
            "rows": [{"id": row.id, "similarity": row.similarity} for row in rows],
            "flops": known.flops,
        }
        nearest = rows[0].similarity if rows else 0.0
        if self.lookup is not None and rows and nearest >= self.lookup:
            return request, {**notes, "answer": rows[0].answer, "answered_by": "lookup"}
        if self.copy is not None and known.source is not None and nearest < self.copy:
            return request, {**notes, "answer": known.source, "answered_by": "copy"}
        if self.phrases:
            made = await self.memory.put_together(question(request))
            if made is not None:
                return request, {**notes, "answer": made, "answered_by": "phrases"}
        if near := rows[: self.candidates]:
            notes["candidates"] = [{"text": row.answer, "weight": row.weight} for row in near]
        return self._with_examples(request, rows[: self.examples]), notes

    def _with_examples(self, request: Request, rows: Sequence[Remembered]) -> Request:
        safe = [(harmless(row.source), harmless(row.answer), row.group) for row in reversed(rows)]
        if request.prompt is not None:
            shown = "".join(self.memory.shown(*row) for row in safe)
            return replace(request, prompt=shown + request.prompt)
        turns = [(self.memory.asked(source, group), answer) for source, answer, group in safe]
        return before_question(request, turns) if turns else request

    async def after(
        self, request: Request, reply: Reply, model: Model, notes: Mapping[str, Any]
    ) -> tuple[Reply, Mapping[str, Any]]:
        """See the protocol; the reply stays as it is."""
        return reply, notes
