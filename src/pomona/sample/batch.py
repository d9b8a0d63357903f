"""Answers to all rows of a table: resumable, within a budget, in order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pomona.errors import GateFailed, PomonaError
from pomona.models.chat import ChatModel, ModelError, open_chat
from pomona.models.chat.protocol import Request
from pomona.records import Records, read
from pomona.records._records import as_records
from pomona.records.card import Card
from pomona.sample.answer import Answer, answer
from pomona.sample.batch_card import FAILED, Told, card_of_batch
from pomona.sample.blocking import wait_for
from pomona.sample.budget import Account, Budget, BudgetSpent
from pomona.sample.diagnostics import Diary
from pomona.sample.forecast import forecast_answer
from pomona.sample.rows import Asking, asking
from pomona.sample.store import Stored
from pomona.sample.strategy import Strategy, parse_strategy
from pomona.tasks.metrics import metric as metric_of

if TYPE_CHECKING:
    from pomona.sample.context.protocol import Context

Model = str | ChatModel
Progress = Callable[[int, int], None]
COLUMNS = pa.schema(
    [
        ("answer", pa.string()), ("chosen", pa.int64()), ("candidates", pa.list_(pa.string())), ("scores", pa.list_(pa.float64())),
        ("stopped_by", pa.string()), ("tokens", pa.int64()), ("flops", pa.float64()), ("money", pa.float64()), ("error", pa.string()),
    ]
)  # fmt: skip
_FAILURES = 5  # in a row, that end a batch
_ROWS = 64
_WINDOWS = 2  # windows of rows under way
_ROW_FAULTS = frozenset({400, 413, 422})


@dataclass
class _Batch:
    """One run: what is asked, of whom, and how it went so far."""

    asking: Asking
    strategy: Strategy
    models: list[ChatModel]
    judge: ChatModel | None
    context: Sequence[Context]
    account: Account
    concurrency: int
    where: str
    told: Told
    progress: Progress | None
    failures: list[ModelError] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._turns, self._done = asyncio.Semaphore(self.concurrency), 0

    async def row(self, number: int, row: dict[str, Any]) -> Answer | str:
        """The answer of a row, the limit that was met before it, or why it failed."""
        request = self.asking.request(row, f"{self.where}, row {number}")
        async with self._turns:
            found = await self._answer(request)
        self._done += 1
        if self.progress is not None:
            self.progress(self._done, self.told.rows)
        return found

    async def _answer(self, request: Request) -> Answer | str:
        if len(self.failures) >= _FAILURES:
            return FAILED + "not asked"
        try:
            found = await answer(request, self.models, self.strategy, budget=self.account, context=self.context, judge=self.judge)
        except BudgetSpent as spent:
            return spent.limit
        except ModelError as error:
            if error.status not in _ROW_FAULTS:
                self.failures.append(error)
            return FAILED + str(error)
        self.failures.clear()
        return found


def answer_all(
    inputs: str | Path | Sequence[str | Path] | Records | pa.Table,
    out: str | Path,
    *,
    model: Model | Sequence[Model],
    strategy: str | Strategy | dict[str, Any] = "hedged5-mbr",
    prompt: str | None = None,
    messages: str | None = None,
    system: str | None = None,
    raw: bool = False,
    max_tokens: int = 512,
    judge: Model | None = None,
    context: Sequence[Context] = (),
    reference: str | None = None,
    group: str | None = None,
    metric: str = "chrf",
    store: str | Path | None = None,
    budget: Budget | None = None,
    concurrency: int = 8,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Card:
    """Answer every row by a strategy and write the rows with `answer`, `chosen`, `candidates`, `scores`, cost and `error` added.

    inputs, out: as `pomona.records.read` and `write` take them; rows keep their order. Lists have no place in CSV.
    model, judge: URIs as `open_chat` takes them, or open models, which stay open. Several models share a pool.
        settings: what else `open_chat` takes (threads, price, rate, timeout, …), for all of them.
    prompt: a template such as "{prompt}" or "Translate: {source}". messages: a column of messages instead. raw: no chat template.
    reference, group, metric: columns by which pools are described in the card (hope, risk, distinct share, how often greedy is picked).
    store: SQLite file of everything that was generated, `OUT.answers.db` without one. A run that was killed goes on from it, and
        a larger pool reuses a smaller one.
        Torch models answer up to rounding the same whatever runs beside; with concurrency 1 two runs are equal to the bit.
    budget: for all rows together, what the store holds counted with what it cost then. Rows it does not reach have no answer.
    dry_run: nothing is asked or written; the card says what full-length answers to all rows would cost at most, the store not considered.

    Raises:
        PomonaError: a column is missing, a cell is null, or a setting is wrong. Nothing was asked.
        GateFailed: the last 5 requests all failed after their retries. Nothing was written; the store keeps what was generated.
    """
    records = as_records(inputs) if isinstance(inputs, Records | pa.Table) else read(inputs)
    where = str(records._source.where)
    plan = strategy if isinstance(strategy, Strategy) else parse_strategy(strategy, trusted=True)
    how = asking(records.schema, where, prompt=prompt, messages=messages, system=system, raw=raw, max_tokens=max_tokens, seed=seed)
    _check(records, out, [name for name in (reference, group) if name], where)
    if concurrency < 1:
        raise PomonaError(f"concurrency is {concurrency}", remedy="answer at least one row at a time")
    told = Told(rows=_count(records, how, where, reference))
    diary = Diary(metric_of(metric) if reference else None, seed)
    kept = Path(store) if store is not None else Path(f"{out}.answers.db")

    options = {"concurrency": concurrency, **(settings or {})}

    async def run() -> Card:
        async with AsyncExitStack() as stack:
            named = [model] if isinstance(model, str) or not isinstance(model, Sequence) else model
            opener = _Opener(options, None if dry_run else kept, stack)
            models = [opener(each) for each in named]
            arbiter = None if judge is None else opener(judge)
            batch = _Batch(how, plan, models, arbiter, context, Account(budget), concurrency, where, told, progress)
            if dry_run:
                _estimate(batch, records)
            else:
                await _write(batch, records, out, kept, (diary, reference, group))
            return card_of_batch(batch, records, diary, dry_run=dry_run, store=kept)

    card = wait_for(run())
    if not dry_run:
        card.write(out)
    return card


class _Opener:
    """Opens each model once, behind the store where there is one; what it opened is closed with the stack, what was given is not."""

    def __init__(self, options: Mapping[str, Any], store: Path | None, stack: AsyncExitStack) -> None:
        self._options, self._store, self._stack = options, store, stack
        self._opened: dict[str, ChatModel] = {}

    def __call__(self, model: Model) -> ChatModel:
        if not isinstance(model, str):
            return self._kept(model, ours=False)
        if model not in self._opened:
            self._opened[model] = self._kept(open_chat(model, **self._options), ours=True)
        return self._opened[model]

    def _kept(self, model: ChatModel, ours: bool) -> ChatModel:
        if self._store is None or isinstance(model, Stored):
            if ours:
                self._stack.push_async_callback(model.close)
            return model
        stored = Stored(model, self._store)
        if ours:
            self._stack.push_async_callback(stored.close)
        else:
            self._stack.callback(stored._file.close)
        return stored


def _check(records: Records, out: str | Path, columns: Sequence[str], where: str) -> None:
    from pomona.records._store import format_of
    from pomona.records._write import _check_types

    records.require(*columns)
    for name in COLUMNS.names:
        if name in records.column_names:
            raise PomonaError(f'there is a column "{name}" already', where=where, remedy="rename it: the answers are written there")
    _check_types(pa.schema([*records.schema, *COLUMNS]), format_of(str(out))[0], str(out))


def _count(records: Records, how: Asking, where: str, reference: str | None) -> int:
    """The rows, each looked at before any is paid for."""
    number = 0
    for number, row in _numbered(records):
        how.request(row, f"{where}, row {number}")
        if reference is not None and row[reference] is None:
            raise PomonaError("is null", where=f'{where}, row {number}, column "{reference}"', remedy="fill it in, or leave the row out")
    return number


def _estimate(batch: _Batch, records: Records) -> None:
    for number, row in _numbered(records):
        request = batch.asking.request(row, f"{batch.where}, row {number}")
        batch.told.spent += forecast_answer(batch.models, request, batch.strategy, batch.judge)
        batch.told.within += batch.account.holds(batch.told.spent)


def _numbered(records: Records) -> Iterator[tuple[int, dict[str, Any]]]:
    number = 0
    for rows in records.batches(_ROWS):
        for row in rows.to_pylist():
            number += 1
            yield number, row


async def _write(batch: _Batch, records: Records, out: str | Path, store: Path, measured: tuple[Diary, str | None, str | None]) -> None:
    """Answer all rows, a window of them at a time, and write them in order: beside the store first, then whole to `out`."""
    beside = Path(f"{store}.rows.parquet")
    waiting: deque[tuple[pa.RecordBatch, list[asyncio.Task[Answer | str]]]] = deque()
    number = 0
    try:
        with pq.ParquetWriter(beside, pa.schema([*records.schema, *COLUMNS])) as writer:
            for rows in records.batches(max(_ROWS, 4 * batch.concurrency)):
                tasks = [asyncio.create_task(batch.row(number + at, row)) for at, row in enumerate(rows.to_pylist(), 1)]
                number += len(tasks)
                waiting.append((rows, tasks))
                if len(waiting) == _WINDOWS:
                    writer.write_batch(await _finished(batch, *waiting.popleft(), measured))
            while waiting:
                writer.write_batch(await _finished(batch, *waiting.popleft(), measured))
        if len(batch.failures) >= _FAILURES:
            raise _failed(batch, store)
        read(beside).write(out)
    finally:
        for task in [task for _, tasks in waiting for task in tasks]:
            task.cancel()
        beside.unlink(missing_ok=True)


async def _finished(
    batch: _Batch, rows: pa.RecordBatch, tasks: Sequence[asyncio.Task[Answer | str]], measured: tuple[Diary, str | None, str | None]
) -> pa.RecordBatch:
    try:
        results = await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        raise
    diary, reference, group = measured
    for result, row in zip(results, rows.to_pylist(), strict=True):
        if isinstance(result, Answer):
            truth = row[reference] if reference else None
            diary.add(result.candidates, result.chosen, reference=truth, group=row[group] if group else None)
        batch.told.add(result)
    columns = pa.RecordBatch.from_pylist([_cells(result) for result in results], COLUMNS)
    return pa.RecordBatch.from_arrays([*rows.columns, *columns.columns], schema=pa.schema([*rows.schema, *COLUMNS]))


def _cells(result: Answer | str) -> dict[str, Any]:
    if isinstance(result, str):
        failed = result.startswith(FAILED)
        return {"stopped_by": None if failed else result, "error": result.removeprefix(FAILED) if failed else None}
    spent = result.spent
    return {
        "answer": result.text, "chosen": result.chosen, "candidates": [reply.text for reply in result.candidates],
        "scores": list(result.scores), "stopped_by": result.stopped_by, "tokens": spent.prompt_tokens + spent.completion_tokens,
        "flops": spent.flops, "money": spent.money,
    }  # fmt: skip


def _failed(batch: _Batch, store: Path) -> GateFailed:
    done = f"{batch.told.answered:,} of {batch.told.rows:,} rows are answered"
    return GateFailed(
        f"{_FAILURES} requests in a row failed, the last: {batch.failures[-1]}",
        where=batch.where,
        remedy=f"run the same command again when the model answers: {done} and kept in {store}",
    )
