"""Answers of models, drawn within a budget and kept, so that none is paid for twice: `answer_rows`
for tables, and its parts for every room that asks models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.answers.batch import (
        AskingOptions as AskingOptions,
        BatchStats as BatchStats,
        ModelOrUri as ModelOrUri,
        Progress as Progress,
        RowOptions as RowOptions,
        answer_rows as answer_rows,
    )
    from pomona.answers.budget import (
        Account as Account,
        Budget as Budget,
        BudgetSpent as BudgetSpent,
        Exhausted as Exhausted,
        MeteredModel as MeteredModel,
        ask as ask,
        deal as deal,
        draw as draw,
        forecaster as forecaster,
    )
    from pomona.answers.lockstep import (
        InStep as InStep,
        Lockstep as Lockstep,
        together as together,
    )
    from pomona.answers.pool import (
        Answer as Answer,
        Answerer as Answerer,
        PoolStats as PoolStats,
        conversation as conversation,
        fenced as fenced,
        text_of as text_of,
    )
    from pomona.answers.rows import COLUMNS as COLUMNS, RowPrompt as RowPrompt
    from pomona.answers.store import (
        CachedModel as CachedModel,
        Wrapper as Wrapper,
        open_store as open_store,
    )
    from pomona.answers.submitted import (
        Fetched as Fetched,
        InBatches as InBatches,
        Submitted as Submitted,
    )

__getattr__, __dir__ = lazily(
    __name__,
    {
        "batch": "AskingOptions BatchStats ModelOrUri Progress RowOptions answer_rows",
        "budget": "Account Budget BudgetSpent Exhausted MeteredModel ask deal draw forecaster",
        "lockstep": "InStep Lockstep together",
        "pool": "Answer Answerer PoolStats conversation fenced text_of",
        "rows": "COLUMNS RowPrompt",
        "store": "CachedModel Wrapper open_store",
        "submitted": "Fetched InBatches Submitted",
    },
)
