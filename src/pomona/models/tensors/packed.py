"""What the numbers of quantised weights stand for: how they lie in their words, and by what they
are multiplied. Rows of a weight (outputs × inputs) are made as float32, some at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.errors import PomonaError
from pomona.models.tensors.files import (
    NUMBERS,
    NewTensor,
    Stored,
    StoredRows,
    View,
    eight_bits,
    encode,
    encode_finite,
    numbers,
    row_blocks,
    to_float32,
)

Floats = NDArray[np.float32]
Rows = Callable[[slice], Floats]
_MOST = 1 << 30  # of what a group or block may hold
# AWQ's kernels want channels in this order within a word (Lin et al. 2023, arXiv 2306.00978).
_AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


@dataclass(frozen=True)
class PackedWeight:
    """A quantised weight: its name and shape as numbers, the tensors it is made of, and its rows,
    read when they are asked for.
    """

    name: str
    shape: tuple[int, ...]
    parts: tuple[str, ...]
    open: Callable[[], Rows]

    def tensor(self, dtype: str, view: View) -> NewTensor:
        """The weight, to be written in a type of floats."""

        def blocks() -> Iterator[bytes]:
            rows = self.open()
            for part in row_blocks(prod(self.shape[:-1]), self.shape[-1]):
                # Infinity is refused where it is rounded.
                with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                    values = rows(part)
                yield encode_finite(values, dtype, self.name, view.folder)

        return NewTensor(dtype, self.shape, blocks)


@dataclass(frozen=True)
class Quantised:
    """A quantised model and what its config.json says of that."""

    view: View
    settings: Mapping[str, Any]
    name: str

    def wrong(
        self, tensor: str, text: str, remedy: str = "save it in bfloat16 first"
    ) -> PomonaError:
        return PomonaError(
            f'tensor "{tensor}" of "{self.name}" {text}', where=self.view.folder, remedy=remedy
        )

    def part(self, name: str, of: str) -> Stored:
        """A tensor that belongs to a weight."""
        if name not in self.view.tensors:
            raise self.wrong(of, f'is quantised, and there is no "{name}"', "copy it again")
        return self.view.tensors[name]

    def given(self, *names: str) -> list[Stored | None]:
        """Tensors that a weight may have."""
        return [self.view.tensors.get(name) for name in names]

    def matrices(self, names: Mapping[str, Stored], sides: int = 2) -> None:
        """Raise PomonaError unless these are matrices."""
        for name, stored in names.items():
            if len(stored.shape) != sides or not prod(stored.shape):
                raise self.wrong(name, f"is {list(stored.shape)}, no matrix", "copy it again")

    def number(self, key: str, usual: int, known: tuple[int, ...] = ()) -> int:
        """A whole number of the settings."""
        value = self.settings.get(key, usual)
        if type(value) is not int or abs(value) > _MOST or (known and value not in known):
            raise PomonaError(
                f'quantization_config says "{key}": {value!r}'[:120],
                where=self.view.folder / "config.json",
                remedy=f"known are {', '.join(map(str, known)) or 'whole numbers'}",
            )
        return value

    def rules(self) -> list[Mapping[str, Any]]:
        """What compressed-tensors says of weights, by group of layers."""
        groups = self.settings.get("config_groups") or {}
        listed = groups.values() if isinstance(groups, Mapping) else ()
        return [
            group["weights"]
            for group in listed
            if isinstance(group, Mapping) and isinstance(group.get("weights"), Mapping)
        ]

    def groups(self) -> list[int]:
        """The inputs that share a scale, as the settings say them; without them, all."""
        said = [rule.get("group_size") for rule in self.rules()]
        return [size for size in said if type(size) is int and 0 < size <= _MOST] or [_MOST]

    def blocks(self) -> list[list[int]]:
        """Rows and columns that share a scale, where the settings say it."""
        said = [self.settings.get("weight_block_size"), *map(_block, self.rules())]
        blocks = [block for block in said if block is not None]
        for block in blocks:
            sides = block if isinstance(block, list) else []
            if len(sides) != 2 or not all(
                type(side) is int and 0 < side <= _MOST for side in sides
            ):
                raise PomonaError(
                    f"quantization_config says that blocks of weights are {block!r}"[:120],
                    where=self.view.folder / "config.json",
                    remedy="two whole numbers are known, such as [128, 128]",
                )
        return blocks

    @property
    def mixed(self) -> bool:
        """Whether some groups of layers have blocks and others none."""
        return len({_block(rule) is None for rule in self.rules()}) == 2

    def misfit(self, weight: str, *others: Stored) -> PomonaError:
        """The error for parts of a weight that do not fit each other."""
        shapes = ", ".join(f"{each.name} {list(each.shape)}" for each in others)
        return self.wrong(weight, f"and what belongs to it do not fit: {shapes}", "copy it again")

    def fits(self, weight: str, wanted: Mapping[str, tuple[int, ...]]) -> None:
        """Raise PomonaError where a tensor that belongs to a weight has another shape than is
        wanted.
        """
        held = {
            name: list(self.view.tensors[name].shape)
            for name in (weight, *wanted)
            if name in self.view.tensors
        }
        asked = {name: list(wanted.get(name, shape)) for name, shape in held.items()}
        if held != asked:
            told = [
                f"{name} {shape}" + f" where {asked[name]} is wanted" * (shape != asked[name])
                for name, shape in held.items()
            ]
            text = f"and what belongs to it do not fit: {', '.join(told)}"
            raise self.wrong(weight, text, "copy it again")


def _block(rule: Mapping[str, Any]) -> Any:
    group = rule.get("group_size")
    grouped = type(group) is int and group > 0
    return rule.get("block_structure") or ([1, group] if grouped else None)


def bits_of(words: NDArray[Any], bits: int, axis: int) -> NDArray[np.int32]:
    """The whole numbers of `bits` bits in words of 32, the lowest first, along an axis of a
    matrix. Those that do not divide 32 run on from word to word.
    """
    words = np.moveaxis(words.view(np.uint32), axis, -1)
    if 32 % bits == 0:
        shifts = np.arange(0, 32, bits, dtype=np.uint32)
        found = words[..., None] >> shifts & np.uint32(2**bits - 1)
    else:
        single = words[..., None] >> np.arange(32, dtype=np.uint32) & np.uint32(1)
        single = single.reshape(*words.shape[:-1], -1)
        single = single[..., : single.shape[-1] // bits * bits]
        single = single.reshape(*words.shape[:-1], -1, bits)
        found = (single << np.arange(bits, dtype=np.uint32)).sum(-1, dtype=np.uint32)
    return np.moveaxis(found.reshape(*words.shape[:-1], -1).astype(np.int32), -1, axis)


Grid = tuple[int, int, int, int]


def grid_of(
    shape: Sequence[int], scales: Sequence[int], blocks: Sequence[Sequence[int]]
) -> Grid | None:
    """How scales lie over a weight: rows and columns of a block, and blocks down and across, of the
    last two axes. blocks: those that are said; without them, a scale may be of a row, a column, or
    a block of 128 × 128. None where they do not fit.
    """
    outputs, inputs = shape[-2:]
    experts = prod(shape[:-2])
    if prod(scales) == 1:
        return experts * outputs, inputs, 1, 1
    if prod(scales) == experts and experts > 1:
        return outputs, inputs, 1, 1
    down, across = scales[-2:] if len(scales) > 1 else (*scales, 1)[:2]
    if experts * down * across != prod(scales):
        return None
    for high, wide in blocks or ((1, inputs), (outputs, 1), (128, 128)):
        if (-(-outputs // high), -(-inputs // wide)) == (down, across):
            return min(high, outputs), min(wide, inputs), down, across
    return None


def scaled_rows(weight: Stored, scale: Stored, zero: Stored | None, grid: Grid) -> Rows:
    """(q − z)·s for a weight of 8-bit numbers under a grid of scales."""
    high, wide, down, across = grid
    outputs, inputs = weight.shape[-2:]
    table, codes = eight_bits(weight.dtype), StoredRows(weight)
    scales = numbers(scale).reshape(-1, across)
    if scale.dtype == "U8":  # powers of two
        scales = eight_bits("F8_E8M0")[scales.astype(np.uint8)]
    zeros = None if zero is None else numbers(zero).reshape(-1, across)
    flat = codes.shape[1] != inputs  # stacked experts are read one by one

    def rows(part: slice) -> Floats:
        index = np.arange(part.start, part.stop)
        if flat:
            first, last = part.start // outputs, -(-part.stop // outputs)
            held = codes.stored(slice(first, last)).reshape(-1, inputs)
            held = held[part.start - first * outputs : part.stop - first * outputs]
        else:
            held = codes.stored(part)
        values = table[held.view(np.uint8)]
        place = index // outputs * down + index % outputs // min(high, outputs)
        place = np.zeros_like(place) if len(scales) == 1 else place
        if zeros is not None:
            values -= np.repeat(zeros[place], wide, 1)[:, :inputs]
        values *= np.repeat(scales[place], wide, 1)[:, :inputs]
        return values

    return rows


def compressed_rows(
    packed: Stored,
    scale: Stored,
    zero: Stored | None,
    group_index: Stored | None,
    *,
    bits: int,
    inputs: int,
) -> Rows:
    """Numbers packed along the inputs with 2^(bits−1) added, as compressed-tensors has them; zero
    points packed along the outputs.
    """
    words, scales = StoredRows(packed), numbers(scale).reshape(scale.shape[0], -1)
    middle = 1 << (bits - 1)
    zeros = None
    if zero is not None:
        zeros = bits_of(StoredRows(zero).stored(), bits, 0)[: packed.shape[0]] - middle
    groups = scales.shape[1]
    which = np.arange(inputs) // -(-inputs // groups)
    if group_index is not None and (found := numbers(group_index)).min() >= 0:
        which = found.astype(np.int64)

    def rows(part: slice) -> Floats:
        values = bits_of(words.stored(part), bits, 1)[:, :inputs] - middle
        if zeros is not None:
            values -= zeros[part][:, which]
        own = part if len(scales) > 1 else slice(None)
        return values.astype(np.float32) * scales[own][:, which]

    return rows


def gptq_rows(
    packed: Stored,
    scale: Stored,
    zero: Stored,
    group_index: Stored | None,
    *,
    bits: int,
    group: int,
    offset: int,
) -> Rows:
    """Numbers packed along the inputs, which are the rows here (Frantar et al. 2022, arXiv
    2210.17323). offset: what is added to zero points, 1 in the first version of the format.
    """
    words, scales = StoredRows(packed), numbers(scale)
    zeros = (bits_of(StoredRows(zero).stored(), bits, 1) + offset).astype(np.float32)
    inputs = packed.shape[0] * 32 // bits
    which = np.arange(inputs) // (group if group > 0 else inputs)
    if group_index is not None:
        which = numbers(group_index).astype(np.int64)

    def rows(part: slice) -> Floats:
        values = bits_of(words.stored(slice(None), part), bits, 0).astype(np.float32)
        values -= zeros[which, part]
        values *= scales[which, part]
        return np.ascontiguousarray(values.T)

    return rows


def awq_rows(packed: Stored, scale: Stored, zero: Stored | None, *, group: int) -> Rows:
    """Numbers of four bits packed along the outputs, in AWQ's order; rows are the inputs."""
    words, scales = StoredRows(packed), numbers(scale)
    inputs = packed.shape[0]
    which = np.arange(inputs) // (group if group > 0 else inputs)
    zeros = None if zero is None else _awq(StoredRows(zero).stored())

    def rows(part: slice) -> Floats:
        first, last = part.start // 8, -(-part.stop // 8)
        own = slice(part.start - first * 8, part.stop - first * 8)
        values = _awq(words.stored(slice(None), slice(first, last)))[:, own]
        values -= 8 if zeros is None else zeros[which, part]
        values *= scales[which, part]
        return np.ascontiguousarray(values.T)

    return rows


def _awq(words: NDArray[Any]) -> Floats:
    found = bits_of(words, 4, 1).reshape(len(words), -1, 8)
    values = np.empty(found.shape, np.float32)
    values[:, :, list(_AWQ_ORDER)] = found
    return values.reshape(len(words), -1)


def bitsandbytes_rows(
    packed: Stored, parts: Mapping[str, Stored], state: Mapping[str, Any], inputs: int
) -> Rows:
    """Numbers of four bits, the upper half of a byte first, in blocks of the flat weight with a
    largest value each, which may be quantised in turn (Dettmers et al. 2023, arXiv 2305.14314).
    """
    words, table = StoredRows(packed), numbers(parts["quant_map"])
    block = int(state["blocksize"])
    largest = numbers(parts["absmax"]).ravel()
    if "nested_absmax" in parts:
        codes = StoredRows(parts["absmax"]).stored().ravel()
        outer = numbers(parts["nested_absmax"]).ravel()
        which = np.arange(len(codes)) // int(state["nested_blocksize"])
        largest = numbers(parts["nested_quant_map"])[codes] * outer[which]
        largest += np.float32(state["nested_offset"])
    width = words.stored(slice(0, 1)).nbytes  # bytes of a row of the packed tensor

    def rows(part: slice) -> Floats:
        first, last = part.start * inputs, part.stop * inputs
        start, stop = first // 2 // width, ((last + 1) // 2 + width - 1) // width
        held = words.stored(slice(start, stop)).view(np.uint8).ravel()
        codes = np.stack([held >> 4, held & 15], 1).ravel()
        codes = codes[first - start * width * 2 :][: last - first]
        values = table[codes] * largest[np.arange(first, last) // block]
        return values.reshape(-1, inputs)

    return rows


_E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
_VALUES = np.array([*_E2M1, *(-one for one in _E2M1)], np.float32)
POWERS = ("U8", "F8_E8M0")  # a power of two, as its exponent


def _unpacked(codes: np.ndarray) -> Floats:
    """The values of bytes, two for each along the last axis."""
    return _VALUES[np.stack([codes & 15, codes >> 4], -1)].reshape(*codes.shape[:-1], -1)


def float4_rows(stored: Stored, scale: Stored, whole: Stored | None, divided: bool) -> Rows:
    """Floats of four bits (E2M1), the lower half of a byte first, that share a scale in groups:
    MXFP4 in groups of 32 under powers of two (OCP microscaling formats 1.0, section 5.1), and
    NVFP4, whose groups of 16 have scales in E4M3 and a scale in float32 above all of them, by which
    they are multiplied, or divided.
    """
    codes, scales = StoredRows(stored), StoredRows(scale)
    table = eight_bits("F8_E8M0" if scale.dtype in POWERS else scale.dtype)
    above = np.float32(1) if whole is None else numbers(whole).ravel()[0]
    group = stored.shape[1] * 2 // scale.shape[1]

    def rows(part: slice) -> Floats:
        own = table[scales.stored(part).view(np.uint8)]
        own = (np.divide if divided else np.multiply)(own, above)
        return _unpacked(codes.stored(part)) * np.repeat(own, group, 1)

    return rows


def mxfp4_rows(blocks: Stored, scales: Stored) -> Rows:
    """Stacked experts in MXFP4. They lie as outputs × inputs and stand for inputs × outputs, as
    gpt-oss has them: rows are the inputs, expert by expert.
    """
    codes, powers = StoredRows(blocks), StoredRows(scales)
    outputs = blocks.shape[1]
    inputs = blocks.shape[2] * blocks.shape[3] * 2
    held: dict[int, Floats] = {}

    def expert(number: int) -> Floats:
        if number not in held:
            held.clear()
            some = slice(number, number + 1)
            values = _unpacked(codes.stored(some).reshape(outputs, -1, blocks.shape[3]))
            values *= eight_bits("F8_E8M0")[powers.stored(some).reshape(outputs, -1, 1)]
            held[number] = np.ascontiguousarray(values.reshape(outputs, inputs).T)
        return held[number]

    def rows(part: slice) -> Floats:
        found, start = [], part.start
        while start < part.stop:
            number, first = divmod(start, inputs)
            last = min(inputs, first + part.stop - start)
            found.append(expert(number)[first:last])
            start += last - first
        return np.concatenate(found)

    return rows


# By how `packing` is called: bits of a number, numbers of a word, and the word's type.
PACKINGS = {
    "8bit_u8": (8, 1, np.uint8),
    "4bit_u8": (4, 2, np.uint8),
    "3bit_32": (3, 10, np.uint32),
    "2bit_u8": (2, 4, np.uint8),
    "1bit_u8": (1, 8, np.uint8),
}


def hqq_rows(
    stored: Stored,
    scale: Stored,
    zero: Stored,
    packing: str,
    matrix: tuple[int, int],
    axis: int,
    inputs: int,
) -> Rows:
    """HQQ (Badri and Shaji 2023, "Half-quadratic quantization"), as hqq 0.2 has it: a weight is
    reshaped to a `matrix` of groups, its columns or its rows (axis 0 or 1). Its whole numbers lie
    in words of so many parts of the matrix, the first part highest.
    """
    bits, per_word, word = PACKINGS[packing]
    codes, across = StoredRows(stored), matrix[1]
    flat = (1, -1) if axis == 0 else (-1, 1)
    scales, zeros = (numbers(each).reshape(flat) for each in (scale, zero))

    def rows(part: slice) -> Floats:
        first, last = part.start * inputs, part.stop * inputs
        lines = np.arange(first // across, -(-last // across))
        held = codes.stored(lines % stored.shape[0]).view(word)
        shifts = bits * (per_word - 1 - lines // stored.shape[0])
        found = held >> shifts.astype(word)[:, None] & word(2**bits - 1)
        own = slice(None) if axis == 0 else lines
        # hqq computes in the type of its scales, so that this difference is rounded too
        values = _rounded(found.astype(np.float32) - zeros[own], scale.dtype) * scales[own]
        start = first - int(lines[0]) * across
        return values.ravel()[start : start + last - first].reshape(-1, inputs)

    return rows


def aqlm_rows(codes: Stored, books: Stored, scale: Stored) -> Rows:
    """AQLM (Egiazarian et al. 2024, arXiv 2401.06118): each group of so many outputs and inputs is
    a sum of vectors, one of each codebook, times the scale of its outputs.
    """
    held, tables, scales = StoredRows(codes), numbers(books), numbers(scale).ravel()
    _, size, high, wide = books.shape
    groups, count = codes.shape[1:]

    def rows(part: slice) -> Floats:
        first, last = part.start // high, -(-part.stop // high)
        found = held.stored(slice(first, last)).astype(np.int64).reshape(-1, groups, count) % size
        values = tables[0][found[..., 0]]
        for book in range(1, count):
            values += tables[book][found[..., book]]
        # The sum is rounded to the type of the codebooks, as aqlm does.
        values = _rounded(values, books.dtype) * scales[first:last, None, None, None]
        values = values.swapaxes(1, 2).reshape(-1, groups * wide)
        return values[part.start - first * high : part.stop - first * high]

    return rows


def _rounded(values: Floats, dtype: str) -> Floats:
    rounded = np.frombuffer(encode(values, dtype), NUMBERS[dtype]).reshape(values.shape)
    return to_float32(rounded, dtype)
