"""The kernel of ties, dare, della and breadcrumbs: thin task vectors out, rescale, and add them up,
with or without electing signs.

Thresholds are the k-th smallest magnitudes of a task vector, found exactly and without sorting, in
two counting passes over the bits of |τ|: a float32's bits without its sign are ordered as the
magnitudes. The first pass counts by the upper 16 of 31 bits, the second the values that share them
with the k-th; both counts are sums of integers, the same in any order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from threading import get_ident
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.errors import PomonaError
from pomona.merge.methods.common import PART, SPACE, TILE, Loops, address, loop, number, weights_of
from pomona.merge.methods.linear import scale_of
from pomona.merge.plan import TensorInput, TensorJob

FINITE = 0x7F800000  # bits of magnitudes are smaller
BINS = 1 << 16
UPPER = 15  # bits that the first pass leaves aside

# values below the range, bins that have values, and how many
Counts = tuple[int, NDArray[np.int64], NDArray[Any]]


@dataclass
class RankSearch:
    """The search for the value at `rank`, counted from 0, among the bits of one tensor's
    magnitudes, or of several tensors'.
    """

    rank: int
    low: int = 0
    size: int = 1 << 31

    @property
    def shift(self) -> int:
        """Of bits that share a bin."""
        return UPPER if self.size > BINS else 0

    def settle(self, counts: Sequence[Counts]) -> None:
        """Narrow the range to the bin that holds the rank: after the first pass 2^15 values, after
        the second one.
        """
        below, bins, numbers = joined(counts)
        chosen = int(
            bins[
                np.searchsorted(below + np.cumsum(numbers, dtype=np.int64), self.rank, side="right")
            ]
        )
        self.low, self.size = self.low + (chosen << self.shift), 1 << self.shift


def joined(counts: Sequence[Counts]) -> Counts:
    """Several counts of one range as one."""
    if len(counts) == 1:
        return counts[0]
    total = np.zeros(BINS, np.int64)
    for _, bins, numbers in counts:
        total[bins] += numbers
    bins = np.flatnonzero(total)
    return sum(one[0] for one in counts), bins, total[bins]


class BinTally:
    """Counts that one thread adds up: `counts` by bin, and `below` of the values below the
    range.
    """

    def __init__(self) -> None:
        self.counts, self.below = np.zeros(BINS, np.uint32), np.zeros(1, np.int64)

    def take(self) -> Counts:
        """What was counted, without the empty bins; counting begins anew."""
        bins = np.flatnonzero(self.counts)
        taken = int(self.below[0]), bins, self.counts[bins]
        self.counts[bins], self.below[0] = 0, 0
        return taken


def kept(method: str, count: int, parameters: Any) -> tuple[int, int] | None:
    """Ranks by magnitude, from 0, of the least and greatest entry that a tensor of `count` keeps;
    None when it keeps none.

    ties: the int(density · count) greatest, but at least one. breadcrumbs: without the int(gamma ·
        count) greatest, of the rest the
    int(density · count) greatest; fewer of the greatest go where not enough would be left. As in
    mergekit.
    """
    target = int(parameters["density"] * count)
    if method == "ties":
        return count - max(1, target), count - 1
    if not target:
        return None
    lowest = max(0, count - target - int(parameters["gamma"] * count))
    return lowest, lowest + target - 1


ALL, NONE, BAND, RANDOM, RANKED = range(5)
_MODES = {"ties": BAND, "breadcrumbs": BAND, "dare": RANDOM, "della": RANKED}
_ELECTING = ("ties", "dare_ties", "della", "breadcrumbs_ties")
_L1_LEAST = 1e-7  # smaller sums are not rescaled, as in mergekit
_RANKED_AT_ONCE = 1 << 16
Partial = Mapping[tuple[Any, ...], Any]


class Sparse:
    """θ_0 + λ · Σ of thinned task vectors τ = θ − θ_0 times their weights, computed in float32 and
    rounded once.

    Which entries of a τ stay, and what they are divided by:
    ties (Yadav 2023, arXiv 2306.01708): the density share that is largest in magnitude, of the
        tensor, or with scope "global" of the model. Entries as large as the smallest that stays all
        stay: a few more than the share, independent of their order.
    breadcrumbs (Davari 2023, arXiv 2312.06795): without the gamma share of the largest, of the rest
        the density share; equals as above.
    dare (Yu 2023, arXiv 2311.03099): each with probability density (to 1/65536), drawn by a hash of
        seed, tensor, model and place.
    della (Deep 2024, arXiv 2406.11617): drawn likewise, with a probability from density − epsilon
        for the smallest of a row (the last dimension) to density + epsilon for the largest, by
        rank; equals rank by place.
    rescale: true or "l1": times Σ|τ| / Σ|kept τ| of the tensor, unless one is below 1e-7;
        "expected": divided by the density, in della by the entry's own probability; false: as they
        are. Density 1 keeps a τ whole, 0 drops it; ties keeps at least one entry at any density
        above 0, of a model with scope global. A τ of zeros adds nothing.
    ties, dare_ties, della and breadcrumbs_ties elect a sign for every element, that of the weighted
    sum, and + where the sum is 0 (or below 1e-12 of its terms' sizes, which is rounding); entries
    of the other sign and zeros are left out. `normalize` divides by the weights that agree, in the
    other methods by all weights, and not by a sum of 0 (below 3e-7 of all weights' sizes; 1e-8 in
    the other methods). Parameters are mergekit's; scope and "expected" are not.
    """

    def __init__(self, job: TensorJob, seed: int) -> None:
        self._loops, self._job = Loops(job), job
        # its sums, among the partial results of jobs that are settled together
        self._own = (f"\0{job.name}", 0)
        self._kind = job.method.partition("_")[0]
        self._weights = weights_of(job)
        self._elect = job.method in _ELECTING
        normalize = bool(job.options.get("normalize", False))
        self._normalize = int(normalize and self._elect)
        self._scale = np.array(
            [float(job.options.get("lambda", 1.0)) if self._elect else scale_of(job, self._weights)]
        )
        self._factors = self._weights.copy()
        self._masks = np.zeros((len(job.inputs), 8), np.int64)
        rescale: Any = job.options.get("rescale", False)
        self._rescale = {True: "l1", False: ""}.get(rescale, rescale)
        self.shared = (
            "ties"
            if self._kind == "ties" and job.options.get("scope", "tensor") == "global"
            else None
        )
        self._searches: dict[tuple[str, int], RankSearch] = {}
        # by range, which several searches may share, and thread
        self._tallies: dict[tuple[Any, int], BinTally] = {}
        for place, item in enumerate(job.inputs):
            self._prepare(place, item, seed)
        if not self._searches:
            self.shared = None
        self._sums = self._rescale == "l1" and bool((self._masks[:, 0] > NONE).any())
        self._counting = 2 if self._searches else 0
        self.passes = self._counting + int(self._sums)
        self._row = job.shape[-1] if job.shape else 1
        self.unit = max(1, self._row) if self._kind == "della" else PART

    def _prepare(self, place: int, item: TensorInput, seed: int) -> None:
        density = number(item, "density", 1.0)
        if density >= 1 or density <= 0:
            self._masks[place, 0] = ALL if density >= 1 else NONE
            return
        mask = self._masks[place]
        mask[0] = _MODES[self._kind]
        if mask[0] == BAND:
            self._search(place, item, density)
            return
        text = "\0".join(map(str, ("pomona", seed, self._job.name, item.identity or item.model)))
        mask[3:5] = np.frombuffer(hashlib.blake2b(text.encode(), digest_size=8).digest(), np.uint32)
        mask[5], mask[7] = max(1, round(density * 2**16)), int(self._rescale == "expected")
        if self._kind == "dare" and mask[7]:
            self._factors[place] *= 2**16 / mask[5]
        if self._kind == "della":
            epsilon = number(item, "epsilon", 0.15)
            if density + epsilon >= 1 or density - epsilon <= 0:
                message = f"density {density:g} ± epsilon {epsilon:g} leaves the range from 0 to 1"
                raise PomonaError(
                    message, where=f'tensor "{item.tensor}"', remedy="use a smaller epsilon"
                )

    def _search(self, place: int, item: TensorInput, density: float) -> None:
        parameters = {"density": density, "gamma": number(item, "gamma", 0.01)}
        if self._rescale == "expected":
            self._factors[place] /= density
        ranks = kept(self._kind, self._loops.elements, parameters) if self._loops.elements else None
        if ranks is None:
            self._masks[place, 0] = NONE
            return
        self._masks[place, 1:3] = 0, FINITE
        if ranks[0] > 0 or self.shared:
            self._searches[self._name(place), 1] = RankSearch(ranks[0])
        if ranks[1] < self._loops.elements - 1:
            self._searches[self._name(place), 2] = RankSearch(ranks[1])

    def _name(self, place: int) -> str:
        item = self._job.inputs[place]
        return item.identity or str(item.model)

    def read(self, number: int, start: int, blocks: Sequence[NDArray[Any]]) -> Partial:
        """In the first passes counts of magnitudes, kept here by thread unless other tensors need
        them; then sums.
        """
        if number >= self._counting:
            segment = self.unit
            totals = np.zeros((-(-blocks[0].size // segment), len(self._job.inputs), 2))
            for first, part in self._parts(blocks):
                masks, _alive = self._ready(part)
                sums = totals[first // segment : -(-(first + part[0].size) // segment)]
                self._loops.call("sums", part, start + first, segment, masks, sums)
            return {self._own: totals}
        counted: dict[tuple[Any, ...], Any] = {}
        for place in range(len(self._job.inputs)):
            name = self._name(place)
            for search in {
                (s.low, s.size): s for (whose, _), s in self._searches.items() if whose == name
            }.values():
                key = (name, search.low, search.size)
                tally = self._tallies.setdefault((key, get_ident()), BinTally())
                scratch = np.empty(2 * SPACE, np.uint8)
                self._call(
                    *("tally", blocks, place, search.low, search.size, search.shift),
                    *(tally.counts, tally.below, scratch),
                )
                if self.shared:
                    counted[key] = tally.take()
            if self.shared and start == 0 and number == 0 and self._masks[place, 0] == BAND:
                share = self._job.inputs[place].parameters.get("density", 1.0)
                counted[self._name(place), 0] = (
                    self._loops.elements,
                    Fraction(share * self._loops.elements),
                )
        return counted

    def _call(
        self, name: str, blocks: Sequence[NDArray[Any]], place: int, *arguments: int | NDArray[Any]
    ) -> None:
        """Run a loop on the task vector of one model, arrays passed by address."""
        sources = [(blocks[at], int(self._loops.kinds[at])) for at in (0, place + 1)]
        given = [one if isinstance(one, int) else address(one) for one in arguments]
        (base, kind), (model, other) = sources
        status = loop(name)(address(base), kind, address(model), other, base.size, *given)
        if status:
            self._loops.fail(1 if status == 1 else 2 * place + 3)

    def gather(self, number: int, partials: Sequence[Partial]) -> Partial:
        """One for several: counts and shares are exact, sums are of one tensor and in the order of
        its blocks.
        """
        by_key: dict[tuple[Any, ...], list[Any]] = {}
        for partial in partials:
            for key, value in partial.items():
                by_key.setdefault(key, []).append(value)
        return {key: _together(values) for key, values in by_key.items()}

    def settle(self, number: int, partials: Sequence[Partial]) -> None:
        """Narrow the thresholds down, or find the factors of the L1 norm."""
        if number >= self._counting:
            parts = [partial[self._own] for partial in partials if self._own in partial]
            self._settle_sums(_in_order(parts)[0] if parts else np.zeros((len(self._factors), 2)))
            return
        if self.shared and number == 0:
            self._settle_shares(partials)
        counts: dict[Any, list[Counts]] = {}
        for (key, _), tally in self._tallies.items():
            counts.setdefault(key, []).append(tally.take())
        self._tallies.clear()
        for key, search in self._searches.items():
            ranged = (key[0], search.low, search.size)
            search.settle(
                [partial[ranged] for partial in partials if ranged in partial]
                if self.shared
                else counts[ranged]
            )
            if number == 1:
                for place in range(len(self._job.inputs)):
                    if self._name(place) == key[0]:
                        self._masks[place, key[1]] = search.low

    def _settle_shares(self, partials: Sequence[Partial]) -> None:
        for (name, bound), search in self._searches.items():
            if bound == 1:
                shares = [partial[name, 0] for partial in partials if (name, 0) in partial]
                search.rank = sum(one[0] for one in shares) - max(
                    1, int(sum(one[1] for one in shares))
                )

    def _settle_sums(self, sums: NDArray[np.float64]) -> None:
        for place, (whole, left) in enumerate(sums):
            if self._masks[place, 0] > NONE and whole >= _L1_LEAST and left >= _L1_LEAST:
                self._factors[place] *= whole / left

    def write(self, start: int, blocks: Sequence[NDArray[Any]], out: NDArray[Any]) -> None:
        """Merge a block."""
        for first, part in self._parts(blocks):
            into = out[first : first + part[0].size]
            masks, _alive = self._ready(part)
            self._loops.call(
                "blend", part, start + first, masks, self._factors, self._weights,
                int(self._elect), self._normalize, self._scale, into, self._loops.stored,
            )  # fmt: skip

    def _parts(self, blocks: Sequence[NDArray[Any]]) -> list[tuple[int, Sequence[NDArray[Any]]]]:
        """A block as it is, or for della rows that the memory for their ranks is small for."""
        if self._kind != "della":
            return [(0, blocks)]
        step = max(1, _RANKED_AT_ONCE // self.unit) * self.unit
        return [
            (first, [block[first : first + step] for block in blocks])
            for first in range(0, blocks[0].size, step)
        ]

    def _ready(self, blocks: Sequence[NDArray[Any]]) -> tuple[NDArray[np.int64], Any]:
        """The masks; for della with the thresholds of every entry of the blocks, which must outlive
        the call that uses them.
        """
        if self._kind != "della":
            return self._masks, None
        masks, size = self._masks.copy(), blocks[0].size
        limits = np.empty((len(masks), size), np.uint32)
        rows, scratch = np.empty(12 * self.unit + 8 * 2048, np.uint8), np.empty(TILE, np.float32)
        for place, item in enumerate(self._job.inputs):
            if masks[place, 0] != RANKED:
                continue
            density, epsilon = number(item, "density"), number(item, "epsilon", 0.15)
            bounds = np.array([density - epsilon, density + epsilon])
            masks[place, 6] = address(limits[place])
            self._call("ranks", blocks, place, self.unit, bounds, limits[place], rows, scratch)
        return masks, limits


def _together(values: Sequence[Any]) -> Any:
    """Of one key's values: sums of a tensor, counts of a range, or elements and shares."""
    if isinstance(values[0], np.ndarray):
        return _in_order(values)
    return joined(values) if len(values[0]) == 3 else tuple(map(sum, zip(*values, strict=True)))


def _in_order(sums: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The sum over the first axis, which stays, from front to back: sums of a beginning can be
    continued to the same bits.
    """
    return np.add.accumulate(np.concatenate(sums), axis=0)[-1:]
