"""Read and write safetensors without a tensor library: headers are parsed, and one tensor is in
memory at a time.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.errors import PomonaError

FLOATS = {"F32": np.float32, "F16": np.float16, "F64": np.float64, "BF16": np.uint16}
WIDTHS = {
    "F64": 8,
    "I64": 8,
    "U64": 8,
    "C64": 8,
    "F32": 4,
    "I32": 4,
    "U32": 4,
    "F16": 2,
    "BF16": 2,
    "I16": 2,
    "U16": 2,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "F8_E8M0": 1,
}
INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_LONGEST = 100_000_000  # bytes of a header, as the safetensors library has it
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_AGAIN = "copy or download it again"


@dataclass(frozen=True)
class Place:
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
        self._where: dict[str, Place] = {}
        self.files = _files(folder)
        for file in self.files:
            for name, place in _header(file).items():
                if name in self._where:
                    message = f'tensor "{name}" is also in {self._where[name].file.name}'
                    raise PomonaError(
                        message,
                        where=file,
                        remedy="keep one of the two files, or name the right ones in " + INDEX,
                    )
                self._where[name] = place

    @property
    def names(self) -> list[str]:
        """Names of all tensors, sorted."""
        return sorted(self._where)

    def place(self, name: str) -> Place:
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
        stored = np.frombuffer(self.raw(name), FLOATS[dtype]).reshape(shape)
        if dtype == "BF16":
            return (stored.astype(np.uint32) << 16).view(np.float32)
        return stored.astype(np.float32)


def _files(folder: Path) -> list[Path]:
    index = folder / INDEX
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
        except (ValueError, KeyError, AttributeError, TypeError):
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


def _header(file: Path) -> dict[str, Place]:
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
            header: dict[str, Any] = json.loads(stream.read(length))
            header.pop("__metadata__", None)
            places = {
                name: Place(
                    file,
                    8 + length + info["data_offsets"][0],
                    info["data_offsets"][1] - info["data_offsets"][0],
                    info["dtype"],
                    tuple(info["shape"]),
                )
                for name, info in header.items()
            }
        except (ValueError, KeyError, IndexError, AttributeError, TypeError):
            raise PomonaError(
                "is no safetensors file: its header is malformed", where=file, remedy=_AGAIN
            ) from None
    for name, place in places.items():
        _check(file, name, place, 8 + length, size)
    return places


def _check(file: Path, name: str, place: Place, first: int, size: int) -> None:
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
        return values.astype(FLOATS[dtype]).tobytes()
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16).tobytes()
