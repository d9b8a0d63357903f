"""Tensors that are made before a merge: read as mapped arrays, computed row block by row block,
written whole or not at all.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.errors import PomonaError
from pomona.files import atomic_directory
from pomona.merge.checkpoints.files import FLOATS, WIDTHS, Tensors, encode
from pomona.merge.checkpoints.view import Stored
from pomona.merge.engine.output import full_disk, is_full

BLOCK = 1 << 21  # elements of a block: 8 MB in float32
_ALL = slice(None)


@dataclass(frozen=True)
class Made:
    """A tensor still to be written: type, shape, and its bytes in order, block by block."""

    dtype: str
    shape: tuple[int, ...]
    blocks: Callable[[], Iterable[bytes]]

    @property
    def size(self) -> int:
        """Bytes."""
        return prod(self.shape) * WIDTHS[self.dtype]


class Rows:
    """A float tensor as rows: its first axis × the rest. Rows are read from the file where it
    stands and do not stay in memory.

    Raises PomonaError for types that are no floats.
    """

    def __init__(self, stored: Stored) -> None:
        if stored.dtype not in FLOATS:
            raise PomonaError(
                f'tensor "{stored.name}" is {stored.dtype}, no float',
                where=stored.folder,
                remedy="leave it as it is",
            )
        place = stored.place or Tensors(stored.folder).place(stored.name)
        if (place.dtype, place.shape) != (stored.dtype, stored.shape):
            raise PomonaError(
                f'tensor "{stored.name}" has changed', where=stored.folder, remedy="start again"
            )
        self.dtype = stored.dtype
        self.shape = (stored.shape[0] if stored.shape else 1, prod(stored.shape[1:]))
        with place.file.open("rb") as stream:
            self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        self._values = np.frombuffer(
            self._map, FLOATS[stored.dtype], place.elements, place.offset
        ).reshape(self.shape)

    def stored(self, rows: slice | NDArray[np.int64] = _ALL) -> NDArray[Any]:
        """Rows as they are stored; BF16 as uint16."""
        found = self._values[rows].copy()
        self._map.madvise(mmap.MADV_DONTNEED)
        return found

    def float32(self, rows: slice | NDArray[np.int64] = _ALL) -> NDArray[np.float32]:
        """Rows as float32."""
        return to_float32(self.stored(rows), self.dtype)


def stored_array(stored: Stored) -> NDArray[Any]:
    """A whole float tensor as it is stored; BF16 as uint16. Raises PomonaError as `Rows` does."""
    return Rows(stored).stored().reshape(stored.shape)


def to_float32(values: NDArray[Any], dtype: str) -> NDArray[np.float32]:
    """Stored values as float32."""
    if dtype == "BF16":
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float32)


def row_blocks(rows: int, columns: int) -> Iterator[slice]:
    """Slices of rows that hold about BLOCK elements each."""
    step = max(1, BLOCK // max(1, columns))
    for start in range(0, rows, step):
        yield slice(start, min(rows, start + step))


def encode_finite(values: NDArray[np.float32], dtype: str, name: str, where: object) -> bytes:
    """Values rounded to `dtype`. Raises PomonaError for NaN, infinity and what `dtype` cannot
    hold.
    """
    whole = bool(
        np.isfinite(values.sum(dtype=np.float64))
    )  # float64 holds the sum of any finite block
    if not whole or (dtype == "F16" and values.size and float(np.abs(values).max()) > 65504.0):
        raise PomonaError(
            f'tensor "{name}" would hold NaN, infinity or a number too large for {dtype}',
            where=where,
            remedy="leave it out",
        )
    return encode(values, dtype)


def write_made(
    folder: Path,
    made: Mapping[str, Made],
    files: Mapping[str, bytes] | None = None,
    *,
    name: str = "model.safetensors",
) -> None:
    """Write `folder` with one safetensors file and further files, whole or not at all; in memory is
    one block at a time.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for key, tensor in made.items():
        header[key] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + tensor.size],
        }
        offset += tensor.size
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    try:
        with atomic_directory(folder) as partial:
            for file, content in (files or {}).items():
                (partial / file).write_bytes(content)
            if made:
                with (partial / name).open("wb") as stream:
                    stream.write(len(encoded).to_bytes(8, "little") + encoded)
                    for tensor in made.values():
                        stream.writelines(tensor.blocks())
    except OSError as error:
        if is_full(error):
            raise full_disk(folder, offset) from None
        raise


def keep(folder: Path, made: Mapping[str, Made], *, dry_run: bool) -> dict[str, Stored]:
    """Write the tensors to `folder`, unless they are there already or nothing shall be written;
    tells where they are.
    """
    if made and not dry_run and not folder.exists():
        write_made(folder, made)
    return {name: Stored(tensor.dtype, tensor.shape, folder, name) for name, tensor in made.items()}
