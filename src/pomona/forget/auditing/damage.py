"""Whether groups with fewer training rows lose more by compression: given how well dense models do
on them, and beside it the comparison without that control.

What a dense model does badly has more to lose to any change, and is rare. Without the control such
a difference is called an effect of the tail.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pomona.forget.auditing.exemplars import HALVES
from pomona.forget.auditing.populations import Floats, Population, Populations
from pomona.stats import Slope, least_squares, shuffled_column, slopes

NO_EFFECT = "no tail effect"
_SQUARED = 20  # groups from which on quality may count by more than a line
_RESAMPLES_AT_ONCE = 100


@dataclass(frozen=True)
class Damage:
    """Loss of a group, in the unit of scores, by its training rows: for ten times as many it
    changes by `resource`, other things equal; below 0 the tail loses more. 95 % intervals are
    of resampled groups, and of resampled clusters of items too where there are any.

    given: what is held equal, with its slope. naive: the slope with nothing held equal.
    p_rare: how often the slope is as far from 0 where it is dealt out at random which of the groups
        are rare.
    verdict: "the tail loses more", "the head loses more", or "no tail effect" where the interval
        holds 0.
    """

    groups: int
    resource: Slope
    given: Mapping[str, Slope]
    naive: Slope
    p_rare: float
    verdict: str
    naive_verdict: str


def damage(
    populations: Populations, compressed: Population, resamples: int, seed: int
) -> Damage | str:
    """The damage of a level by resource; or why it is not known."""
    if "resource" not in populations.traits:
        return 'there is no column "resource" of training rows'
    names, member = np.unique(populations.groups, return_inverse=True)
    controls = _controls(populations, names)
    columns = 2 + len(controls) + 1 + (len(names) >= _SQUARED)
    if len(names) < columns + 2:
        return f"{len(names)} groups are too few to tell {columns} columns apart"
    resource = [populations.traits["resource"][name] for name in names]
    if np.ptp(resource) == 0:
        return "all groups have as many training rows"
    job = _Regression(populations, compressed, member, np.log10(1 + np.array(resource)), controls)
    quality, loss = job.halves()
    full, short = job.design(quality), job.design(None)
    drawn = [one.mean(1) for one in job.resampled(resamples, seed)]
    found = [least_squares(design, loss).mean(0) for design in (full, short)]
    told = [slopes(*pair) for pair in zip(drawn, found, strict=True)]
    p_rare = shuffled_column(full, loss, 1, draws=resamples, seed=seed)
    given = ["dense quality", *(["its square"] if job.squared else []), *controls]
    return Damage(
        len(names),
        told[0][1],
        dict(zip(given, told[0][2:], strict=True)),
        told[1][1],
        p_rare,
        _verdict(told[0][1]),
        _verdict(told[1][1]),
    )


def _verdict(slope: Slope) -> str:
    if slope.ci_low <= 0 <= slope.ci_high:
        return NO_EFFECT
    return "the tail loses more" if slope.value < 0 else "the head loses more"


def _controls(populations: Populations, names: NDArray) -> dict[str, Floats]:
    """Columns of what else is said of groups: fertility, and which script, one column each but the
    most frequent; scripts of fewer than three groups are one.
    """
    columns: dict[str, Floats] = {}
    if "fertility" in populations.traits:
        values = np.array([populations.traits["fertility"][name] for name in names])
        if np.ptp(values) > 0:
            columns["fertility"] = values
    if "script" in populations.traits:
        scripts = [populations.traits["script"][name] for name in names]
        often = Counter(scripts)
        scripts = [script if often[script] >= 3 else "other" for script in scripts]
        for script, _ in Counter(scripts).most_common()[1:]:
            columns[f"script {script}"] = np.array([float(one == script) for one in scripts])
    return columns


class _Regression:
    """Loss of groups on their resource, given quality and controls. Quality is measured with other
    models than loss: a dense model that happens to do well on a group would have more to lose.
    """

    def __init__(
        self,
        populations: Populations,
        compressed: Population,
        member: NDArray[np.intp],
        resource: Floats,
        controls: Mapping[str, Floats],
    ) -> None:
        self.member, self.groups = member, len(resource)
        self.squared = self.groups >= _SQUARED
        self.before = np.stack([np.ones(self.groups), resource], axis=1)
        self.after = np.stack([*controls.values()], axis=1) if controls else None
        self.dense, self.compressed = populations.dense.scores, compressed.scores
        clusters = populations.items.get("cluster")
        self.clusters = None
        if clusters is not None:
            self.clusters = np.unique(clusters.astype(str), return_inverse=True)[1]
        self.sides = list(self._sides())

    def _sides(self) -> list[tuple[Floats, Floats]]:
        """For each way to halve the models, quality and loss of every item, `[n]`."""
        models = len(self.dense)
        if models < 2:
            return [(self.dense[0], self.dense[0] - self.compressed[0])]
        rng, half = np.random.default_rng(0), models // 2
        sides = []
        for _ in range(HALVES // 2):
            order = rng.permutation(models)
            for one, two in ((order[:half], order[half:]), (order[half:], order[:half])):
                loss = self.dense[two].mean(0) - self.compressed[two].mean(0)
                sides.append((self.dense[one].mean(0), loss))
        return sides

    def halves(self) -> tuple[Floats, Floats]:
        """Quality and loss of groups, `[halves, groups]`."""
        sizes = np.bincount(self.member, minlength=self.groups)
        means = [
            [np.bincount(self.member, values, self.groups) / sizes for values in side]
            for side in self.sides
        ]
        return np.array([side[0] for side in means]), np.array([side[1] for side in means])

    def design(self, quality: Floats | None) -> Floats:
        """Columns `[..., groups, p]`: constant, resource and, given quality, that and the rest."""
        if quality is None:
            return self.before
        shape = (*quality.shape, 0)
        parts = [self.before, quality[..., None]]
        parts += [quality[..., None] ** 2] if self.squared else []
        parts += [] if self.after is None else [self.after]
        return np.concatenate([np.broadcast_to(p, (*shape[:-1], p.shape[-1])) for p in parts], -1)

    def resampled(self, resamples: int, seed: int) -> tuple[Floats, Floats]:
        """Coefficients with and without control in resamples, `[resamples, halves, p]`.

        Groups are drawn, and where items share clusters these too, each on its own (Owen 2007, "The
        pigeonhole bootstrap"): a source string that all languages have is no news in each.
        """
        rng = np.random.default_rng(seed)
        found: list[tuple[Floats, Floats]] = []
        for start in range(0, resamples, _RESAMPLES_AT_ONCE):
            draws = min(_RESAMPLES_AT_ONCE, resamples - start)
            weights = _counts(rng, draws, self.groups)[:, None]
            if self.clusters is None:
                quality, loss = (one[None] for one in self.halves())
            else:
                drawn = _counts(rng, draws, int(self.clusters.max()) + 1)
                quality, loss, there = self._of_clusters(drawn)
                weights = weights * there[:, None]
            full = least_squares(self.design(quality), loss, weights)
            found.append((full, least_squares(self.before, loss, weights)))
        return np.concatenate([a for a, _ in found]), np.concatenate([b for _, b in found])

    def _of_clusters(self, drawn: Floats) -> tuple[Floats, Floats, Floats]:
        """Quality and loss `[draws, halves, groups]` where clusters count as drawn, and which
        groups have any item then.
        """
        assert self.clusters is not None
        cells = self.clusters * self.groups + self.member
        shape = (drawn.shape[1], self.groups)

        def summed(values: Floats | None) -> Floats:
            return drawn @ np.bincount(cells, values, shape[0] * shape[1]).reshape(shape)

        sizes = summed(None)
        divisor = np.maximum(sizes, 1)
        parts = [[summed(values) / divisor for values in side] for side in self.sides]
        quality, loss = (np.stack([side[at] for side in parts], axis=1) for at in (0, 1))
        return quality, loss, (sizes > 0).astype(np.float64)


def _counts(rng: np.random.Generator, draws: int, units: int) -> Floats:
    """How often each unit occurs in each draw of as many, `[draws, units]`."""
    drawn = rng.integers(0, units, (draws, units)) + np.arange(draws)[:, None] * units
    return np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape).astype(np.float64)
