"""What a student inherits, measured: texts of tables and models by length, lexical diversity,
readability, toxicity and calibration, side by side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.synth.profile.figures import calibration_error as calibration_error
    from pomona.synth.profile.measures import (
        FEW as FEW,
        Difference as Difference,
        Estimate as Estimate,
    )
    from pomona.synth.profile.results import (
        Compared as Compared,
        Profile as Profile,
        SideProfile as SideProfile,
        unit_of as unit_of,
    )
    from pomona.synth.profile.run import Asking as Asking, profile as profile
    from pomona.synth.profile.scorers import (
        Scorer as Scorer,
        scored as scored,
        scorer as scorer,
    )
    from pomona.synth.profile.sides import TextColumns as TextColumns
    from pomona.synth.profile.texts import (
        TextFigures as TextFigures,
        sentences as sentences,
        syllables as syllables,
    )

__getattr__, __dir__ = lazily(
    __name__,
    {
        "figures": "calibration_error",
        "measures": "FEW Difference Estimate",
        "results": "Compared Profile SideProfile unit_of",
        "run": "Asking profile",
        "scorers": "Scorer scored scorer",
        "sides": "TextColumns",
        "texts": "TextFigures sentences syllables",
    },
)
