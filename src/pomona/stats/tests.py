"""Tests of two systems on the same items, of two samples, and of what shuffling them gives."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pomona.errors import PomonaError

_SAME = 1e-12  # differences that are rounding alone


def mcnemar(lost: int, gained: int) -> float:
    """The exact two-sided p-value that items change as often for the better as for the worse, from
    the numbers of those that did either; 1 where none did.

    McNemar 1947 in its exact form: of `lost + gained` changes, `lost` are binomial with probability
    1/2. Items count as independent. Raises PomonaError for a number below 0.
    """
    if min(lost, gained) < 0:
        message = f"{min(lost, gained)} items are fewer than none"
        raise PomonaError(message, where="mcnemar", remedy="give numbers of items")
    if lost + gained == 0:
        return 1.0
    from scipy import special  # `scipy.stats.binomtest` says the same, and takes a second to load

    return min(1.0, 2 * float(special.bdtr(min(lost, gained), lost + gained, 0.5)))


def welch(
    ours: ArrayLike, base: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Welch's t, its degrees of freedom and its two-sided p-value that two samples have the same
    mean, for every column of `ours` `[n, m]` and `base` `[k, m]`, or of samples `[n]` and `[k]`.

    Welch 1947, "The generalization of Student's problem", by `scipy.stats.ttest_ind`. Where nothing
    varies on either side, or a side has one value, nothing is known of the error: NaN.
    """
    first, second = (np.asarray(values, np.float64) for values in (ours, base))
    if first.shape[1:] != second.shape[1:]:
        message = f"{first.shape[1:]} columns are compared with {second.shape[1:]}"
        raise PomonaError(message, where="welch", remedy="give both the same columns")
    one, two = (values.reshape(len(values), -1) for values in (first, second))
    t, df, p = (np.full(one.shape[1], np.nan) for _ in range(3))
    varies = (np.ptp(one, axis=0) > _SAME) | (np.ptp(two, axis=0) > _SAME)
    if min(len(one), len(two)) > 1 and varies.any():
        from scipy.stats import ttest_ind

        with warnings.catch_warnings():
            # Of a side that does not vary while the other does, whose error is 0
            warnings.filterwarnings("ignore", "Precision loss", RuntimeWarning)
            told: Any = ttest_ind(one[:, varies], two[:, varies], axis=0, equal_var=False)
        t[varies], df[varies], p[varies] = told.statistic, told.df, told.pvalue
    return t.reshape(first.shape[1:]), df.reshape(first.shape[1:]), p.reshape(first.shape[1:])


def shuffles(
    first: int, second: int, draws: int, seed: int = 0, *, paired: bool = False
) -> NDArray[np.intp]:
    """Ways to deal `first + second` units into two samples anew, `[draws, first + second]`: in each
    row, the units that are called the first sample come first. Units 0 to first − 1 were it.

    With `paired`, unit i of the first belongs to unit i of the second, and only these two change
    places: what both owe to the pair is then no difference (Fisher 1935, §21). Raises PomonaError
    for samples of nothing, pairs of unequal samples, and a seed below 0.
    """
    if min(first, second, draws) < 1 or (paired and first != second):
        message = f"{first} and {second} units cannot be dealt anew {draws} times"
        raise PomonaError(message, where="shuffles", remedy="give 1 or more, as many to be paired")
    if seed < 0:
        raise PomonaError(f"{seed} is below 0", where="seed", remedy="use 0 or more")
    rng = np.random.default_rng(seed)
    if paired:
        swapped = rng.integers(0, 2, (draws, first)) * first
        units = np.arange(first)
        return np.concatenate([units + swapped, units + first - swapped], axis=1)
    return rng.permuted(np.tile(np.arange(first + second), (draws, 1)), axis=1)


def permutation(observed: ArrayLike, drawn: ArrayLike) -> NDArray[np.float64]:
    """The one-sided p-value of statistics `[...]` that are large where there is a difference, from
    those of shuffled samples `[draws, ...]`: never 0, since the samples as they were are one of
    the ways to deal them (Phipson & Smyth 2010).
    """
    values, others = np.asarray(observed, np.float64), np.asarray(drawn, np.float64)
    reached = np.sum(others >= values - _SAME, axis=0)  # sums of the same terms may differ by bits
    return (1 + reached) / (1 + len(others))
