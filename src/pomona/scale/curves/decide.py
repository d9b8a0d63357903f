"""Does a small size rank levers as a large one does?

Magnusson et al. 2025, "DataDecide" (arXiv 2504.11393): no extrapolated curve decided better than
the ranking at one small size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pomona.errors import PomonaError, nearest, quantity
from pomona.places import check_outputs
from pomona.scale.curves.page import check_page, write_decisions
from pomona.scale.curves.ranking import Agreement, agreement, extrapolated, signs
from pomona.scale.curves.reading import read_scores
from pomona.scale.curves.results import Decision, Decisions, Method, RankFigure
from pomona.scale.curves.scores import (
    OVERALL,
    Floats,
    Scores,
    Source,
    paths_of,
    sources_of,
)

_FORMS = {"log-linear": 3, "power law": 4}  # sizes that each needs, below the largest
_FEW = 4  # levers: of fewer no interval over levers is told


def decide(
    inputs: Source | Sequence[Source],
    *,
    metric: str | None = None,
    group: Sequence[str] | None = None,
    resamples: int = 1000,
    seed: int = 0,
    page: Path | None = None,
) -> Decisions:
    """Say whether small sizes rank levers as the largest one does: how many pairs are ordered
    alike, what choosing by a small size costs, and whether extrapolated curves choose better.

    Args:
        inputs: Ledgers of the same levers at several sizes, the smallest first: runs, their
            ledger.json, or what `pomona ledger RUN --format json` prints; or a table with the
            columns lever, size and value, and where there are any group, metric, low and high,
            seed, item, cluster, flops, params.
        metric: Only this metric.
        group: Only this group; may be repeated.
        resamples: Resamples behind each interval: of items, or else of levers.
        seed: Seed of the resamples.
        page: Folder to write a page into: the levers from size to size.

    Raises:
        PomonaError: something cannot be read, there is one size, or no two sizes have two levers
            in common.
    """
    sources = sources_of(inputs)
    if page is not None:
        check_outputs({"--page": page}, paths_of(sources), folders=["--page"])
        check_page(page)
    read = read_scores(sources, levers=True, resamples=resamples, seed=seed)
    where = ", ".join(each.name for each in read)
    grid = _grid(read, where)
    metrics = list(dict.fromkeys(key[0] for key in grid.values))
    groups = list(dict.fromkeys(key[1] for key in grid.values))
    for asked, known in ((metric, metrics), *((g, groups) for g in group or ())):
        if asked is not None and asked not in known:
            raise PomonaError("no value has this name", where=asked, remedy=nearest(asked, known))
    decisions = []
    for name in metrics if metric is None else [metric]:
        for part in groups if group is None else group:
            if (name, part) in grid.values:
                decisions.append(_decision(grid, name, part, np.random.default_rng(seed)))
    decisions.sort(key=lambda found: found.group != OVERALL)
    signature = "|".join(
        [
            "decide",
            *(f"scores:{each.digest}" for each in read),
            f"resamples:{resamples}|seed:{seed}|ties:half|interval:95|pomona:{version('pomona')}",
        ]
    )
    notes = [*(note for each in read for note in each.notes), *grid.notes]
    result = Decisions(grid.sizes, decisions, signature, seed, notes)
    if page is not None:
        write_decisions(result, page)
    return result


@dataclass
class _Grid:
    """Values by metric and group, then by lever and size; `drawn` are those of resamples, turned as
    they are. `sizes` ascend, `parameters` are theirs.
    """

    sizes: list[str]
    parameters: dict[str, float | None]
    higher: dict[str, bool]
    values: dict[tuple[str, str], dict[tuple[str, str], float]] = field(default_factory=dict)
    drawn: dict[tuple[str, str], dict[tuple[str, str], Floats]] = field(default_factory=dict)
    flops: dict[tuple[str, str], float | None] = field(default_factory=dict)
    over: str = "items"
    notes: list[str] = field(default_factory=list)

    def levers(self, key: tuple[str, str], size: str) -> list[str]:
        """The levers with a value at a size, in the order in which they were read."""
        return [lever for lever, at in self.values[key] if at == size]


def _grid(read: Sequence[Scores], where: str) -> _Grid:
    parameters: dict[str, float | None] = {}
    for one in read:
        for system in one.systems:
            if system.is_lever:
                parameters.setdefault(system.size, system.parameters)
    sizes, notes = list(parameters), []
    if len(sizes) < 2:
        remedy = "give ledgers of the same levers at several sizes"
        raise PomonaError(f"levers are at {len(sizes)} size", where=where, remedy=remedy)
    numbers = [parameters[size] for size in sizes]
    if None not in numbers:
        sizes.sort(key=lambda size: parameters[size] or 0)
    else:
        notes.append(f"How large sizes are is not known: {sizes[-1]} is taken as the largest.")
    grid = _Grid(sizes, parameters, {})
    grid.notes = notes
    grid.over = "items" if all(one.paired for one in read) else "values"
    for one in read:
        grid.higher |= one.higher
        for (place, metric, group), value in one.values.items():
            system = one.systems[place]
            if not system.is_lever:
                continue
            at, key = (system.lever, system.size), (metric, group)
            if at in grid.values.setdefault(key, {}):
                message = f'"{system.lever}" is there twice at {system.size}'
                remedy = "leave one of them out, or name the sizes apart"
                raise PomonaError(message, where=one.name, remedy=remedy)
            grid.values[key][at] = value
            grid.flops[at] = system.flops
            if (place, metric, group) in one.drawn:
                grid.drawn.setdefault(key, {})[at] = one.drawn[place, metric, group]
    _refuse_strangers(grid, where)
    return grid


def _refuse_strangers(grid: _Grid, where: str) -> None:
    """Raise PomonaError where no smaller size has two levers of the largest one."""
    at = {
        size: dict.fromkeys(lever for k in grid.values for lever in grid.levers(k, size))
        for size in grid.sizes
    }
    last = at[grid.sizes[-1]]
    if all(len([lever for lever in at[size] if lever in last]) < 2 for size in grid.sizes[:-1]):
        there = "; ".join(f"{size}: {', '.join(list(levers)[:6])}" for size, levers in at.items())
        message = f"{grid.sizes[-1]} has less than two levers in common with a smaller size"
        raise PomonaError(message, where=where, remedy=f"name levers alike at all sizes ({there})")
    for size in grid.sizes[:-1]:
        lacking = [lever for lever in last if lever not in at[size]]
        more = [lever for lever in at[size] if lever not in last]
        if lacking or more:
            told = ", ".join([*lacking, *more])
            grid.notes.append(f"Not at both {size} and {grid.sizes[-1]}, and left out: {told}.")


def _decision(grid: _Grid, metric: str, group: str, rng: np.random.Generator) -> Decision:
    key, last = (metric, group), grid.sizes[-1]
    values = grid.values[key]
    levers = list(dict.fromkeys(lever for lever, _ in values))
    table = {lever: {size: values.get((lever, size)) for size in grid.sizes} for lever in levers}
    judge = _Judge(grid, key, rng)
    methods = [judge.by_size(size) for size in grid.sizes[:-1]]
    methods += [judge.by_curve(form) for form in _FORMS]
    methods.append(judge.at_random())
    truth = judge.values(grid.levers(key, last), last)
    note = "" if len(truth) > 1 else f"{last} has less than two values"
    return Decision(metric, group, last, grid.higher[metric], table, methods, note)


class _Judge:
    """Ways to rank levers of one metric and group, judged by the largest size."""

    def __init__(self, grid: _Grid, key: tuple[str, str], rng: np.random.Generator) -> None:
        self.grid, self.key, self.rng = grid, key, rng
        self.last = grid.sizes[-1]
        self.sign = 1.0 if grid.higher[key[0]] else -1.0

    def values(self, levers: Sequence[str], size: str) -> Floats:
        """Values of levers at a size, turned so that more is better."""
        return self.sign * np.array([self.grid.values[self.key][lever, size] for lever in levers])

    def drawn(self, levers: Sequence[str], size: str) -> Floats | None:
        """The same in every resample `[R, n]`; None where one is not known."""
        found = [self.grid.drawn.get(self.key, {}).get((lever, size)) for lever in levers]
        known = [one for one in found if one is not None]
        return self.sign * np.column_stack(known) if known and len(known) == len(found) else None

    def _common(self, sizes: Sequence[str]) -> list[str]:
        there = [set(self.grid.levers(self.key, size)) for size in sizes]
        return [
            one for one in self.grid.levers(self.key, self.last) if all(one in t for t in there)
        ]

    def by_size(self, size: str) -> Method:
        """As a smaller size ranks them."""
        levers = self._common([size])
        if len(levers) < 2:
            note = f"{quantity(len(levers), 'lever')} with values at {size} and at {self.last}"
            return Method("one size", [size], len(levers), note=note)
        guess, drawn = self.values(levers, size), self.drawn(levers, size)
        return self._judged("one size", [size], levers, guess, drawn)

    def by_curve(self, form: str) -> Method:
        """As curves through the smaller sizes foretell it."""
        smaller = self.grid.sizes[:-1]
        numbers = [self.grid.parameters[size] for size in self.grid.sizes]
        levers = self._common(smaller)
        note = ""
        if None in numbers:
            note = "how large the sizes are is not known"
        elif len(smaller) < _FORMS[form]:
            note = f"it needs {_FORMS[form]} smaller sizes, and has {len(smaller)}"
        elif len(levers) < 2:
            note = f"{len(levers)} levers with values at all sizes"
        if note:
            return Method(form, list(smaller), len(levers), note=note)
        sizes = np.array(numbers, np.float64)

        def curve(values: Floats) -> Floats:
            told = [
                extrapolated(sizes[:-1], values[:, i], sizes[-1], form) for i in range(len(levers))
            ]
            # Levers tie also where their curves meet from other values, but for rounding.
            return unit * np.round(np.column_stack(told) / unit, 10)

        points = np.stack([self.values(levers, size) for size in smaller], axis=-1)
        unit = float(np.abs(points).max()) or 1.0
        each = [self.drawn(levers, size) for size in smaller]
        draws = [one for one in each if one is not None]
        drawn = curve(np.stack(draws, axis=-1)) if len(draws) == len(each) else None
        return self._judged(form, list(smaller), levers, curve(points[None])[0], drawn)

    def at_random(self) -> Method:
        """What a random order is worth: expectations, exactly."""
        levers = self.grid.levers(self.key, self.last)
        if len(levers) < 2:
            return Method("random", [], len(levers), note="less than two levers")
        truth = self.values(levers, self.last)
        regret = RankFigure(float(truth.max() - truth.mean()))
        half, none = RankFigure(0.5), RankFigure(0.0)
        count = len(levers) * (len(levers) - 1) // 2
        best = levers[int(np.argmax(truth))]
        return Method("random", [], len(levers), count, half, None, half, none, none, best=best,
                      regret=regret, flops=0.0, flops_share=0.0)  # fmt: skip

    def _judged(
        self, name: str, sizes: list[str], levers: list[str], guess: Floats, drawn: Floats | None
    ) -> Method:
        truth, drawn_truth = self.values(levers, self.last), self.drawn(levers, self.last)
        best, chosen = int(np.argmax(truth)), np.flatnonzero(guess == guess.max())
        decided = np.zeros(len(levers) * (len(levers) - 1) // 2, bool)
        if drawn_truth is not None:
            decided = _decided(drawn_truth)
        told = agreement(guess[None], truth[None], decided, best, chosen)
        found, over = None, None
        if drawn is not None and drawn_truth is not None and len(drawn) == len(drawn_truth):
            found, over = agreement(drawn, drawn_truth, decided, best, chosen), self.grid.over
        elif len(levers) >= _FEW:
            found, over = _over_levers(guess, truth, decided, best, chosen, self.rng), "levers"
        ties = int((signs(truth[None]) == 0).sum())
        flops, share = self._spent(levers, sizes)
        notes = [f"{len(chosen)} levers tie for the first place"] if len(chosen) > 1 else []
        notes += [f"{ties} of all pairs tie at {self.last} and do not count"] if ties else []
        notes += [] if drawn_truth is not None else ["no errors are known, so no pair is decided"]
        return Method(
            name,
            sizes,
            len(levers),
            len(decided) - ties,
            _estimate(told, found, "accuracy"),
            int(decided.sum()) if drawn_truth is not None else None,
            _estimate(told, found, "decided"),
            _estimate(told, found, "kendall"),
            _estimate(told, found, "spearman"),
            levers[int(chosen[0])],
            levers[best],
            _estimate(told, None if over == "levers" else found, "regret"),
            flops,
            share,
            over,
            "; ".join(notes),
        )

    def _spent(
        self, levers: Sequence[str], sizes: Sequence[str]
    ) -> tuple[float | None, float | None]:
        """FLOPs of measuring the levers at these sizes, and what part that is of those at the
        largest.
        """
        known = [self.grid.flops.get((lever, size)) for size in sizes for lever in levers]
        whole = [self.grid.flops.get((lever, self.last)) for lever in levers]
        if None in known:
            return None, None
        spent = float(sum(one or 0 for one in known))
        there = None if None in whole else float(sum(one or 0 for one in whole))
        return spent, spent / there if there else None


def _decided(drawn: Floats) -> NDArray[np.bool_]:
    """Pairs of levers whose difference has an interval without zero, from values `[R, n]`."""
    first, second = np.triu_indices(drawn.shape[1], 1)
    low, high = np.quantile(drawn[:, first] - drawn[:, second], [0.025, 0.975], axis=0)
    return (low > 0) | (high < 0)


def _over_levers(
    guess: Floats,
    truth: Floats,
    decided: NDArray[np.bool_],
    best: int,
    chosen: NDArray[np.intp],
    rng: np.random.Generator,
) -> Agreement:
    """Figures over levers that are drawn with replacement; a lever with itself ties in truth, and
    is no pair.
    """
    n = len(guess)
    drawn = rng.integers(0, n, (1000, n))
    first, second = np.triu_indices(n, 1)
    sure = np.zeros((n, n), bool)
    sure[first, second] = sure[second, first] = decided
    among = sure[drawn[:, first], drawn[:, second]]
    return agreement(guess[drawn], truth[drawn], among, best, chosen)


def _estimate(told: Agreement, found: Agreement | None, name: str) -> RankFigure | None:
    value = float(getattr(told, name)[0])
    if not np.isfinite(value):
        return None
    drawn = None if found is None else getattr(found, name)
    if drawn is None or not np.isfinite(drawn).any():
        return RankFigure(value)
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return RankFigure(value, float(low), float(high))
