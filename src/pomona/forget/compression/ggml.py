"""GGUF files at other types: llama.cpp's own rounding, out of the library that answers with them,
and its mixtures of types.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.documents import open_file
from pomona.errors import PomonaError, reason_of
from pomona.files import atomic_file
from pomona.forget.compression.result import Compressed, CompressedModule, Progress
from pomona.forget.compression.settings import Settings
from pomona.models import fingerprint, gguf_header, names, present, require
from pomona.models.tensors import row_blocks
from pomona.places import check_outputs
from pomona.workspace import disk_guard, refuse_changed, room_on_disk, stamp

_SIGNATURE = "pomona.signature"  # the key under which a file says that we wrote it
_OURS = (_SIGNATURE, "general.architecture", "general.file_type", "general.quantization_version")
_FLOATS = ("F32", "F16", "BF16")
_VALUES = ("attn_v.weight", "attn_qkv.weight")
_LAYER = re.compile(r"^blk\.([0-9]{1,5})\.")
# Types for rows that are no multiple of 256 weights.
_NARROW = {"Q2_K": "Q4_0", "Q3_K": "Q4_0", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
# Parts of names of matrices that llama.cpp leaves as they are.
_KEPT = re.compile(
    r"_norm\.weight|ffn_gate_inp\.weight|altup|laurel|per_layer_model_proj|ssm_conv1d"
    r"|shortconv\.conv|attn_rel_b\.weight|position_embd\.|^token_types\.|time_mix_"
)


def source_file(model: str) -> Path:
    """The GGUF file that a model is. Raises PomonaError for another kind of model."""
    if model in names() and present(model).suffix == ".gguf":
        return present(model)
    path = Path(model.removeprefix("gguf:")).expanduser()
    if model.startswith("gguf:") or path.suffix == ".gguf":
        if not path.is_file():
            remedy = "give the path of a .gguf file after gguf:"
            raise PomonaError("no such file", where=path, remedy=remedy)
        return path
    raise PomonaError(
        "is no GGUF file, and GGUF types are made of one",
        where=model,
        remedy="turn it into one of F16 with llama.cpp's convert_hf_to_gguf.py, and give gguf:FILE",
    )


def quantise(
    model: str, out: Path, settings: Settings, overwrite: bool, dry_run: bool, progress: Progress
) -> Compressed:
    """A GGUF file at another type. See `pomona.forget.compress`."""
    require("gguf", "xllamacpp", extra="gguf", for_what="for GGUF types")
    file = source_file(model)
    check_outputs({"the result": out}, [file])
    _check_free(out, overwrite)
    before, reader = stamp([file]), _opened(file)
    types = tensor_types(reader, settings.method)
    signature = settings.signature(fingerprint(file))
    changed = [tensor for tensor in reader.tensors if types[tensor.name] != tensor.tensor_type.name]
    modules = [_module(tensor, types[tensor.name]) for tensor in changed]
    if not dry_run:
        with disk_guard(out), atomic_file(out) as partial:
            modules = list(_write(reader, types, partial, (signature, settings.method), progress))
            refuse_changed(before, stamp([file]), out)
    size = sum(_size(tensor.shape, types[tensor.name]) for tensor in reader.tensors)
    mixture = Counter(types.values())
    return Compressed(
        out,
        not dry_run,
        signature,
        {**settings.document(), "types": dict(mixture.most_common())},
        tuple(modules),
        len(reader.tensors) - len(modules),
        sum(int(tensor.n_elements) for tensor in reader.tensors),
        size,
        size,
        room_on_disk(out.absolute().parent)[0],
        tuple(_notes(changed)),
    )


def _check_free(out: Path, overwrite: bool) -> None:
    """Raise PomonaError where something is that may not be replaced: not ours, or not to be."""
    if not os.path.lexists(out):
        return
    begin = b""
    if out.is_file():
        with open_file(out) as stream:
            begin = stream.read(1 << 12)
    if begin[:4] != b"GGUF" or _SIGNATURE.encode() not in begin:
        remedy = "choose another name, or move away what is there"
        raise PomonaError("is not what Pomona wrote there", where=out, remedy=remedy)
    if not overwrite:
        remedy = "choose another name, or write over it with --overwrite"
        raise PomonaError("is there already", where=out, remedy=remedy)


def _opened(file: Path) -> Any:
    from gguf import GGUFReader

    gguf_header(file)  # tells what is wrong with a file better than the reader does
    try:
        reader = GGUFReader(file)
    except Exception as error:  # the reader raises anything for a broken file
        raise PomonaError(
            f"cannot be read: {reason_of(error)}", where=file, remedy="is the file whole?"
        ) from error
    parts = reader.fields.get("split.count")
    if parts is not None and parts.contents() > 1:
        remedy = "join them with llama.cpp's llama-gguf-split --merge"
        raise PomonaError("is one of several files of a model", where=file, remedy=remedy)
    return reader


def tensor_types(reader: Any, method: str) -> dict[str, str]:
    """The type of each tensor. Source: llama.cpp, src/llama-quant.cpp, for dense models."""
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    layers = {name: int(found[1]) for name in tensors if (found := _LAYER.match(name))}
    count = 1 + max(layers.values(), default=0)
    values = sorted({layers[name] for name in layers if name.endswith(_VALUES)})
    shared = _shared_heads(reader)
    types: dict[str, str] = {}
    for name, tensor in tensors.items():
        kept = len(tensor.shape) < 2 or not name.endswith("weight") or _KEPT.search(name)
        if kept:
            types[name] = tensor.tensor_type.name
            continue
        part, layer = _LAYER.sub("", name), layers.get(name, 0)
        head = part == "output.weight" or (
            part == "token_embd.weight" and "output.weight" not in tensors
        )
        base = method.removesuffix("_S").removesuffix("_M").removesuffix("_L")
        wanted = base
        if head:
            wanted = base if base == "Q8_0" else "Q6_K"
        elif part.endswith(_VALUES) and layer in values:
            wanted = _for_values(method, base, values.index(layer), len(values), shared)
        elif part.startswith("ffn_down"):
            wanted = _for_down(method, base, layer, count)
        elif part.startswith("attn_output."):
            wanted = {"Q2_K": "Q3_K", "Q3_K_M": "Q4_K", "Q3_K_L": "Q5_K"}.get(method, base)
        types[name] = _fitting(wanted, int(tensor.shape[0]), head=head)
    return types


def _for_values(method: str, base: str, place: int, count: int, shared: int) -> str:
    if method == "Q2_K":
        return "Q4_K" if shared >= 4 else "Q3_K"
    if method == "Q3_K_M":
        return "Q5_K" if place < 2 else "Q4_K"
    if method == "Q3_K_L" or (method == "Q4_K_S" and place < 4):
        return "Q5_K"
    return "Q6_K" if method in ("Q4_K_M", "Q5_K_M") and _more(place, count) else base


def _for_down(method: str, base: str, layer: int, count: int) -> str:
    if method == "Q2_K":
        return "Q3_K"
    if method == "Q3_K_M":
        return "Q5_K" if layer < count // 16 else "Q4_K"
    if method == "Q3_K_L" or (method == "Q4_K_S" and layer < count // 8):
        return "Q5_K"
    return "Q6_K" if method in ("Q4_K_M", "Q5_K_M") and _more(layer, count) else base


def _more(place: int, count: int) -> bool:
    """Whether a layer is one of those that the mixtures give more bits."""
    eighth = count // 8
    return place < eighth or place >= 7 * count // 8 or (place - eighth) % 3 == 2


def _fitting(wanted: str, columns: int, *, head: bool) -> str:
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    def fits(name: str) -> bool:
        return columns % GGML_QUANT_SIZES[GGMLQuantizationType[name]][0] == 0

    if fits(wanted):
        return wanted
    narrow = "Q8_0" if head else _NARROW.get(wanted, "F16")
    return narrow if fits(narrow) else "F16"


def _shared_heads(reader: Any) -> int:
    """Query heads for each head of keys and values."""
    heads = {
        name.rpartition(".")[2]: field.contents()
        for name, field in reader.fields.items()
        if name.endswith((".attention.head_count", ".attention.head_count_kv"))
    }
    queries, keys = heads.get("head_count"), heads.get("head_count_kv")
    return queries // keys if isinstance(queries, int) and isinstance(keys, int) and keys else 1


def _size(shape: Any, kind: str) -> int:
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    block, width = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
    return int(np.prod(shape)) // block * width


def _module(
    tensor: Any, kind: str, zeros: int | None = None, error: float | None = None
) -> CompressedModule:
    return CompressedModule(
        tensor.name, int(tensor.n_elements), zeros, error, _size(tensor.shape, kind), kind
    )


def _notes(changed: list[Any]) -> Iterator[str]:
    was = Counter(tensor.tensor_type.name for tensor in changed)
    rounded = [f"{count} of {kind}" for kind, count in was.items() if kind not in _FLOATS]
    if rounded:
        yield f"rounded a second time: {', '.join(rounded)}; from F16 it would be rounded once"


def _write(
    reader: Any,
    types: Mapping[str, str],
    partial: Path,
    said: tuple[str, str],
    progress: Progress,
) -> Iterator[CompressedModule]:
    from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType

    signature, method = said
    architecture = reader.fields["general.architecture"].contents()
    writer = GGUFWriter(partial, architecture)
    writer.add_string(_SIGNATURE, signature)
    writer.data_alignment = reader.alignment
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name not in _OURS:
            kind, *below = field.types
            writer.add_key_value(name, field.contents(), kind, below[-1] if below else None)
    writer.add_file_type(LlamaFileType[f"MOSTLY_{method}"])
    writer.add_quantization_version(2)
    for tensor in reader.tensors:
        kind = types[tensor.name]
        shape = tuple(int(side) for side in reversed(tensor.shape))
        writer.add_tensor_info(
            tensor.name, shape, np.dtype(np.float32), _size(shape, kind), GGMLQuantizationType[kind]
        )
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for place, tensor in enumerate(reader.tensors):
            kind = types[tensor.name]
            if kind == tensor.tensor_type.name:
                writer.write_tensor_data(np.ascontiguousarray(tensor.data).view(np.uint8))
            else:
                made = _rounded(tensor, kind)
                writer.write_tensor_data(made)
                yield _measured(tensor, kind, made)
            progress(place + 1, len(reader.tensors))
    finally:
        writer.close()


def _rounded(tensor: Any, kind: str) -> NDArray[np.uint8]:
    """A tensor's bytes at another type, rows by rows."""
    from gguf import GGMLQuantizationType

    columns = int(tensor.shape[0])
    rows = int(tensor.n_elements) // columns
    wide = _size((columns,), kind)
    out = np.empty((rows, wide), np.uint8)
    stored = tensor.data.reshape(rows, -1)
    for block in row_blocks(rows, columns):
        values = _floats(stored[block], tensor.tensor_type)
        if kind == "F16":
            out[block] = values.astype(np.float16).view(np.uint8)
            continue
        made = np.empty((len(values), wide), np.uint8)
        written = _quantize_chunk()(
            int(GGMLQuantizationType[kind]),
            values.ctypes.data,
            made.ctypes.data,
            0,
            len(values),
            columns,
            None,
        )
        assert written == made.nbytes, (tensor.name, kind, written)
        out[block] = made
    return out


def _measured(tensor: Any, kind: str, made: NDArray[np.uint8]) -> CompressedModule:
    from gguf import GGMLQuantizationType

    columns, zeros, norm, off = int(tensor.shape[0]), 0, 0.0, 0.0
    stored = tensor.data.reshape(len(made), -1)
    for block in row_blocks(len(made), columns):
        before = _floats(stored[block], tensor.tensor_type)
        after = _floats(made[block], GGMLQuantizationType[kind])
        zeros += int(after.size - np.count_nonzero(after))
        norm += float(np.square(before).sum(dtype=np.float64))
        off += float(np.square(before - after).sum(dtype=np.float64))
    return _module(tensor, kind, zeros, float(np.sqrt(off / norm)) if norm else 0.0)


def _floats(stored: Any, kind: Any) -> NDArray[np.float32]:
    from gguf.quants import dequantize

    return np.ascontiguousarray(dequantize(np.ascontiguousarray(stored), kind), np.float32)


@cache
def _quantize_chunk() -> Any:
    """`ggml_quantize_chunk` of llama.cpp: type, floats, place for bytes, first weight, rows,
    weights of a row, importances; returns the number of bytes. Raises PomonaError where the
    installed library has none.
    """
    spec = find_spec("xllamacpp")
    folders = [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []
    for file in (file for folder in folders for file in folder.glob("xllamacpp*.so")):
        function = getattr(ctypes.CDLL(str(file)), "ggml_quantize_chunk", None)
        if function is not None:
            pointer, whole = ctypes.c_void_p, ctypes.c_int64
            function.argtypes = [ctypes.c_int, pointer, pointer, whole, whole, whole, pointer]
            function.restype = ctypes.c_size_t
            return function
    raise PomonaError(
        "the installed xllamacpp does not give llama.cpp's rounding away",
        remedy="pip install 'pomona[gguf]' anew, or make the file with llama.cpp's llama-quantize",
    )
