"""What minhash and exact deduplication compile: candidates to components."""

from __future__ import annotations

from pomona.native import Family

SKETCH = 8  # 64-bit words of a sketch
FAMILY = Family(
    "near-duplicates",
    "pomona.data.duplicates._loops",
    ("__init__", "joining", "pomona.shingles.loops.signing"),
    {
        "maybe_repeated": ("joining", "u8[::1] u1[:,::1] i8[::1]"),
        "runs_of": ("joining", "u8[::1] i8[::1] i8[::1] i8[::1] i8 i8[::1] i8[::1]"),
        "copy_ragged": ("joining", "u8[::1] i8[::1] i8[::1] u8[::1] i8"),
        "confirm": (
            "joining",
            "i8[::1] i8[::1] i8[::1] u8[::1] i8[::1] u8[::1] i8[::1] i8[::1] i8 i8 f8 f8 i8 "
            "u8[::1] "
            "u8[:,::1] u8[::1] i8[::1] i8[::1] i8[:,::1] i8[::1] i8[::1] f8[::1] i8[::1]",
        ),
        "unite": ("joining", "i8[::1] i8[::1] i8[::1]"),
        "roots": ("joining", "i8[::1] i8[::1]"),
        "towards": (
            "joining",
            "i8[::1] i8[::1] i8[::1] f8[::1] i8[::1] f8[::1] i8[::1] b1[::1]",
        ),
    },
)
loop = FAMILY.loop
