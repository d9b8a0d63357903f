"""Safetensors without a tensor library: headers are parsed, tensors read as mapped arrays, computed
row block by row block, and written whole or not at all; and a checkpoint as a merge sees it.
"""

from __future__ import annotations

import json
import math
import mmap
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.documents import parse_json, read_json
from pomona.errors import PomonaError, ResourceError
from pomona.files import atomic_directory
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
FLOATS = ("F64", "F32", "F16", "BF16")
INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_LONGEST = 100_000_000  # bytes of a header, as the safetensors library has it
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_AGAIN = "copy or download it again"


@dataclass(frozen=True)
class TensorPlace:
    """Where a tensor's bytes are: file, first byte and number of bytes; and how they are read."""

    file: Path
    offset: int
    size: int
    dtype: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


class Tensors:
    """The tensors of a checkpoint folder, one file or shards: those its index names, else
    model.safetensors, else every safetensors file.

    Raises PomonaError naming a file that is missing, cut short or malformed, and a tensor that is
    there twice.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._where: dict[str, TensorPlace] = {}
        self.files = _files(folder)
        for file in self.files:
            for name, place in _header(file).items():
                if name in self._where:
                    raise PomonaError(
                        f'tensor "{name}" is also in {self._where[name].file.name}',
                        where=file,
                        remedy="keep one of the two files, or name the right ones in " + INDEX,
                    )
                self._where[name] = place

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


def read_config(folder: Path, name: str = "config.json") -> dict[str, Any]:
    """A JSON file beside the tensors; an empty mapping where there is none. Raises PomonaError."""
    file = folder / name
    return read_json(file, finite=False) if file.is_file() else {}


def _files(folder: Path) -> list[Path]:
    index = folder / INDEX
    if index.is_file():
        try:
            names = sorted(set(read_json(index)["weight_map"].values()))
        except (PomonaError, KeyError, AttributeError, TypeError):
            raise PomonaError("is not an index of shards", where=index, remedy=_AGAIN) from None
        for name in names:
            if Path(name).name != name or not (folder / name).is_file():
                raise PomonaError(
                    f"is missing; {INDEX} names it", where=folder / name, remedy=_AGAIN
                )
        return [folder / name for name in names]
    files = (
        [folder / _SINGLE] if (folder / _SINGLE).is_file() else sorted(folder.glob("*.safetensors"))
    )
    if not files:
        pickled = next((file for pattern in _PICKLES for file in folder.glob(pattern)), None)
        remedy = "name a checkpoint folder in safetensors format"
        if pickled is not None:
            remedy = (
                f"{pickled.name} is a pickle, which is never loaded: save the model as safetensors"
            )
        raise PomonaError("holds no .safetensors file", where=folder, remedy=remedy)
    return files


def _header(file: Path) -> dict[str, TensorPlace]:
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > size - 8:
            raise PomonaError("is cut short: its header is not whole", where=file, remedy=_AGAIN)
        if length > _LONGEST:
            raise PomonaError(
                f"has a header of {length} bytes, so it is no safetensors file",
                where=file,
                remedy=_AGAIN,
            )
        try:
            header: dict[str, Any] = parse_json(stream.read(length), file)
            header.pop("__metadata__", None)
            places = {
                name: TensorPlace(
                    file,
                    8 + length + info["data_offsets"][0],
                    info["data_offsets"][1] - info["data_offsets"][0],
                    info["dtype"],
                    tuple(info["shape"]),
                )
                for name, info in header.items()
            }
        except (PomonaError, KeyError, IndexError, AttributeError, TypeError):
            raise PomonaError(
                "is no safetensors file: its header is malformed", where=file, remedy=_AGAIN
            ) from None
    for name, place in places.items():
        _check(file, name, place, 8 + length, size)
    return places


def _check(file: Path, name: str, place: TensorPlace, first: int, size: int) -> None:
    if place.dtype not in WIDTHS:
        raise PomonaError(
            f'tensor "{name}" is of type {place.dtype}',
            where=file,
            remedy=f"known types: {', '.join(WIDTHS)}",
        )
    if (
        any(type(side) is not int or side < 0 for side in place.shape)
        or place.size != place.elements * WIDTHS[place.dtype]
    ):
        raise PomonaError(
            f'tensor "{name}" is {place.dtype} {list(place.shape)} in {place.size} bytes',
            where=file,
            remedy=_AGAIN,
        )
    if place.offset < first:
        raise PomonaError(f'tensor "{name}" begins before the data', where=file, remedy=_AGAIN)
    if place.offset + place.size > size:
        raise PomonaError("is cut short: its tensors go beyond its end", where=file, remedy=_AGAIN)


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
    """The tensors of one model by the names the merge uses. `folder` is the model's own
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


class TensorRows:
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
            self._map, NUMBERS[stored.dtype], place.elements, place.offset
        ).reshape(self.shape)

    def stored(self, rows: slice | NDArray[np.int64] = _ALL) -> NDArray[Any]:
        """Rows as they are stored; BF16 as uint16."""
        rows_read = self._values[rows].copy()
        self._map.madvise(mmap.MADV_DONTNEED)
        return rows_read

    def float32(self, rows: slice | NDArray[np.int64] = _ALL) -> NDArray[np.float32]:
        """Rows as float32."""
        return to_float32(self.stored(rows), self.dtype)


def stored_array(stored: Stored) -> NDArray[Any]:
    """A whole float tensor as it is stored; BF16 as uint16. Raises PomonaError for no floats."""
    return TensorRows(stored).stored().reshape(stored.shape)


def row_blocks(rows: int, columns: int) -> Iterator[slice]:
    """Slices of rows that hold about BLOCK elements each."""
    step = max(1, BLOCK // max(1, columns))
    for start in range(0, rows, step):
        yield slice(start, min(rows, start + step))


def encode_finite(values: NDArray[np.float32], dtype: str, name: str, where: object) -> bytes:
    """Values rounded to `dtype`. Raises PomonaError for NaN, infinity and what `dtype` cannot
    hold.
    """
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


def keep(folder: Path, made: Mapping[str, NewTensor], *, dry_run: bool) -> dict[str, Stored]:
    """Write the tensors to `folder`, unless they are there already or nothing shall be written;
    tells where they are.
    """
    if made and not dry_run and not folder.exists():
        write_made(folder, made)
    return {name: Stored(tensor.dtype, tensor.shape, folder, name) for name, tensor in made.items()}
