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
    from pomona.sample.pool import extremes as extremes
    from pomona.sample.pool import hedged as hedged
    from pomona.sample.store import Stored as Stored
    from pomona.sample.strategy import NAMED as NAMED
    from pomona.sample.strategy import Strategy as Strategy
    from pomona.sample.strategy import parse_strategy as parse_strategy

_HOMES = {
    "Answer": "answer",
    "Budget": "budget",
    "Diary": "diagnostics",
    "NAMED": "strategy",
    "Stored": "store",
    "Strategy": "strategy",
    "answer_all": "batch",
    "answer_now": "blocking",
    "chrf_mbr": "mbr",
    "extremes": "pool",
    "hedged": "pool",
    "parse_strategy": "strategy",
}
__all__ = [
    "NAMED",
    "Answer",
    "Budget",
    "Diary",
    "Stored",
    "Strategy",
    "answer_all",
    "answer_now",
    "chrf_mbr",
    "extremes",
    "hedged",
    "parse_strategy",
]

__getattr__, __dir__ = lazily(__name__, _HOMES)
