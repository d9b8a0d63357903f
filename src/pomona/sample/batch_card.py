"""What a batch of answers did and cost, and a signature to quote it by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pomona import __version__
from pomona.files import sha256_of, write_json
from pomona.models.chat.protocol import Spent
from pomona.sample.answer import Answer
from pomona.sample.store import Stored

if TYPE_CHECKING:
    from pomona.records import Records
    from pomona.sample.batch import _Batch
    from pomona.sample.diagnostics import Diary

FAILED = "error: "


@dataclass
class Told:
    """How a batch went: rows, those answered, what stopped pools, failures by their text, what all answers cost."""

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


@dataclass(frozen=True)
class Card:
    """The card of a batch, with the fields of a data card.

    `details` has `answered`, `stopped_by` (rows by what ended their pool), `errors`, `spent` (what all answers cost, whenever they were
    made), `paid` (what this run generated), `budget`, and the path of the `store`. Of a dry run it has `at_most` in place of the costs, and
    `rows_within_budget`, the rows that the budget reaches even if every answer is as long as it may be.
    `pools` are the rows of `Diary.table`.
    """

    operation: str
    parameters: Mapping[str, Any]
    inputs: tuple[Mapping[str, Any], ...]
    rows_in: int
    rows_out: int
    details: Mapping[str, Any]
    pools: tuple[dict[str, Any], ...] = ()
    version: str = __version__

    @property
    def signature(self) -> str:
        """One line that says how the answers were made."""
        parts = (f"{name}:{value}" for name, value in self.parameters.items() if value is not None)
        return "|".join([self.operation, *parts, f"version:{self.version}"])

    def write(self, out: str | Path) -> Path:
        """Write the card beside `out`, as `OUT.card.json`."""
        path = Path(f"{out}.card.json")
        write_json(path, {"signature": self.signature, **asdict(self)})
        return path


def card_of_batch(batch: _Batch, records: Records, diary: Diary, *, dry_run: bool, store: Path) -> Card:
    """The card of a finished batch, or of one that was only estimated."""
    told, how = batch.told, batch.asking
    spent = told.spent if dry_run else batch.account.spent
    details: dict[str, Any] = {"budget": dict(batch.account.budget.limits)}
    if dry_run:
        details |= {"at_most": _costs(spent), "rows_within_budget": told.within}
    else:
        panel = {id(model): model for model in [*batch.models, batch.judge] if isinstance(model, Stored)}
        paid = sum((model.paid for model in panel.values()), Spent())
        errors = dict(told.errors.most_common(20))
        details |= {"answered": told.answered, "stopped_by": dict(told.stopped), "errors": errors, "failed": told.errors.total()}
        details |= {"spent": _costs(spent), "paid": _costs(paid), "store": str(store)}
    parameters = {
        "strategy": batch.strategy.signature, "models": ",".join(model.identity for model in batch.models),
        "judge": batch.judge.identity if batch.judge else None, "context": ",".join(lever.name for lever in batch.context) or None,
        "prompt": how.template, "messages": how.messages, "system": how.system, "raw": how.raw or None,
        "max_tokens": how.max_tokens, "seed": how.seed,
        "metric": diary.metric.signature if diary.metric else None,
    }  # fmt: skip
    pools = () if dry_run else tuple(diary.table())
    return Card("sample", parameters, _inputs(records), told.rows, 0 if dry_run else told.rows, details, pools)


def _costs(spent: Spent) -> dict[str, Any]:
    return {"prompt_tokens": spent.prompt_tokens, "completion_tokens": spent.completion_tokens, "flops": spent.flops, "money": spent.money}


def _inputs(records: Records) -> tuple[Mapping[str, Any], ...]:
    source = records._source
    parts = getattr(source, "parts", None)
    names = [str(part.where) for part in parts()] if parts is not None else [str(source.where)]
    return tuple({"path": name, "sha256": sha256_of(name) if Path(name).is_file() else None} for name in names)
