"""The sampling lever: several answers, one choice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.sample.answering import (
        answer as answer,
        answer_all as answer_all,
        answer_now as answer_now,
        forecast_answer as forecast_answer,
    )
    from pomona.sample.selection.choice import (
        SelectionContext as SelectionContext,
    )
    from pomona.sample.selection.choosing import choose as choose
    from pomona.sample.selection.mbr import chrf_mbr as chrf_mbr, extremes as extremes
    from pomona.sample.strategy import (
        KEPT as KEPT,
        NAMED as NAMED,
        REWARDS as REWARDS,
        TEMPERATURE as TEMPERATURE,
        Strategy as Strategy,
        hedged as hedged,
        parse_strategy as parse_strategy,
        temperatures as temperatures,
    )

__getattr__, __dir__ = lazily(
    __name__,
    {
        "answering": "answer answer_all answer_now forecast_answer",
        "selection.choice": "SelectionContext",
        "selection.choosing": "choose",
        "selection.mbr": "chrf_mbr extremes",
        "strategy": "KEPT NAMED REWARDS TEMPERATURE Strategy hedged parse_strategy temperatures",
    },
)
