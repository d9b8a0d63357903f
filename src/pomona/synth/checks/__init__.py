"""Checks: what is wrong with an answer, so that it is not taken; also that it is a near copy of one
that was taken, or of a test item.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.synth.checks.answers import (
        Check as Check,
        ChecksSpec as ChecksSpec,
        Copied as Copied,
        Language as Language,
        Lengths as Lengths,
        Placeholders as Placeholders,
        Untranslated as Untranslated,
        Words as Words,
        checks_from as checks_from,
        reason_of as reason_of,
    )
    from pomona.synth.checks.near import (
        HeldOut as HeldOut,
        Near as Near,
        NearDuplicates as NearDuplicates,
    )

__getattr__, __dir__ = lazily(
    __name__,
    {
        "answers": "Check ChecksSpec Copied Language Lengths Placeholders Untranslated Words "
        "checks_from reason_of",
        "near": "HeldOut Near NearDuplicates",
    },
)
