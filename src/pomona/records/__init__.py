"""Tables in and out: Parquet, JSONL, CSV and Hugging Face dataset folders, local or s3://, lazily,
with bad rows named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.records._read import read as read
    from pomona.records._records import Records as Records
    from pomona.records._write import write as write
    from pomona.records.card import Card as Card

__getattr__, __dir__ = lazily(
    __name__,
    {
        "_read": "read",
        "_records": "Records",
        "_write": "write",
        "card": "Card",
    },
)
