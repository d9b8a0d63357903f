"""From what is thin and what is weak to how many rows to ask for in each cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pomona.synth.targeting.cells import Key
from pomona.synth.targeting.recipe import TargetsRecipe, Tempered

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def target_shares(
    recipe: TargetsRecipe,
    cells: Sequence[Key],
    training: Ints,
    demand: Ints | None,
    pooled: Mapping[Key, int],
) -> Floats:
    """The share that each cell should have `[c]`: see `TargetsRecipe.target`. `pooled` is how much
    is asked for in all groups, by the rest of a cell: that of one group is a few rows.
    """
    if recipe.target == "demand" and demand is not None:
        return demand / max(1, demand.sum())
    groups = [key[0] for key in cells]
    names = sorted(set(groups))
    member = np.array([names.index(group) for group in groups])
    tempered = isinstance(recipe.target, Tempered)
    if isinstance(recipe.target, Tempered):
        counts = np.bincount(member, training, len(names))
        weights = counts ** (1 / recipe.target.temperature)
    else:
        weights = np.ones(len(names))
    shares = weights / weights.sum() if weights.sum() else np.zeros(len(names))
    if pooled:
        within = np.array([pooled.get(key[1:], 0) for key in cells], float)
    elif tempered:
        within = training.astype(float)
    else:
        within = np.ones(len(cells))
    sums = np.bincount(member, within, len(names))
    part = np.divide(within, sums[member], np.zeros(len(cells)), where=sums[member] > 0)
    return shares[member] * part


def lacking(shares: Floats, training: Ints, rows: int) -> Floats:
    """How many rows each cell lacks of its share of all that there will be `[c]`."""
    return np.maximum(0, shares * (training.sum() + rows) - training)


def shares_asked(lacks: Floats, weak: Floats, weakness: float) -> Floats:
    """The share of what is asked for that goes to each cell `[c]`: in proportion to what it
    `lacks`, and, for the part `weakness`, to how `weak` answers are there by how much is asked.
    Where nothing is weak all goes to what is thin, and where nothing is thin to what is weak.
    """
    thin, poor = (part / part.sum() if part.sum() else part for part in (lacks, weak))
    if not poor.any():
        return thin
    if not thin.any():
        return poor
    return (1 - weakness) * thin + weakness * poor
