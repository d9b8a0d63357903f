"""A checkpoint folder is looked at before anything is loaded from it: are the files there, whole,
and safe? What stands in the head of a GGUF file is read here too.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import math
import mmap
import struct
from pathlib import Path
from typing import Any

from pomona.errors import PomonaError

_TOKENIZERS = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
)
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_AGAIN = "copy or download the file again"


def check(folder: Path) -> None:
    """Raise a PomonaError naming the first file that is missing, cut short or of a kind that is
    never loaded.
    """
    if not folder.is_dir():
        raise PomonaError(
            "is not a checkpoint folder",
            where=folder,
            remedy="give the folder that holds config.json and model.safetensors",
        )
    _read_json(
        folder / "config.json",
        "every checkpoint folder needs one; was the model saved with save_pretrained?",
    )
    for shard in weight_files(folder):
        size, promised = shard.stat().st_size, _header(shard)[1]
        if size < promised:
            raise PomonaError(
                f"is cut short: {size:,} of {promised:,} bytes", where=shard, remedy=_AGAIN
            )
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        raise PomonaError(
            "has no tokenizer",
            where=folder,
            remedy=f"put one of {', '.join(_TOKENIZERS[:3])} beside config.json",
        )


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder; the index decides when there is one."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        names = sorted(set(_read_json(index, _AGAIN).get("weight_map", {}).values()))
        missing = [name for name in names if not (folder / name).is_file()]
        if missing or not names:
            raise PomonaError(
                f"names {missing[0] if missing else 'no files'}, which is not there",
                where=index,
                remedy=_AGAIN,
            )
        return [folder / name for name in names]
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise _no_weights(folder)
    return files


def count_parameters(folder: Path) -> int:
    """Stored weights of a checkpoint, read from the headers alone."""
    return sum(
        math.prod(tensor["shape"])
        for file in weight_files(folder)
        for tensor in _header(file)[0].values()
    )


def _no_weights(folder: Path) -> PomonaError:
    pickles = sorted(file.name for pattern in _PICKLES for file in folder.glob(pattern))
    if pickles:
        return PomonaError(
            (
                f"holds its weights only as pickle ({pickles[0]}), and loading a pickle can run "
                "any code"
            ),
            where=folder,
            remedy="convert it to safetensors where you trust it: model.save_pretrained(folder)",
        )
    ggufs = sorted(folder.glob("*.gguf"))
    remedy = (
        f"write gguf:{ggufs[0]}" if ggufs else "save the model with model.save_pretrained(folder)"
    )
    return PomonaError("holds no *.safetensors file", where=folder, remedy=remedy)


def _read_json(path: Path, remedy: str) -> Any:
    if not path.is_file():
        raise PomonaError("is missing", where=path, remedy=remedy)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise PomonaError(f"is not JSON: {error}", where=path, remedy=_AGAIN) from error


def _header(file: Path) -> tuple[dict[str, Any], int]:
    """The tensors a safetensors file promises and the size in bytes it must have (format: 8 bytes
    of length, JSON header, data).
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > size - 8:
            raise PomonaError(
                f"is cut short: {size:,} bytes do not hold its header", where=file, remedy=_AGAIN
            )
        try:
            header = json.loads(stream.read(length))
            header.pop("__metadata__", None)
            return header, 8 + length + max(
                (tensor["data_offsets"][1] for tensor in header.values()), default=0
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise PomonaError("is not a safetensors file", where=file, remedy=_AGAIN) from error


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


def require(*modules: str, extra: str) -> None:
    """Raise a PomonaError that says what to install where a module is missing."""
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        raise PomonaError(
            f"{' and '.join(missing)} must be installed for this model",
            remedy=f"pip install 'pomona[{extra}]'",
        )


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
def gguf_header(file: Path) -> tuple[dict[str, Any], dict[str, int]]:
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
