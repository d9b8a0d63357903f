"""What `pomona forget compare` shows of two models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from pomona.cli.output import Out
from pomona.pages import UNKNOWN, clean, gained, interval, p_value, places, signed

if TYPE_CHECKING:
    from pomona.forget import Divergence, ModelChange, TokenFigure


def show_divergence(show: Out, result: Divergence, given: Mapping[str, Any]) -> None:
    worst = sorted(result.groups.items(), key=lambda named: -named[1].metric_difference)
    named = [("overall", result.overall), *worst]
    show.table(
        [_model_cells(name, change, paired=result.reason is None) for name, change in named],
        caption="B − A in bits per byte, where more is worse, and KL(A‖B) in nats a token, with "
        "95 % intervals. lost: tokens that were A's likeliest and are not B's; p: exact McNemar; "
        "Holm's is over the groups.",
    )
    told = {f"{clean(name)}: {change.note}" for name, change in worst if change.note}
    for line in (*sorted(told), *result.notes, result.signature):
        show.line(line)
    if given.get("page"):
        show.line(given["page"] / "index.html")


def _model_cells(name: str, change: ModelChange, *, paired: bool) -> dict[str, Any]:
    cells: dict[str, Any] = {"group": clean(name)}
    cells |= {"tokens": change.n} if paired else {"bytes": change.bytes}
    cells["A"] = f"{change.metric_a:.3f}"
    cells["B − A, bits per byte"] = _difference(change)
    if not paired:
        return cells
    kl, high = (
        cast("TokenFigure", change.kl),
        cast("Mapping[str, TokenFigure]", change.kl_quantiles),
    )
    same = cast("TokenFigure", change.same_top)
    return cells | {
        "KL": _estimate(kl),
        "99 %": _value(high["99"]),
        "same top, %": f"{100 * (same.value or 0):.1f}",
        "lost": change.lost,
        "gained": change.gained,
        "p": p_value(change.p_mcnemar or 0),
        "p (Holm)": None if name == "overall" else p_value(change.p_holm or 0),
    }


def _difference(change: ModelChange) -> str:
    value, low, high = change.metric_difference, change.metric_low, change.metric_high
    if low is None or high is None:
        return f"{signed(value)} {UNKNOWN}"
    return f"{gained(value, low, high)} {interval(low, high)}"


def _estimate(one: TokenFigure) -> str:
    if one.ci_low is None or one.ci_high is None:
        return f"{_value(one)} {UNKNOWN}"
    decimals = places(one.ci_low, one.ci_high)
    return f"{_value(one)} [{one.ci_low:.{decimals}f}, {one.ci_high:.{decimals}f}]"


def _value(one: TokenFigure) -> str:
    if one.value is not None:
        return f"{one.value:.4f}"
    ends = (UNKNOWN if end is None else f"{end:.4f}" for end in (one.at_least, one.at_most))
    return " to ".join(ends)
