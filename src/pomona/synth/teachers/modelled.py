"""Models as teachers: answers come through the store of answers, within a budget."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pomona.answers import (
    Account,
    Budget,
    CachedModel,
    Exhausted,
    InBatches,
    InStep,
    Lockstep,
    draw,
    together,
)
from pomona.errors import PomonaError
from pomona.models import (
    BatchTerms,
    Draw,
    Model,
    ModelError,
    Reply,
    Request,
    Sampling,
    check_sampling,
    load,
    sampling_of,
    wait_for,
)
from pomona.models.http import NoBatches
from pomona.synth.teachers.teacher import (
    Assignment,
    Lesson,
    Lessons,
    Reject,
    Terms,
    Usage,
    check_ids,
    check_prompt,
    fill,
    refusal,
)

_FAILURES = 5  # requests in a row that fail for the model's own sake, after which none is asked
_ROW_FAULTS = frozenset({400, 413, 422})  # what is wrong with a row, and not with the model
_TRACE = 200
_HALF = "\ufffd"


@dataclass
class _Told:
    """What a server said of batches: that it has none, and by draw and row why there is no answer,
    which one process need not hear twice.
    """

    has_none: bool = False
    errors: dict[tuple[int, Assignment], ModelError | Exhausted] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelTeacher:
    """A model that answers rows, on terms.

    prompt: a template with {text}, {source_lang} and {lang}. raw: send it without a chat template.
    The first draw of a row is greedy, the others are at `temperature`; all as `sampling` says.
    store: SQLite file of all answers, which are never paid for twice. budget: of one call of
    `teach`, what the store holds counted with what it cost. settings: what else
    `pomona.models.load` takes. A model that is open already stays open.
    After five requests in a row that failed after their retries, no more rows are asked: they are
    rejects that say so, and are asked next time.

    batch: hand the rows to the server as batches, if it has any ("auto"), or one by one (False).
    wait: seconds to wait for batches; what is not there then raises Submitted, and the same call
    collects it later.
    """

    model: str | Model
    prompt: str
    store: Path
    terms: Terms = field(default_factory=Terms)
    raw: bool = False
    max_tokens: int = 128
    temperature: float = 0.7
    sampling: Sampling = field(default_factory=Sampling)
    seed: int = 0
    budget: Budget | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    batch: bool | Literal["auto"] = False
    wait: float = 0.0
    _told: _Told = field(default_factory=_Told, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_prompt(self.prompt, self.name)
        check_sampling(self.sampling)
        if self.budget and self.budget.money is not None and self.terms.price is None:
            remedy = "give its terms a price of prompt and answer tokens"
            raise PomonaError("a budget of money needs a price", where=self.name, remedy=remedy)

    @property
    def name(self) -> str:
        """The model's URI or name."""
        return self.model if isinstance(self.model, str) else self.model.name

    def teach(self, rows: Sequence[Assignment], sample: int = 0) -> Lessons:
        """See `Teacher`. PomonaError when two rows have one id, or there is no such model;
        Submitted when rows are under way in batches.
        """
        check_ids(rows)
        return wait_for(self._taught(rows, sample))

    def submit(self, rows: Sequence[Assignment], samples: Sequence[int] = (0,)) -> None:
        """Hand all these draws to the server before `teach` is asked for parts of them, so that
        they go in few batches; nothing where they are asked one by one. Submitted when any are
        under way.
        """
        if self.batch and rows:
            wait_for(self._submitted(rows, samples))

    async def _submitted(self, rows: Sequence[Assignment], samples: Sequence[int]) -> None:
        account = Account(self.budget)
        async with AsyncExitStack() as stack:
            model = self._opened(Lockstep(account), stack)
            await _Asking(self, model, account, samples[0]).in_batches(rows, samples)

    async def _taught(self, rows: Sequence[Assignment], sample: int) -> Lessons:
        account = Account(self.budget)
        steps = Lockstep(account)
        async with AsyncExitStack() as stack:
            model = self._opened(steps, stack)
            asking = _Asking(self, model, account, sample)
            await asking.in_batches(rows, [sample])
            work: dict[int, Callable[[], Any]] = {
                at: partial(asking.row, row) for at, row in enumerate(rows)
            }
            size = self.terms.concurrency
            made: list[Lesson | Reject] = []
            if isinstance(model, InStep):  # what is computed together depends on the rows alone
                for at in range(0, len(rows), size):
                    made += await steps.run({n: work[n] for n in [*work][at : at + size]})
            else:
                made = await together([run() for run in work.values()])
            return Lessons(tuple(made), self._usage(account, model, asking.fresh))

    def _opened(self, steps: Lockstep, stack: AsyncExitStack) -> CachedModel:
        model = self.model
        if isinstance(model, str):
            terms = {"concurrency": self.terms.concurrency, "price": self.terms.price}
            terms |= {"batches": BatchTerms(price=self.terms.batch_price)}
            model = load(model, **{**terms, "timeout": self.terms.timeout, **self.settings})
            stack.push_async_callback(model.close)
        if model.local:
            kept = InStep(model, self.store, steps)
        elif "batches" in model.abilities or self.batch is True:
            kept = InBatches(model, self.store)
        else:
            kept = CachedModel(model, self.store)
        stack.callback(kept.close_file)
        return kept

    def _usage(self, account: Account, model: CachedModel, fresh: int) -> Usage:
        spent = account.spent
        return Usage(
            fresh=fresh,
            prompt_tokens=spent.prompt_tokens,
            completion_tokens=spent.completion_tokens,
            # The cost model says 0 where the shape of a model, or its price, is not known.
            flops=spent.flops or None,
            money=None if self.terms.price is None else spent.money,
            estimated=spent.estimated,
        )

    def draw(self, sample: int) -> Draw:
        """The draw that is asked for: the first is greedy."""
        return sample, self.temperature if sample else 0.0

    def request(self, row: Assignment) -> Request:
        """What is asked for a row."""
        text = fill(self.prompt, row)
        common: dict[str, Any] = {
            "max_tokens": self.max_tokens,
            "seed": self.seed,
            **sampling_of(self.sampling),
        }
        if self.raw:
            return Request(prompt=text, **common)
        return Request(messages=({"role": "user", "content": text},), **common)


class _Asking:
    """The rows of one call; how many requests failed in a row so far."""

    def __init__(
        self, teacher: ModelTeacher, model: CachedModel, account: Account, sample: int
    ) -> None:
        self._teacher, self._model, self._account = teacher, model, account
        self._sample = sample
        self._places = asyncio.Semaphore(teacher.terms.concurrency)
        self._failures: list[ModelError] = []
        self.fresh = 0

    async def in_batches(self, rows: Sequence[Assignment], samples: Sequence[int]) -> None:
        """See that the store holds what batches can give. What is with the server is collected also
        where rows are to be asked one by one now: nothing is paid twice.
        """
        teacher, model, told = self._teacher, self._model, self._teacher._told
        submit = bool(teacher.batch) and not told.has_none
        if not isinstance(model, InBatches) or not (submit or model.noted):
            return
        drawn = [(sample, row) for sample in samples for row in rows]
        mine = [
            (sample, row)
            for sample, row in drawn
            if self._refusal(row, sample) is None and (sample, row) not in told.errors
        ]
        asks = [(teacher.request(row), teacher.draw(sample)) for sample, row in mine]
        try:
            got = await model.fetch(asks, self._account, submit=submit, wait=teacher.wait)
        except NoBatches:
            if teacher.batch is True:
                raise
            told.has_none = True
            return
        self.fresh += got.fresh
        if submit:
            pairs = zip(mine, got.errors, strict=True)
            told.errors |= {one: error for one, error in pairs if error is not None}

    def _refusal(self, row: Assignment, sample: int) -> str | None:
        teacher = self._teacher
        return refusal(teacher.terms, row, sample, draws=teacher.temperature > 0)

    async def row(self, row: Assignment) -> Lesson | Reject:
        """The lesson of a row, or why there is none."""
        teacher = self._teacher
        if (reason := self._refusal(row, self._sample)) is not None:
            return Reject(row.id, teacher.name, reason, asked=False)
        if (failed := teacher._told.errors.get((self._sample, row))) is not None:
            return self._rejected(row, failed)
        async with self._places:
            if self._failed:
                last = self._failures[-1]
                why = f"{_FAILURES} requests in a row failed, the last: {last}"
                if last.field is not None:
                    why = f'"{last.field}" would be refused for every row: {last.message}'
                return Reject(row.id, teacher.name, f"not asked: {why}", asked=False)
            paid = self._model.paid
            try:
                reply = await self._reply(teacher.request(row))
            except (Exhausted, ModelError) as error:
                self._note(error)
                return self._rejected(row, error)
            self.fresh += self._model.paid is not paid
        if not self._failed:
            self._failures.clear()
        return self._result(row, reply)

    @property
    def _failed(self) -> bool:
        """Whether nothing more is asked."""
        last = self._failures[-1] if self._failures else None
        return last is not None and (last.field is not None or len(self._failures) >= _FAILURES)

    def _rejected(self, row: Assignment, error: ModelError | Exhausted) -> Reject:
        name = self._teacher.name
        if isinstance(error, Exhausted):
            return Reject(row.id, name, f"the budget of {error.limit} is spent", asked=False)
        return Reject(row.id, name, str(error))

    def _note(self, error: ModelError | Exhausted) -> None:
        of_row = isinstance(error, ModelError) and error.status in _ROW_FAULTS and not error.field
        if not isinstance(error, Exhausted) and not of_row and not self._failed:
            self._failures.append(error)

    async def _reply(self, request: Request) -> Reply:
        wanted = [self._teacher.draw(self._sample)]
        replies, met = await draw(self._model, request, wanted, self._account)
        if met is not None:
            raise Exhausted(met)
        return replies[0]

    def _result(self, row: Assignment, reply: Reply) -> Lesson | Reject:
        name, finish, text = self._teacher.name, reply.finish_reason, reply.text.strip()
        reason = None
        if not reply.answered:
            reason = f"the model refused: {reply.refusal or 'a content filter took the answer'}"
        elif finish == "length":
            reason = f"the answer was cut at {self._teacher.max_tokens} tokens"
        elif not text:
            reason = "wrote nothing"
        elif _HALF in text and _HALF not in row.text:
            reason = "wrote half a character"
        if reason is not None:
            return Reject(row.id, name, reason[:_TRACE], finish, reply.text[:_TRACE] or None)
        licence = self._teacher.terms.licence
        return Lesson(row.id, text, name, licence, finish, sample=self._sample)
