"""Quantised checkpoints, method by method: which of their tensors are weights, what belongs to
each, and whether its shapes fit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from math import prod
from typing import Any

import numpy as np

from pomona.documents import parse_json
from pomona.errors import PomonaError
from pomona.models.tensors.files import FLOATS, WIDTHS, Stored, StoredRows, numbers
from pomona.models.tensors.packed import (
    PACKINGS,
    POWERS,
    PackedWeight,
    Quantised,
    Rows,
    aqlm_rows,
    awq_rows,
    bitsandbytes_rows,
    compressed_rows,
    float4_rows,
    gptq_rows,
    grid_of,
    hqq_rows,
    mxfp4_rows,
    scaled_rows,
)

_EIGHT = ("F8_E4M3", "F8_E5M2", "I8")


def _scaled(model: Quantised) -> Iterator[PackedWeight]:
    """8-bit floats and whole numbers with a scale for all, a row, or a block (DeepSeek-V3)."""
    said = model.blocks()
    for name, stored in model.view.tensors.items():
        if stored.dtype not in _EIGHT or name.endswith(("zero_point", "_scale")):
            continue
        names = [f"{name}_{end}" for end in ("scale_inv", "scale")]
        scale = next((name for name in names if name in model.view.tensors), names[0])
        zero_name = f"{name}_zero_point"
        scales, (zero,) = model.part(scale, name), model.given(zero_name)
        # MXFP8: powers of two as bytes, for groups of 32
        groups = (*stored.shape[:-1], stored.shape[-1] / 32) if stored.shape else ()
        powers = (scales.dtype, scales.shape) == ("U8", groups) and stored.dtype in _EIGHT[:2]
        if scales.dtype not in (*FLOATS, "F8_E8M0") and not powers:
            raise model.wrong(scale, f"is {scales.dtype}, no scale that is known")
        own = [[1, 32]] if powers else said
        if len(stored.shape) < 2 or not prod(stored.shape):
            raise model.wrong(name, f"is {list(stored.shape)}, no matrix", "copy it again")
        grid = grid_of(stored.shape, scales.shape, own)
        if grid is None and model.mixed:  # of a group of layers without blocks
            grid = grid_of(stored.shape, scales.shape, ())
        if grid is None:
            model.fits(name, {scale: _grid(stored.shape, own[0])} if own else {})
            raise model.misfit(name, stored, scales)
        if zero is not None:
            model.fits(name, {scale: scales.shape, zero_name: scales.shape})
        parts = (name, scale, *([zero_name] if zero else []))
        yield PackedWeight(
            name, stored.shape, parts, partial(scaled_rows, stored, scales, zero, grid)
        )


def _grid(shape: Sequence[int], block: Sequence[int]) -> tuple[int, ...]:
    """The shape of the scales of a weight in blocks."""
    return (*shape[:-2], -(-shape[-2] // block[0]), -(-shape[-1] // block[1]))


def _compressed(model: Quantised) -> Iterator[PackedWeight]:
    """compressed-tensors: 8-bit numbers, whole numbers packed in words, floats of four bits."""
    yield from _scaled(model)
    bits = [rule.get("num_bits") for rule in model.rules()]
    floats = {
        name
        for name, stored in model.view.tensors.items()
        if name.endswith(".weight_packed") and stored.dtype == "U8" and (4 in bits or not bits)
    }
    for name in sorted(floats):
        yield _compressed_float4(model, name)
    count = bits[0] if bits and all(each == bits[0] for each in bits) else None
    for name, stored in model.view.tensors.items():
        if not name.endswith(".weight_packed") or name in floats:
            continue
        stem = name.removesuffix("_packed")
        if stored.dtype != "I32" or type(count) is not int or not 1 <= count <= 8:
            raise model.wrong(name, f"is {stored.dtype} of {bits} bits, which is not read"[:100])
        scale, shape = (model.part(f"{stem}_{part}", name) for part in ("scale", "shape"))
        zero, index = model.given(f"{stem}_zero_point", f"{stem}_g_idx")
        model.matrices({name: stored, scale.name: scale, **({zero.name: zero} if zero else {})})
        if shape.dtype not in ("I32", "I64") or prod(shape.shape) != 2:
            raise model.wrong(shape.name, f"is {shape.dtype} {list(shape.shape)}", "copy it again")
        outputs, inputs = (int(side) for side in StoredRows(shape).stored().ravel())
        if scale.dtype not in FLOATS or min(outputs, inputs) < 1:
            raise model.misfit(name, scale, shape)
        sizes = [size for size in model.groups() if inputs % size == 0 or inputs < size]
        counts = [-(-inputs // size) for size in sizes] or [1]
        groups = scale.shape[1] if scale.shape[1] in counts else counts[0]
        wanted = {
            name: (outputs, -(-inputs * count // 32)),
            scale.name: (1 if scale.shape[0] == 1 else outputs, groups),
            f"{stem}_zero_point": (-(-outputs * count // 32), groups),
            f"{stem}_g_idx": (inputs,),
        }
        model.fits(name, wanted)
        if index is not None and numbers(index).max() >= groups:
            raise model.misfit(name, scale, index)
        parts = [f"{stem}_{end}" for end in ("packed", "scale", "shape", "zero_point", "g_idx")]
        rows = partial(compressed_rows, stored, scale, zero, index, bits=count, inputs=inputs)
        held = tuple(part for part in parts if part in model.view.tensors)
        yield PackedWeight(stem, (outputs, inputs), held, rows)


def _modelopt(model: Quantised) -> Iterator[PackedWeight]:
    yield from _modelopt_float4(model)
    yield from _scaled(model)


def _stems(model: Quantised) -> Iterator[tuple[str, Stored, Stored, Stored | None]]:
    """The layers of GPTQ and AWQ: the name, and its words, scales and zero points."""
    for name, stored in model.view.tensors.items():
        if name.endswith(".qweight"):
            stem = name.removesuffix("qweight")
            scale, (zero,) = model.part(f"{stem}scales", name), model.given(f"{stem}qzeros")
            parts = {name: stored, scale.name: scale, **({zero.name: zero} if zero else {})}
            model.matrices(parts)
            kinds = [stored.dtype, zero.dtype if zero else "I32"]
            if kinds != ["I32", "I32"] or scale.dtype not in FLOATS:
                raise model.wrong(name, f"or its scales are of a type that is not read: {kinds}")
            yield stem, stored, scale, zero


def _gptq(model: Quantised) -> Iterator[PackedWeight]:
    bits = model.number("bits", 4, (2, 3, 4, 8))
    group = model.number("group_size", 128)
    form = str(model.settings.get("checkpoint_format") or "gptq")
    if form not in ("gptq", "gptq_v2"):
        raise PomonaError(
            f'"{model.name}" has weights of GPTQ in the format {form}, which is not read',
            where=model.view.folder,
            remedy="known are gptq and gptq_v2; save it in one of them, or in bfloat16",
        )
    for stem, stored, scale, _ in _stems(model):
        name = f"{stem}qweight"
        zeros = model.part(f"{stem}qzeros", name)
        (index,) = model.given(f"{stem}g_idx")
        inputs, outputs = stored.shape[0] * 32 // bits, stored.shape[1]
        groups = -(-inputs // group) if group > 0 else 1
        groups = groups if index is None else scale.shape[0]
        if stored.shape[0] * 32 % bits:
            raise model.misfit(name, stored)
        wanted = {
            scale.name: (groups, outputs),
            zeros.name: (groups, -(-outputs * bits // 32)),
            f"{stem}g_idx": (inputs,),
        }
        model.fits(name, wanted)
        if index is not None and not 0 <= numbers(index).min() <= numbers(index).max() < groups:
            raise model.misfit(name, scale, index)
        parts = [stem + end for end in ("qweight", "scales", "qzeros", "g_idx")]
        rows = partial(
            gptq_rows, stored, scale, zeros, index,
            bits=bits, group=group, offset=int(form == "gptq"),
        )  # fmt: skip
        held = tuple(part for part in parts if part in model.view.tensors)
        yield PackedWeight(f"{stem}weight", (outputs, inputs), held, rows)


def _awq(model: Quantised) -> Iterator[PackedWeight]:
    model.number("bits", 4, (4,))
    group = model.number("group_size", 128)
    version = str(model.settings.get("version") or "gemm").lower()
    if version != "gemm":
        raise PomonaError(
            f'"{model.name}" has weights of AWQ in the version {version}, which is not read',
            where=model.view.folder,
            remedy="save it as version gemm, or in bfloat16",
        )
    for stem, stored, scale, zero in _stems(model):
        inputs, outputs = stored.shape[0], stored.shape[1] * 8
        if group > 0 and inputs % group:
            said = f"is {list(stored.shape)}, and its rows are no whole groups of {group}"
            raise model.wrong(f"{stem}qweight", said, "copy it again")
        groups = inputs // group if group > 0 else 1
        wanted = {scale.name: (groups, outputs), f"{stem}qzeros": (groups, outputs // 8)}
        model.fits(f"{stem}qweight", wanted)
        parts = (f"{stem}qweight", f"{stem}scales", *([f"{stem}qzeros"] if zero else []))
        rows = partial(awq_rows, stored, scale, zero, group=group)
        yield PackedWeight(f"{stem}weight", (outputs, inputs), parts, rows)


_BYTES = 1 << 16  # of what bitsandbytes writes of a weight, some hundred


def _bitsandbytes(model: Quantised) -> Iterator[PackedWeight]:
    """Four bits: bytes with tables and what they were; eight bits: rows with their largest."""
    for name, stored in model.view.tensors.items():
        states = [key for key in model.view.tensors if key.startswith(f"{name}.quant_state.")]
        if states:
            yield _four_bits(model, name, stored, states[0])
        elif stored.dtype == "I8":
            stem = name.removesuffix("weight")
            scale = model.part(f"{stem}SCB", name)
            model.matrices({name: stored})
            if scale.dtype not in FLOATS:
                raise model.misfit(name, stored, scale)
            if scale.shape != (stored.shape[0], 1):
                model.fits(name, {scale.name: (stored.shape[0],)})
            forms, parts = f"{stem}weight_format", (name, f"{stem}SCB")
            parts += (forms,) if forms in model.view.tensors else ()
            yield PackedWeight(name, stored.shape, parts, partial(_by_127, stored, scale))


def _by_127(stored: Stored, scale: Stored) -> Rows:
    codes, largest = StoredRows(stored), numbers(scale).reshape(-1, 1)
    # Multiplied first, as bitsandbytes does.
    return lambda part: codes.stored(part).astype("f4") * largest[part] * _INVERSE


_INVERSE = 7.874015718698502e-3  # of 127, in float32


def _four_bits(model: Quantised, name: str, stored: Stored, key: str) -> PackedWeight:
    held = model.view.tensors[key]
    if held.dtype != "U8" or prod(held.shape) > _BYTES:
        raise model.wrong(key, f"is {held.dtype} {list(held.shape)}", "copy it again")
    text = StoredRows(held).stored().tobytes()
    state: Any = parse_json(text, f"{model.view.folder}: {key}", top=dict)
    shape = state.get("shape")
    sizes = [state.get("blocksize"), *(shape if isinstance(shape, list) else [None])]
    nested = f"{name}.nested_absmax" in model.view.tensors
    sizes += [state.get("nested_blocksize")] if nested else []
    offset = state.get("nested_offset", 0.0)
    if not all(type(s) is int and 0 < s < 1 << 40 for s in sizes) or type(offset) not in (
        int,
        float,
    ):
        raise model.wrong(key, f"says {str(state)[:80]}", "copy it again")
    ends = ["absmax", "quant_map", *(["nested_absmax", "nested_quant_map"] if nested else [])]
    parts = {end: model.part(f"{name}.{end}", name) for end in ends}
    count = prod(shape)
    blocks = -(-count // state["blocksize"])
    wanted = {"absmax": blocks, "quant_map": 16}
    if nested:
        outer = -(-blocks // state["nested_blocksize"])
        wanted |= {"nested_absmax": outer, "nested_quant_map": 256}
    bytes_held = prod(stored.shape) * StoredRows(stored).stored(slice(0, 1)).itemsize
    kinds = {end: part.dtype for end, part in parts.items()}
    if (
        bytes_held != -(-count // 2)
        or any(prod(parts[end].shape) != number for end, number in wanted.items())
        or (kinds.pop("absmax") if nested else "U8") != "U8"
        or any(kind not in FLOATS for kind in kinds.values())
    ):
        raise model.misfit(name, stored, *parts.values())
    rows = partial(bitsandbytes_rows, stored, parts, state, shape[-1])
    names = (name, key, *(f"{name}.{end}" for end in ends))
    return PackedWeight(name, tuple(shape), names, rows)


def _mxfp4(model: Quantised) -> Iterator[PackedWeight]:
    """Stacked experts, as gpt-oss has them."""
    for name, stored in model.view.tensors.items():
        if not name.endswith("_blocks"):
            continue
        stem = name.removesuffix("_blocks")
        scales = model.part(f"{stem}_scales", name)
        model.matrices({name: stored}, 4)
        if (stored.dtype, scales.dtype) != ("U8", "U8"):
            raise model.misfit(name, stored, scales)
        whole = (*stored.shape[:3], 16)  # a block is 32 numbers, two a byte
        model.fits(name, {name: whole, scales.name: stored.shape[:3]})
        experts, outputs, groups, width = stored.shape
        shape = (experts, groups * width * 2, outputs)
        rows = partial(mxfp4_rows, stored, scales)
        yield PackedWeight(stem, shape, (name, f"{stem}_scales"), rows)


def _compressed_float4(model: Quantised, name: str) -> PackedWeight:
    """One weight of compressed-tensors: `nvfp4-pack-quantized`, whose scales are divided by that
    of all, or `mxfp4-pack-quantized`, which has none.
    """
    stem = name.removesuffix("_packed")
    (whole,) = model.given(f"{stem}_global_scale")
    if whole is None and model.part(f"{stem}_scale", name).dtype == "F8_E4M3":
        whole = model.part(f"{stem}_global_scale", name)
    return _float4(model, stem, name, f"{stem}_scale", whole, divided=True)


def _modelopt_float4(model: Quantised) -> Iterator[PackedWeight]:
    """NVFP4 of ModelOpt: scales are multiplied by that of all."""
    for name, stored in model.view.tensors.items():
        if name.endswith(".weight") and stored.dtype == "U8":
            if f"{name.removesuffix('weight')}pre_quant_scale" in model.view.tensors:
                raise model.wrong(name, "belongs to inputs that are scaled (AWQ)")
            whole = model.part(f"{name}_scale_2", name)
            yield _float4(model, name, name, f"{name}_scale", whole, divided=False)


def _float4(
    model: Quantised, name: str, codes: str, scale: str, whole: Stored | None, *, divided: bool
) -> PackedWeight:
    stored, scales = model.view.tensors[codes], model.part(scale, codes)
    model.matrices({codes: stored, scale: scales})
    outputs, inputs = stored.shape[0], stored.shape[1] * 2
    if scales.dtype not in ("F8_E4M3", *POWERS):
        raise model.wrong(scale, f"is {scales.dtype}, no scale of floats of four bits")
    group = 32 if scales.dtype in POWERS else 16
    model.fits(codes, {scale: (outputs, -(-inputs // group))})
    if inputs % group or (
        whole is not None and (prod(whole.shape) != 1 or whole.dtype not in FLOATS)
    ):
        raise model.misfit(codes, *(each for each in (stored, scales, whole) if each))
    if whole is not None and not np.isfinite(above := numbers(whole).ravel()[0]):
        raise model.wrong(whole.name, f"is {above}, no scale")
    held = (codes, scale, *([whole.name] if whole else []))
    rows = partial(float4_rows, stored, scales, whole, divided)
    return PackedWeight(name, (outputs, inputs), held, rows)


_TOLD = (
    "nbits", "group_size", "shape", "axis", "packing", "unpack_view_dtype", "view_as_float",
    "quant_scale", "quant_zero", "compute_dtype", "channel_wise", "optimize", "round_zero",
    "offload_meta", "encoded_state_dict", "stores_quant_config",
)  # fmt: skip
_WHOLE = ("U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64", "BOOL")
_LONGEST = 64  # numbers of a tensor that says something


def _hqq(model: Quantised) -> Iterator[PackedWeight]:
    """The weights of a model whose layers hqq has saved."""
    for name, stored in model.view.tensors.items():
        if name.endswith(".W_q"):
            yield _hqq_weight(model, name, stored)


def _hqq_weight(model: Quantised, name: str, stored: Stored) -> PackedWeight:
    stem = name.removesuffix("W_q")
    said = {end: _said(model, f"{stem}{end}", name) for end in ("shape", "axis", "packing")}
    for end in ("quant_scale", "quant_zero"):
        if f"{stem}{end}" in model.view.tensors and any(_said(model, f"{stem}{end}", name)):
            raise model.wrong(name, "has scales or zero points that are quantised too")
    packing = "".join(chr(code) if 32 <= code < 127 else "?" for code in said["packing"])
    if packing not in PACKINGS:
        raise model.wrong(name, f"is packed as {packing!r}, which is not read"[:100])
    scale, zero = (model.part(f"{stem}{end}", name) for end in ("scale", "zero"))
    shape, axis, groups = said["shape"], said["axis"], prod(scale.shape)
    fits = len(shape) == 2 and min(shape) > 0 and axis in ([0], [1]) and groups > 0
    fits = fits and not prod(shape) % groups and zero.shape == scale.shape
    if not fits or not {scale.dtype, zero.dtype} <= set(FLOATS):
        raise model.misfit(name, stored, scale, zero)
    size, (_, per_word, word) = prod(shape) // groups, PACKINGS[packing]
    matrix = (size, groups) if axis == [0] else (groups, size)
    wide, odd = divmod(matrix[1] * np.dtype(word).itemsize, WIDTHS[stored.dtype])
    if odd or stored.shape != (-(-matrix[0] // per_word), wide):
        raise model.misfit(name, stored, scale, zero)
    ends = ("W_q", "scale", "zero", *_TOLD)
    held = tuple(part for end in ends if (part := f"{stem}{end}") in model.view.tensors)
    rows = partial(hqq_rows, stored, scale, zero, packing, matrix, axis[0], shape[1])
    return PackedWeight(f"{stem}weight", (shape[0], shape[1]), held, rows)


def _said(model: Quantised, name: str, of: str) -> list[int]:
    """The whole numbers of a tensor that says something of a weight."""
    stored = model.part(name, of)
    if stored.dtype not in _WHOLE or prod(stored.shape) > _LONGEST:
        raise model.wrong(name, f"is {stored.dtype} {list(stored.shape)}", "copy it again")
    return [int(one) for one in StoredRows(stored).stored().ravel()]


def _aqlm(model: Quantised) -> Iterator[PackedWeight]:
    kinds = (".codes", ".codebooks")
    # The defaults are those of aqlm's configuration.
    count, bits = model.number("num_codebooks", 1), model.number("nbits_per_codebook", 16)
    high, wide = model.number("out_group_size", 1), model.number("in_group_size", 8)
    if not (min(count, high, wide) > 0 and 0 < bits <= 16):
        raise model.misfit("codebooks")
    stems = {name.rpartition(".")[0]: name for name in model.view.tensors if name.endswith(kinds)}
    for stem, one in stems.items():
        ends = ("codes", "codebooks", "scales")
        stored, books, scale = (model.part(f"{stem}.{end}", one) for end in ends)
        if stored.dtype not in ("I8", "I16", "I32") or not {books.dtype, scale.dtype} <= set(
            FLOATS
        ):
            raise model.misfit(stored.name, stored, books, scale)
        model.matrices({stored.name: stored}, 3)
        outputs, inputs, _ = stored.shape
        wanted = {
            stored.name: (outputs, inputs, count),
            books.name: (count, 1 << bits, high, wide),
            scale.name: (outputs, 1, 1, 1),
        }
        model.fits(stored.name, wanted)
        shape = (stored.shape[0] * books.shape[2], stored.shape[1] * books.shape[3])
        rows = partial(aqlm_rows, stored, books, scale)
        yield PackedWeight(f"{stem}.weight", shape, (stored.name, books.name, scale.name), rows)


READERS: Mapping[str, Callable[[Quantised], Iterator[PackedWeight]]] = {
    "aqlm": _aqlm,
    "fp8": _scaled,
    "fbgemm-fp8": _scaled,
    "modelopt": _modelopt,
    "modelopt-fp4": _modelopt,
    "compressed-tensors": _compressed,
    "bitsandbytes": _bitsandbytes,
    "gptq": _gptq,
    "hqq": _hqq,
    "mxfp4": _mxfp4,
    "awq": _awq,
}
