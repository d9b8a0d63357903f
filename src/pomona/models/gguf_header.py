"""The sizes of a model, from the head of its GGUF file."""

from __future__ import annotations

import math
import mmap
import struct
from pathlib import Path
from typing import Any

from pomona.errors import PomonaError
from pomona.models.flops import Shape

_SIMPLE = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
_STRING, _ARRAY = 8, 9


# Read by hand: the library `gguf` builds an array for each of some 100,000 strings of a vocabulary,
# which takes 2 s of a processor at every start; this takes 0.01 s.
def header(file: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """Metadata (of arrays their length) and the number of weights of each tensor. Source: the GGUF
    specification, versions 2 and 3.

    A PomonaError when the file is absent, not GGUF, or cut short in its head.
    """
    if not file.is_file():
        raise PomonaError(
            "no such file", where=file, remedy="give the path of a .gguf file after gguf:"
        )
    try:
        with (
            file.open("rb") as stream,
            mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            return _parsed(data)
    except (struct.error, ValueError, KeyError, UnicodeDecodeError) as error:
        raise PomonaError(
            "is not a whole GGUF file", where=file, remedy="fetch it again"
        ) from error


def shape_of(metadata: dict[str, Any], tensors: dict[str, int]) -> Shape | None:
    """The sizes the cost model needs; None where the file does not say."""
    kind = metadata.get("general.architecture")
    layers, hidden = metadata.get(f"{kind}.block_count"), metadata.get(f"{kind}.embedding_length")
    heads, embedding = (
        metadata.get(f"{kind}.attention.head_count"),
        tensors.get("token_embd.weight"),
    )
    if not (
        isinstance(layers, int) and isinstance(hidden, int) and isinstance(heads, int) and embedding
    ):
        return None
    width = metadata.get(f"{kind}.attention.key_length") or hidden // heads
    head = tensors.get("output.weight", 0)
    return Shape(
        layers,
        hidden,
        heads * width,
        embedding // hidden,
        sum(tensors.values()) - embedding - head,
        embedding,
        head,
    )


def _parsed(data: mmap.mmap) -> tuple[dict[str, Any], dict[str, int]]:
    if data[:4] != b"GGUF":
        raise ValueError("magic")
    tensors_count, values_count = struct.unpack_from("<QQ", data, 8)
    at, metadata = 24, {}
    for _ in range(values_count):
        key, at = _string(data, at)
        (kind,) = struct.unpack_from("<I", data, at)
        metadata[key], at = _value(data, at + 4, kind)
    tensors = {}
    for _ in range(tensors_count):
        name, at = _string(data, at)
        (dimensions,) = struct.unpack_from("<I", data, at)
        tensors[name] = math.prod(struct.unpack_from(f"<{dimensions}Q", data, at + 4))
        at += 4 + 8 * dimensions + 4 + 8
    return metadata, tensors


def _value(data: mmap.mmap, at: int, kind: int) -> tuple[Any, int]:
    if kind == _STRING:
        return _string(data, at)
    if kind != _ARRAY:
        form = "<" + _SIMPLE[kind]
        return struct.unpack_from(form, data, at)[0], at + struct.calcsize(form)
    inner, length = struct.unpack_from("<IQ", data, at)
    at += 12
    if inner in _SIMPLE:
        return length, at + length * struct.calcsize("<" + _SIMPLE[inner])
    for _ in range(length):
        if inner == _STRING:
            at += 8 + struct.unpack_from("<Q", data, at)[0]
        else:
            _, at = _value(data, at, inner)
    return length, at


def _string(data: mmap.mmap, at: int) -> tuple[str, int]:
    (length,) = struct.unpack_from("<Q", data, at)
    if at + 8 + length > len(data):
        raise ValueError("cut short")
    return data[at + 8 : at + 8 + length].decode(), at + 8 + length
