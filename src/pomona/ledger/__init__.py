"""The accounts: what each lever cost and bought, against the ladder, as entries, tables and a page."""

from pomona.ledger.entry import Entry, ScaleEquivalent
from pomona.ledger.flops import Meter, inference_flops, scoring_flops, training_flops
from pomona.ledger.scale import Ladder
from pomona.ledger.store import GroupCount, Ledger, Meta, Rung

__all__ = [
    "Entry", "GroupCount", "Ladder", "Ledger", "Meta", "Meter", "Rung", "ScaleEquivalent",
    "inference_flops", "scoring_flops", "training_flops",
]  # fmt: skip
