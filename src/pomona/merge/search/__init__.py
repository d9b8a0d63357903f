"""Many merges of one recipe: free parameters searched against a task, swept, and experts left out, without writing candidates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.merge.search.core import Found as Found
    from pomona.merge.search.core import Objective as Objective
    from pomona.merge.search.core import Score as Score
    from pomona.merge.search.core import search as search
    from pomona.merge.search.forecasting import Forecast as Forecast
    from pomona.merge.search.forecasting import forecast as forecast
    from pomona.merge.search.judge import Judge as Judge
    from pomona.merge.search.judge import OnItems as OnItems
    from pomona.merge.search.leave_out import LeftOut as LeftOut
    from pomona.merge.search.leave_out import Matrix as Matrix
    from pomona.merge.search.leave_out import leave_one_out as leave_one_out
    from pomona.merge.search.log import Trial as Trial
    from pomona.merge.search.run import Searched as Searched
    from pomona.merge.search.run import search_merge as search_merge
    from pomona.merge.search.space import Free as Free
    from pomona.merge.search.space import Space as Space
    from pomona.merge.search.space import fill as fill
    from pomona.merge.search.space import space_of as space_of
    from pomona.merge.search.sweeping import Swept as Swept
    from pomona.merge.search.sweeping import sweep as sweep

_HOMES = {
    **dict.fromkeys(("Found", "Objective", "Score", "search"), "core"),
    **dict.fromkeys(("Forecast", "forecast"), "forecasting"),
    **dict.fromkeys(("Judge", "OnItems"), "judge"),
    **dict.fromkeys(("LeftOut", "Matrix", "leave_one_out"), "leave_out"),
    "Trial": "log",
    **dict.fromkeys(("Searched", "search_merge"), "run"),
    **dict.fromkeys(("Free", "Space", "fill", "space_of"), "space"),
    **dict.fromkeys(("Swept", "sweep"), "sweeping"),
}
__all__ = [
    "Forecast", "Found", "Free", "Judge", "LeftOut", "Matrix", "Objective", "OnItems", "Score", "Searched", "Space", "Swept", "Trial",
    "fill", "forecast", "leave_one_out", "search", "search_merge", "space_of", "sweep",
]  # fmt: skip

__getattr__, __dir__ = lazily(__name__, _HOMES)
