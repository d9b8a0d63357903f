"""Names for weights that do not depend on where they lie."""

from __future__ import annotations

import hashlib
from pathlib import Path

_WHOLE = 64 << 20
_BLOCK = 1 << 20
_BLOCKS = 64


def fingerprint(path: Path) -> str:
    """16 hex digits of a SHA-256 over a file or the files of a folder: names, sizes, contents; of
    files over 64 MiB 64 spread blocks.
    """
    digest = hashlib.sha256()
    files = (
        [path]
        if path.is_file()
        else sorted(
            file for file in path.iterdir() if file.is_file() and not file.name.startswith(".")
        )
    )
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.name if path.is_dir() else ''}\0{size}\0".encode())
        with file.open("rb") as stream:
            if size <= _WHOLE:
                digest.update(stream.read())
                continue
            for block in range(_BLOCKS):
                stream.seek(block * (size - _BLOCK) // (_BLOCKS - 1))
                digest.update(stream.read(_BLOCK))
    return digest.hexdigest()[:16]
