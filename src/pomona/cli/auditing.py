"""How `pomona forget audit` and `pomona forget order` print what they found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pomona.cli.output import Out
from pomona.errors import quantity
from pomona.pages import UNKNOWN, change, clean, p_value

if TYPE_CHECKING:
    from pomona.forget import Audit, Learning, LearningOrder, LevelAudit

_MOST = 40  # groups that are all shown

Row = dict[str, Any]


def show_audit(show: Out, result: Audit, given: Mapping[str, Any]) -> None:
    """Two lines, then tables of levels, groups, damage and calibration."""
    if show.format == "json":
        show.json(result.to_json())
        return
    for line in result.headline():
        show.line(clean(line))
    rows = [row for level in result.levels for row in _level_rows(level, result.scale)]
    show.table(
        rows,
        caption="published: all models against all, as in the paper. at, floor: halves without a "
        "common seed, dense against compressed and dense against dense; their difference has "
        "95 % intervals and p from shuffled models.",
    )
    for level in result.levels:
        _show_groups(show, level, result.scale)
    damages = [row for level in result.levels for row in _damage_rows(level, result.scale)]
    if damages:
        show.table(
            damages,
            caption="Loss for ten times the training rows: below 0 the tail loses more. naive: "
            "without dense quality held equal, which is a comparison of good and bad groups.",
        )
    calibrated = [row for level in result.levels for row in _calibration_rows(level)]
    if calibrated:
        show.table(calibrated, caption="Errors of probabilities: above 0 they grew worse.")
    for level in result.levels:
        show.line(f"{clean(level.level)}: {_power(level)}")
    show.rest(*result.notes, result.signature, page=given.get("page"))


def show_order(show: Out, result: LearningOrder, _: Mapping[str, Any]) -> None:
    """Two lines, then groups in the order in which they are learnt, and what was lost since."""
    if show.format == "json":
        show.json(result.to_json())
        return
    learnt, names, last = result.overall, list(result.groups), clean(result.steps[-1])
    show.line(
        f"{100 * learnt.right[-1]:.0f} % of {learnt.n:,} items are right at {last}; "
        f"{100 * learnt.lost.value:.1f} % were right before and are not"
    )
    show.line(f"learnt first: {clean(names[0])}; last: {clean(names[-1])}")
    show.table(
        [_learnt_row(name, learning) for name, learning in result.groups.items()],
        caption="place: 0 right from the first checkpoint on, 1 at none; forgotten: times an item "
        "was right and then wrong; lost: right once and wrong at the end, %. 95 % intervals.",
    )
    if (since := result.since) is not None:
        all_ = since.overall
        ends = change(all_.difference, all_.ci_low, all_.ci_high, 100)
        show.line(
            f"since {clean(since.a)}: {all_.lost:,} lost, {all_.gained:,} gained, {ends} points, "
            f"p {p_value(all_.p_mcnemar)}"
        )
        for name, one in since.groups.items():
            if one.p_holm <= 0.05:
                ends = change(one.difference, one.ci_low, one.ci_high, 100)
                show.line(f"{clean(name)}: {ends} points, p (Holm) {p_value(one.p_holm)}")
    show.line(result.signature)


def _learnt_row(name: str, one: Learning) -> Row:
    cells = {"group": clean(name), "items": one.n, "right at the end": f"{100 * one.right[-1]:.1f}"}
    cells["half learnt at"] = UNKNOWN if one.median is None else clean(one.median)
    for what, scale in (("place", 1), ("forgotten", 1), ("lost", 100)):
        told = getattr(one, what)
        cells[what] = f"{scale * told.value:.2f}"
        if told.ci_low is not None:
            cells[what] += f" [{scale * told.ci_low:.2f}, {scale * told.ci_high:.2f}]"
    return cells


def _level_rows(level: LevelAudit, scale: float) -> Iterator[Row]:
    slices = {"all items": level.overall}
    slices |= {f"part {name}": one for name, one in level.parts.items()}
    slices |= {f"{name} third of training rows": one for name, one in level.thirds.items()}
    for name, one in slices.items():
        unit = 100 if one.exemplars is not None else scale
        published = one.exemplars if one.exemplars is not None else one.shift
        yield {
            "level": clean(level.level),
            "items": f"{clean(name)} ({one.score.n:,})",
            "dense": f"{scale * one.score.dense:.1f}",
            "difference": change(one.score.difference, one.score.ci_low, one.score.ci_high, scale),
            "published": _number(published, unit),
            "at": _number(one.at, unit),
            "floor": _number(one.floor, unit),
            "excess": change(one.excess, one.excess_low, one.excess_high, unit),
            "p": p_value(one.p_excess),
            "p (taxicab)": p_value(one.p_taxicab),
        }


def _show_groups(show: Out, level: LevelAudit, scale: float) -> None:
    """All groups; where there are many those affected, and the five that lost and gained most."""
    worst = sorted(level.groups.items(), key=lambda named: named[1].score.difference)
    few = len(worst) <= _MOST
    marked = {*level.affected(True), *level.affected(False)}
    ends = {name for name, _ in (*worst[:5], *worst[-5:])}
    kept = [named for named in worst if few or named[0] in marked | ends]
    rows = [
        {
            "group": clean(name),
            "items": one.score.n,
            "dense": f"{scale * one.score.dense:.1f}",
            "difference": change(one.score.difference, one.score.ci_low, one.score.ci_high, scale),
            "excess": change(
                one.excess, one.excess_low, one.excess_high, 100 if one.shift is None else scale
            ),
            **{
                name.replace("_", " "): change(rate.difference, rate.ci_low, rate.ci_high, 100)
                for name, rate in one.rates.items()
            },
            "p as published": p_value(one.p_published),
            "p (Holm)": p_value(one.p_holm),
            "p (BH)": p_value(one.p_bh),
            "": one.score.note or "",
        }
        for name, one in kept
    ]
    rest = (
        f" {quantity(len(worst) - len(kept), 'further group is', 'further groups are')}"
        " in --format json."
        if not few
        else ""
    )
    show.table(
        rows,
        caption=f"{clean(level.level)}: p is of each group's difference against that of all, by "
        f"Welch over {level.models} models a side; as published it is not corrected.{rest}",
    )


def _damage_rows(level: LevelAudit, scale: float) -> Iterator[Row]:
    if isinstance(level.damage, str):
        return
    one = level.damage
    ends = [
        change(slope.value, slope.ci_low, slope.ci_high, scale)
        for slope in (one.resource, one.naive)
    ]
    yield {
        "level": clean(level.level),
        "given dense quality": ends[0],
        "": one.verdict,
        "p, rare groups shuffled": p_value(one.p_rare),
        "naive": ends[1],
        "naively": one.naive_verdict,
        "held equal": clean(", ".join(one.given)),
    }


def _calibration_rows(level: LevelAudit) -> Iterator[Row]:
    for one in level.calibration or ():
        yield {
            "level": clean(level.level),
            "error": one.measure,
            "dense": f"{one.dense:.4f}",
            "compressed": f"{one.compressed:.4f}",
            "difference": change(one.difference, one.ci_low, one.ci_high),
        }


def _power(level: LevelAudit) -> str:
    told = [
        f"{one.models} models {UNKNOWN if one.detectable is None else f'{one.detectable:.3f}'}"
        for one in level.power
    ]
    return "excess that would be found in four of five audits: " + (", ".join(told) or UNKNOWN)


def _number(value: float | None, scale: float) -> str:
    return UNKNOWN if value is None else f"{scale * value:.2f}"
