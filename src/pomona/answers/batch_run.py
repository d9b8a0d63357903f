"""The rows of a batch as they are answered, a window of them at a time, and written in order."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pomona.answers.budget import Account, BudgetSpent
from pomona.answers.lockstep import InStep, Lockstep, together
from pomona.answers.pool import Answer, Answerer, PoolStats
from pomona.answers.rows import COLUMNS, FAILED, RowPrompt, cells
from pomona.errors import ResourceError
from pomona.models import Model, ModelError, Request, Spent
from pomona.records import Records, read

Progress = Callable[[int, int], None]
_FAILURES = 5  # in a row, that end a batch
_ROWS = 64
_ROW_FAULTS = frozenset({400, 413, 422})  # what a server says of a bad row, not of itself


@dataclass
class BatchStats:
    """How a batch went: rows, those answered, what stopped pools, failures by their text, what all
    answers cost.
    """

    rows: int
    answered: int = 0
    stopped: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    spent: Spent = field(default_factory=Spent)
    within: int = 0  # rows a budget reaches by a forecast

    def add(self, result: Answer | str) -> None:
        """Note the result of a row: an answer, the name of a limit, or a failure."""
        if isinstance(result, Answer):
            self.answered += 1
            self.stopped[result.stopped_by] += 1
        elif result.startswith(FAILED):
            self.errors[result.removeprefix(FAILED)] += 1
        else:
            self.stopped[result] += 1


@dataclass
class Batch:
    """One run: what is asked, of whom, and how it went so far. `columns` hold the truth and the
    group of a row, for the description of pools.

    Where a model computes here, rows are answered in groups of `concurrency` that go in step; else
    so many at once, whichever they are.
    """

    prompt: RowPrompt
    answerer: Answerer
    models: list[Model]
    judge: Model | None
    steps: Lockstep
    concurrency: int
    where: str
    stats: BatchStats
    pools: PoolStats
    columns: tuple[str | None, str | None]
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

    async def rows(self, first: int, rows: Sequence[dict[str, Any]]) -> list[Answer | str]:
        """For each row, numbered from `first`, the answer, the limit that was met before it, or why
        it failed.
        """
        work = [(number, partial(self._row, number, row)) for number, row in enumerate(rows, first)]
        if not self.in_step:
            return await together([run() for _, run in work])
        results: list[Answer | str] = []
        for at in range(0, len(work), self.concurrency):
            results += await self.steps.run(dict(work[at : at + self.concurrency]))
        return results

    async def _row(self, number: int, row: dict[str, Any]) -> Answer | str:
        request = self.prompt.request(row, f"{self.where}, row {number}")
        async with self._turns:
            result = await self._answer(request)
        self._done += 1
        if self.progress is not None:
            self.progress(self._done, self.stats.rows)
        return result

    async def _answer(self, request: Request) -> Answer | str:
        if self.failed:
            return FAILED + "not asked"
        try:
            answer = await self.answerer.answer(request, self.models, self.judge, self.account)
        except BudgetSpent as spent:
            return spent.limit
        except ModelError as error:
            if error.status not in _ROW_FAULTS:
                self.failures.append(error)
            return FAILED + str(error)
        self.failures.clear()
        return answer


async def write(batch: Batch, records: Records, out: str | Path, store: Path) -> None:
    """Answer all rows, some windows of them at a time, and write them in order: beside the store
    first, then whole to `out`.
    """
    beside = Path(f"{store}.rows.parquet")
    # Whole groups are read at once, so that groups in step do not depend on where a window ends.
    window = batch.concurrency * max(4, -(-_ROWS // batch.concurrency))
    under_way = 1 if batch.in_step else 2  # groups that are in step come one after the other
    waiting: deque[tuple[pa.RecordBatch, asyncio.Task[list[Answer | str]]]] = deque()
    number = 1
    try:
        with pq.ParquetWriter(beside, pa.schema([*records.schema, *COLUMNS])) as writer:

            async def write_first() -> None:
                rows, task = waiting[0]
                results = await task  # it waits in the queue until then, to be cancelled with it
                waiting.popleft()
                writer.write_batch(_with(batch, results, rows))

            for rows in records.batches(window):
                waiting.append((rows, asyncio.create_task(batch.rows(number, rows.to_pylist()))))
                number += len(rows)
                if len(waiting) == under_way:
                    await write_first()
            while waiting:
                await write_first()
        if batch.failed:
            done = f"{batch.stats.answered:,} of {batch.stats.rows:,} rows are answered"
            failed = f"{_FAILURES} requests in a row failed, the last: {batch.failures[-1]}"
            remedy = (
                f"run the same command again when the model answers: {done} and kept in {store}"
            )
            raise ResourceError(failed, where=batch.where, remedy=remedy)
        read(beside).write(out)
    finally:
        for _, task in waiting:
            task.cancel()
        beside.unlink(missing_ok=True)


def _with(batch: Batch, results: Sequence[Answer | str], rows: pa.RecordBatch) -> pa.RecordBatch:
    """The rows with the columns of their results, which are noted."""
    for result, row in zip(results, rows.to_pylist(), strict=True):
        batch.stats.add(result)
        if isinstance(result, Answer):
            truth, group = (row[name] if name else None for name in batch.columns)
            batch.pools.add(result.candidates, result.chosen, reference=truth, group=group)
    columns = pa.RecordBatch.from_pylist([cells(result) for result in results], COLUMNS)
    return pa.RecordBatch.from_arrays(
        [*rows.columns, *columns.columns], schema=pa.schema([*rows.schema, *COLUMNS])
    )
