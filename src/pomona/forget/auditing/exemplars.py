"""Which items two populations of models answer otherwise, how many of these two populations of
dense models answer otherwise too, and how far above that is more than chance.

Hooker et al. 2019 (arXiv 1911.05248): an item is an exemplar where the modal label of the
compressed models is not that of the dense ones. Two dense populations differ as well: that is the
floor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pomona.forget.auditing.populations import Codes, Floats
from pomona.stats import permutation, shuffles

_BLOCK = 1 << 22  # counts in one block: 16 MB as float32
Singles = NDArray[np.float32]

_ROUNDING = 1e-5  # of sums in single precision
_FOUR_OF_FIVE = 0.8416  # standard deviations of a normal distribution that 80 % are below
HALVES = 8  # ways to halve the models, over which an excess is averaged


class Votes(Protocol):
    """The answers of a pool of models, of which sets are compared."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """What `distances` measures, the one that is tested first."""
        ...

    @property
    def width(self) -> int:
        """Numbers that one set takes while it is counted."""
        ...

    def distances(self, first: Floats, second: Floats) -> list[Singles]:
        """How far apart the answers of two sets of models are on every item, `[sets, items]` for
        each kind, from which of the pool's models are in each set: 0 and 1, `[sets, models]`, as
        many in all sets.
        """
        ...


class Labels:
    """Labels `[models, n]`, counted. Distances are "changed", 1 where the modal labels are not the
    same, and "taxicab", the sum of absolute differences of the labels' shares, 0 to 2.

    Among equally frequent labels the highest number is the modal one, as in the official code
    (pandas `mode().max()`).
    """

    kinds = ("changed", "taxicab")

    def __init__(self, predictions: Codes) -> None:
        self.n = predictions.shape[1]
        ordered = np.sort(predictions, axis=0)
        # Most items have one label or two: counts are kept for those that occur, by their number.
        number = 1 + np.sum(ordered[1:] != ordered[:-1], axis=0)
        self.buckets = [
            (items, _one_hot(predictions[:, items], ordered[:, items], int(labels)))
            for labels in np.unique(number)
            if labels > 1
            for items in [np.flatnonzero(number == labels)]
        ]
        self.width = 8 * self.n  # a few arrays of all items

    def distances(self, first: Floats, second: Floats) -> list[Singles]:
        """See `Votes`."""
        changed = np.zeros((len(first), self.n), np.float32)
        taxicab = np.zeros_like(changed)
        sets = [side.astype(np.float32) for side in (first, second)]
        for items, votes in self.buckets:
            shape = (len(first), len(items))
            most = [np.zeros(shape, np.float32) for _ in sets]
            mode = [np.zeros(shape, np.int8 if len(votes) < 128 else np.int32) for _ in sets]
            apart = np.zeros(shape, np.float32)
            for label, gave in enumerate(votes):
                counts = [models @ gave for models in sets]
                apart += np.abs(counts[0] - counts[1])
                for side, count in enumerate(counts):
                    mode[side][count >= most[side]] = label  # of equals the later, a higher label
                    np.maximum(most[side], count, out=most[side])
            changed[:, items] = mode[0] != mode[1]
            taxicab[:, items] = apart / sets[0][0].sum()
        return [changed, taxicab]


class Scores:
    """Scores `[models, n]` where there are no labels. The distance, "shift", is the absolute
    difference of mean scores.
    """

    kinds = ("shift",)

    def __init__(self, scores: Floats) -> None:
        self.width, self.scores = scores.shape[1], scores.astype(np.float32)

    def distances(self, first: Floats, second: Floats) -> list[Singles]:
        """See `Votes`."""
        difference = (first - second).astype(np.float32) @ self.scores
        return [(np.abs(difference) / first[0].sum()).astype(np.float32)]


def _one_hot(labels: Codes, ordered: Codes, number: int) -> Singles:
    """Which of the `number` labels of each item a model gave, in order: `[number, models, items]`
    of 0 and 1.
    """
    rank = np.concatenate([np.zeros((1, ordered.shape[1]), np.int64), ordered[1:] != ordered[:-1]])
    distinct = np.empty((number, ordered.shape[1]), ordered.dtype)
    distinct[rank.cumsum(0), np.arange(ordered.shape[1])] = ordered
    return (labels == distinct[:, None]).astype(np.float32)


def modal(predictions: Codes) -> Codes:
    """The modal label of each item, `[n]`, over models `[K, n]`."""
    labels = int(predictions.max()) + 1 if predictions.size else 0
    best = np.full(predictions.shape[1], -1, predictions.dtype)
    most = np.zeros(predictions.shape[1], np.int64)
    for label in range(labels):
        count = np.sum(predictions == label, axis=0)
        wins = (count >= most) & (count > 0)
        best[wins], most[wins] = label, count[wins]
    return best


@dataclass(frozen=True)
class Excess:
    """Distances of dense and compressed models, and of dense models among themselves, each between
    `half` and `half` models that share no seed: `[kinds, groups]`, means over the items of a group.

    excess: `at` − `floor`. p_value: how often it is as large where models are called dense and
    compressed at random. detectable: what would be found in four of five audits, at 5 %; infinite
    where so few models can be dealt in too few ways.

    items: what each item adds to the excess of the first kind, `[n]`. shared: the variance of that
    excess, `[groups]`, by what items of the same models have in common: that of shuffled models
    without what it would be if items were independent, which is in the variance over items too.
    """

    half: int
    at: Floats
    floor: Floats
    excess: Floats
    p_value: Floats
    shared: Floats
    detectable: Floats
    items: Floats


class Pool:
    """A pool of dense models and, after them, as many compressed ones; and how items are summed:
    `members` `[n, groups]` with 1 where an item is in a group.
    """

    def __init__(self, votes: Votes, models: int, members: Floats, *, paired: bool) -> None:
        self.votes, self.models, self.paired = votes, models, paired
        self.members = members.astype(np.float32)
        self.sizes = members.sum(0)
        rng = np.random.default_rng(0)
        order = rng.permuted(np.tile(np.arange(models), (HALVES, 1)), axis=1)
        self.half = models // 2
        self.halves = [(row[: self.half], row[self.half : 2 * self.half]) for row in order]

    def published(self) -> tuple[list[Floats], Floats]:
        """The distances of all dense and all compressed models: of every item `[n]` for each kind,
        and means over groups `[kinds, groups]`.
        """
        dense = (np.arange(2 * self.models) < self.models).astype(np.float64)[None]
        found = self.votes.distances(dense, 1 - dense)
        means = np.stack([(one @ self.members)[0] / self.sizes for one in found])
        return [one[0].astype(np.float64) for one in found], means.astype(np.float64)

    def excess(self, draws: int, seed: int) -> Excess | None:
        """The excess over the floor; None of fewer than two models, which have no floor."""
        if self.half < 1:
            return None
        order = np.arange(2 * self.models)[None]
        at, floor, moments = self._parts(order)
        dealt = shuffles(self.models, self.models, draws, seed, paired=self.paired)
        at_dealt, floor_dealt, (_, variance) = self._parts(dealt)
        drawn, excess = at_dealt - floor_dealt, at[0] - floor[0]
        spread = drawn.std(0)
        shared = spread[0] ** 2 - variance @ self.members / self.sizes**2
        ways = 2**self.models if self.paired else math.comb(2 * self.models, self.models)
        detectable = np.quantile(drawn, 0.95, axis=0) + _FOUR_OF_FIVE * spread
        detectable = detectable if ways >= 20 else np.full_like(detectable, np.inf)
        # Of ways to deal that are alike, distances differ by what single precision adds
        p_value = permutation(excess, drawn + _ROUNDING * (at[0] + floor[0]))
        return Excess(
            self.half,
            at[0],
            floor[0],
            excess,
            p_value,
            np.maximum(shared, 0),
            detectable,
            moments[0],
        )

    def _sets(self, dealt: NDArray[np.intp], half: int) -> list[Floats]:
        """The sets of one way to halve: halves of those called dense, and of the compressed."""
        sides = (dealt[:, : self.models], dealt[:, self.models :])
        sets = []
        for models in (side[:, part] for side in sides for part in self.halves[half]):
            chosen = np.zeros((len(dealt), 2 * self.models))
            np.put_along_axis(chosen, models, 1, axis=1)
            sets.append(chosen)
        return sets

    def _parts(self, dealt: NDArray[np.intp]) -> tuple[Floats, Floats, Floats]:
        """Means over halves and items of a group, `[dealt, kinds, groups]`: dense against
        compressed, both ways, and dense against dense. And for every item the mean and variance
        of what it adds to the excess of the first kind, `[2, n]`.
        """
        kinds, n = range(len(self.votes.kinds)), len(self.members)
        at, floor = (np.zeros((len(dealt), len(kinds), len(self.sizes))) for _ in range(2))
        moments, rows = np.zeros((2, n)), max(1, _BLOCK // self.votes.width)
        for start in range(0, len(dealt), rows):
            block = slice(start, min(start + rows, len(dealt)))
            each = np.zeros((len(dealt[block]), n), np.float32)
            for half in range(HALVES):
                a, b, c, d = self._sets(dealt[block], half)
                one, two, dense = (self.votes.distances(*x) for x in ((a, d), (b, c), (a, b)))
                for kind in kinds:
                    at[block, kind] += (one[kind] + two[kind]) @ self.members / 2
                    floor[block, kind] += dense[kind] @ self.members
                each += (one[0] + two[0]) / 2 - dense[0]
            moments += [(each / HALVES).sum(0), ((each / HALVES) ** 2).sum(0)]
        moments /= len(dealt)
        moments[1] -= moments[0] ** 2
        return at / HALVES / self.sizes, floor / HALVES / self.sizes, moments
