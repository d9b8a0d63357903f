"""Texts as sets of shingles, which are runs of words or characters, and MinHash, which proposes
those that are alike.

`part`s of `loops` are for the compiled loops of other rooms alone: they import the compiler.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.shingles.loops.signing import (
        ZERO as ZERO,
        mix as mix,
        table_size as table_size,
    )
    from pomona.shingles.signing import (
        HASHES as HASHES,
        SHINGLES as SHINGLES,
        Shingle as Shingle,
        ascii_rows as ascii_rows,
        bands_for as bands_for,
        composed as composed,
        fingerprints as fingerprints,
        hash_functions as hash_functions,
        power_of_two as power_of_two,
        s_curve as s_curve,
        sign as sign,
    )

__getattr__, __dir__ = lazily(
    __name__,
    {
        "loops.signing": "ZERO mix table_size",
        "signing": "HASHES SHINGLES Shingle ascii_rows bands_for composed fingerprints "
        "hash_functions power_of_two s_curve sign",
    },
)
