"""Active inheritance: of several answers to a row the one is kept that a student should take after,
and of groups as many rows as it should see.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.synth.steering.choosing import Chosen as Chosen, choose as choose
    from pomona.synth.steering.objectives import (
        Objective as Objective,
        ObjectiveSpec as ObjectiveSpec,
        SteeringSpec as SteeringSpec,
        objectives_from as objectives_from,
    )
    from pomona.synth.steering.shares import (
        Quota as Quota,
        Tempered as Tempered,
        places as places,
        quotas as quotas,
    )

__getattr__, __dir__ = lazily(
    __name__,
    {
        "choosing": "Chosen choose",
        "objectives": "Objective ObjectiveSpec SteeringSpec objectives_from",
        "shares": "Quota Tempered places quotas",
    },
)
