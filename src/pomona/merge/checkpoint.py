"""Read and write safetensors without a tensor library: headers are parsed, data is mapped, one tensor is in memory at a time."""

from __future__ import annotations

import json
import mmap
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.errors import PomonaError
from pomona.files import atomic_directory

FLOATS = {"F32": np.float32, "F16": np.float16, "F64": np.float64, "BF16": np.uint16}
Rule = Callable[[list[NDArray[np.float32]]], NDArray[np.float32]]
INDEX = "model.safetensors.index.json"


class Tensors:
    """The tensors of a checkpoint folder, one file or shards. Raises PomonaError naming a file that is missing or cut short."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._where: dict[str, tuple[mmap.mmap, int, dict[str, Any]]] = {}
        files = sorted(folder.glob("*.safetensors"))
        if not files:
            raise PomonaError("holds no .safetensors file", where=folder, remedy="name a checkpoint folder in safetensors format")
        for file in files:
            self._open(file)

    def _open(self, file: Path) -> None:
        size = file.stat().st_size
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if size < 8 or length > size - 8:
                raise PomonaError("is cut short: its header is not whole", where=file, remedy="copy or download it again")
            header: dict[str, Any] = json.loads(stream.read(length))
            mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        header.pop("__metadata__", None)
        if max((info["data_offsets"][1] for info in header.values()), default=0) > size - 8 - length:
            raise PomonaError("is cut short: its tensors go beyond its end", where=file, remedy="copy or download it again")
        for name, info in header.items():
            self._where[name] = (mapped, 8 + length, info)

    @property
    def names(self) -> list[str]:
        """Names of all tensors, sorted."""
        return sorted(self._where)

    def info(self, name: str) -> tuple[str, tuple[int, ...]]:
        """Data type and shape."""
        info = self._where[name][2]
        return info["dtype"], tuple(info["shape"])

    def raw(self, name: str) -> bytes:
        """The bytes as they are stored."""
        mapped, start, info = self._where[name]
        first, last = info["data_offsets"]
        return mapped[start + first : start + last]

    def floats(self, name: str) -> NDArray[np.float32]:
        """A float tensor as float32."""
        dtype, shape = self.info(name)
        stored = np.frombuffer(self.raw(name), FLOATS[dtype]).reshape(shape)
        if dtype == "BF16":
            return (stored.astype(np.uint32) << 16).view(np.float32)
        return stored.astype(np.float32)


def encode(values: NDArray[np.float32], dtype: str) -> bytes:
    """float32 values in a stored type; bfloat16 is rounded to nearest, ties to even."""
    if dtype != "BF16":
        return values.astype(FLOATS[dtype]).tobytes()
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16).tobytes()


def check_alike(models: Sequence[Tensors]) -> None:
    """Raise PomonaError unless all models have the same tensors with the same types and shapes."""
    first = models[0]
    for other in models[1:]:
        for name in sorted(set(first.names) ^ set(other.names)):
            holder, lacking = (first, other) if name in first.names else (other, first)
            raise PomonaError(f'has no tensor "{name}", which {holder.folder} has', where=lacking.folder, remedy="merge models of one base")
        for name in first.names:
            if first.info(name) != other.info(name):
                found, wanted = other.info(name), first.info(name)
                raise PomonaError(f'tensor "{name}" is {found}, not {wanted}', where=other.folder, remedy="merge models of one base")


def merge_checkpoints(folders: Sequence[Path], out: Path, rule: Rule) -> None:
    """Write `out`: every float tensor by `rule`, all other tensors and files as in the first folder.

    Raises PomonaError, before `out` appears, for tensors that differ in name, type or shape, and for values that are not finite.
    """
    models = [Tensors(Path(folder)) for folder in folders]
    check_alike(models)
    with atomic_directory(out) as partial:
        for file in sorted(Path(folders[0]).iterdir()):
            if file.is_file() and file.suffix != ".safetensors" and file.name not in (INDEX, "training.json", "cost.json", "step.json"):
                shutil.copyfile(file, partial / file.name)
        _write(partial / "model.safetensors", models, rule)


def _write(path: Path, models: Sequence[Tensors], rule: Rule) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name in models[0].names:
        dtype, shape = models[0].info(name)
        size = len(models[0].raw(name))
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    with path.open("wb") as stream:
        stream.write(len(encoded).to_bytes(8, "little") + encoded)
        for data in _merged(models, rule):
            stream.write(data)


def _merged(models: Sequence[Tensors], rule: Rule) -> Iterator[bytes]:
    for name in models[0].names:
        dtype, _ = models[0].info(name)
        if dtype not in FLOATS:
            yield models[0].raw(name)
            continue
        tensors = [model.floats(name) for model in models]
        for model, tensor in zip(models, tensors, strict=True):
            if not np.isfinite(tensor).all():
                raise PomonaError(f'tensor "{name}" holds NaN or infinity', where=model.folder, remedy="leave this model out")
        yield encode(rule(tensors), dtype)
