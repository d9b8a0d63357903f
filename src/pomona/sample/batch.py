"""A table of prompts answered by a strategy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import pyarrow as pa

from pomona.answers import Account, Answer, ModelOrUri, RowOptions, answer_rows
from pomona.models import Model, Request, Spent
from pomona.records import Card, Records
from pomona.sample.answering import answer, forecast_answer
from pomona.sample.strategy import Strategy, parse_strategy

if TYPE_CHECKING:
    from pomona.sample.context.protocol import Context


@dataclass(frozen=True)
class StrategyAnswerer:
    """Answers rows by a strategy, with what contexts add; see `pomona.answers.Answerer`."""

    strategy: Strategy
    context: Sequence[Context] = ()
    operation = "sample"

    def parameters(self, models: Sequence[Model], judge: Model | None) -> dict[str, Any]:
        """See the protocol."""
        return {
            "strategy": self.strategy.signature,
            "models": ",".join(model.identity for model in models),
            "judge": judge.identity if judge else None,
            "context": ",".join(lever.name for lever in self.context) or None,
        }

    async def answer(
        self, request: Request, models: Sequence[Model], judge: Model | None, account: Account
    ) -> Answer:
        """See the protocol."""
        return await answer(
            request, models, self.strategy, budget=account, context=self.context, judge=judge
        )

    def forecast(self, request: Request, models: Sequence[Model], judge: Model | None) -> Spent:
        """See the protocol."""
        return forecast_answer(models, request, self.strategy, judge)


def answer_all(
    inputs: str | Path | Sequence[str | Path] | Records | pa.Table,
    out: str | Path,
    *,
    model: ModelOrUri | Sequence[ModelOrUri],
    strategy: str | Strategy | dict[str, Any] = "hedged5-mbr",
    context: Sequence[Context] = (),
    **options: Unpack[RowOptions],
) -> Card:
    """Answer every row by a strategy and write the rows with `answer`, `chosen`, `candidates`,
    `scores`, cost and `error` added.

    Several models share a pool. The options, and what is raised, as `pomona.answers.answer_rows`.
    """
    plan = strategy if isinstance(strategy, Strategy) else parse_strategy(strategy, trusted=True)
    return answer_rows(inputs, out, StrategyAnswerer(plan, context), model=model, **options)
