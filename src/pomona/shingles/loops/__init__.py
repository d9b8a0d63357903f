"""What signing compiles: text to shingles to signatures."""

from __future__ import annotations

from pomona.native import Family

LANES = 32  # a set is padded to a multiple of these
FAMILY = Family(
    "shingles",
    "pomona.shingles.loops",
    ("__init__", "signing"),
    {
        "ascii_rows": ("signing", "u1[::1] u8[::1] i8[::1] b1[::1]"),
        "may_decompose": ("signing", "u1[::1] i8[::1] b1[::1] u1[::1] b1[::1]"),
        "sign": (
            "signing",
            "u1[::1] i8[::1] b1[::1] u2[::1] u1[::1] i8 i8 u4[::1] u4[::1] i8 i8 u8[:,::1] "
            "u4[:,::1] "
            "u8[::1] u8[:,::1] u8[:,::1] i8[:,::1] i8[::1] u8[::1] i8[::1] u8[::1]",
        ),
        "fingerprints": ("signing", "u1[::1] i8[::1] u8[:,::1]"),
    },
)
loop = FAMILY.loop
