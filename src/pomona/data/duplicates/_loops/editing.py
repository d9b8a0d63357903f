"""Edit similarity on tokens: 1 − Levenshtein / length of the longer (Lee et al. 2022, §4.2), within
a band around the diagonal.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pomona.native import part


@part
def edit_close(one: Any, two: Any, least: float, costs: Any) -> bool:
    """Whether the edit similarity of two token sequences is at least `least`. `costs` is memory for
    one more than `two` has.
    """
    longer = max(len(one), len(two))
    budget = int(np.floor((1 - least) * longer + 1e-9))
    start, stop_one, stop_two = 0, len(one), len(two)
    while start < min(stop_one, stop_two) and one[start] == two[start]:
        start += 1
    while min(stop_one, stop_two) > start and one[stop_one - 1] == two[stop_two - 1]:
        stop_one -= 1
        stop_two -= 1
    rows, columns = stop_one - start, stop_two - start
    if abs(rows - columns) > budget:
        return False
    far = budget + 1
    for column in range(columns + 1):
        costs[column] = min(column, far)
    for row in range(1, rows + 1):
        first, last = max(1, row - budget), min(columns, row + budget)
        corner, best = costs[first - 1], far
        costs[first - 1] = min(row, far) if first == 1 else far
        for column in range(first, last + 1):
            above = costs[column] if column < row + budget else far
            cost = (
                corner
                if one[start + row - 1] == two[start + column - 1]
                else 1 + min(corner, above, costs[column - 1])
            )
            corner = costs[column]
            costs[column] = min(cost, far)
            best = min(best, cost)
        if min(best, costs[first - 1]) > budget:
            return False
    return costs[columns] <= budget
