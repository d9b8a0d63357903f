"""What a merge measures on the way: for every layer the size of each task vector, their angles, and
where their signs conflict.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.merge.checkpoints.files import FLOATS
from pomona.merge.checkpoints.names import place_of
from pomona.merge.methods.common import Loops
from pomona.merge.plan import MergePlan, TensorInput, TensorJob, inputs_of

PART = 8  # of every block, the first eighth is measured
LEAST = 1 << 12  # elements of a block that are measured at least


@dataclass(frozen=True)
class Layers:
    """What was measured. rows: a mapping for each layer, in the order of the result, with

    layer: its name. elements, measured: how many it has, and on how many the numbers rest.
    norms: by model, the norm of the task vector θ − base, or of θ without a base. relative: that
        over the norm of the base.
    cosines: by pair "A × B", between task vectors (or weights).
    conflicts: share of elements of which one task vector is positive and another negative; error:
        its standard error.
    """

    of: str  # "task vectors" or "weights"
    models: tuple[str, ...]
    rows: tuple[Mapping[str, Any], ...]

    @property
    def share(self) -> float:
        """Share of all elements that was measured."""
        return sum(row["measured"] for row in self.rows) / max(
            1, sum(row["elements"] for row in self.rows)
        )


class MergeSurvey:
    """Measures the jobs of a plan that have floats of at least one model beside the base."""

    def __init__(self, plan: MergePlan) -> None:
        self._plan = plan
        self.names = tuple(
            dict.fromkeys(
                _name(plan, item) for job in plan.jobs if _counts(job) for item in job.inputs
            )
        )

    def measure(self, job: TensorJob, start: int, blocks: Sequence[NDArray[Any]]) -> Any:
        """Of the first part of a block: elements, squared norm of the base, scalar products of all
        pairs, elements of unlike sign.
        """
        if not _counts(job):
            return None
        kinds = [item.dtype for item in inputs_of(job)]
        count = min(len(blocks[0]), max(LEAST, len(blocks[0]) // PART))
        return (
            count,
            *measure_block([block[:count] for block in blocks], kinds, job.base is not None),
        )

    def total(self, job: TensorJob, measured: Sequence[Any]) -> Any:
        """The sum over a tensor's blocks, as the journal keeps it; None when nothing was
        measured.
        """
        if not measured:
            return None
        count = sum(one[0] for one in measured)
        share = sum(one[3] for one in measured) / count
        spread = sum((one[3] - share * one[0]) ** 2 for one in measured) * (
            1 - count / max(count + 1, math.prod(job.shape))
        )
        products = [math.fsum(column) for column in zip(*(one[2] for one in measured), strict=True)]
        return [
            count,
            math.fsum(one[1] for one in measured),
            products,
            int(sum(one[3] for one in measured)),
            spread,
        ]

    def layers(self, done: Mapping[int, Any]) -> Layers | None:
        """The rows, from every tensor's sums; None when nothing was measured."""
        groups: dict[str, list[tuple[TensorJob, Any]]] = {}
        for number, job in enumerate(self._plan.jobs):
            if done.get(number) is not None:
                groups.setdefault(layer_of(job.name), []).append((job, done[number]))
        if not groups:
            return None
        based = any(job.base is not None for members in groups.values() for job, _ in members)
        rows = tuple(self._row(layer, members) for layer, members in groups.items())
        return Layers("task vectors" if based else "weights", self.names, rows)

    def _row(self, layer: str, members: Sequence[tuple[TensorJob, Any]]) -> dict[str, Any]:
        squares: dict[str, float] = {}
        products: dict[tuple[str, str], float] = {}
        base = elements = measured = conflicts = 0.0
        spread = 0.0
        for job, (count, own, gram, unlike, varied) in members:
            factor = math.prod(job.shape) / count  # a tensor counts as much as it has elements
            models = [_name(self._plan, item) for item in job.inputs]
            pairs = [(i, k) for i in range(len(models)) for k in range(i, len(models))]
            for (i, k), value in zip(pairs, gram, strict=True):
                if i == k:
                    squares[models[i]] = squares.get(models[i], 0.0) + value * factor
                else:
                    key = (models[i], models[k])
                    products[key] = products.get(key, 0.0) + value * factor
            base += own * factor
            elements += math.prod(job.shape)
            measured += count
            conflicts += unlike * factor
            spread += varied * factor**2
        norms = {model: math.sqrt(max(0.0, value)) for model, value in squares.items()}
        scale = math.sqrt(base)
        return {
            "layer": layer,
            "elements": int(elements),
            "measured": int(measured),
            "norms": norms,
            "relative": {model: norm / scale for model, norm in norms.items()} if scale else {},
            "cosines": {
                f"{one} × {other}": products[one, other] / (norms[one] * norms[other])
                for one, other in combinations(norms, 2)
                if (one, other) in products and norms[one] and norms[other]
            },
            "conflicts": conflicts / elements if len(norms) > 1 else None,
            "error": math.sqrt(spread) / elements,
        }


def layer_of(name: str) -> str:
    """The layer a tensor belongs to, such as "model.layers.3"; outside layers its own name without
    "weight" or "bias".
    """
    place = place_of(name)
    return f"{place.stack}.{place.layer}" if place else name.rsplit(".", 1)[0]


def _counts(job: TensorJob) -> bool:
    return (
        bool(job.inputs)
        and job.method != "copy"
        and all(item.dtype in FLOATS for item in job.inputs)
    )


def _name(plan: MergePlan, item: Any) -> str:
    return item.identity or plan.models[item.model].name


def measure_block(
    blocks: Sequence[NDArray[Any]], kinds: Sequence[str], based: bool
) -> tuple[float, list[float], int]:
    """Sizes, angles and conflicts of task vectors τ = θ − θ_0, or of θ itself without a base, over
    one block.

    blocks: flat and contiguous, as stored, the base's first if `based`; kinds: their types ("BF16",
        …).
    Returns the base's squared norm (0 without a base); the scalar products of all pairs i ≤ k in
    the order (0, 0), (0, 1), …; and the number of elements of which one τ is positive and another
    negative. Sums of several blocks are sums of these. Raises PomonaError when a block holds NaN or
    infinity; `where` is its place.
    """
    inputs = tuple(TensorInput(place, "", kind) for place, kind in enumerate(kinds))
    loops = Loops(
        TensorJob(
            "", (blocks[0].size,), "F32", "linear", inputs[based:], inputs[0] if based else None
        )
    )
    products, signs = np.zeros(loops.count * (loops.count + 1) // 2), np.zeros(2)
    loops.call("gram", blocks, loops.based, max(1, blocks[0].size), 0, products, signs)
    return float(signs[1]), products.tolist(), int(signs[0])
