"""Safetensors without a tensor library: headers are parsed, tensors read as mapped arrays, computed
row block by row block, and written whole or not at all; and one model's tensors out of folders.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.documents import open_file
from pomona.errors import PomonaError, ResourceError
from pomona.files import atomic_directory
from pomona.models.checkpoint import TensorPlace, tensor_places
from pomona.workspace import is_full, room_on_disk

# The types that safetensors knows, as NumPy holds them: BF16 and FP8 as their bits.
NUMBERS: dict[str, Any] = {
    "F64": np.float64,
    "I64": np.int64,
    "U64": np.uint64,
    "C64": np.complex64,
    "F32": np.float32,
    "I32": np.int32,
    "U32": np.uint32,
    "F16": np.float16,
    "BF16": np.uint16,
    "I16": np.int16,
    "U16": np.uint16,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.uint8,
    "F8_E4M3": np.uint8,
    "F8_E5M2": np.uint8,
    "F8_E8M0": np.uint8,
}
WIDTHS = {name: np.dtype(number).itemsize for name, number in NUMBERS.items()}
_LARGEST = 1 << 28  # bytes of a file that goes along
FLOATS = ("F64", "F32", "F16", "BF16")


class Tensors:
    """The tensors of a checkpoint folder: see `pomona.models.tensor_places`, also for what it
    raises; and PomonaError for a tensor of a type that NumPy has no bytes for.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._where = tensor_places(folder)
        self.files = sorted({place.file for place in self._where.values()})
        for name, place in self._where.items():
            if place.dtype not in WIDTHS:
                raise PomonaError(
                    f'tensor "{name}" is of type {place.dtype}',
                    where=place.file,
                    remedy=f"known types: {', '.join(WIDTHS)}",
                )

    @property
    def names(self) -> list[str]:
        """Names of all tensors, sorted."""
        return sorted(self._where)

    def place(self, name: str) -> TensorPlace:
        """Where a tensor is. Raises PomonaError when the checkpoint has none of that name."""
        if name not in self._where:
            raise PomonaError(
                f'has no tensor "{name}"',
                where=self.folder,
                remedy="was it changed meanwhile? start again",
            )
        return self._where[name]

    def info(self, name: str) -> tuple[str, tuple[int, ...]]:
        """Data type and shape."""
        place = self._where[name]
        return place.dtype, place.shape

    def raw(self, name: str) -> bytes:
        """The bytes as they are stored."""
        place = self._where[name]
        with place.file.open("rb") as stream:
            stream.seek(place.offset)
            return stream.read(place.size)

    def floats(self, name: str) -> NDArray[np.float32]:
        """A float tensor as float32."""
        dtype, shape = self.info(name)
        stored = np.frombuffer(self.raw(name), NUMBERS[dtype]).reshape(shape)
        if dtype == "BF16":
            return (stored.astype(np.uint32) << 16).view(np.float32)
        return stored.astype(np.float32)


def encode(values: NDArray[np.float32], dtype: str) -> bytes:
    """float32 values in a stored type; bfloat16 is rounded to nearest, ties to even."""
    if dtype != "BF16":
        return values.astype(NUMBERS[dtype]).tobytes()
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16).tobytes()


def to_float32(values: NDArray[Any], dtype: str) -> NDArray[np.float32]:
    """Stored values as float32."""
    if dtype == "BF16":
        return (values.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore"):  # infinity is told by whoever needs numbers
        return values.astype(np.float32)


@dataclass(frozen=True)
class Stored:
    """One tensor: type and shape, and the folder and name it is stored under."""

    dtype: str  # as safetensors names it
    shape: tuple[int, ...]
    folder: Path
    name: str
    # where its bytes are, if the checkpoint was open
    place: TensorPlace | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class View:
    """The tensors of one model by the names that are used. `folder` is the model's own
    (config.json, tokenizer).
    """

    folder: Path
    tensors: Mapping[str, Stored]

    @classmethod
    def of(cls, folder: Path) -> View:
        """A checkpoint folder as it is. Raises PomonaError as `Tensors` does."""
        opened = Tensors(folder)
        return cls(
            folder,
            {
                name: Stored(*opened.info(name), folder, name, opened.place(name))
                for name in opened.names
            },
        )

    @property
    def names(self) -> list[str]:
        """Names of all tensors, sorted."""
        return sorted(self.tensors)

    def info(self, name: str) -> tuple[str, tuple[int, ...]]:
        """Data type and shape."""
        return self.tensors[name].dtype, self.tensors[name].shape

    def locate(self, name: str) -> tuple[Path, str]:
        """Folder and name under which a tensor is stored."""
        return self.tensors[name].folder, self.tensors[name].name

    def with_tensors(self, changed: Mapping[str, Stored]) -> View:
        """The same model with some tensors read elsewhere, or with more of them."""
        return View(self.folder, {**self.tensors, **changed})


def content_of(file: Path) -> bytes:
    """A file that goes along with a result. Raises PomonaError where it cannot be read, or is too
    large.
    """
    try:
        with open_file(file) as stream:
            data = stream.read(_LARGEST + 1)
    except OSError as error:
        raise PomonaError(f"cannot be read: {error.strerror}", where=file) from None
    if len(data) > _LARGEST:
        message = f"has more than {_LARGEST:,} bytes, too many for a file that goes along"
        raise PomonaError(message, where=file, remedy="move it away")
    return data


def full_disk(folder: Path, needed: int) -> ResourceError:
    """The error for a disk without room."""
    free, mount = room_on_disk(folder.parent)
    return ResourceError(
        f"the disk is full: {mount} has {free / 1e6:,.0f} MB free and the result takes "
        f"{needed / 1e6:,.0f} MB",
        where=folder,
        remedy="free some space or write elsewhere; nothing was left behind",
    )


BLOCK = 1 << 21  # elements of a block: 8 MB in float32
_ALL = slice(None)


@dataclass(frozen=True)
class NewTensor:
    """A tensor still to be written: type, shape, and its bytes in order, block by block."""

    dtype: str
    shape: tuple[int, ...]
    blocks: Callable[[], Iterable[bytes]]

    @property
    def size(self) -> int:
        """Bytes."""
        return prod(self.shape) * WIDTHS[self.dtype]


class StoredRows:
    """A tensor of any type as rows: its first axis × the rest. What is read comes from the file
    where it stands and does not stay in memory.
    """

    def __init__(self, stored: Stored) -> None:
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
            self._map, NUMBERS[stored.dtype], place.elements, place.offset
        ).reshape(self.shape)

    def stored(self, rows: slice | NDArray[np.int64] = _ALL, columns: slice = _ALL) -> NDArray[Any]:
        """Rows, or a part of them, as they are stored; BF16 and FP8 as their bits."""
        rows_read = self._values[rows, columns].copy()
        self._map.madvise(mmap.MADV_DONTNEED)
        return rows_read


class TensorRows(StoredRows):
    """A float tensor as rows. Raises PomonaError for types that are no floats."""

    def __init__(self, stored: Stored) -> None:
        if stored.dtype not in FLOATS:
            raise PomonaError(
                f'tensor "{stored.name}" is {stored.dtype}, no float',
                where=stored.folder,
                remedy="leave it as it is",
            )
        super().__init__(stored)

    def float32(self, rows: slice | NDArray[np.int64] = _ALL) -> NDArray[np.float32]:
        """Rows as float32."""
        return to_float32(self.stored(rows), self.dtype)


def stored_array(stored: Stored) -> NDArray[Any]:
    """A whole float tensor as it is stored; BF16 as uint16. Raises PomonaError for no floats."""
    return TensorRows(stored).stored().reshape(stored.shape)


@cache
def eight_bits(dtype: str) -> NDArray[np.float32]:
    """The 256 values of a type of 8 bits: F8_E4M3 and F8_E5M2 (Micikevicius et al. 2022, arXiv
    2209.05433), F8_E8M0 (a power of two, as a scale), I8, U8.
    """
    code = np.arange(256)
    if dtype == "F8_E5M2":
        return (code.astype(np.uint16) << 8).view(np.float16).astype(np.float32)
    if dtype == "F8_E8M0":
        return np.where(code == 255, np.nan, np.exp2(code - 127.0)).astype(np.float32)
    if dtype == "F8_E4M3":
        exponent, fraction = code >> 3 & 15, code & 7
        size = np.where(
            exponent > 0, (1 + fraction / 8) * np.exp2(exponent - 7.0), fraction * 2.0**-9
        )
        size = np.where(code & 127 == 127, np.nan, size)
        return np.where(code > 127, -size, size).astype(np.float32)
    return code.astype(np.uint8).view(np.int8 if dtype == "I8" else np.uint8).astype(np.float32)


def numbers(stored: Stored) -> NDArray[np.float32]:
    """A whole small tensor as float32, whatever its type."""
    values = StoredRows(stored).stored().reshape(stored.shape)
    if stored.dtype in FLOATS:
        return to_float32(values, stored.dtype)
    if values.dtype.itemsize == 1:
        return eight_bits(stored.dtype)[values.view(np.uint8)]
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
    with np.errstate(invalid="ignore"):
        # float64 holds the sum of any finite block
        whole = bool(np.isfinite(values.sum(dtype=np.float64)))
    if not whole or (dtype == "F16" and values.size and float(np.abs(values).max()) > 65504.0):
        raise PomonaError(
            f'tensor "{name}" would hold NaN, infinity or a number too large for {dtype}',
            where=where,
            remedy="leave it out",
        )
    return encode(values, dtype)


def write_made(
    folder: Path,
    made: Mapping[str, NewTensor],
    files: Mapping[str, bytes] | None = None,
    *,
    name: str = "model.safetensors",
    kind: str = "",
) -> None:
    """Write `folder` with one safetensors file and further files, whole or not at all; in memory is
    one block at a time. `kind` is as in `atomic_directory`.
    """
    try:
        with atomic_directory(folder, kind) as partial:
            for file, content in (files or {}).items():
                (partial / file).write_bytes(content)
            if made:
                with (partial / name).open("wb") as stream:
                    stream.writelines(safetensors_of(made))
    except OSError as error:
        if is_full(error):
            raise full_disk(folder, sum(tensor.size for tensor in made.values())) from None
        raise


def safetensors_of(made: Mapping[str, NewTensor]) -> Iterator[bytes]:
    """A safetensors file, piece by piece."""
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
    yield len(encoded).to_bytes(8, "little") + encoded
    for tensor in made.values():
        yield from tensor.blocks()


def keep(folder: Path, made: Mapping[str, NewTensor], *, dry_run: bool) -> dict[str, Stored]:
    """Write the tensors to `folder`, unless they are there already or nothing shall be written;
    tells where they are.
    """
    if made and not dry_run and not folder.exists():
        write_made(folder, made)
    return {name: Stored(tensor.dtype, tensor.shape, folder, name) for name, tensor in made.items()}
