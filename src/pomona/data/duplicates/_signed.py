"""Signed documents on disk, chunk by chunk in row order: small columns read whole, shingle sets
only for the rows asked for.
"""

from __future__ import annotations

import itertools
import json
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.documents import read_json

Ints = NDArray[np.int64]


def chunks_in(folder: Path) -> list[Path]:
    """The chunk folders of every finished part in `folder`, in row order."""
    notes = sorted(folder.glob("[0-9]*.json"))
    return [
        folder / f"{note.stem}-{chunk:06d}"
        for note in notes
        for chunk in range(read_json(note)["chunks"])
    ]


def save(values: NDArray[Any], path: Path) -> None:
    """Write an array as `.npy`. NumPy's own `save` does not tell a full disk from other
    failures.
    """
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(
            stream, np.lib.format.header_data_from_array_1_0(values)
        )
        stream.write(values.reshape(-1).view(np.uint8).data)


def save_chunk(arrays: Mapping[str, NDArray[Any]], place: Path) -> None:
    """Write a chunk folder, whole or not at all. It is not forced to the disk, but carries sums by
    which `is_whole` knows it.
    """
    partial = place.with_name(f".{place.name}.{uuid.uuid4().hex}.partial")
    partial.mkdir()
    try:
        for name, values in arrays.items():
            save(np.ascontiguousarray(values), partial / f"{name}.npy")
        (partial / "sums.json").write_text(
            json.dumps({name: _sum(values) for name, values in arrays.items()})
        )
        shutil.rmtree(place, ignore_errors=True)
        partial.rename(place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def is_whole(place: Path) -> bool:
    """Whether a chunk folder is there as it was written, also after the machine went down."""
    try:
        sums = json.loads((place / "sums.json").read_text())
        return all(
            _sum(np.load(place / f"{name}.npy", allow_pickle=False)) == wanted
            for name, wanted in sums.items()
        )
    except (OSError, ValueError):
        return False


def _sum(values: NDArray[Any]) -> list[int]:
    return [
        values.size,
        int(np.add.reduce(np.ascontiguousarray(values).reshape(-1).view(np.uint64))),
    ]


@dataclass(frozen=True)
class Signed:
    """Documents in the order of `chunks`. Rows are numbered through from 0."""

    chunks: Sequence[Path]
    _maps: dict[tuple[int, str], NDArray[Any]] = field(default_factory=dict, repr=False)

    @cached_property
    def starts(self) -> Ints:
        """The first row of every chunk, and the number of rows."""
        sizes = [len(self._map(at, "prints")) for at in range(len(self.chunks))]
        return np.array([0, *itertools.accumulate(sizes)], np.int64)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def keys(self, band: int) -> NDArray[np.uint64]:
        """The keys of one band, `[n]`."""
        found = [self._map(at, "keys")[band] for at in range(len(self.chunks))]
        return np.concatenate(found) if found else np.zeros(0, np.uint64)

    def column(self, name: str) -> NDArray[Any]:
        """`prints` `[n, 2]`, `facts` `[n, 2]` or `scores` `[n]`, whole."""
        found = [np.load(chunk / f"{name}.npy", allow_pickle=False) for chunk in self.chunks]
        empty = np.zeros((0, 2), np.uint64 if name == "prints" else np.int64)
        return np.concatenate(found) if found else empty

    def sizes(self, name: str, rows: Ints) -> Ints:
        """How many values of the ragged column `name` (`sets` or `tokens`) each of the ascending
        `rows` has.
        """
        sizes = np.zeros(len(rows), np.int64)
        for at, inside, here in self._by_chunk(rows):
            offsets = self._map(at, _OFFSETS[name])
            sizes[here] = offsets[inside + 1] - offsets[inside]
        return sizes

    def gather(self, name: str, rows: Ints) -> tuple[NDArray[np.uint64], Ints]:
        """The values of the ragged column `name` of the ascending `rows`, end to end, and their
        `[n + 1]` offsets.
        """
        from pomona.data.duplicates._join import copy_ragged

        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(self.sizes(name, rows))])
        values, end = np.empty(int(offsets[-1]), np.uint64), 0
        for at, inside, _ in self._by_chunk(rows):
            end = copy_ragged(
                self._map(at, name), self._map(at, _OFFSETS[name]), inside, values, end
            )
        return values, offsets

    def _by_chunk(self, rows: Ints) -> list[tuple[int, Ints, slice]]:
        cuts = np.searchsorted(rows, self.starts)
        filled = np.flatnonzero(np.diff(cuts))
        return [
            (
                int(at),
                rows[cuts[at] : cuts[at + 1]] - self.starts[at],
                slice(int(cuts[at]), int(cuts[at + 1])),
            )
            for at in filled
        ]

    def _map(self, at: int, name: str) -> NDArray[Any]:
        if (at, name) not in self._maps:
            whole = np.load(self.chunks[at] / f"{name}.npy", mmap_mode="c", allow_pickle=False)
            self._maps[at, name] = whole.view(np.ndarray)
        return self._maps[at, name]


_OFFSETS = {"sets": "set_offsets", "tokens": "token_offsets"}
