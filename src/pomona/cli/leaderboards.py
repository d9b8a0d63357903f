"""How `pomona scale frontier`, `returns` and `growth` print what they found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pomona.cli.command import Made
from pomona.cli.output import Out
from pomona.pages import UNKNOWN, amount, change, clean, parameters, signed, within

if TYPE_CHECKING:
    from pomona.scale import (
        DoublingGain,
        Estimate,
        Frontier,
        FrontierCurve,
        Growth,
        MetricReturns,
        Overcome,
        SizeReturns,
        Trend,
    )

_NUMBERS = "model params score date flop tokens family params_unit score_unit"
_LABELS = "kind merged not_merged base flagged arena organisation sector"
COLUMNS = {
    "columns": Made("pomona.scale:Columns", {"Columns of the table": f"{_NUMBERS} {_LABELS}"})
}
_MOST = 15  # flags that a terminal shows


def show_frontier(show: Out, result: Frontier, given: Mapping[str, Any]) -> None:
    """A table of months, what was overcome, how much size explains, and flags."""
    if show.format == "json":
        show.json(result.to_json())
        return
    rows = []
    for month in result.months:
        row: dict[str, Any] = {"month": month.month or "all"}
        row |= {_words(name): _beaten(c) for name, c in month.curves.items()}
        best = month.curves["all"].best
        row["best small model"] = UNKNOWN if best is None else clean(best.model)
        rows.append(row)
    metric = clean(result.metric)
    show.table(
        rows,
        caption=f"Of the models above {parameters(result.small)} parameters, the share that the "
        f"best of the others beats by {metric}, and how many are larger. all: no hoaxes; "
        "consistent: no contradictions; no merges: labelled pretrained, no merge, not tuned; "
        f"bases: {result.bases}.",
    )
    last = result.months[-1]
    for name in ("all", "bases"):
        told = last.curves[name]
        show.line(f"{name}: {_overcome(told.overcome, metric)}; {_half(told, result.small)}")
    _show_explained(show, result)
    _show_flags(show, result)
    show.rest(*map(clean, result.notes), result.signature, page=given.get("page"))


def _show_explained(show: Out, result: Frontier) -> None:
    """How much of the score size explains, and pairs in the wrong order, at the last date."""
    last, metric = result.months[-1], clean(result.metric)
    explained = [
        {"curve": _words(name), "explained by": axis, "R²": _share(one), "models": one.n}
        for name, curve in last.curves.items()
        for axis, one in curve.r2.items()
    ]
    show.table(
        explained,
        caption=f"How much of {metric} a line on the logarithm explains, with 95 % intervals "
        f"from resampled {result.resampled}.",
    )
    pairs = [
        {
            "curve": _words(name),
            "smaller by": axis,
            "pairs": which,
            "in the wrong order, %": _share(one, 100),
            "of": one.n,
        }
        for name, curve in last.curves.items()
        for axis, shares in curve.discordant.items()
        for which, one in shares.items()
    ]
    if pairs:
        show.table(pairs, caption=f"Pairs in which the smaller model has the higher {metric}.")
    if (arena := last.arena) is not None:
        show.line(
            f"arena: {_share(arena.r2)} of the variance of {arena.r2.n} ratings is explained by "
            f"known size, {change(*_ends(arena.per_doubling))} a doubling; the size of "
            f"{arena.unknown} rated models is unknown"
        )


def _show_flags(show: Out, result: Frontier) -> None:
    if not result.flags:
        return
    counts = Counter(flag.kind for flag in result.flags)
    told = ", ".join(f"{kind} {count}" for kind, count in counts.items())
    first = [flag for flag in result.flags if "all" in flag.left_out]
    rest = [flag for flag in result.flags if "all" not in flag.left_out]
    shown = [*first, *rest][:_MOST]
    rows = [
        {
            "row": flag.row,
            "model": clean(flag.model),
            "flag": flag.kind,
            "reason": clean(flag.reason),
            "left out of": ", ".join(flag.left_out).replace("_", " ") or "none",
        }
        for flag in shown
    ]
    more = f"; {len(result.flags) - len(rows)} more on the page and in JSON"
    show.table(rows, caption=f"Flags: {told}{more if len(result.flags) > len(rows) else ''}.")


def _words(name: str) -> str:
    return name.replace("_", " ")


def _beaten(curve: FrontierCurve) -> str:
    return UNKNOWN if curve.share is None else f"{100 * curve.share:.1f} % of {curve.larger:,}"


def _overcome(one: Overcome | None, metric: str) -> str:
    if one is None:
        return "no smaller model beats a larger one"
    smaller, larger = (
        f"{clean(model.model)} ({parameters(model.params)}, {metric} {amount(model.score)})"
        for model in (one.smaller, one.larger)
    )
    return f"{smaller} beats {larger}, {one.ratio:.3g} times its size"


def _half(curve: FrontierCurve, small: float) -> str:
    if curve.half is None:
        return f"none beats half of those above {parameters(small)}"
    who = f"{clean(curve.half.model)} ({parameters(curve.half.params)})"
    return f"the smallest that beats half of those above {parameters(small)} is {who}"


def _ends(one: Estimate) -> tuple[float | None, float | None, float | None]:
    return one.value, one.low, one.high


def _share(one: Estimate, scale: float = 1) -> str:
    return within(*_ends(one), scale, 3 if scale == 1 else 2)


def show_returns(show: Out, result: SizeReturns, given: Mapping[str, Any]) -> None:
    """What a doubling buys, in points and in halved errors; steps; contrasts."""
    if show.format == "json":
        show.json(result.to_json())
        return
    for told in result.metrics:
        _show_metric(show, told)
    if result.contrasts:
        show.table(
            [
                {
                    "metric": clean(one.metric),
                    "against": clean(one.against),
                    "points a doubling": change(*_ends(one.points)),
                    "log2 of the error": UNKNOWN
                    if one.log_error is None
                    else change(*_ends(one.log_error)),
                }
                for one in result.contrasts
            ],
            caption="How much more a doubling changes than in the first metric, of the same "
            "models; of errors below 0 is more.",
        )
    show.rest(*map(clean, result.notes), result.signature, page=given.get("page"))


def _show_metric(show: Out, told: MetricReturns) -> None:
    show.table(
        [_gain_cells(name, one) for name, one in _gains(told)],
        caption=f"{clean(told.metric)}: what a doubling of parameters buys, in points and as the "
        "share of the error that goes, with 95 % intervals. bend: by how many points less with "
        "each doubling, below 0.",
    )
    steps = [
        {
            "from": clean(step.smaller),
            "to": clean(step.larger),
            "times the size": f"{step.ratio:.2f}",
            "points": signed(step.gain),
            "points a doubling": f"{step.points:.2f}",
            "error gone a doubling, %": _percent(step.error),
        }
        for step in told.steps
    ]
    if steps:
        show.table(steps, caption=f"{clean(told.metric)}: from the best of its size to the next.")


def _gains(told: MetricReturns) -> list[tuple[str, DoublingGain]]:
    """All gains of a metric with their names."""
    named = [("all models", told.overall)]
    named += [("within families", told.within)] if told.within is not None else []
    return [*named, *told.bands.items(), *told.families.items()]


def _gain_cells(name: str, one: DoublingGain) -> dict[str, Any]:
    return {
        "models of": clean(name),
        "n": one.n,
        "points": change(*_ends(one.points)),
        "error gone, %": UNKNOWN if one.error is None else change(*_ends(one.error), 100),
        "doublings that halve it": UNKNOWN if one.halving is None else _span(one.halving),
        "bend": change(*_ends(one.bend)),
    }


def _percent(value: float | None) -> str:
    return UNKNOWN if value is None else f"{100 * value:.1f}"


def _span(one: Estimate) -> str:
    """A number of doublings or months, whose upper end may be out of sight."""
    if one.value is None:
        return "it does not"
    if one.low is None and one.high is None:
        return f"{one.value:.1f} interval {UNKNOWN}"
    low, high = ("…" if end is None else f"{end:.1f}" for end in (one.low, one.high))
    return f"{one.value:.1f} [{low}, {high}]"


def show_growth(show: Out, result: Growth, given: Mapping[str, Any]) -> None:
    """Doubling times, and who makes models."""
    if show.format == "json":
        show.json(result.to_json())
        return
    rows = []
    for name, quantity in result.quantities.items():
        for which, trend in (("all", quantity.overall), (f"top {result.top}", quantity.frontier)):
            rows.append({"what": name, "models": which, **_trend_cells(trend)})
    show.table(
        rows,
        caption="Doubling times from a line of the logarithm on the date, with 95 % intervals from "
        f"resampled {result.resampled}; top: among the largest until their day.",
    )
    if result.makers:
        show.table(
            [
                {
                    "year": str(one.year),
                    "models": one.n,
                    "known": one.known,
                    "academia, %": _share(one.academia, 100),
                    "industry, %": _share(one.industry, 100),
                    "both, %": _share(one.both, 100),
                    "other, %": _share(one.other, 100),
                }
                for one in result.makers
            ],
            caption="Who made them, of those whose makers are known.",
        )
    show.rest(*map(clean, result.notes), result.signature, page=given.get("page"))


def _trend_cells(trend: Trend) -> dict[str, Any]:
    return {
        "n": trend.n,
        "doubles in months": trend.why or _span(trend.months),
        "times a year": UNKNOWN if trend.per_year.value is None else f"{trend.per_year.value:.2f}",
        "R²": _share(trend.r2),
    }
