"""An audit of a judge as tables of texts, the same in the terminal and on the page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pomona.arena.judging.results import Estimate, JudgeAudit, Powered
from pomona.errors import quantity
from pomona.pages import UNKNOWN, change, clean, p_value, within

_SIDES = {
    "first": "the answer shown first",
    "longer": "the longer answer",
    "own": "the judge's own family",
    "claims": "an answer that says which wins",
}
_RULES = {"tie": "tie", "skip": "no vote", "half": "half each"}
_MOST = 40  # models that are all shown
Row = dict[str, Any]


@dataclass(frozen=True)
class ToldTable:
    """A table of texts, its heading, and what stands below it."""

    heading: str
    rows: list[Row]
    caption: str


def judge_tables(audit: JudgeAudit) -> list[ToldTable]:
    """Agreement, preferences, what flips are worth, and ratings, as far as they are known."""
    tables = [] if audit.agreement is None else [_agreement(audit)]
    tables.append(_preferences(audit))
    if audit.flipped.value is not None:
        tables.append(_rules(audit))
    return [*tables, _ratings(audit)]


def judge_lines(audit: JudgeAudit) -> list[str]:
    """What was judged, what was not, and how often the orders differ."""
    lines = [
        f"{clean(audit.judge)}: {quantity(audit.verdicts, 'verdict')} on "
        f"{quantity(audit.pairs, 'pair')}, "
        f"{quantity(audit.votes, 'vote')} of people on {audit.voted:,}"
    ]
    lines += [f"no verdict: {count:,} × {clean(why)}" for why, count in audit.reasons.items()]
    if audit.flipped.value is not None:
        lines.append(
            f"the orders differ in {_share(audit.flipped)} of pairs, and contradict each other in "
            f"{_share(audit.reversed)}"
        )
    if audit.agreement is None:
        lines.append("nobody voted on these pairs: nothing is known of the judge's agreement")
    flagged = [_SIDES[one.what] for one in audit.preferences if one.flagged]
    if flagged:
        lines.append(f"flagged: a preference, or aversion, as to {'; '.join(flagged)}")
    return lines


def _agreement(audit: JudgeAudit) -> ToldTable:
    told = audit.agreement
    assert told is not None
    kappas = {
        "people's majority on each pair": told.majority,
        "each vote": told.votes,
        "the majority, where neither says tie": told.decided,
        "(one person with another)": told.people,
    }
    rows = [
        {"agreement with": name, "Cohen's κ": within(*_ends(one)), "pairs": one.n}
        for name, one in kappas.items()
    ]
    return ToldTable(
        "Agreement", rows, f"judge and majority agree on {_share(told.agree)} of pairs"
    )


def _preferences(audit: JudgeAudit) -> ToldTable:
    rows = [
        {
            "preferred": _SIDES[one.what],
            "wins": one.wins,
            "losses": one.losses,
            "judge": within(*_ends(one.judge)),
            "people": "—" if one.people.value is None else within(*_ends(one.people)),
            "beyond": change(*_ends(one.difference)),
            "p": p_value(one.p_value),
            "": "flagged" if one.flagged else "",
        }
        for one in audit.preferences
    ]
    caption = "mean value of that side, 1 where it always wins and 0.5 where nothing is preferred; "
    caption += "beyond people's on the same pairs, or where they have none beyond 0.5"
    return ToldTable("Preferences", rows, caption)


def _rules(audit: JudgeAudit) -> ToldTable:
    rows = [
        {
            "flips count as": _RULES[one.flips],
            "pairs": one.votes,
            "Cohen's κ": within(*_ends(one.kappa)),
            "rank correlation": UNKNOWN if one.spearman is None else f"{one.spearman:.2f}",
        }
        for one in audit.rules
    ]
    caption = "rank correlation: of the models' ratings with those by people"
    return ToldTable("Pairs whose orders differ", rows, caption)


def _ratings(audit: JudgeAudit) -> ToldTable:
    columns = {"judge": "tie"}
    if audit.flipped.value is not None:
        columns = {f"judge, flips {said}": rule for rule, said in _RULES.items()}
    columns |= {"people": "people"} if audit.voted else {}
    both = audit.powered
    columns |= {"both": "powered"} if both is not None and both.weight is not None else {}
    rows = [
        {
            "model": clean(one.model),
            **{name: _rating(getattr(one, of)) for name, of in columns.items()},
        }
        for one in audit.models[:_MOST]
    ]
    rest = len(audit.models) - _MOST
    caption = "Elo with 95 % intervals, 1000 the mean"
    caption += (
        f"; {quantity(rest, 'further model is', 'further models are')} in --format json"
        if rest > 0
        else ""
    )
    if both is not None:
        caption += f". {_together(both)}"
    return ToldTable("Ratings", rows, caption)


def _together(both: Powered) -> str:
    if both.weight is None:
        return f"Not by both: {both.note}"
    narrower = UNKNOWN if both.narrower is None else f"{both.narrower:.2f}"
    return (
        f"Both: {quantity(both.human, 'pair')} of people and {quantity(both.judged, 'further one')}"
        " of the judge with "
        f"weight {both.weight:.2f}; intervals are {narrower} times as wide as people's"
    )


def _share(one: Estimate) -> str:
    if one.value is None:
        return UNKNOWN
    if one.ci_low is None or one.ci_high is None:
        return f"{100 * one.value:.1f} %"
    return f"{100 * one.value:.1f} % [{100 * one.ci_low:.1f}, {100 * one.ci_high:.1f}]"


def _ends(one: Estimate) -> tuple[float | None, float | None, float | None]:
    return one.value, one.ci_low, one.ci_high


def _rating(one: Estimate) -> str:
    if one.value is None:
        return "—"
    if one.ci_low is None or one.ci_high is None:
        return f"{one.value:,.0f} interval {UNKNOWN}"
    return f"{one.value:,.0f} [{one.ci_low:,.0f}, {one.ci_high:,.0f}]"
