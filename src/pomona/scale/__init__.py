"""What scale buys: is bigger better here, and for how long has it been?

`runs` reads tables of training runs, and `laws` fits the loss to parameters and tokens: with bands,
held-out runs, every defensible choice beside the others, and a plan for a budget.
`compute` counts a model by its configuration: modules, equivalents, thresholds in laws, energy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.scale.compute.energy import Efficiency as Efficiency, efficiency as efficiency
    from pomona.scale.compute.flops import flops as flops, thresholds as thresholds
    from pomona.scale.compute.results import (
        ModelFlops as ModelFlops,
        Planned as Planned,
        SizesFlops as SizesFlops,
    )
    from pomona.scale.compute.thresholds import Standings as Standings
    from pomona.scale.laws.forms import Law as Law

__getattr__, __dir__ = lazily(
    __name__,
    {
        "compute.energy": "Efficiency efficiency",
        "compute.flops": "flops thresholds",
        "compute.results": "ModelFlops Planned SizesFlops",
        "compute.thresholds": "Standings",
        "laws.forms": "Law",
    },
)
