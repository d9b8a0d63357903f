"""`pomona arena judge`: what a judge's verdicts are worth beside people's votes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pomona.cli.arena_fit import COLUMNS
from pomona.cli.command import Made, Options
from pomona.cli.errors import tell
from pomona.cli.output import Out
from pomona.cli.sample import costs, show_batch
from pomona.errors import quantity
from pomona.pages import clean

if TYPE_CHECKING:
    from pomona.arena import JudgeAudit
    from pomona.records import Card


def show_judge(show: Out, result: JudgeAudit | Card, given: Mapping[str, Any]) -> int:
    """Agreement, preferences, what flips are worth, ratings, and errors; or what it would cost."""
    if not hasattr(result, "verdicts"):
        show_batch(show, result, given["out"], True)  # pyright: ignore[reportArgumentType]
        return 0
    audit: Any = result
    if show.format == "json":
        show.json(audit.to_json())
    else:
        _show(show, audit)
        show.rest(*map(clean, audit.notes), audit.signature, page=given.get("page"))
        if audit.out is not None:
            show.line(audit.out)
    return _told(audit)


def _show(show: Out, audit: JudgeAudit) -> None:
    from pomona.arena import judge_lines, judge_tables

    for name, spent in (audit.spent or {}).items():
        show.line(f"{name}: {costs(spent)}")
    for line in judge_lines(audit):
        show.line(line)
    for one in judge_tables(audit):
        show.table(one.rows, caption=one.caption)


def _told(audit: JudgeAudit) -> int:
    if not audit.failed:
        return 0
    tell(f"{quantity(audit.failed, 'verdict is', 'verdicts are')}"
         " missing; run again to go on, with a larger budget or when the model "
         "answers")  # fmt: skip
    return 1


OF_JUDGE = Options(
    kinds={
        "pairs": str,
        "judge": str,
        "verdicts": str,
        "threads": int,
        "reference": str,
        "family": str,
    },
    tables="*",
    groups={
        "Metrics and recorded verdicts": "metric reference band verdicts",
    },
    more={"": ("pomona.answers:answer_rows", "store concurrency dry_run")},
    made={
        **COLUMNS,
        "ask": Made(
            "pomona.arena:judge_prompt",
            {"What the judge is asked": "template explain free max_tokens"},
        ),
        "budget": Made(
            "pomona.answers:Budget",
            {"Hard limits, of all verdicts together": "tokens flops money seconds"},
            prefix="budget_",
        ),
        "settings": Made(
            "pomona.models:load",
            {"How models are called": "price tokenizer threads timeout wait_for_server"},
            kept=True,
        ),
    },
)
