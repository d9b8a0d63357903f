"""The compiled loops of merging. All their arguments are addresses and counts."""

from __future__ import annotations

from pomona.native import Family

LOOPS = Family(
    "pomona.merge.methods",
    ("_words", "_tiles", "_plain", "_tally", "_masks", "_blend", "_ranks"),
    {
        "linear": ("_plain", 11 * "i8 "),
        "combine": ("_plain", 10 * "i8 "),
        "gram": ("_plain", 10 * "i8 "),
        "tally": ("_tally", 11 * "i8 "),
        "sums": ("_masks", 9 * "i8 "),
        "blend": ("_blend", 14 * "i8 "),
        "ranks": ("_ranks", 10 * "i8 "),
    },
)
loop = LOOPS.loop
