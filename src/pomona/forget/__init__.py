"""What a change to a model forgets, and for whom: the same items before and after it, item by item
and group by group. Gains are reported like losses.

`predictions` reads the answers of two sides, `comparison` counts what changed between them, `gate`
says whether that is more than it may be, and `page` shows the items behind it. `auditing` compares
populations of several models a side, above the floor of chance. `mirror` is the same along a
ladder: what scale buys, for whom.
`compression` makes a model smaller, and `parameters` tells how much of it can be predicted.
`divergence` compares two models token by token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.forget.auditing import (
        Audit as Audit,
        Damage as Damage,
        Learning as Learning,
        LearningOrder as LearningOrder,
        LevelAudit as LevelAudit,
        audit as audit,
        order as order,
    )
    from pomona.forget.change import Change as Change, Comparison as Comparison
    from pomona.forget.comparison import compare as compare
    from pomona.forget.compression.calibration import second_moments as second_moments
    from pomona.forget.compression.result import (
        Compressed as Compressed,
        CompressedModule as CompressedModule,
    )
    from pomona.forget.compression.run import compress as compress
    from pomona.forget.divergence import (
        Divergence as Divergence,
        ModelChange as ModelChange,
        TokenFigure as TokenFigure,
        compare_models as compare_models,
    )
    from pomona.forget.gate import Case as Case, Checked as Checked, check as check
    from pomona.forget.mirror import (
        Estimate as Estimate,
        Mirror as Mirror,
        OtherAnswers as OtherAnswers,
        PartGain as PartGain,
        SizeStep as SizeStep,
        ladder as ladder,
    )
    from pomona.forget.parameters.redundancy import (
        RebuiltModel as RebuiltModel,
        Redundancy as Redundancy,
        redundancy as redundancy,
    )
    from pomona.forget.parameters.training import (
        with_dictionaries as with_dictionaries,
        without_dictionaries as without_dictionaries,
    )
    from pomona.forget.predictions import (
        Predictions as Predictions,
        read_predictions as read_predictions,
    )

__getattr__, __dir__ = lazily(
    __name__,
    {
        "auditing": "Audit Damage Learning LearningOrder LevelAudit audit order",
        "change": "Change Comparison",
        "comparison": "compare",
        "compression.calibration": "second_moments",
        "compression.result": "Compressed CompressedModule",
        "compression.run": "compress",
        "divergence": "Divergence ModelChange TokenFigure compare_models",
        "gate": "Case Checked check",
        "mirror": "Estimate Mirror OtherAnswers PartGain SizeStep ladder",
        "parameters.redundancy": "RebuiltModel Redundancy redundancy",
        "parameters.training": "with_dictionaries without_dictionaries",
        "predictions": "Predictions read_predictions",
    },
)
