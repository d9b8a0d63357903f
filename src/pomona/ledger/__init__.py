"""The accounts: what each lever cost and bought, against the ladder, as entries, tables and a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.ledger.entry import Entry as Entry
    from pomona.ledger.entry import ScaleEquivalent as ScaleEquivalent
    from pomona.ledger.flops import Meter as Meter
    from pomona.ledger.flops import inference_flops as inference_flops
    from pomona.ledger.flops import scoring_flops as scoring_flops
    from pomona.ledger.flops import training_flops as training_flops
    from pomona.ledger.scale import Ladder as Ladder
    from pomona.ledger.store import GroupCount as GroupCount
    from pomona.ledger.store import Ledger as Ledger
    from pomona.ledger.store import Meta as Meta
    from pomona.ledger.store import Rung as Rung

_HOMES = {
    **dict.fromkeys(("Entry", "ScaleEquivalent"), "entry"),
    **dict.fromkeys(("Meter", "inference_flops", "scoring_flops", "training_flops"), "flops"),
    "Ladder": "scale",
    **dict.fromkeys(("GroupCount", "Ledger", "Meta", "Rung"), "store"),
}
__all__ = [
    "Entry", "GroupCount", "Ladder", "Ledger", "Meta", "Meter", "Rung", "ScaleEquivalent",
    "inference_flops", "scoring_flops", "training_flops",
]  # fmt: skip

__getattr__, __dir__ = lazily(__name__, _HOMES)
