"""One matrix made smaller: weights set to zero, rounded to a grid, or projected to a low rank. Rows
are outputs and columns inputs; of tensors with more axes, the last one has the inputs.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from pomona.models.tensors import row_blocks

Floats = NDArray[np.float32]
Keys = NDArray[np.uint32]


def magnitudes(values: Floats) -> Keys:
    """Whole numbers in the order of |w|: the bits of a float without its sign."""
    return np.ascontiguousarray(values, np.float32).view(np.uint32) & np.uint32(0x7FFFFFFF)


def draws(name: str, shape: tuple[int, ...], seed: int) -> Keys:
    """Uniform random numbers in place of magnitudes. They depend on the tensor's name and the seed
    alone, so that neither the order of tensors nor a kill changes them.
    """
    digest = hashlib.sha256(f"{seed}\0{name}".encode()).digest()
    random = np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
    return random.integers(1 << 32, size=shape, dtype=np.uint32)


def smallest(keys: NDArray[np.generic], count: int) -> NDArray[np.bool_]:
    """Where the `count` smallest keys are; among equal ones the first."""
    chosen = np.zeros(keys.shape, bool)
    if count == 0:
        return chosen
    threshold = np.partition(keys, count - 1, axis=None)[count - 1]
    np.less(keys, threshold, out=chosen)
    equal = np.flatnonzero(keys == threshold)[: count - int(chosen.sum())]
    chosen.reshape(-1)[equal] = True
    return chosen


def smallest_of_rows(keys: NDArray[np.generic], count: int) -> NDArray[np.bool_]:
    """Where the `count` smallest keys of each row are; among equal ones the first."""
    order = np.argsort(keys, axis=-1, kind="stable")[..., :count]
    chosen = np.zeros(keys.shape, bool)
    np.put_along_axis(chosen, order, True, axis=-1)
    return chosen


def smallest_of_blocks(keys: NDArray[np.generic], kept: int, block: int) -> NDArray[np.bool_]:
    """Where the smallest keys of each `block` consecutive ones of a row are, all but `kept`; what
    is left over at the end of a row stays.
    """
    whole = keys.shape[-1] // block * block
    blocks = keys[..., :whole].reshape(*keys.shape[:-1], -1, block)
    chosen = np.zeros(keys.shape, bool)
    chosen[..., :whole] = smallest_of_rows(blocks, block - kept).reshape(*keys.shape[:-1], whole)
    return chosen


def rounded(values: Floats, bits: int, group: int | None, *, symmetric: bool) -> Floats:
    """Weights rounded to 2^bits values for each `group` of consecutive ones in a row (None: the
    row; the last group may be shorter), and back.

    Symmetric: w ≈ s·q, s = max |w| / (2^(bits-1) − ½). Else w ≈ s·(q − z), s = (max − min) /
    (2^bits − 1) over the group's weights and 0, z whole. Formulas: torchao's
    `choose_qparams_affine`, as its Int8WeightOnlyConfig (rows) and IntxWeightOnlyConfig (groups)
    use it.
    """
    columns = values.shape[-1]
    width = columns if group is None else min(group, columns)
    rows = values.reshape(-1, columns)
    out = np.empty_like(rows)
    for block in row_blocks(*rows.shape):
        for start in range(0, columns, width):
            part = (block, slice(start, start + width))
            out[part] = _on_grid(rows[part], bits, symmetric)
    return out.reshape(values.shape)


def _on_grid(values: Floats, bits: int, symmetric: bool) -> Floats:
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    # A group of zeros has no step; any will do.
    least = np.float32(np.finfo(np.float32).eps)
    if symmetric:
        step = np.maximum(np.abs(values).max(1, keepdims=True) / np.float32(high + 0.5), least)
        return (np.clip(np.rint(values / step), low, high) * step).astype(np.float32)
    bottom = np.minimum(values.min(1, keepdims=True), 0)
    top = np.maximum(values.max(1, keepdims=True), 0)
    step = np.maximum((top - bottom) / np.float32(high - low), least)
    zero = np.clip(low - np.rint(bottom / step), low, high)
    return ((np.clip(np.rint(values / step) + zero, low, high) - zero) * step).astype(np.float32)


def low_rank(values: Floats, rank: int) -> Floats:
    """The nearest matrix of a rank (Eckart and Young 1936); of a stack of matrices, each one."""
    if values.ndim > 2:
        return np.stack([low_rank(one, rank) for one in values])
    tall = values.shape[0] > values.shape[1]
    matrix = (values.T if tall else values).astype(np.float64)
    _, vectors = np.linalg.eigh(matrix @ matrix.T)  # squares of singular values, rising
    kept = vectors[:, ::-1][:, :rank]
    near = kept @ (kept.T @ matrix)
    return (near.T if tall else near).astype(np.float32)
