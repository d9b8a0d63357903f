"""Categories of rows by definitions in words, and how far they agree with what people said."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.synth.categories.results import (
        Agreement as Agreement,
        Annotated as Annotated,
        CategoryAgreement as CategoryAgreement,
    )
    from pomona.synth.categories.run import annotate as annotate

__getattr__, __dir__ = lazily(
    __name__, {"results": "Agreement Annotated CategoryAgreement", "run": "annotate"}
)
