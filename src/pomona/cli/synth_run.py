"""How `pomona synth run` tells its forecast, and what became of a recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pomona.cli.command import Command, Options
from pomona.cli.errors import tell
from pomona.cli.output import Out
from pomona.cli.progress import working
from pomona.errors import PomonaError, quantity
from pomona.pages import amount, clean, clock, flops

if TYPE_CHECKING:
    from pomona.synth.pipeline import Forecast, Synthesized


class _Shown:
    """A line for the forecast, and a bar for rows."""

    def __init__(self, bar: Callable[[int, int], None] | None) -> None:
        self._bar = bar

    def forecast(self, told: Forecast) -> None:
        """On stderr, before the run."""
        tell(_headline(told))
        for name in told.beyond():
            tell(f"warning: the budget of {name} is spent before all rows are answered")

    def advance(self, done: int, total: int) -> None:
        """The bar."""
        if self._bar is not None:
            self._bar(done, total)


@contextmanager
def _answering() -> Iterator[_Shown]:
    with working("answering") as bar:
        yield _Shown(bar)


def _headline(told: Forecast) -> str:
    total = told.total
    kinds = ("prompt", "completion")
    read, said = (amount(total[f"{kind}_tokens"]) for kind in kinds)
    parts = [f"{read} prompt tokens", f"{said} answer tokens", f"{flops(total['flops'])} FLOPs"]
    if total["money"] != 0:
        parts.append(f"{amount(total['money'])} in money")
    if told.seconds is not None:
        parts.append(f"up to {clock(told.seconds)}")
    kind = f"forecast from {told.piloted:,} of" if told.piloted else "at most for"
    return f"{kind} {quantity(told.rows, 'row')}: {', '.join(parts)}"


def _show(
    show: Out, result: Synthesized | Forecast | dict[str, Any], given: Mapping[str, Any]
) -> int:
    from pomona.synth.pipeline import Synthesized

    if isinstance(result, dict):
        show.json(result)
    elif isinstance(result, Synthesized):
        return _show_set(show, result, given)
    elif show.format == "json":
        show.json(result.to_json())
    else:
        rows = [{"teacher": name, **_costs(one)} for name, one in result.teachers.items()]
        rows += _rewards(result.rewards, ())
        show.table(rows, caption=_headline(result))
        for name in result.beyond():
            show.line(f"the budget of {name} is spent before all rows are answered")
    return 0


def _show_set(show: Out, result: Synthesized, given: Mapping[str, Any]) -> int:
    """The card: a row a teacher, and why rows were rejected."""
    tally = result.tally
    if show.format == "json":
        show.json(result.to_json())
    else:
        show.line(result.headline())
        rows = [
            {
                "teacher": clean(name),
                "licence": result.licences.get(name),
                "asked": one.asked,
                "answers": one.chosen,
                **_costs(one.costs),
            }
            for name, one in tally.teachers.items()
        ]
        rows += _rewards(tally.rewards, ("licence", "asked", "answers"))
        show.table(rows)
        for name, reason in result.absent.items():
            show.line(f"not asked: {clean(name)}, which {clean(reason)}")
        for reason, count in result.reasons()[:10]:
            show.line(f"rejects: {count:,} × {clean(reason)}")
        show.rest(*map(clean, result.told), result.signature, given["out"])
    stopped = {name: one.stopped for name, one in tally.teachers.items() if one.stopped}
    for name, why in stopped.items():
        tell(f"{name} was asked no more: {why}")
    for limit in result.limits_met():
        tell(f"the budget of {limit} was spent; raise it and run again to go on")
    return 1 if result.limits_met() else 0


def _rewards(costs: Mapping[str, float | None], empty: Sequence[str]) -> list[dict[str, Any]]:
    """What rewards cost, as the row of a table, of which some columns are empty; none where they
    cost nothing.
    """
    if not any(value != 0 for value in costs.values()):
        return []
    return [{"teacher": "(rewards)", **dict.fromkeys(empty), **_costs(costs)}]


def _costs(costs: Mapping[str, float | None]) -> dict[str, str]:
    spelt = {"flops": flops, "cpu_seconds": amount, "money": amount}
    names = {"completion_tokens": "answer tokens", "cpu_seconds": "CPU seconds", "flops": "FLOPs"}
    return {
        names.get(kind, kind.replace("_", " ")): "—"
        if value is None
        else spelt[kind](value)
        if kind in spelt
        else f"{value:,}"
        for kind, value in costs.items()
    }


RUN = Command(
    "pomona.synth.pipeline:synthesize",
    _answering,
    Options(
        kinds={"licences": list[str]},
        tables="*",
        instead={
            "dry_run": (
                "pomona.synth.pipeline:expected",
                "Only tell what it would cost: from a pilot, where one is asked for; else at most, "
                "and nothing is written.",
            ),
            "schema": (
                "pomona.synth.pipeline:synth_schema",
                "Only print the JSON Schema of recipes.",
            ),
        },
        missing={
            "recipe": PomonaError(
                "no recipe is given",
                remedy="pomona synth run RECIPE --out DIR, for example examples/synthesis.yaml",
            ),
            "out": PomonaError("no folder is given", remedy="name one: --out DIR"),
        },
    ),
    _show,
)
