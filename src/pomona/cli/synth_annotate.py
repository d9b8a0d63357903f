"""How `pomona synth annotate` prints categories, and people beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pomona.cli.command import Command, Made, Options
from pomona.cli.errors import tell
from pomona.cli.output import Out
from pomona.cli.sample import costs, show_batch
from pomona.errors import quantity
from pomona.pages import clean

if TYPE_CHECKING:
    from pomona.records import Card
    from pomona.synth.categories import Annotated


def show_annotated(show: Out, result: Annotated | Card, given: Mapping[str, Any]) -> int:
    """Rows in each category, people beside them, and why rows have none; or what it would cost."""
    if not hasattr(result, "counts"):
        show_batch(show, result, given["out"], True)  # pyright: ignore[reportArgumentType]
        return 0
    told: Any = result
    if show.format == "json":
        show.json(told.to_json())
    else:
        _show(show, told)
        show.rest(
            *told.error_lines(), *map(clean, told.notes), told.signature, page=given.get("page")
        )
        show.line(told.out)
    if told.failed:
        tell(
            f"{quantity(told.failed, 'question is', 'questions are')}"
            " open; run again to go on, with a larger budget or when "
            "the model answers"
        )
    return int(bool(told.failed))


def _show(show: Out, told: Annotated) -> None:
    for name, spent in (told.spent or {}).items():
        show.line(f"{name}: {costs(spent)}")
    show.line(told.headline())
    by = ", ".join(f"{count:,} by {what}" for what, count in told.by.items())
    sure = "" if told.sure is None else f"; sure {told.sure:.2f} on average"
    show.table(told.count_rows(), caption=f"{by}{sure}")
    if told.agreement is not None:
        caption = "each category against all others; intervals of κ"
        show.table(told.agreement_rows(), caption=caption)
        if rows := told.confusion_rows():
            show.table(rows, caption="rows by what people said, and across what was annotated")


ANNOTATE = Command(
    "pomona.synth.categories:annotate",
    "annotating",
    Options(
        kinds={"model": str, "threads": int, "labels": str},
        groups={
            "What people said": "human labels id cluster level resamples",
            "What a model is asked": "template samples temperature free",
        },
        more={"": ("pomona.answers:answer_rows", "store concurrency dry_run")},
        made={
            "budget": Made(
                "pomona.answers:Budget",
                {"Hard limits, of all rows together": "tokens flops money seconds"},
                prefix="budget_",
            ),
            "settings": Made(
                "pomona.models:load",
                {"How models are called": "price tokenizer threads timeout wait_for_server"},
                kept=True,
            ),
        },
    ),
    show_annotated,
)
