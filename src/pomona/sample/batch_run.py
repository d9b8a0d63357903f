"""The rows of a batch as they are answered, a window of them at a time, and written in order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pomona.errors import ResourceError
from pomona.models.chat import ChatModel, ModelError
from pomona.models.chat.protocol import Request
from pomona.records import Records, read
from pomona.sample.answer import Answer, answer
from pomona.sample.batch_card import Told
from pomona.sample.budget import Account, BudgetSpent
from pomona.sample.diagnostics import Diary
from pomona.sample.lockstep import InStep, Lockstep, together
from pomona.sample.rows import COLUMNS, FAILED, Asking, cells
from pomona.sample.strategy import Strategy

if TYPE_CHECKING:
    from pomona.sample.context.protocol import Context

Progress = Callable[[int, int], None]
_FAILURES = 5  # in a row, that end a batch
_ROWS = 64
_ROW_FAULTS = frozenset({400, 413, 422})


@dataclass
class Batch:
    """One run: what is asked, of whom, and how it went so far.

    Where a model computes here, rows are answered in groups of `concurrency` that go in step; else
    so many at once, whichever they are.
    """

    asking: Asking
    strategy: Strategy
    models: list[ChatModel]
    judge: ChatModel | None
    context: Sequence[Context]
    steps: Lockstep
    concurrency: int
    where: str
    told: Told
    progress: Progress | None
    failures: list[ModelError] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._turns, self._done = asyncio.Semaphore(self.concurrency), 0

    @property
    def account(self) -> Account:
        """What all rows are paid from."""
        return self.steps.account

    @property
    def failed(self) -> bool:
        """Whether so many requests failed in a row that nothing more is asked."""
        return len(self.failures) >= _FAILURES

    @property
    def in_step(self) -> bool:
        """Whether any of the models computes here."""
        return any(isinstance(model, InStep) for model in (*self.models, self.judge))

    @property
    def window(self) -> int:
        """Rows that are read at once: whole groups."""
        return self.concurrency * max(4, -(-_ROWS // self.concurrency))

    @property
    def windows(self) -> int:
        """Windows of rows under way at once: groups that are in step come one after the other."""
        return 1 if self.in_step else 2

    async def rows(self, first: int, rows: Sequence[dict[str, Any]]) -> list[Answer | str]:
        """For each row, numbered from `first`, the answer, the limit that was met before it, or why
        it failed.
        """
        work = [(number, partial(self._row, number, row)) for number, row in enumerate(rows, first)]
        if not self.in_step:
            return await together([run() for _, run in work])
        found: list[Answer | str] = []
        for at in range(0, len(work), self.concurrency):
            found += await self.steps.run(dict(work[at : at + self.concurrency]))
        return found

    async def _row(self, number: int, row: dict[str, Any]) -> Answer | str:
        request = self.asking.request(row, f"{self.where}, row {number}")
        async with self._turns:
            found = await self._answer(request)
        self._done += 1
        if self.progress is not None:
            self.progress(self._done, self.told.rows)
        return found

    async def _answer(self, request: Request) -> Answer | str:
        if self.failed:
            return FAILED + "not asked"
        try:
            found = await answer(
                request,
                self.models,
                self.strategy,
                budget=self.account,
                context=self.context,
                judge=self.judge,
            )
        except BudgetSpent as spent:
            return spent.limit
        except ModelError as error:
            if error.status not in _ROW_FAULTS:
                self.failures.append(error)
            return FAILED + str(error)
        self.failures.clear()
        return found


@dataclass(frozen=True)
class Measured:
    """Where pools are described, and the columns that hold the truth and the group of a row."""

    diary: Diary
    reference: str | None
    group: str | None

    def add(self, found: Answer, row: dict[str, Any]) -> None:
        """Describe the pool of a row."""
        truth, group = (row[name] if name else None for name in (self.reference, self.group))
        self.diary.add(found.candidates, found.chosen, reference=truth, group=group)


async def write(
    batch: Batch, records: Records, out: str | Path, store: Path, measured: Measured
) -> None:
    """Answer all rows, some windows of them at a time, and write them in order: beside the store
    first, then whole to `out`.
    """
    beside = Path(f"{store}.rows.parquet")
    waiting: deque[tuple[pa.RecordBatch, asyncio.Task[list[Answer | str]]]] = deque()
    number = 1
    try:
        with pq.ParquetWriter(beside, pa.schema([*records.schema, *COLUMNS])) as writer:
            for rows in records.batches(batch.window):
                waiting.append((rows, asyncio.create_task(batch.rows(number, rows.to_pylist()))))
                number += len(rows)
                if len(waiting) == batch.windows:
                    writer.write_batch(
                        _with(await waiting[0][1], waiting.popleft()[0], batch.told, measured)
                    )
            while waiting:
                writer.write_batch(
                    _with(await waiting[0][1], waiting.popleft()[0], batch.told, measured)
                )
        if batch.failed:
            raise _failure(batch, store)
        read(beside).write(out)
    finally:
        for _, task in waiting:
            task.cancel()
        beside.unlink(missing_ok=True)


def _with(
    results: Sequence[Answer | str], rows: pa.RecordBatch, told: Told, measured: Measured
) -> pa.RecordBatch:
    """The rows with the columns of their results, which are noted."""
    for result, row in zip(results, rows.to_pylist(), strict=True):
        if isinstance(result, Answer):
            measured.add(result, row)
        told.add(result)
    columns = pa.RecordBatch.from_pylist([cells(result) for result in results], COLUMNS)
    return pa.RecordBatch.from_arrays(
        [*rows.columns, *columns.columns], schema=pa.schema([*rows.schema, *COLUMNS])
    )


def _failure(batch: Batch, store: Path) -> ResourceError:
    done = f"{batch.told.answered:,} of {batch.told.rows:,} rows are answered"
    return ResourceError(
        f"{_FAILURES} requests in a row failed, the last: {batch.failures[-1]}",
        where=batch.where,
        remedy=f"run the same command again when the model answers: {done} and kept in {store}",
    )
