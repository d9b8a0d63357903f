"""What a batch of answers did and cost, and a signature to quote it by."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pomona.models.chat.protocol import Spent
from pomona.records import Card, Input, inputs_of
from pomona.sample.answer import Answer
from pomona.sample.rows import FAILED
from pomona.sample.store import Stored

if TYPE_CHECKING:
    from pomona.records import Records
    from pomona.sample.batch_run import Batch
    from pomona.sample.diagnostics import Diary


@dataclass
class Told:
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


def card_of_batch(
    batch: Batch, records: Records, diary: Diary, *, dry_run: bool, store: Path
) -> Card:
    """The card of a finished batch, or of one that was only estimated.

    `details` has `answered`, `stopped_by` (rows by what ended their pool), `errors`, `spent` (what
    all answers cost, whenever they were made), `paid` (what this run generated), `budget`, the path
    of the `store`, and `pools` (rows of `Diary.table`). Of a dry run it has `at_most` in place of
    the costs, and `rows_within_budget`, the rows that the budget reaches even with the longest
    answers.
    """
    told, how = batch.told, batch.asking
    spent = told.spent if dry_run else batch.account.spent
    details: dict[str, Any] = {"budget": dict(batch.account.budget.limits)}
    if dry_run:
        details |= {"at_most": _costs(spent), "rows_within_budget": told.within}
    else:
        panel = {
            id(model): model for model in [*batch.models, batch.judge] if isinstance(model, Stored)
        }
        paid = sum((model.paid for model in panel.values()), Spent())
        errors = dict(told.errors.most_common(20))
        details |= {
            "answered": told.answered,
            "stopped_by": dict(told.stopped),
            "errors": errors,
            "failed": told.errors.total(),
        }
        details |= {"spent": _costs(spent), "paid": _costs(paid), "store": str(store)}
        details["pools"] = diary.table()
    parameters = {
        "strategy": batch.strategy.signature,
        "models": ",".join(model.identity for model in batch.models),
        "judge": batch.judge.identity if batch.judge else None,
        "context": ",".join(lever.name for lever in batch.context) or None,
        "prompt": how.template,
        "messages": how.messages,
        "system": how.system,
        "raw": how.raw or None,
        "max_tokens": how.max_tokens,
        "seed": how.seed,
        "metric": diary.metric.signature if diary.metric else None,
    }
    return Card(
        "sample",
        parameters,
        _inputs(records),
        told.rows,
        0 if dry_run else told.rows,
        details=details,
    )


def _costs(spent: Spent) -> dict[str, Any]:
    return {
        "prompt_tokens": spent.prompt_tokens,
        "completion_tokens": spent.completion_tokens,
        "flops": spent.flops,
        "money": spent.money,
    }


def _inputs(records: Records) -> tuple[Input, ...]:
    source = records._source
    parts = getattr(source, "parts", None)
    return inputs_of(
        (str(part.where), None) for part in (parts() if parts is not None else [source])
    )
