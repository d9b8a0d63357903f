"""Categories that are defined in words: put on the rows of a table by rules, by a model, or by
rules first and a model where they are silent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.answers.categories.definitions import (
        NONE as NONE,
        TOGETHER as TOGETHER,
        Category as Category,
        Definitions as Definitions,
        Rule as Rule,
        read_definitions as read_definitions,
    )
    from pomona.answers.categories.labelling import (
        Labelled as Labelled,
        label_rows as label_rows,
    )
    from pomona.answers.categories.reading import categories_in as categories_in

__getattr__, __dir__ = lazily(
    __name__,
    {
        "definitions": "NONE TOGETHER Category Definitions Rule read_definitions",
        "labelling": "Labelled label_rows",
        "reading": "categories_in",
    },
)
