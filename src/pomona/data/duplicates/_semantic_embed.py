"""Embeddings of distinct texts, block by block: made here or by the workers of a cluster, and kept
as they come.
"""

from __future__ import annotations

import functools
import hashlib
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pomona.data.duplicates._columns import TextColumn
from pomona.data.duplicates._mapped import Kept
from pomona.errors import PomonaError
from pomona.models import Model
from pomona.records import spread

BLOCK_ROWS, BLOCK_CHARACTERS = 1024, 4 << 20
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Maker:
    """A model, loaded or by its URI, how it is loaded, and where it runs."""

    model: str | Model
    device: str | None
    dtype: str | None
    memory: int
    engine: str

    def __post_init__(self) -> None:
        if self.engine != "native" and not isinstance(self.model, str):
            raise PomonaError(
                "a loaded model stays in this process",
                where="model",
                remedy="give its URI, or use the native engine",
            )

    @property
    def uri(self) -> str:
        """The URI of the model."""
        return self.model if isinstance(self.model, str) else self.model.uri

    def key(self) -> list[Any]:
        """What embeddings depend on: the model's files and how they are read; something new each
        time for a loaded model.

        Raises PomonaError when there is no such model.
        """
        if not isinstance(self.model, str):
            return [uuid.uuid4().hex]
        from pomona.models import locate

        files = sorted(file for file in locate(self.model).iterdir() if file.is_file())
        stamps = [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]
        return [stamps, self.device, self.dtype, BLOCK_ROWS]


@dataclass(frozen=True)
class _Block:
    """One job."""

    maker: Maker
    texts: list[str]


def owners(texts: TextColumn) -> Ints:
    """For each row the first row with the same text, int64 `[n]`."""
    digests = [
        hashlib.blake2b(text.as_buffer(), digest_size=16).digest()
        for batch in texts.texts()
        for text in batch
    ]
    keys = np.frombuffer(b"".join(digests), np.uint64).reshape(-1, 2)
    order = np.lexsort((keys[:, 1], keys[:, 0]))
    new = np.append(True, (np.diff(keys[order], axis=0) != 0).any(axis=1))[: len(order)]
    owner = np.empty(len(order), np.int64)
    owner[order] = order[new][np.cumsum(new) - 1]
    return owner


def embedded(
    texts: TextColumn, owner: Ints, maker: Maker, kept: Kept, report: Callable[[int, int], None]
) -> Floats:
    """Unit embeddings of the rows that are their own owners, float32 `[distinct, hidden]`, in the
    file "vectors" of `kept`.

    Those that are there already are not made again.
    """
    total, file = int((owner == np.arange(len(owner))).sum()), kept.files["vectors"]
    blocks = (
        (_Block(maker, block) for block in _blocks(texts, owner, kept.rows))
        if kept.rows < total
        else iter(())
    )
    accelerated = maker.device is None or maker.device.startswith("cuda")
    try:
        for new in spread(_embed, blocks, maker.engine, accelerated=accelerated):
            file.append(
                new / np.maximum(np.linalg.norm(new, axis=1, keepdims=True), np.float32(1e-12))
            )
            kept.keep(kept.rows + len(new))
            report(kept.rows, total)
    finally:
        _loaded.cache_clear()
    return file.array(np.float32).reshape(total, -1 if total else 1)


def _blocks(texts: TextColumn, owner: Ints, start: int) -> Iterator[list[str]]:
    """The distinct texts from the `start`th on, the same blocks wherever one of them is begun
    with.
    """
    block: list[str] = []
    size = row = 0
    for batch in texts.texts():
        mine = np.flatnonzero(owner[row : row + len(batch)] == np.arange(row, row + len(batch)))
        new, start, row = mine[start:], max(0, start - len(mine)), row + len(batch)
        for text in batch.take(pa.array(new)).to_pylist():
            if block and (len(block) == BLOCK_ROWS or size + len(text) > BLOCK_CHARACTERS):
                yield block
                block, size = [], 0
            block.append(text)
            size += len(text)
    if block:
        yield block


def _embed(block: _Block) -> Floats:
    from pomona.models._embed import embed

    maker = block.maker
    model = (
        _loaded(maker.model, maker.device, maker.dtype, maker.memory)
        if isinstance(maker.model, str)
        else maker.model
    )
    return embed(model, block.texts)


@functools.lru_cache(maxsize=1)
def _loaded(uri: str, device: str | None, dtype: str | None, memory: int) -> Model:
    from pomona.models import load

    return load(uri, device=device, dtype=dtype, memory=memory)
