"""What was learned from, kept as a table beside the weights instead of in them: which of its rows
are nearest to a prompt, and what these would answer.

`nearest` is the search, exact and without a model; `choice` chooses among what is found. The
controls of a run stand on both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.memory.choice import consensus as consensus
    from pomona.memory.nearest import Nearest as Nearest, Neighbours as Neighbours

__getattr__, __dir__ = lazily(__name__, {"choice": "consensus", "nearest": "Nearest Neighbours"})
