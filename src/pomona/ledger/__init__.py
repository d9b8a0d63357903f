"""The accounts: what each lever cost and bought, against the ladder, as entries, tables and a
page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.ledger.meter import Meter as Meter
    from pomona.ledger.scale import Ladder as Ladder
    from pomona.ledger.store import (
        Entry as Entry,
        GroupCount as GroupCount,
        Ledger as Ledger,
        Meta as Meta,
        Rung as Rung,
        ScaleEquivalent as ScaleEquivalent,
        ledger_of as ledger_of,
        to_csv as to_csv,
        to_json as to_json,
    )
    from pomona.ledger.table import print_table as print_table

__getattr__, __dir__ = lazily(
    __name__,
    {
        "meter": "Meter",
        "scale": "Ladder",
        "store": "Entry GroupCount Ledger Meta Rung ScaleEquivalent ledger_of to_csv to_json",
        "table": "print_table",
    },
)
