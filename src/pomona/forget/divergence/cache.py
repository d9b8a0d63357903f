"""What one model says of a text, kept so that many others are compared with it by one pass of it:
of each position the likeliest tokens, the mass of all others and the true token's probability.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from pomona.errors import PomonaError, reason_of
from pomona.files import atomic_file
from pomona.forget.divergence.measures import Block, Known, top_of
from pomona.forget.divergence.sides import Side, gguf_of
from pomona.models import fingerprint, locate
from pomona.models.torch import Unit

KEPT = 64  # tokens a position
_FORMAT = 1
_MARK = b"pomona_kept"
_GROUP = 64  # windows in a row group
_LISTS = {"ids": pa.int32(), "top": pa.int32()}
_LISTS |= dict.fromkeys(("logprobs", "tail", "target"), pa.float32())
_SCHEMA = pa.schema([("first", pa.int32()), *((n, pa.list_(t)) for n, t in _LISTS.items())])
_REMEDY = "name another file, and it is made anew"


class _Writer:
    def __init__(self, file: Any) -> None:
        self._file, self._rows, self._done = file, [], 0

    def add(self, unit: Unit, logits: torch.Tensor, targets: Any) -> None:
        """The next positions of a window, those of one window after each other."""
        known = top_of(logits, targets, KEPT)
        if not self._done:
            self._rows.append({"ids": unit.ids, "first": unit.first} | {n: [] for n in _KNOWN})
        for name, values in zip(
            _KNOWN, (known.ids, known.logprobs, known.tail, known.target), strict=True
        ):
            self._rows[-1][name].append(values.reshape(-1).numpy())
        self._done += len(targets)
        if self._done == len(unit.ids) - unit.first:
            self._done = 0
            if len(self._rows) == _GROUP:
                self.flush()

    def flush(self) -> None:
        """Write what is complete."""
        rows = [
            {n: np.concatenate(v) if isinstance(v, list) else v for n, v in row.items()}
            for row in self._rows
        ]
        if rows:
            self._file.write_table(pa.Table.from_pylist(rows, schema=self._file.schema))
        self._rows = []


_KNOWN = ("top", "logprobs", "tail", "target")


@contextmanager
def keeping(path: Path, side: Side) -> Iterator[Callable[[Unit, torch.Tensor, Any], None]]:
    """Keep at `path` what `side` says; it is there once all of it is."""
    told = {"format": _FORMAT, "of": _fingerprint(side.name), "k": KEPT}
    names = ("name", "identity", "runs", "vocabulary", "prefix", "adds_prefix")
    told |= {name: getattr(side, name) for name in names}
    schema = _SCHEMA.with_metadata({_MARK: json.dumps(told).encode()})
    with (
        atomic_file(path) as partial,
        pq.ParquetWriter(partial, schema, compression="zstd") as file,
    ):
        writer = _Writer(file)
        yield writer.add
        writer.flush()


class CachedSide:
    """What was kept of a model, as a side; the tokenizer is that of the other one."""

    context: int | None = None

    def __init__(self, path: Path, uri: str, other: Side) -> None:
        """Raises PomonaError where the file is none of ours, or of another model than `uri`."""
        self._path = path
        try:
            file = pq.ParquetFile(path)
            said = json.loads((file.schema_arrow.metadata or {})[_MARK])
        except (OSError, pa.ArrowInvalid, KeyError, ValueError) as error:
            told = "" if isinstance(error, KeyError) else f": {reason_of(error)}"
            message = f"holds nothing that was kept of a model{told}"
            raise PomonaError(message, where=path, remedy=_REMEDY) from None
        if said["format"] != _FORMAT or said["of"] != _fingerprint(uri):
            message = f"was kept of {said['name']}, and {uri} is another model"
            raise PomonaError(message, where=path, remedy=_REMEDY)
        self.name, self.identity = uri, f"{said['identity']}:top{said['k']}"
        self.runs, self.vocabulary = said["runs"], said["vocabulary"]
        self.prefix, self.adds_prefix = said["prefix"], said["adds_prefix"]
        self.encode, self.spelled = other.encode, other.spelled
        self._rows = (row for batch in file.iter_batches(_GROUP) for row in _windows(batch))

    def blocks(self, units: Sequence[Unit], rows: int) -> Iterator[Block]:
        """See `Side`. Raises PomonaError for other windows than were kept."""
        for unit in units:
            first, ids, known = next(self._rows, (0, np.zeros(0), None))
            if known is None or first != unit.first or not np.array_equal(ids, unit.ids):
                raise self._other()
            for row in range(0, len(known), rows):
                yield known[row : row + rows]

    def finish(self) -> None:
        """Raise PomonaError where more was kept than was asked for."""
        if next(self._rows, None) is not None:
            raise self._other()

    def _other(self) -> PomonaError:
        message = "was kept of other texts or windows, or the tokenizers differ"
        return PomonaError(message, where=self._path, remedy=_REMEDY)

    def close(self) -> None:
        """See `Side`."""


def _windows(batch: pa.RecordBatch) -> Iterator[tuple[int, Any, Known]]:
    columns = {name: batch.column(name) for name in batch.schema.names}
    for row in range(batch.num_rows):
        first = columns["first"][row].as_py()
        ids, *known = (columns[name][row].values.to_numpy() for name in ("ids", *_KNOWN))
        n = len(ids) - first
        top, logprobs, tail, target = (torch.from_numpy(values.copy()) for values in known)
        parts = (top.long().view(n, -1), logprobs.double().view(n, -1))
        yield first, ids, Known(*parts, tail.double(), target.double())


def _fingerprint(uri: str) -> str:
    file = gguf_of(uri)
    return fingerprint(locate(uri) if file is None else file)
