"""Is a curve over sizes smooth or broken, and does the metric make the break?

Wei et al. 2022 (arXiv 2206.07682) found abilities that smaller models lack; Schaeffer et al. 2023
(arXiv 2304.15004) that most of them are there in one metric and not in another one of the same
answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np

from pomona import stats
from pomona.errors import PomonaError, nearest, quantity
from pomona.places import check_outputs
from pomona.scale.curves.page import check_page, write_inflection
from pomona.scale.curves.reading import read_scores
from pomona.scale.curves.results import Curve, Inflection
from pomona.scale.curves.scores import (
    OVERALL,
    SCALE,
    Floats,
    ScoredSystem,
    Scores,
    Source,
    paths_of,
    sources_of,
)
from pomona.scale.curves.shapes import BROKEN, LEAST, SMOOTH, Shapes

Along = Literal["params", "tokens", "flops"]
Progress = Callable[[int, int], None]
_FIELDS = {"params": "parameters", "tokens": "tokens", "flops": "flops"}
_OTHER = {"params": "tokens", "tokens": "parameters", "flops": None}
_KINKS = (0.125, 0.25, 0.5, 1.0, 2.0)  # of a curve's range
_FOUND, _ENOUGH, _DRAWS = 0.8, 1.0, 200
ALPHA = 0.05


def inflection(
    inputs: Source | Sequence[Source],
    *,
    along: Along | None = None,
    metric: Sequence[str] | None = None,
    group: Sequence[str] | None = None,
    simulations: int = 999,
    resamples: int = 1000,
    seed: int = 0,
    page: Path | None = None,
    progress: Progress | None = None,
) -> Inflection:
    """Say of a ladder, metric by metric and group by group, whether its curve is smooth or broken.

    Smooth are a power law with an asymptote and a logistic curve in the logarithm of the size,
    broken a kink and a jump at some size. Each size is predicted from the others, and the better of
    the two broken shapes is compared with the better of the two smooth ones by held-out likelihood;
    the p-value is from curves that are drawn from the smooth one (Wagenmakers et al. 2004).

    Args:
        inputs: Tables with a column of sizes (size or params, tokens, flops), and columns of
            metrics or metric and value, and where there are any item, cluster, group, seed; on the
            command line also runs, for their ladders.
        along: What sizes are: params, tokens or flops; the first that varies, unless given.
        metric: Only this metric; may be repeated.
        group: Only this group; may be repeated.
        simulations: Curves drawn behind each p-value.
        resamples: Resamples of items behind each interval.
        seed: Seed of both.
        page: Folder to write a page into: the curves by metric, side by side.

    Raises:
        PomonaError: a table cannot be read, nothing varies, or a size stands twice.
    """
    sources = sources_of(inputs)
    if page is not None:
        check_outputs({"--page": page}, paths_of(sources), folders=["--page"])
        check_page(page)
    if simulations < 99:
        message = f"{simulations} curves are too few for a p-value"
        raise PomonaError(message, where="simulations", remedy="use 99 or more, better 999")
    read = read_scores(sources, levers=False, resamples=resamples, seed=seed)
    chosen = along or _varying(read)
    lines = _lines(_points(read, chosen), metric, group)
    job = _Job(simulations, seed)
    curves = []
    for done, line in enumerate(lines):
        curves.append(job.curve(line, done))
        if progress:
            progress(done + 1, len(lines))
    signature = "|".join(
        [
            "inflection",
            *(f"scores:{one.digest}" for one in read),
            f"along:{chosen}|simulations:{simulations}|resamples:{resamples}|seed:{seed}",
            f"interval:95|pomona:{version('pomona')}",
        ]
    )
    notes = [note for one in read for note in one.notes]
    result = Inflection(chosen, _judged(curves), signature, seed, [*notes, *_notes(read)])
    if page is not None:
        write_inflection(result, page)
    return result


@dataclass(frozen=True)
class _Line:
    """A curve as it was read: ascending sizes `[k]`, values `[k]`, and those of resamples `[R, k]`
    where there are any of all sizes.
    """

    metric: str
    group: str
    series: str
    names: list[str]
    sizes: Floats
    values: Floats
    drawn: Floats | None


def _varying(read: Sequence[Scores]) -> Along:
    systems = _sized(read)
    for along, name in _FIELDS.items():
        if len({getattr(system, name) for system in systems} - {None}) > 1:
            return along  # pyright: ignore[reportReturnType]
    where = ", ".join(one.name for one in read)
    unknown = next((s.size for s in systems if s.parameters is None and s.size), None)
    if unknown is not None and len({system.size for system in systems}) > 1:
        remedy = "give a column `params`, or sizes as numbers"
        raise PomonaError(f'how large "{unknown}" is is not known', where=where, remedy=remedy)
    remedy = "give several sizes: params, tokens or flops"
    raise PomonaError("nothing varies: there is one size", where=where, remedy=remedy)


def _sized(read: Sequence[Scores]) -> list[ScoredSystem]:
    return [system for one in read for system in one.systems if system.kind == SCALE]


_Points = dict[float, tuple[ScoredSystem, float, Floats | None]]


def _points(read: Sequence[Scores], along: Along) -> dict[tuple[str, str, str], _Points]:
    """Systems, values and resamples by size, for each group, metric and series."""
    what, other = _FIELDS[along], _OTHER[along]
    found: dict[tuple[str, str, str], _Points] = {}
    for one in read:
        for (place, metric, group), value in one.values.items():
            system = one.systems[place]
            size, held = getattr(system, what), other and getattr(system, other)
            if system.kind != SCALE or size is None:
                continue
            word = "params" if other == "parameters" else other
            points = found.setdefault(
                (group, metric, "" if held is None else f"{word} {held:.15g}"), {}
            )
            if size in points:
                message = f"{metric} of {group} stands there twice at {size:.15g} {along}"
                remedy = "leave one of them out, or tell trainings apart by a column `seed`"
                raise PomonaError(message, where=one.name, remedy=remedy)
            points[size] = (system, value, one.drawn.get((place, metric, group)))
    if not found:
        where = ", ".join(one.name for one in read)
        remedy = f"along another axis: {', '.join(a for a in _FIELDS if a != along)}"
        raise PomonaError(f"no {along} are known", where=where, remedy=remedy)
    return found


def _lines(
    found: dict[tuple[str, str, str], _Points],
    metrics: Sequence[str] | None,
    groups: Sequence[str] | None,
) -> list[_Line]:
    """The curves that are asked for: of all items first, metric by metric."""
    for what, asked, at in (("group", groups, 0), ("metric", metrics, 1)):
        known = {key[at] for key in found}
        for name in asked or ():
            if name not in known:
                remedy = nearest(name, known)
                raise PomonaError(f"no value has this {what}", where=name, remedy=remedy)
    several = len({series for _, _, series in found}) > 1
    lines = [
        _line(points, metric, group, series if several else "")
        for (group, metric, series), points in found.items()
        if (groups is None or group in groups) and (metrics is None or metric in metrics)
    ]
    return sorted(lines, key=lambda line: line.group != OVERALL)


def _line(points: _Points, metric: str, group: str, series: str) -> _Line:
    sizes = sorted(points)
    rows = [points[size] for size in sizes]
    draws = [drawn for _, _, drawn in rows if drawn is not None]
    return _Line(
        metric,
        group,
        series,
        [row[0].size or f"{size:.15g}" for row, size in zip(rows, sizes, strict=True)],
        np.array(sizes, np.float64),
        np.array([value for _, value, _ in rows]),
        np.column_stack(draws) if len(draws) == len(rows) else None,
    )


class _Job:
    """What all curves share."""

    def __init__(self, simulations: int, seed: int) -> None:
        self.simulations, self.seed = simulations, seed
        self._shapes: dict[bytes, Shapes] = {}

    def curve(self, line: _Line, number: int) -> Curve:
        """A curve with what is known of its shape."""
        ends: list[tuple[float | None, float | None]] = [(None, None)] * len(line.sizes)
        if line.drawn is not None:
            outer = np.quantile(line.drawn, [0.025, 0.975], axis=0)
            ends = [(float(low), float(high)) for low, high in outer.T]
        bare = Curve(
            line.metric,
            line.group,
            line.series,
            line.names,
            line.sizes.tolist(),
            line.values.tolist(),
            [low for low, _ in ends],
            [high for _, high in ends],
            breakthrough=_breakthrough(line.values),
        )
        if len(line.sizes) < LEAST:
            few = (
                f"{quantity(len(line.sizes), 'size')}"
                f" cannot tell: {LEAST} are the least, more are better"
            )
            return replace(bare, note=few)
        if not np.ptp(line.values):
            return replace(bare, note="the value is the same at all sizes")
        shapes = self._shapes.setdefault(line.sizes.tobytes(), Shapes(line.sizes))
        return self._tested(bare, line, shapes, np.random.default_rng([self.seed, number]))

    def _tested(self, bare: Curve, line: _Line, shapes: Shapes, rng: np.random.Generator) -> Curve:
        noise = None if line.drawn is None else line.drawn - line.drawn.mean(0)
        least = 0.0 if noise is None else _left(shapes, noise)
        totals = {name: float(t[0]) for name, t in shapes.totals(line.values[None], least).items()}
        smooth, broken = (max(names, key=totals.__getitem__) for names in (SMOOTH, BROKEN))
        ahead = totals[broken] - totals[smooth]
        fit = shapes.fit(smooth, line.values)
        if noise is None:
            errors = np.sqrt(fit.variance) * rng.standard_normal((self.simulations, len(shapes)))
        else:
            wider = np.sqrt(max(1.0, fit.variance / max(least, 1e-300)))
            errors = wider * noise[rng.integers(0, len(noise), self.simulations)]
        drawn = fit.values + errors
        null = _ahead(shapes, drawn, least)
        low = high = None
        if line.drawn is not None:
            low, high = np.quantile(_ahead(shapes, line.drawn, least), [0.025, 0.975]).tolist()
        turned = shapes.fit(broken if ahead > 0 else smooth, line.values)
        return replace(
            bare,
            densities=totals,
            difference=ahead,
            low=low,
            high=high,
            p_value=float((1 + (null >= ahead).sum()) / (len(null) + 1)),
            shape=turned.shape,
            turn=turned.turn,
            fitted=turned.values.tolist(),
            detectable=_detectable(shapes, fit.values, drawn[:_DRAWS], null, least),
        )


def _ahead(shapes: Shapes, curves: Floats, least: float) -> Floats:
    """The better broken shape's held-out log density less that of the better smooth one, `[b]`."""
    totals = shapes.totals(curves, least)
    broken, smooth = (
        np.max([totals[name] for name in names], axis=0) for names in (BROKEN, SMOOTH)
    )
    return broken - smooth


def _left(shapes: Shapes, noise: Floats) -> float:
    """The variance that a smooth fit leaves of resampled errors `[R, k]`: what items have in common
    at all sizes is in its constant.
    """
    return float(np.median(shapes.left("power law", noise)))


def _detectable(
    shapes: Shapes, curve: Floats, drawn: Floats, null: Floats, least: float
) -> float | None:
    """The smallest kink at the middle size, as the share of the curve's range by which it moves the
    largest size, that would be found in four of five cases, up or down; None where none would.
    """
    critical = max(float(np.quantile(null, 1 - ALPHA)), 0.0)
    middle = shapes.at[(len(shapes) - 1) // 2]
    bend = np.maximum(shapes.at - middle, 0) / (1 - middle) * np.ptp(curve)

    def found(share: float) -> bool:
        bent = (_ahead(shapes, drawn + sign * share * bend, least) for sign in (1, -1))
        return all((one > critical).mean() >= _FOUND for one in bent)

    at = _KINKS.index(_ENOUGH)
    if not found(_ENOUGH):
        return next((share for share in _KINKS[at + 1 :] if found(share)), None)
    while at and found(_KINKS[at - 1]):
        at -= 1
    return _KINKS[at]


def _breakthrough(values: Floats) -> float | None:
    """The change from end to end over the root of the median squared step (BIG-bench 2022, §3.4):
    large where nearly all of it comes in few steps; None where most steps are none.
    """
    steps = np.diff(values)
    median = float(np.sqrt(np.median(steps**2))) if len(steps) else 0.0
    if not median:
        return None
    sign = np.sign(int(np.argmax(values)) - int(np.argmin(values)))
    return float(sign * np.ptp(values) / median)


def _judged(curves: Sequence[Curve]) -> list[Curve]:
    """Curves with p-values that are corrected for their number and what follows from them: those of
    all items together, those of groups within their metric.
    """
    families: dict[tuple[str, ...], list[int]] = {}
    for place, curve in enumerate(curves):
        if curve.p_value is not None:
            family = (OVERALL,) if curve.group == OVERALL else (curve.metric, curve.series)
            families.setdefault(family, []).append(place)
    corrected: dict[int, float] = {}
    for places in families.values():
        adjusted = stats.holm(np.array([curves[i].p_value for i in places], np.float64))
        corrected |= dict(zip(places, adjusted.tolist(), strict=True))
    return [_verdict(curve, corrected.get(place)) for place, curve in enumerate(curves)]


def _verdict(curve: Curve, p_holm: float | None) -> Curve:
    if p_holm is None or curve.difference is None:
        return curve
    found = replace(curve, p_holm=p_holm)
    if curve.difference > 0 and p_holm <= ALPHA and (curve.low is None or curve.low > 0):
        return replace(found, verdict="broken")
    if curve.difference <= 0 and curve.detectable is not None and curve.detectable <= _ENOUGH:
        return replace(found, verdict="smooth")
    if curve.difference > 0:
        note = "broken shapes predict better, and not by more than chance does"
    elif curve.detectable is None:
        note = "smooth shapes predict better, and no kink would have been found"
    else:
        least = f"{curve.detectable:.0%} of the range"
        note = f"the least kink that would be found moves the last size by {least}"
    return replace(found, note=note)


def _notes(read: Sequence[Scores]) -> list[str]:
    if any(one.drawn for one in read):
        return []
    return ["Nothing is known of the error of a value: it is taken from what smooth curves leave."]
