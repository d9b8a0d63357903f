"""What compressing a checkpoint will do, tensor by tensor, before anything is written."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.errors import PomonaError
from pomona.forget.compression.result import Progress
from pomona.forget.compression.settings import BITS, Settings
from pomona.forget.compression.weights import Floats, Keys, draws, magnitudes
from pomona.models import fingerprint, read_config
from pomona.models.tensors import (
    FLOATS,
    WIDTHS,
    Stored,
    TensorRows,
    View,
    is_buffer,
    is_computed,
    is_embedding,
    is_flipped,
    is_head,
    is_table,
    ties,
)

_HALF = 1 << 16


@dataclass(frozen=True)
class CompressedTensor:
    """One tensor of the result. `weights` is None for what stays as it is; `pruned` the number of
    weights that are set to zero, `rank` that of what is left, where they are known.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str  # of the result, as safetensors names it
    source: Stored
    weights: int | None = None
    pruned: int | None = None
    rank: int | None = None

    def packed(self, settings: Settings, zeros: int) -> int:
        """Bytes it would take in a form made for it: a bit for each weight and those that are not
        zero; places within blocks; whole numbers with a scale of 2 bytes for each group and, where
        the grid is not symmetric, a zero point of 1; two factors.
        """
        count, width = math.prod(self.shape), WIDTHS[self.dtype]
        if self.weights is None:
            return count * width
        if self.rank is not None:
            stack = math.prod(self.shape[:-2])
            return stack * self.rank * sum(self.shape[-2:]) * width
        if settings.method in BITS:
            columns = self.shape[-1]
            groups = count // columns * math.ceil(columns / (settings.group_size or columns))
            each = 2 if settings.method == "int8" else 3
            return count * BITS[settings.method] // 8 + groups * each
        kept = count - zeros
        if settings.blocks:
            return kept * width + kept * (settings.blocks[1] - 1).bit_length() // 8
        return kept * width + math.ceil(count / 8)


@dataclass(frozen=True)
class CompressionPlan:
    """All tensors of a result, in order, and what is read for them."""

    folder: Path
    settings: Settings
    tensors: tuple[CompressedTensor, ...]
    notes: tuple[str, ...] = ()

    @cached_property
    def signature(self) -> str:
        """See `Settings.signature`."""
        return self.settings.signature(fingerprint(self.folder))

    @cached_property
    def flipped(self) -> bool:
        """Whether linear layers are stored inputs × outputs."""
        return is_flipped(read_config(self.folder))

    @property
    def read(self) -> int:
        """Bytes of all tensors that are read."""
        return sum(math.prod(t.shape) * WIDTHS[t.source.dtype] for t in self.tensors)


def plan_compression(folder: Path, settings: Settings, progress: Progress) -> CompressionPlan:
    """Which tensors of a checkpoint change, and how. With a global threshold all of them are read.

    Raises PomonaError for a checkpoint that is quantised, and one without a matrix to change.
    """
    view, config = View.of(folder), read_config(folder)
    _refuse_packed(folder, view, config)
    chosen = _chosen(folder, view, settings)
    counts: Mapping[str, int | None] = dict.fromkeys(chosen)
    if settings.prunes and settings.level is not None:
        if settings.scope == "global":
            counts = global_counts([view.tensors[name] for name in chosen], settings, progress)
        else:
            counts = {name: _share_of(view.tensors[name], settings) for name in chosen}
    tensors = tuple(
        _tensor(view.tensors[name], settings, name in chosen, counts.get(name))
        for name in view.names
    )
    return CompressionPlan(folder, settings, tensors, tuple(_notes(view, config, settings)))


def _refuse_packed(folder: Path, view: View, config: Mapping[str, Any]) -> None:
    packed = [
        name for name in view.names if name.endswith("weight") and view.info(name)[0] not in FLOATS
    ]
    if config.get("quantization_config") or packed:
        what = f'tensor "{packed[0]}" is {view.info(packed[0])[0]}' if packed else "config.json"
        raise PomonaError(
            f"is quantised already ({what})",
            where=folder,
            remedy="save the model in bfloat16 first",
        )


def _changes(name: str, stored: Stored, settings: Settings) -> bool:
    if stored.dtype not in FLOATS or len(stored.shape) < 2 or name.endswith("bias"):
        return False
    if is_buffer(name) or is_computed(name) or 0 in stored.shape:
        return False
    if is_table(name):
        return settings.embeddings and (is_embedding(name) or is_head(name))
    return True


def layer_matrices(folder: Path, view: View) -> list[str]:
    """The matrices of a checkpoint that are no embeddings, by name. Raises PomonaError where it is
    quantised, and where there is none.
    """
    _refuse_packed(folder, view, read_config(folder))
    plain = Settings("low_rank")
    return _chosen(folder, view, plain)


def _chosen(folder: Path, view: View, settings: Settings) -> list[str]:
    chosen = [name for name in view.names if _changes(name, view.tensors[name], settings)]
    if not chosen:
        remedy = "is it a language model? norms, biases and embeddings stay as they are"
        raise PomonaError("has no matrix to compress", where=folder, remedy=remedy)
    return chosen


def _share_of(stored: Stored, settings: Settings) -> int:
    assert settings.level is not None
    if settings.method == "wanda":  # rows are compared within themselves
        return (
            math.prod(stored.shape) // stored.shape[-1] * round(settings.level * stored.shape[-1])
        )
    return round(settings.level * math.prod(stored.shape))


def _tensor(
    stored: Stored, settings: Settings, changes: bool, pruned: int | None
) -> CompressedTensor:
    dtype = settings.dtype if settings.dtype and stored.dtype in FLOATS else stored.dtype
    if not changes:
        return CompressedTensor(stored.name, stored.shape, dtype, stored)
    count, rank = math.prod(stored.shape), None
    if settings.blocks:
        kept, block = settings.blocks
        pruned = count // stored.shape[-1] * (stored.shape[-1] // block) * (block - kept)
    if settings.method == "low_rank":
        rank = settings.rank
        if settings.share is not None:
            rows, columns = stored.shape[-2:]
            rank = max(1, int(settings.share * rows * columns / (rows + columns)))
        rank = min(rank or 1, *stored.shape[-2:])
    return CompressedTensor(stored.name, stored.shape, dtype, stored, count, pruned, rank)


def _notes(view: View, config: Mapping[str, Any], settings: Settings) -> Iterator[str]:
    tied = ties(config) and not any(map(is_head, view.names))
    tables = (
        "the embeddings, which are the output head too" if tied else "embeddings and output head"
    )
    if settings.embeddings:
        yield f"changed with the matrices of the layers: {tables}"
    else:
        yield f"not changed: {tables}"
    if settings.method in BITS:
        yield (
            "the weights are rounded and written as floats, so that everything loads them: the "
            "file is no smaller"
        )


def keys_of(stored: Stored, values: Floats, settings: Settings) -> Keys:
    """What the weights are ranked by: those with the smallest keys go first."""
    if settings.method == "random":
        return draws(stored.name, stored.shape, settings.seed or 0)
    return magnitudes(values)


def floats_of(stored: Stored) -> Floats:
    """A whole tensor as float32."""
    return TensorRows(stored).float32().reshape(stored.shape)


@dataclass
class _Halves:
    """Of one tensor: keys below the bin that holds the threshold, and how often each key in it is
    there, as far as it is: lower halves and counts.
    """

    below: int
    lower: NDArray[np.int64]
    counts: NDArray[np.int64]


def global_counts(
    tensors: Sequence[Stored], settings: Settings, progress: Progress
) -> dict[str, int]:
    """How many weights of each tensor are among the smallest of all, exactly: keys have 32 bits,
    and two passes count their upper halves, then the lower ones of the bin with the threshold.
    Among keys equal to it those of the first tensors go.
    """
    assert settings.level is not None
    total = sum(math.prod(stored.shape) for stored in tensors)
    wanted, steps = round(settings.level * total), 2 * len(tensors)
    upper = np.zeros(_HALF, np.int64)
    for place, stored in enumerate(tensors):
        keys = keys_of(stored, floats_of(stored), settings).reshape(-1)
        upper += np.bincount(keys >> 16, minlength=_HALF)
        progress(place + 1, steps)
    edge = int(np.searchsorted(np.cumsum(upper), wanted))
    halves: list[_Halves] = []
    for place, stored in enumerate(tensors):
        keys = keys_of(stored, floats_of(stored), settings).reshape(-1)
        inside = keys[keys >> 16 == edge] & 0xFFFF
        lower, counts = np.unique(inside, return_counts=True)
        halves.append(_Halves(int((keys >> 16 < edge).sum()), lower.astype(np.int64), counts))
        progress(len(tensors) + place + 1, steps)
    return dict(zip([stored.name for stored in tensors], _settle(halves, wanted), strict=True))


def _settle(halves: Sequence[_Halves], wanted: int) -> Iterator[int]:
    within = np.zeros(_HALF, np.int64)
    for one in halves:
        within[one.lower] += one.counts
    reached = np.cumsum(within) + sum(one.below for one in halves)
    threshold = int(np.searchsorted(reached, wanted))
    ties = wanted - int(reached[threshold] - within[threshold])
    for one in halves:
        equal = int(one.counts[one.lower == threshold].sum())
        taken = min(ties, equal)
        ties -= taken
        yield one.below + int(one.counts[one.lower < threshold].sum()) + taken
