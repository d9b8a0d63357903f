"""A dataset from one recipe: rows, their teachers, what is kept of their answers, and the card."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.synth.pipeline.forecast import Forecast as Forecast
    from pomona.synth.pipeline.recipe import (
        SynthRecipe as SynthRecipe,
        load_synth as load_synth,
        synth_schema as synth_schema,
    )
    from pomona.synth.pipeline.results import Synthesized as Synthesized
    from pomona.synth.pipeline.run import (
        Progress as Progress,
        expected as expected,
        synthesize as synthesize,
    )

__getattr__, __dir__ = lazily(
    __name__,
    {
        "forecast": "Forecast",
        "recipe": "SynthRecipe load_synth synth_schema",
        "results": "Synthesized",
        "run": "Progress expected synthesize",
    },
)
