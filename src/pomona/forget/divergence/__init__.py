"""How far one model's next-token distributions are from another's on the same text, and what that
costs: streamed, by group, with intervals over documents.

`measures` compares two distributions, `sides` opens models, `texts` cuts documents into windows,
`figures` has what is told of a group, `comparing` reads both sides in step, `cache` keeps what one
said, and `page` shows it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.forget.divergence.comparing import compare_models as compare_models
    from pomona.forget.divergence.figures import (
        ModelChange as ModelChange,
        TokenFigure as TokenFigure,
    )
    from pomona.forget.divergence.result import Divergence as Divergence

__getattr__, __dir__ = lazily(
    __name__,
    {
        "comparing": "compare_models",
        "figures": "ModelChange TokenFigure",
        "result": "Divergence",
    },
)
