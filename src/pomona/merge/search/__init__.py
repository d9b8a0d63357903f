"""Many merges of one recipe: free parameters searched against a task, swept, and experts left out,
without writing candidates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.merge.search.core import (
        Found as Found,
        Objective as Objective,
        Score as Score,
        search as search,
    )
    from pomona.merge.search.forecasting import Forecast as Forecast, forecast as forecast
    from pomona.merge.search.judge import Judge as Judge, OnItems as OnItems
    from pomona.merge.search.leave_out import (
        LeftOut as LeftOut,
        Matrix as Matrix,
        leave_one_out as leave_one_out,
    )
    from pomona.merge.search.log import Trial as Trial
    from pomona.merge.search.run import Searched as Searched, search_merge as search_merge
    from pomona.merge.search.space import (
        Free as Free,
        Space as Space,
        fill as fill,
        space_of as space_of,
    )
    from pomona.merge.search.sweeping import Swept as Swept, sweep as sweep

__getattr__, __dir__ = lazily(
    __name__,
    {
        "core": "Found Objective Score search",
        "forecasting": "Forecast forecast",
        "judge": "Judge OnItems",
        "leave_out": "LeftOut Matrix leave_one_out",
        "log": "Trial",
        "run": "Searched search_merge",
        "space": "Free Space fill space_of",
        "sweeping": "Swept sweep",
    },
)
