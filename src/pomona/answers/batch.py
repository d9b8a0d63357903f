"""Answers to all rows of a table: resumable, within a budget, in order, and with a card."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

import pyarrow as pa
import pyarrow.parquet as pq

from pomona.answers.budget import Account, Budget, BudgetSpent
from pomona.answers.lockstep import InStep, Lockstep, Opener, together
from pomona.answers.pool import Answer, Answerer, PoolStats
from pomona.answers.rows import (
    FAILED,
    RowPrompt,
    cells,
    check_tokens,
    columns_of,
    compared,
    filled,
    refused,
)
from pomona.answers.store import CachedModel, open_store
from pomona.errors import PomonaError, ResourceError
from pomona.files import beside, recover
from pomona.models import Model, ModelError, Request, Sampling, Spent, Unreachable, wait_for
from pomona.records import (
    Card,
    Records,
    Results,
    RowName,
    as_records,
    check_types,
    format_of,
    inputs_of,
    is_remote,
    open_parquet,
    read,
)
from pomona.workspace import stamp

Progress = Callable[[int, int], None]
Finish = Callable[[Records], pa.Table]
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
            if result.reply.answered:
                self.answered += 1
            else:
                self.errors[refused(result)] += 1
            self.stopped[result.stopped_by] += 1
        elif result.startswith(FAILED):
            self.errors[result.removeprefix(FAILED)] += 1
        else:
            self.stopped[result] += 1


@dataclass
class Batch:
    """One run: what is asked, of whom, and how it went so far. `columns` hold the truth and the
    group of a row, for the description of pools. `extract` finds what of an answer is compared.

    Where a model computes here, rows are answered in groups of `concurrency` that go in step; else
    so many at once, whichever they are.
    """

    prompt: RowPrompt
    answerer: Answerer
    models: list[Model]
    judge: Model | None
    steps: Lockstep
    concurrency: int
    records: Records
    stats: BatchStats
    pools: PoolStats
    columns: tuple[str | None, str | None]
    extract: Callable[[str], str | None] | None
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
        """Whether so many requests failed in a row, a server is gone, or a field is refused that
        every row has, that nothing more is asked.
        """
        last = self.failures[-1] if self.failures else None
        sure = isinstance(last, Unreachable) or (last is not None and last.field is not None)
        return sure or len(self.failures) >= _FAILURES

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
        request = self.prompt.request(row, RowName(self.records, number - 1))
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
            if (error.field or error.status not in _ROW_FAULTS) and not self.failed:
                self.failures.append(error)
            return FAILED + str(error)
        # An answer that comes later than failures after it does not bring the batch back.
        if not self.failed:
            self.failures.clear()
        return answer


async def write(
    batch: Batch, records: Records, results: Results, store: Path, finish: Finish | None
) -> None:
    """Answer all rows, some windows of them at a time, and write them in order: beside the store
    first, then whole, or what `finish` makes of them, as the result.
    """
    rows_of_store = store.with_name(f"{store.name}.rows")
    recover(rows_of_store)
    whole = beside(rows_of_store)
    # Whole groups are read at once, so that groups in step do not depend on where a window ends.
    window = batch.concurrency * max(4, -(-_ROWS // batch.concurrency))
    under_way = 1 if batch.in_step else 2  # groups that are in step come one after the other
    waiting: deque[tuple[pa.RecordBatch, asyncio.Task[list[Answer | str]]]] = deque()
    number = 1
    try:
        columns = columns_of(batch.answerer)
        with pq.ParquetWriter(whole, pa.schema([*records.schema, *columns])) as writer:

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
            last = batch.failures[-1]
            failed = f"{_FAILURES} requests in a row failed, the last: {last}"
            remedy = (
                f"run the same command again when the model answers: {done} and kept in {store}"
            )
            if isinstance(last, Unreachable):
                start = "start it, or wait for one that is starting (--wait-for-server SECONDS)"
                failed, remedy = f"{last.where} {last.message}", f"{start}; {remedy}"
            if last.field is not None:
                failed = f'"{last.field}" would be refused for every row: {last.message}'
                remedy = f"change it, and run again: {done} and kept in {store}"
            raise ResourceError(failed, where=batch.records.source.where, remedy=remedy)
        answered = Records.of(open_parquet([str(whole)]))
        results.write("out", answered if finish is None else as_records(finish(answered)))
    finally:
        for _, task in waiting:
            task.cancel()
        whole.unlink(missing_ok=True)


def _with(batch: Batch, results: Sequence[Answer | str], rows: pa.RecordBatch) -> pa.RecordBatch:
    """The rows with the columns of their results, which are noted."""
    for result, row in zip(results, rows.to_pylist(), strict=True):
        batch.stats.add(result)
        if isinstance(result, Answer) and result.reply.answered:
            truth, group = (row[name] if name else None for name in batch.columns)
            batch.pools.add(result.candidates, result.chosen, reference=truth, group=group)
    kinds = columns_of(batch.answerer)
    columns = pa.RecordBatch.from_pylist(
        [cells(result, kinds, batch.extract) for result in results], kinds
    )
    return pa.RecordBatch.from_arrays(
        [*rows.columns, *columns.columns], schema=pa.schema([*rows.schema, *kinds])
    )


ModelOrUri = str | Model


class AskingOptions(TypedDict, total=False):
    """How models are asked about rows; see `answer_rows`."""

    store: str | Path | None
    budget: Budget | None
    concurrency: int
    settings: Mapping[str, Any] | None
    dry_run: bool
    progress: Progress | None


class RowOptions(AskingOptions, total=False):
    """What `answer_rows` takes beside the rows, what answers them, and the models."""

    judge: ModelOrUri | None
    prompt: str | None
    messages: str | None
    system: str | None
    raw: bool
    max_tokens: int
    sampling: Sampling | None
    reference: str | None
    group: str | None
    metric: str | Mapping[str, Any]
    seed: int


def answer_rows(
    inputs: str | Path | Sequence[str | Path] | Records | pa.Table,
    out: str | Path,
    answerer: Answerer,
    *,
    model: ModelOrUri | Sequence[ModelOrUri],
    judge: ModelOrUri | None = None,
    prompt: str | None = None,
    messages: str | None = None,
    system: str | None = None,
    raw: bool = False,
    max_tokens: int = 512,
    sampling: Sampling | None = None,
    reference: str | None = None,
    group: str | None = None,
    metric: str | Mapping[str, Any] = "chrf",
    store: str | Path | None = None,
    budget: Budget | None = None,
    concurrency: int = 8,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
    finish: Finish | None = None,
    amend: Callable[[Card], Card] | None = None,
) -> Card:
    """Answer every row by `answerer` and write the rows with `answer`, `chosen`, `candidates`,
    `scores`, cost and `error` added.

    `inputs` are as `pomona.records.read` takes them, or a table; rows keep their order. Models may
    be open already, and then stay open. A run that was killed goes on from its store, and a larger
    pool reuses a smaller one. Where a model computes here (torch, llama.cpp), the rows under way
    are a group that goes in step: what is computed together depends on the rows alone, so a run
    that was killed and resumed is equal to the bit to one that was not. The budget counts what the
    store holds with what it cost then, and rows that it does not reach have no answer. A dry run
    does not consider the store.

    Args:
        out: File of the rows with their answers; the card is written beside it.
        answerer: How a row is answered.
        model: URI of a model, or several.
        judge: URI of the model that judges; the first model when left out.
        prompt: Template with {COLUMN} in it; {prompt} when left out and there is no column
            messages.
        messages: Column of messages, instead of a prompt.
        system: System message put before.
        raw: Send the prompt as it is, without a chat template.
        max_tokens: Most tokens of an answer.
        sampling: How answers are drawn: what a strategy does not say itself.
        reference: Column of references.
        group: Column by which pools are shown.
        metric: chrf, chrf++, bleu, ter, exact_match, json_valid, MODULE:FUNCTION, or a name with
            its options: {"name": "exact_match", "extract": "number"}. exact_match compares what the
            strategy's vote extracts.
        store: SQLite file of everything generated; OUT.answers.db when left out.
        budget: Hard limits, of all rows together.
        concurrency: Rows under way at once.
        seed: Seed.
        settings: What else `pomona.models.load` takes, for all models.
        dry_run: Only say what it would cost at most; write nothing.
        progress: Called with the rows done and all.
        finish: What is written of the rows with their answers; they themselves when left out.
        amend: What is written as the card, from that of the rows that were asked.

    Raises:
        PomonaError: a column is missing, a cell is null, lists have no place in a file of this
            format, or a setting is wrong. Nothing was asked.
        ResourceError: the last 5 requests all failed after their retries. Nothing was written; the
            store keeps what was generated.
    """
    records = as_records(inputs) if isinstance(inputs, Records | pa.Table) else read(inputs)
    if prompt is None and messages is None:
        given = "messages" in records.column_names
        prompt, messages = (None, "messages") if given else ("{prompt}", None)
    row_prompt = RowPrompt(prompt, messages, system, raw, max_tokens, seed, sampling or Sampling())
    needed = [*row_prompt.columns, *([reference] if reference else [])]
    records = records.complete(*needed)
    columns = columns_of(answerer)
    _check(records, [name for name in (reference, group) if name], concurrency, columns.names)
    if finish is None:
        check_types(pa.schema([*records.schema, *columns]), format_of(str(out))[0], str(out))
    named = [model] if isinstance(model, str) or not isinstance(model, Sequence) else model
    _check_price(budget, [*named, judge], settings or {})
    stats = BatchStats(rows=_count(records, row_prompt, reference))
    judge_by, extract = compared(metric, answerer)
    pools = PoolStats(judge_by if reference else None, seed)
    if store is None and is_remote(out):
        remedy = "name a local file for them: --store FILE"
        message = "answers are kept beside it, and it is remote"
        raise PomonaError(message, where=out, remedy=remedy)
    kept = Path(store) if store is not None else Path(f"{out}.answers.db")

    async def run() -> Card:
        """The whole batch, its store and models closed at the end."""
        async with AsyncExitStack() as stack:
            steps = Lockstep(Account(budget))
            options = {"concurrency": concurrency, **(settings or {})}
            opened = Opener(options, None if dry_run else kept, steps, stack)
            batch = Batch(
                row_prompt,
                answerer,
                [opened(each) for each in named],
                None if judge is None else opened(judge),
                steps,
                concurrency,
                records,
                stats,
                pools,
                (reference, group),
                extract,
                progress,
            )
            await check_tokens(row_prompt.sampling, batch.models)
            if dry_run:
                for row, name in _named(records):
                    request = row_prompt.request(row, name)
                    stats.spent += answerer.forecast(request, batch.models, batch.judge)
                    stats.within += batch.account.holds(stats.spent)
            else:
                await write(batch, records, results, kept, finish)
            return _card(batch, records, kept, dry_run=dry_run)

    own = {"the store": kept, "the rejects": records.rejects}
    with Results(
        {"out": out},
        inputs=records.paths,
        stamps=lambda: stamp(records.paths),
        folders=own,
        dry_run=dry_run,
    ) as results:
        if kept.exists() and not dry_run:
            open_store(kept).close()  # before models are loaded for it
        card = wait_for(run())
        card = card if amend is None else amend(card)
        return card if dry_run else results.publish(card)


def _check(records: Records, columns: Sequence[str], concurrency: int, new: Sequence[str]) -> None:
    if concurrency < 1:
        remedy = "answer at least one row at a time"
        raise PomonaError(f"concurrency is {concurrency}", remedy=remedy)
    records.require(*columns)
    for name in new:
        if name in records.column_names:
            message = f'there is a column "{name}" already'
            remedy = "rename it: the answers are written there"
            raise PomonaError(message, where=str(records.source.where), remedy=remedy)


def _check_price(
    budget: Budget | None, models: Sequence[ModelOrUri | None], settings: Mapping[str, Any]
) -> None:
    """What is opened here has the price of the settings; models that are open have their own."""
    opens = any(isinstance(model, str) for model in models)
    if budget and budget.money is not None and opens and settings.get("price") is None:
        remedy = "give --price PROMPT,ANSWER for a million tokens"
        raise PomonaError("a budget of money needs a price", where="--budget-money", remedy=remedy)


def _count(records: Records, prompt: RowPrompt, reference: str | None) -> int:
    """The rows, each looked at before any is paid for."""
    count = 0
    for row, name in _named(records):
        prompt.request(row, name)
        if reference is not None:
            filled(row, reference, name)
        count += 1
    return count


def _named(records: Records) -> Iterator[tuple[dict[str, Any], RowName]]:
    """Each row, and how errors name it."""
    rows = (row for rows in records.batches(_ROWS) for row in rows.to_pylist())
    return ((row, RowName(records, index)) for index, row in enumerate(rows))


def _card(batch: Batch, records: Records, store: Path, *, dry_run: bool) -> Card:
    """The card of a finished batch, or of one that was only estimated.

    `details` has `answered`, `stopped_by` (rows by what ended their pool), `errors`, `spent` (what
    all answers cost, whenever they were made), `paid` (what this run generated), `budget`, the path
    of the `store`, and `pools` (rows of `PoolStats.table`). Of a dry run it has `at_most` in place
    of the costs, and `rows_within_budget`, the rows that the budget reaches even with the longest
    answers.
    """
    stats = batch.stats
    details: dict[str, Any] = {"budget": dict(batch.account.budget.limits)}
    if dry_run:
        details |= {"at_most": _costs(stats.spent), "rows_within_budget": stats.within}
    else:
        models = {id(model): model for model in (*batch.models, batch.judge)}.values()
        paid = (model.paid for model in models if isinstance(model, CachedModel))
        details |= {
            "answered": stats.answered,
            "stopped_by": dict(stats.stopped),
            "errors": dict(stats.errors.most_common(20)),
            "failed": stats.errors.total(),
            "spent": _costs(batch.account.spent),
            "paid": _costs(sum(paid, Spent())),
            "store": str(store),
            "pools": batch.pools.table(),
        }
    parameters = {
        **batch.answerer.parameters(batch.models, batch.judge),
        **batch.prompt.parameters,
        "metric": batch.pools.metric.signature if batch.pools.metric else None,
    }
    inputs = inputs_of((str(part.where), None) for part in records.source.parts())
    rows = (stats.rows, 0 if dry_run else stats.rows)
    left_out = records.rejected
    operation = batch.answerer.operation
    return Card(operation, parameters, inputs, *rows, details=details, left_out=left_out)


def _costs(spent: Spent) -> dict[str, Any]:
    names = ("prompt_tokens", "completion_tokens", "flops", "money")
    return {name: getattr(spent, name) for name in names}
