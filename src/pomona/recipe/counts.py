"""How many items a table will give, for estimates: counted where that is quick, guessed where it is
not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pomona.recipe.schema import Data

GUESS = 1000.0
QUICK = 100_000_000  # bytes


def count_items(
    sources: Sequence[Path], data: Data, where: dict[str, list[str]], per_group: int | None
) -> float:
    """Rows that pass the conditions, at most `per_group` a group. Raises PomonaError for files that
    cannot be read.
    """
    if data.on_error == "reject" or sum(path.stat().st_size for path in sources) > QUICK:
        return GUESS
    from pomona import records

    found = records.read([str(path) for path in sources])
    for column, value in where.items():
        found = found.require(column).where(**{column: value})
    if data.group is None:
        return float(found.count())
    groups = Counter(
        found.require(data.group).select(data.group).to_table()[data.group].to_pylist()
    )
    wanted = data.groups or groups
    return float(sum(min(groups[group], per_group or groups[group]) for group in wanted))
