"""From what each model saw of a row to the row's scores: over checkpoints, within groups, among
rows of like length.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pomona.errors import PomonaError

Floats = NDArray[np.float64]


def vog(gradients: Sequence[pa.Array]) -> Floats:
    """Variance of gradients, float64 `[n]`: the std over checkpoints of each input token's gradient
    norm, mean over a row's tokens.

    `gradients`: for each checkpoint list<float> `[n]`. Agarwal, D'souza & Hooker 2022, §2, carried
        over to tokens; NaN for a row without.
    Raises PomonaError when the checkpoints have different tokenizers.
    """
    first = gradients[0]
    offsets = first.offsets.to_numpy()
    for other in gradients[1:]:
        if not np.array_equal(other.offsets.to_numpy(), offsets):
            raise PomonaError(
                "the models cut a text into different tokens",
                where="vog",
                remedy="use checkpoints with one tokenizer",
            )
    spread = np.std([part.values.to_numpy() for part in gradients], axis=0, dtype=np.float64)
    sizes = np.diff(offsets)
    totals = np.bincount(np.repeat(np.arange(len(sizes)), sizes), spread, len(sizes))
    return totals / np.where(sizes > 0, sizes, np.nan)


def cat_var(perplexities: NDArray[np.float64]) -> Floats:
    """Population variance of perplexity `[models, n]` over the checkpoints, `[n]`. Chimoto et al.
    2024; formula unconfirmed.
    """
    return np.var(perplexities, axis=0)


def cat_diff(perplexities: NDArray[np.float64]) -> Floats:
    """Perplexity `[models, n]` under the first checkpoint less that under the last, `[n]`. Chimoto
    et al. 2024; formula unconfirmed.
    """
    return perplexities[0] - perplexities[-1]


def within_group(values: Floats, groups: NDArray[np.int64]) -> Floats:
    """z-scores of `values` `[n]` within each group (codes from 0, `[n]`); 0 without spread. NaN
    stays and is not counted.
    """
    known = np.isfinite(values)
    count = np.maximum(np.bincount(groups, known), 1)
    filled = np.where(known, values, 0.0)
    mean = np.bincount(groups, filled) / count
    centred = np.where(known, values - mean[groups], np.nan)
    spread = np.sqrt(np.bincount(groups, np.where(known, centred, 0.0) ** 2) / count)
    scale = spread[groups]
    tiny = 1e-12 * np.maximum(1.0, np.abs(mean[groups]))
    return np.where(known & (scale <= tiny), 0.0, centred / np.where(scale > tiny, scale, 1.0))


def within_length(values: Floats, lengths: NDArray[np.int64], *, bins: int = 10) -> Floats:
    """The rank of each value, 0 to 1, among rows of like length: `bins` parts of equally many rows
    by length. `[n]` each.

    The length control for scores that favour long texts, as `cat_var` and `cat_diff` do. NaN stays;
    equal values share their mean rank. Raises PomonaError when `bins` is not positive.
    """
    if bins < 1:
        raise PomonaError(f"{bins} bins", where="length_bins", remedy="use 1 or more; 10 is usual")
    known = np.flatnonzero(np.isfinite(values))
    found = np.full(len(values), np.nan)
    for part in np.array_split(known[np.argsort(lengths[known], kind="stable")], bins):
        if len(part):
            _, place, count = np.unique(values[part], return_inverse=True, return_counts=True)
            ranks = np.cumsum(count) - (count - 1) / 2  # from 1, mean of equals
            found[part] = (ranks[place] - 0.5) / len(part)
    return found
