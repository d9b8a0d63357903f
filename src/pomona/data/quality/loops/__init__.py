"""What the rules of quality compile: words, lines and n-grams counted in one pass over a text."""

from __future__ import annotations

from pomona.native import Family

ALPHA, UPPER, DIGIT, SPACE, BREAK, SYMBOL, CLING, STOP = 1, 2, 4, 8, 16, 32, 64, 128
FAMILY = Family(
    "the rules of quality",
    "pomona.data.quality.loops",
    ("__init__", "measuring", "words", "pomona.shingles.loops.signing"),
    {
        "measure": (
            "measuring",
            "u1[::1] i8[::1] u1[::1] u4[::1] i8[::1] u4[:,::1] u1[:,::1] i8[:,::1] "
            "u8[:,::1] u8[::1] u8[::1] i8[::1] f8[:,::1]",
        ),
    },
)
loop = FAMILY.loop
