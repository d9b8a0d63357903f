"""Answers to all rows of a table: resumable, within a budget, in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pomona.errors import PomonaError
from pomona.records import Card, Records, as_records, read
from pomona.sample.batch_card import Told, card_of_batch
from pomona.sample.batch_run import Batch, Measured, Progress, write
from pomona.sample.blocking import wait_for
from pomona.sample.budget import Account, Budget
from pomona.sample.diagnostics import Diary
from pomona.sample.forecast import forecast_answer
from pomona.sample.lockstep import Lockstep
from pomona.sample.opening import Model, Opener
from pomona.sample.rows import COLUMNS, Asking, asking
from pomona.sample.strategy import Strategy, parse_strategy
from pomona.tasks import metric as metric_of

if TYPE_CHECKING:
    from pomona.sample.context.protocol import Context

_ROWS = 64


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
    """Answer every row by a strategy and write the rows with `answer`, `chosen`, `candidates`,
    `scores`, cost and `error` added.

    inputs, out: as `pomona.records.read` and `write` take them; rows keep their order. Lists have
    no place in CSV. model, judge: URIs as `open_chat` takes them, or open models, which stay open.
    Several models share a pool.
        settings: what else `open_chat` takes (threads, price, rate, timeout, …), for all of them.
    prompt: a template such as "{prompt}" or "Translate: {source}". messages: a column of messages
        instead. raw: no chat template.
    reference, group, metric: columns by which pools are described in the card (hope, risk, distinct
    share, how often greedy is picked).
    store: SQLite file of everything that was generated, `OUT.answers.db` without one. A run that
        was killed goes on from it, and a larger pool reuses a smaller one.
    concurrency: rows under way at once. Where a model computes here (torch, llama.cpp), these are a
        group whose rows go in step: what is computed together depends on the rows alone, so a run
        that was killed and resumed is equal to the bit to one that was not.
    budget: for all rows together, what the store holds counted with what it cost then. Rows it does
        not reach have no answer.
    dry_run: nothing is asked or written; the card says what full-length answers to all rows would
        cost at most, the store not considered.

    Raises:
        PomonaError: a column is missing, a cell is null, or a setting is wrong. Nothing was asked.
        ResourceError: the last 5 requests all failed after their retries. Nothing was written; the
            store keeps what was generated.
    """
    records = as_records(inputs) if isinstance(inputs, Records | pa.Table) else read(inputs)
    where = str(records._source.where)
    plan = strategy if isinstance(strategy, Strategy) else parse_strategy(strategy, trusted=True)
    how = asking(
        records.schema,
        where,
        prompt=prompt,
        messages=messages,
        system=system,
        raw=raw,
        max_tokens=max_tokens,
        seed=seed,
    )
    _check(records, out, [name for name in (reference, group) if name], concurrency)
    told = Told(rows=_count(records, how, where, reference))
    measured = Measured(Diary(metric_of(metric) if reference else None, seed), reference, group)
    kept = Path(store) if store is not None else Path(f"{out}.answers.db")

    async def run() -> Card:
        async with AsyncExitStack() as stack:
            steps = Lockstep(Account(budget))
            opener = Opener(
                {"concurrency": concurrency, **(settings or {})},
                None if dry_run else kept,
                steps,
                stack,
            )
            panel, arbiter = opener.panel(model), None if judge is None else opener(judge)
            batch = Batch(
                how, plan, panel, arbiter, context, steps, concurrency, where, told, progress
            )
            if dry_run:
                _estimate(batch, records)
            else:
                await write(batch, records, out, kept, measured)
            return card_of_batch(batch, records, measured.diary, dry_run=dry_run, store=kept)

    card = wait_for(run())
    if not dry_run:
        card.write(out)
    return card


def _check(records: Records, out: str | Path, columns: Sequence[str], concurrency: int) -> None:
    from pomona.records import check_types, format_of

    if concurrency < 1:
        raise PomonaError(
            f"concurrency is {concurrency}", remedy="answer at least one row at a time"
        )
    records.require(*columns)
    for name in COLUMNS.names:
        if name in records.column_names:
            where = str(records._source.where)
            raise PomonaError(
                f'there is a column "{name}" already',
                where=where,
                remedy="rename it: the answers are written there",
            )
    check_types(pa.schema([*records.schema, *COLUMNS]), format_of(str(out))[0], str(out))


def _count(records: Records, how: Asking, where: str, reference: str | None) -> int:
    """The rows, each looked at before any is paid for."""
    number = 0
    for number, row in _numbered(records):
        how.request(row, f"{where}, row {number}")
        if reference is not None and row[reference] is None:
            raise PomonaError(
                "is null",
                where=f'{where}, row {number}, column "{reference}"',
                remedy="fill it in, or leave the row out",
            )
    return number


def _estimate(batch: Batch, records: Records) -> None:
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
