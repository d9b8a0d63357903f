"""Many merges of one recipe: free parameters searched against a task, swept, and experts left out,
without writing candidates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.merge.search.judge import Judge as Judge, OnItems as OnItems
    from pomona.merge.search.results import (
        Gain as Gain,
        Matrix as Matrix,
        Searched as Searched,
        number as number,
    )
    from pomona.merge.search.run import (
        SearchForecast as SearchForecast,
        forecast as forecast,
        search_merge as search_merge,
    )
    from pomona.merge.search.space import (
        Free as Free,
        Space as Space,
        fill as fill,
        space_of as space_of,
    )
    from pomona.merge.search.trials import (
        Objective as Objective,
        Optimum as Optimum,
        Score as Score,
        Trial as Trial,
        search as search,
    )
    from pomona.merge.search.variants import (
        LeftOut as LeftOut,
        Swept as Swept,
        leave_one_out as leave_one_out,
        sweep as sweep,
    )

__getattr__, __dir__ = lazily(
    __name__,
    {
        "judge": "Judge OnItems",
        "results": "Gain Matrix Searched number",
        "run": "SearchForecast forecast search_merge",
        "space": "Free Space fill space_of",
        "trials": "Objective Optimum Score Trial search",
        "variants": "LeftOut Swept leave_one_out sweep",
    },
)
