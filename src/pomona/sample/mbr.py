"""Minimum Bayes risk selection: the answer closest to all the others. Kumar & Byrne 2004; Khairi et
al. 2025, §5.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pomona.tasks import pairwise


def chrf_mbr(candidates: Sequence[str]) -> int:
    """Index of the candidate with the highest mean sentence chrF to the whole pool (itself
    included); the first of equals.

    With the greedy answer first, ties go to it.
    """
    utility = pairwise(list(candidates), list(candidates)).mean(axis=1)
    return int(np.argmax(np.round(utility, 9)))
