"""Quality of texts by rules that need no model: Gopher's, C4's and FineWeb's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.data.quality.measuring import quality as quality
    from pomona.data.quality.rules import QUALITY as QUALITY, columns_of as columns_of

__getattr__, __dir__ = lazily(__name__, {"rules": "QUALITY columns_of", "measuring": "quality"})
