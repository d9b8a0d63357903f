"""What scale buys: is bigger better here, and for how long has it been?

`runs` reads tables of training runs, and `laws` fits the loss to parameters and tokens: with bands,
held-out runs, every defensible choice beside the others, and a plan for a budget.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.scale.laws.forms import Law as Law

__getattr__, __dir__ = lazily(
    __name__,
    {
        "laws.forms": "Law",
    },
)
