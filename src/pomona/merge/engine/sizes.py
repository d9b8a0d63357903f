"""Sizes in bytes as people write them."""

from __future__ import annotations

import re

from pomona.errors import PomonaError

_UNITS = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 1 << 10,
    "mib": 1 << 20,
    "gib": 1 << 30,
    "tib": 1 << 40,
}
SMALLEST = 1 << 16


def bytes_of(size: int | str, name: str) -> int:
    """`"1GiB"`, `"512 MB"` or a number as bytes. Raises PomonaError, naming `name`, for anything
    else and for less than 64 KiB.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", str(size))
    if match is None or match[2].lower() not in _UNITS:
        raise PomonaError(
            f'"{size}" is not a size',
            where=name,
            remedy='write a number of bytes, or "512MiB", "4GiB"',
        )
    value = int(float(match[1]) * _UNITS[match[2].lower()])
    if value < SMALLEST:
        raise PomonaError(
            f"{size} is less than 64 KiB", where=name, remedy='give more, for example "1GiB"'
        )
    return value
