"""What `pomona scale flops` and `pomona scale thresholds` show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pomona.cli.output import Out
from pomona.pages import UNKNOWN, amount, clean, flops as operations, short

if TYPE_CHECKING:
    from pomona.scale import ModelFlops, SizesFlops, Standings


def show_flops(show: Out, result: ModelFlops | SizesFlops, given: Mapping[str, Any]) -> None:
    """Tables of modules and conventions, then equivalents, thresholds and energy; of each size."""
    if show.format == "json":
        show.json(result.to_json())
        return
    sizes: Sequence[ModelFlops] = getattr(result, "sizes", [result])
    if hasattr(result, "sizes"):
        _show_sizes(show, sizes)
    else:
        _show_model(show, sizes[0])
    largest = max(sizes, key=lambda one: one.thresholds.flop or 0)
    rules = largest.thresholds
    if rules.flop is not None:
        above = [rule.name for rule in rules.rules if rule.above and rule.in_force]
        told = ", ".join(above) or "none"
        show.line(
            f"thresholds that {clean(largest.model)} is above, in force on {rules.date}: {told}"
        )
    notes = dict.fromkeys(note for one in sizes for note in one.notes)
    show.rest(*notes, *rules.notes, result.signature, page=given.get("page"))


def _show_sizes(show: Out, sizes: Sequence[ModelFlops]) -> None:
    rows = [
        {
            "size": clean(one.model),
            "parameters": one.parameters["total"],
            "without embeddings": one.parameters["non_embedding"],
            "tokens": UNKNOWN if one.training is None else short(one.training.tokens),
            "training": operations(one.thresholds.flop),
            **{way.convention: operations(way.training_flops) for way in one.conventions},
            "an answer": operations(one.equivalents and one.equivalents.answer_flops),
        }
        for one in sizes
    ]
    positions = ", ".join(sorted({f"{one.context:,}" for one in sizes}))
    show.table(
        rows,
        caption="training: operations in all; the four ways to count it, operations a token, on "
        f"average over {positions} positions. --format json and --page have every module.",
    )


def _show_model(show: Out, one: ModelFlops) -> None:
    all_of_it = one.forward_flops
    rows = [
        {
            "module": row.module,
            "layers": row.layers,
            "parameters": row.parameters,
            "a token meets": row.active,
            "forward": operations(row.forward_flops),
            "training": operations(row.training_flops),
            "share": f"{row.forward_flops / all_of_it:.1%}" if all_of_it else UNKNOWN,
        }
        for row in one.modules
    ]
    total = {"module": "all", "layers": None, "parameters": one.parameters["total"]}
    total |= {"a token meets": one.parameters["active"], "forward": operations(one.forward_flops)}
    total |= {"training": operations(one.training_flops), "share": None}
    half = "all" if one.masked else "only earlier"
    show.table(
        [*rows, total],
        caption=f"{clean(one.model)} ({one.architecture}): operations a token, on average over "
        f"{one.context:,} positions, {half} ones attended to; training is three times forward.",
    )
    ways = [
        {
            "convention": way.convention,
            "weights": way.weights,
            "training a token": operations(way.training_flops),
            "by exact": UNKNOWN if way.ratio is None else f"{amount(way.ratio)}×",
        }
        for way in one.conventions
    ]
    show.table(ways)
    for name, value in one.facts():
        show.line(f"{name}: {value}")


def show_thresholds(show: Out, result: Standings, given: Mapping[str, Any]) -> None:
    """A row a rule, and what to know of them."""
    if show.format == "json":
        show.json(result.to_json())
        return
    words = {True: "above", False: "not above", None: UNKNOWN}
    rows = [
        {
            "rule": f"{rule.authority}: {rule.rule}",
            "FLOP": f"{rule.share:.0%} of the original's" if rule.share else operations(rule.flop),
            "if": rule.condition,
            "status": rule.status,
            **({} if result.flop is None else {"the training": words[rule.above]}),
        }
        for rule in result.rules
    ]
    show.table(rows, caption=f"on {result.date}; checked by hand on {result.checked}")
    show.rest(*result.notes, result.signature, page=given.get("page"))
