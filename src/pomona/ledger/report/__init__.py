"""The ledger as one page that opens without a network, and its main picture as an SVG."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.ledger.report.page import (
        publish as publish,
        republish as republish,
        write_report as write_report,
    )
    from pomona.ledger.report.picture import write_picture as write_picture
    from pomona.ledger.report.watching import watch as watch

__getattr__, __dir__ = lazily(
    __name__,
    {"page": "publish republish write_report", "picture": "write_picture", "watching": "watch"},
)
