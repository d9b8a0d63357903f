"""What every page and picture shares: one template, one stylesheet, the charts' colours, and how
numbers are written. Part of the ground: it knows no room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.pages.drawing import (
        forest as forest,
        nominal as nominal,
        picture as picture,
        quantitative as quantitative,
        svg as svg,
    )
    from pomona.pages.numbers import (
        UNKNOWN as UNKNOWN,
        amount as amount,
        bounded as bounded,
        change as change,
        clean as clean,
        clock as clock,
        count as count,
        flops as flops,
        gained as gained,
        interval as interval,
        p_value as p_value,
        parameters as parameters,
        places as places,
        short as short,
        signed as signed,
        size as size,
        within as within,
    )
    from pomona.pages.page import Page as Page, render as render
    from pomona.pages.theme import SCHEMA as SCHEMA

__getattr__, __dir__ = lazily(
    __name__,
    {
        "drawing": "forest nominal picture quantitative svg",
        "numbers": "UNKNOWN amount bounded change clean clock count flops gained interval p_value "
        "parameters places short signed size within",
        "page": "Page render",
        "theme": "SCHEMA",
    },
)
