"""How far two judges of the same items agree, beyond chance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pomona.stats.bootstrap import FEWEST, Resamples, interval, value_of

Floats = NDArray[np.float64]


class Kappa:
    """Cohen's kappa of summed tables of agreement `[..., c * c]`; 0 where both always say the same
    one thing, which is no agreement beyond chance.
    """

    def aggregate(self, sums: Floats) -> Floats:
        """See `pomona.stats.compare`."""
        size = int(np.sqrt(sums.shape[-1]))
        table = sums.reshape(*sums.shape[:-1], size, size)
        n = table.sum((-1, -2))
        observed = np.trace(table, axis1=-2, axis2=-1) / n
        chance = (table.sum(-1) * table.sum(-2)).sum(-1) / n**2
        beyond = 1 - chance
        return np.divide(observed - chance, beyond, np.zeros_like(n), where=beyond > 1e-12)


def cohen_kappa(
    tables: Floats, resamples: Resamples, level: float = 0.95
) -> tuple[float | None, float | None, float | None]:
    """Cohen's kappa from a table of agreement of each item `[n, c, c]`, with the ends of its
    interval (Cohen 1960).

    None where one of them says the same of all items, so that there is nothing to agree on, and for
    the ends where fewer than five units are resampled.
    """
    told = tables.reshape(len(tables), -1)
    whole = told.sum(0).reshape(tables.shape[1:])
    if max(whole.sum(0).max(), whole.sum(1).max()) >= whole.sum() * (1 - 1e-12):
        return None, None, None
    value = value_of(Kappa(), told)
    if resamples.units < FEWEST:
        return value, None, None
    return value, *interval(Kappa(), told, resamples, level)
