"""`pomona sample` and `pomona serve`: whatever answers prompts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclopts import App

from pomona.cli.command import Command, Made, Options
from pomona.cli.errors import tell
from pomona.cli.output import Out
from pomona.errors import quantity

if TYPE_CHECKING:
    from pomona.memory import MemorySelector
    from pomona.records import Card


def _show(show: Out, card: Card, given: Mapping[str, Any]) -> int:
    dry_run = given.get("dry_run", False)
    show_batch(show, card, given["out"], dry_run)
    return 0 if dry_run or card.details["answered"] == card.rows_in else _told(card)


def show_batch(show: Out, card: Card, out: Path, dry_run: bool) -> None:
    """The card of answered rows: costs, how many there are, and pools."""
    if show.format == "json":
        show.json({"out": None if dry_run else out, "signature": card.signature, **asdict(card)})
        return
    for name in ("at_most", "spent", "paid"):
        if name in card.details:
            show.line(f"{name.replace('_', ' ')}: {costs(card.details[name])}")
    if dry_run and card.details["budget"]:
        show.line(
            f"the budget reaches at least {card.details['rows_within_budget']:,} of "
            f"{quantity(card.rows_in, 'row')}"
        )
    if not dry_run:
        stopped = ", ".join(f"{count:,} {by}" for by, count in card.details["stopped_by"].items())
        show.line(
            f"answered: {card.details['answered']:,} of {card.rows_in:,} rows ({stopped or 'none'})"
        )
    if pools := card.details.get("pools"):
        show.table(
            pools, [_pool(row) for row in pools], "differences to greedy; intervals cover 95 %"
        )
    show.line(card.signature)
    show.line("nothing was written" if dry_run else out)


def costs(costs: dict[str, Any]) -> str:
    """Tokens, FLOPs and money in words."""
    parts = [
        f"{costs['prompt_tokens']:,} prompt tokens",
        f"{costs['completion_tokens']:,} answer tokens",
    ]
    parts += [f"{costs['flops']:.3g} FLOPs"] if costs["flops"] else []
    return ", ".join(parts + ([f"{costs['money']:.4g} in money"] if costs["money"] else []))


def _pool(row: dict[str, Any]) -> dict[str, Any]:
    """A row as people read it: each estimate with its interval."""
    shown: dict[str, Any] = {"group": row["group"], "n": row["n"]}
    if "greedy" in row:
        shown["greedy"] = f"{row['greedy']:.1f}"
        shown |= {
            name: f"{row[name]:+.1f} [{row[f'{name}_low']:+.1f}, {row[f'{name}_high']:+.1f}]"
            for name in ("chosen", "hope", "risk")
        }
    names = {"distinct": "distinct", "greedy_picked": "greedy picked"}
    return shown | {
        names[key]: f"{row[key]:.2f} [{row[f'{key}_low']:.2f}, {row[f'{key}_high']:.2f}]"
        for key in names
    }


def _told(card: Card) -> int:
    details = card.details
    for limit in details["budget"]:
        if count := details["stopped_by"].get(limit):
            tell(
                f"the budget of {limit} was spent: {count:,} rows have a smaller pool or no "
                "answer; raise it and run again to go on"
            )
    if details["failed"]:
        first = next(iter(details["errors"]))
        tell(
            f"{quantity(details['failed'], 'row')}"
            f" failed, such as: {first}; run again to try them again"
        )
    return 1


def _show_selector(show: Out, found: MemorySelector, given: Mapping[str, Any]) -> None:
    told = found.learned
    unseen = told["unseen"]
    worth = "not known: there are too few" if unseen is None else f"{unseen:.1f}"
    show.line(f"learned from {quantity(told['items'], 'row')}")
    show.line(f"{told['metric']} on rows whose sources it has not seen: {worth}")
    show.line(given["out"])


CONTEXTS = "pomona.sample.context:open_contexts"
SEEN = {
    "What the model sees": "retrieve tool mcp steer_to steer_from steer_strength steer_temperature"
}
_ROWS = "pomona.answers:answer_rows"
_DRAWN = "top_p min_p top_k frequency_penalty presence_penalty repetition_penalty logit_bias stop"
_MEMORY = "pomona.memory:open_memory"
_TABLE = "table source answer group form example"
_ROWS_KNOWN = f"{_TABLE} selector"
_BEFORE = "What was answered before"
_MARKED = "Of models that were trained with markers"
app = App(name="sample")
app.default(
    Command(
        "pomona.sample:answer_all",
        "answering",
        Options(
            kinds={"model": list[str], "strategy": str, "metric": str, "threads": int}
            | {"logit_bias": str, "stop": list[str]},
            tables="*",
            groups={
                "Details of the strategy": "reward extract language",
                _BEFORE: "lookup copy examples neighbours phrases",
            },
            more={
                "": (_ROWS, "judge store concurrency seed dry_run"),
                "What is asked": (_ROWS, "prompt messages system raw max_tokens"),
                "What pools are measured against": (_ROWS, "reference group metric"),
            },
            made={
                "sampling": Made("pomona.models:Sampling", {"How answers are drawn": _DRAWN}),
                "context": Made(CONTEXTS, {**SEEN, "": "think"}),
                "markers": Made(
                    "pomona.markers:open_markers",
                    {_MARKED: "markers markers_from markers_forced"},
                    shared="model raw",
                    always=True,
                ),
                "memory": Made(_MEMORY, {_BEFORE: _ROWS_KNOWN}, prefix="memory_"),
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
        _show,
    )
)
app.command(
    Command(
        "pomona.sample.context:Index.build",
        "indexing",
        Options(hidden="format", tables="*"),
        lambda show, index, given: show.line(
            f"{quantity(len(index), 'passage')} in {given['out']}"
        ),
    ),
    name="index",
)
app.command(
    Command(
        "pomona.sample.context:build_datastore",
        None,
        Options(hidden="format", tables="*"),
        lambda show, built, given: show.line(
            f"{quantity(len(built.tokens), 'token')} in {given['out']}"
        ),
    ),
    name="datastore",
)
app.command(
    Command(
        "pomona.memory:learn_selector",
        "learning",
        Options(
            hidden="format",
            tables="*",
            made={"memory": Made(_MEMORY, {_BEFORE: f"{_TABLE} file"}, prefix="memory_")},
        ),
        _show_selector,
    ),
    name="selector",
)
serve = Command(
    "pomona.serve:serve",
    None,
    Options(
        positional=0,
        hidden="format",
        kinds={
            "model": list[str],
            "markers_from": list[str],
            "cors": list[str],
            "threads": int,
        },
        tables="*",
        groups={_BEFORE: "lookup examples neighbours"},
        made={
            "contexts": Made(CONTEXTS, SEEN),
            "memory": Made(_MEMORY, {_BEFORE: f"{_ROWS_KNOWN} file most"}, prefix="memory_"),
        },
    ),
)
