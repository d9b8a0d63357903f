"""The sampling lever: several answers, one choice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.sample.answer import Answer as Answer
    from pomona.sample.batch import answer_all as answer_all
    from pomona.sample.blocking import answer_now as answer_now
    from pomona.sample.budget import Budget as Budget
    from pomona.sample.diagnostics import Diary as Diary
    from pomona.sample.mbr import chrf_mbr as chrf_mbr
    from pomona.sample.pool import extremes as extremes, hedged as hedged
    from pomona.sample.store import Stored as Stored
    from pomona.sample.strategy import (
        NAMED as NAMED,
        Strategy as Strategy,
        parse_strategy as parse_strategy,
    )

__getattr__, __dir__ = lazily(
    __name__,
    {
        "answer": "Answer",
        "batch": "answer_all",
        "blocking": "answer_now",
        "budget": "Budget",
        "diagnostics": "Diary",
        "mbr": "chrf_mbr",
        "pool": "extremes hedged",
        "store": "Stored",
        "strategy": "NAMED Strategy parse_strategy",
    },
)
