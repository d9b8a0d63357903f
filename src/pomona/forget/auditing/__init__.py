"""Populations of models: several that were compressed to a level against as many dense ones. What
changed above the floor of dense models among themselves, for which groups, and whether the tail
pays for it; and when examples and groups are learnt.

Hooker et al. 2019 (arXiv 1911.05248) and 2020 (arXiv 2010.03058).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.forget.auditing.damage import Damage as Damage
    from pomona.forget.auditing.learning import (
        Learning as Learning,
        LearningOrder as LearningOrder,
        order as order,
    )
    from pomona.forget.auditing.results import Audit as Audit, LevelAudit as LevelAudit
    from pomona.forget.auditing.run import audit as audit

__getattr__, __dir__ = lazily(
    __name__,
    {
        "damage": "Damage",
        "learning": "Learning LearningOrder order",
        "results": "Audit LevelAudit",
        "run": "audit",
    },
)
