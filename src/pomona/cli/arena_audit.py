"""How `pomona arena audit` prints what it found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pomona.cli.output import Out, Row
from pomona.pages import UNKNOWN, change, clean, count, p_value, signed, within

if TYPE_CHECKING:
    from pomona.arena import ArenaAudit

_MOST = 15  # neighbours, providers and voters that a terminal shows


def show_audit(show: Out, result: ArenaAudit, given: Mapping[str, Any]) -> None:
    """A line, the neighbours, every audit with its p-value, and the rows of some."""
    if show.format == "json":
        show.json(result.to_json())
        return
    show.line(clean(result.headline()))
    show.table(
        [_neighbours(one) for one in result.neighbours[:_MOST]],
        caption="votes: the fewest that, dropped, put the next model above, by influence and "
        "confirmed by a refit; with margin: 3 % more than influence alone predicts."
        + _rest(len(result.neighbours), "pairs of neighbours"),
    )
    show.table(
        [
            {
                "audit": one.title,
                "found": clean(one.found),
                "null": one.null,
                "p": p_value(one.p_value),
                "alarm": "" if one.alarm is None else one.alarm,
            }
            for one in result.summary()
        ],
        caption="Each audit alarms by itself at 0.05; its p-value is corrected for what it tests.",
    )
    _show_providers(show, result)
    _show_voters(show, result)
    _show_winners(show, result)
    show.rest(*map(clean, result.notes), result.signature, page=given.get("page"))


def _rest(n: int, what: str) -> str:
    return "" if n <= _MOST else f" {n - _MOST} further {what} are in --format json."


def _neighbours(one: Any) -> Row:
    return {
        "model": clean(one.model),
        "": one.rank,
        "above": clean(one.by),
        "by Elo": change(one.difference, one.low, one.high),
        "p": p_value(one.p_value),
        "votes": count(one.votes),
        "share": UNKNOWN if one.share is None else f"{100 * one.share:.2g} %",
        "with margin": count(one.with_margin),
    }


def _show_providers(show: Out, result: ArenaAudit) -> None:
    if (told := result.providers) is None:
        return
    show.table(
        [
            {
                "provider": clean(one.provider),
                "models": one.models,
                "of models": f"{100 * one.share_models:.1f} %",
                "of what is shown": f"{100 * one.share_shown:.1f} %",
                "times as often": f"{one.ratio:.2f}",
                "p": p_value(one.p_value),
                "p (Holm)": p_value(one.p_holm),
            }
            for one in told.providers[:_MOST]
        ],
        caption=f"times as often as the average model; {told.rate}."
        + _rest(len(told.providers), "providers"),
    )


def _show_voters(show: Out, result: ArenaAudit) -> None:
    if (told := result.voters) is None or not told.flagged:
        return
    show.table(
        [
            {
                "voter": clean(one.voter),
                "votes": one.votes,
                "that count": one.decisive,
                "agrees": within(one.agreement, None, None, 100, 0) + " %",
                "expected": within(one.expected, None, None, 100, 0) + " %",
                "p": p_value(one.p_value),
                "q": p_value(one.q_value),
            }
            for one in told.voters[: min(_MOST, told.flagged)]
        ],
        caption=f"Voters who disagree with {told.against}."
        + ("" if told.flagged <= _MOST else _rest(told.flagged, "of them")),
    )


def _show_winners(show: Out, result: ArenaAudit) -> None:
    if (told := result.best_of_n) is None:
        return
    show.table(
        [
            {
                told.by: clean(one.family),
                "best": clean(one.model),
                "of": one.n,
                "rating": within(one.rating, one.low, one.high, 1, 0),
                "corrected": within(one.corrected, one.corrected_low, one.corrected_high, 1, 0),
                "owed to the choice": ("up to " if one.bound else "") + signed(one.bias),
                "p of the lead": p_value(one.p_value),
            }
            for one in told.winners[:_MOST]
        ],
        caption="The best of n variants is rated too high by what it owes to being chosen."
        + _rest(len(told.winners), "families"),
    )
