"""What minhash and exact deduplication compile: text to shingles to signatures, and candidates to
components.
"""

from __future__ import annotations

from pomona.native import Family

LANES = 32  # a set is padded to a multiple of these
SKETCH = 8  # 64-bit words of a sketch
FAMILY = Family(
    "near-duplicates",
    "pomona.data.duplicates._loops",
    ("__init__", "joining", "signing"),
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


def power_of_two(least: int) -> int:
    """The smallest power of two that is at least `least`, and at least 8: the size of a hash
    table.
    """
    return max(8, 1 << (least - 1).bit_length())
