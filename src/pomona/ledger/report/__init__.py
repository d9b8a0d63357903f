"""The ledger as one page that opens without a network, and its main picture as an SVG."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.ledger.report.picture import write_picture as write_picture
    from pomona.ledger.report.publishing import (
        publish as publish,
        republish as republish,
        watch as watch,
        write_report as write_report,
    )

__getattr__, __dir__ = lazily(
    __name__,
    {"picture": "write_picture", "publishing": "publish republish watch write_report"},
)
