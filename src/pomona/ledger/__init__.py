"""The accounts: what each lever cost and bought, against the ladder, as entries, tables and a
page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.ledger.entry import (
        Axis as Axis,
        Entry as Entry,
        Exchange as Exchange,
        GroupCount as GroupCount,
        Meta as Meta,
        Rung as Rung,
        ScaleEquivalent as ScaleEquivalent,
        Teaching as Teaching,
    )
    from pomona.ledger.examples import (
        Answered as Answered,
        Examples as Examples,
        choose_examples as choose_examples,
    )
    from pomona.ledger.meter import Meter as Meter
    from pomona.ledger.scale import Ladder as Ladder
    from pomona.ledger.store import (
        Ledger as Ledger,
        ledger_of as ledger_of,
        to_csv as to_csv,
        to_json as to_json,
    )
    from pomona.ledger.table import format_entry as format_entry, print_table as print_table

__getattr__, __dir__ = lazily(
    __name__,
    {
        "entry": "Axis Entry Exchange GroupCount Meta Rung ScaleEquivalent Teaching",
        "examples": "Answered Examples choose_examples",
        "meter": "Meter",
        "scale": "Ladder",
        "store": "Ledger ledger_of to_csv to_json",
        "table": "format_entry print_table",
    },
)
