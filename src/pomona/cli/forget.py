"""`pomona forget`: what a change to a model lost and gained, and for whom."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, cast

from cyclopts import App, Parameter
from cyclopts.validators import Number

from pomona.cli.auditing import show_audit, show_order
from pomona.cli.command import Command, Count, Options
from pomona.cli.compressing import show_compressed, show_redundancy
from pomona.cli.divergence import show_divergence
from pomona.cli.output import Out
from pomona.pages import UNKNOWN, change as difference, clean, p_value

if TYPE_CHECKING:
    from pomona.forget import Change, Checked, Comparison, Divergence, Estimate, Mirror


def _show_compared(show: Out, result: Comparison | Divergence, given: Mapping[str, Any]) -> None:
    if show.format == "json":
        show.json(result.to_json())
    elif "text" in given:
        show_divergence(show, cast("Divergence", result), given)
    else:
        _show_comparison(show, cast("Comparison", result), given)


def _show_comparison(show: Out, result: Comparison, given: Mapping[str, Any]) -> None:
    worst = sorted(result.groups.items(), key=lambda named: named[1].difference)
    rows = [_cells(result, name, change) for name, change in [("overall", result.overall), *worst]]
    show.table(
        rows,
        caption="B − A in percentage points, with 95 % intervals: below 0 is a loss. lost: right "
        "to wrong; gained: wrong to right. p: exact McNemar; Holm's is over the groups.",
    )
    told = {f"{clean(name)}: {change.note}" for name, change in worst if change.note}
    show.rest(*sorted(told), *result.notes, result.signature, page=given.get("page"))


def _cells(result: Comparison, name: str, change: Change) -> dict[str, Any]:
    cells = {
        "group": clean(name),
        "items": change.n,
        "A, %": f"{100 * change.accuracy_a:.1f}",
        "B, %": f"{100 * change.accuracy_b:.1f}",
        "B − A, points": difference(change.difference, change.ci_low, change.ci_high, 100),
        "lost": change.lost,
        "gained": change.gained,
        "p": p_value(change.p_mcnemar),
        "p (Holm)": None if change is result.overall else p_value(change.p_holm),
    }
    if change.metric_difference is not None:
        cells[f"{result.metric}, B − A"] = difference(
            change.metric_difference, change.metric_low, change.metric_high
        )
    return cells


def _show_checked(show: Out, result: Checked, given: Mapping[str, Any]) -> int:
    if show.format == "json":
        show.json(result.to_json())
        return int(not result.passed)
    words = {True: "passed", False: "FAILED", None: "unknown"}
    for case in sorted(result.cases, key=lambda case: case.passed is not False):
        group = "all items" if case.group is None else clean(case.group)
        show.line(f"{words[case.passed]}: {group}: {case.said}")
    if given.get("junit"):
        show.line(given["junit"])
    return int(not result.passed)


def _show_ladder(show: Out, result: Mirror, _: Mapping[str, Any]) -> None:
    if show.format == "json":
        show.json(result.to_json())
        return
    steps = [*result.steps, *([result.whole] if len(result.steps) > 1 else [])]
    rows = [
        {
            "from": clean(step.smaller),
            "to": clean(step.larger),
            "gain": _estimate(step.gain),
            "better": step.better,
            "worse": step.worse,
            "half of it in": _estimate(step.half_share, percent=True),
            "Gini": _estimate(step.gini, plain=True),
            **{f"{name}": _estimate(one) for name, one in step.contrasts.items()},
        }
        for step in steps
    ]
    metric = clean(result.metric)
    show.table(
        rows,
        caption=f"gain: mean {metric} of an item, larger − smaller size, with 95 % intervals. half "
        "of it in: the smallest share of items that holds half of all gains. head - tail and the "
        "like: by how much more the first gain.",
    )
    parts = [
        {"column": c, "part": clean(k), "items": v.n, "gain": _estimate(v.gain), "better": v.better,
         "worse": v.worse, "of the items": f"{v.share_of_items:.0%}",
         "of the gain": UNKNOWN if v.share_of_gain is None else f"{v.share_of_gain:.0%}"}
        for c, found in (*result.whole.parts.items(), ("group", result.whole.groups))
        for k, v in found.items()
    ]  # fmt: skip
    if parts:
        show.table(parts, caption=f"{clean(result.whole.smaller)} to {clean(result.whole.larger)}")
    for step in steps:
        if (other := step.other_answers) is not None:
            ends = _estimate(other.excess, percent=True)
            show.line(
                f"{clean(step.smaller)} to {clean(step.larger)}: {other.share:.1%} of items have "
                f"another modal answer, {other.floor:.1%} between trainings of one size: "
                f"{ends} above, p {p_value(other.p_value)}"
            )
    show.rest(*result.notes, result.signature)


def _estimate(one: Estimate, *, percent: bool = False, plain: bool = False) -> str:
    if one.value is None:
        return UNKNOWN
    if percent or plain:
        write = "{:.0%}".format if percent else "{:.2f}".format
        ends = (
            "" if one.low is None or one.high is None else f" [{write(one.low)}, {write(one.high)}]"
        )
        return write(one.value) + ends
    return difference(one.value, one.low, one.high)


_SIDES = {"a": "pomona.recipe:answers_at", "b": "pomona.recipe:answers_at"}
_SHARE = Annotated[float | None, Parameter(validator=Number(gt=0, lt=1))]
_OF_MODELS = "text windows context stride device dtype threads cache"
app = App(name="forget")
app.command(
    Command(
        "pomona.forget:compress",
        "compressing",
        Options(
            positional=2,
            kinds={
                "model": str,
                "method": str,
                "level": _SHARE,
                "share": _SHARE,
                "rank": Count,
                "group_size": Count,
                "calibration": str,
                "test": str,
            },
            tables="*",
        ),
        show_compressed,
    )
)
app.command(
    Command(
        "pomona.forget:redundancy",
        "predicting",
        Options(positional=2, kinds={"model": str, "items": str, "texts": str}, tables="*"),
        show_redundancy,
    )
)
app.command(
    Command(
        "pomona.forget:compare",
        "comparing {a} with {b}",
        options=Options(
            positional=2,
            kinds={"a": str, "b": str, "metric": str, "text": str},
            tables="*",
            opened=_SIDES,
            chosen={"text": "pomona.forget:compare_models"},
            more={"Of two models": ("pomona.forget:compare_models", _OF_MODELS)},
        ),
        show=_show_compared,
    )
)
app.command(
    Command(
        "pomona.forget:check",
        options=Options(positional=2, kinds={"a": str, "b": str}, tables="*", opened=_SIDES),
        show=_show_checked,
    )
)
app.command(Command("pomona.forget:audit", "auditing", Options(tables="*"), show_audit))
app.command(Command("pomona.forget:order", options=Options(tables="*"), show=show_order))
app.command(
    Command(
        "pomona.forget:ladder",
        options=Options(
            kinds={"sides": list[str], "metric": str},
            names={"names": "name"},
            tables="*",
            opened={"sides": "pomona.recipe:sizes_at"},
        ),
        show=_show_ladder,
    )
)
