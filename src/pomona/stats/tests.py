"""Tests of two systems on the same items."""

from __future__ import annotations

from pomona.errors import PomonaError


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
    from scipy.stats import binomtest

    return float(binomtest(lost, lost + gained, 0.5).pvalue)
