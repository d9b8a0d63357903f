"""What `pomona forget compare` shows of two models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from pomona.cli.output import Out
from pomona.pages import UNKNOWN, bounded, change as difference, clean, p_value, places

if TYPE_CHECKING:
    from pomona.forget import Divergence, ModelChange, TokenFigure


def show_divergence(show: Out, result: Divergence, given: Mapping[str, Any]) -> None:
    """A table of all documents and of each group, the worst first, and what to know of it."""
    worst = sorted(result.groups.items(), key=lambda named: -named[1].metric_difference)
    named = [("overall", result.overall), *worst]
    show.table(
        [_model_cells(result, name, change) for name, change in named],
        caption="B − A in bits per byte, where more is worse, and KL(A‖B) in nats a token, with "
        "95 % intervals. lost: tokens that were A's likeliest and are not B's; p: exact McNemar; "
        "Holm's is over the groups.",
    )
    told = {f"{clean(name)}: {change.note}" for name, change in worst if change.note}
    show.rest(*sorted(told), *result.notes, result.signature, page=given.get("page"))


def _model_cells(result: Divergence, name: str, change: ModelChange) -> dict[str, Any]:
    paired = result.reason is None
    cells: dict[str, Any] = {"group": clean(name)}
    cells |= {"tokens": change.n} if paired else {"bytes": change.bytes}
    cells["A"] = f"{change.metric_a:.3f}"
    ends = (change.metric_low, change.metric_high)
    cells["B − A, bits per byte"] = difference(change.metric_difference, *ends)
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
        "same top, %": UNKNOWN if same.value is None else f"{100 * same.value:.1f}",
        "lost": change.lost,
        "gained": change.gained,
        "p": p_value(change.p_mcnemar),
        "p (Holm)": None if change is result.overall else p_value(change.p_holm),
    }


def _estimate(one: TokenFigure) -> str:
    if one.ci_low is None or one.ci_high is None:
        return f"{_value(one)} interval {UNKNOWN}"
    decimals = places(one.ci_low, one.ci_high)
    return f"{_value(one)} [{one.ci_low:.{decimals}f}, {one.ci_high:.{decimals}f}]"


def _value(one: TokenFigure) -> str:
    return bounded(one.value, one.at_least, one.at_most)
