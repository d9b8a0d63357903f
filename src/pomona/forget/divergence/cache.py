"""What one model says of a text, kept so that many others are compared with it by one pass of it:
of each position the likeliest tokens, the mass of all others and the true token's probability.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from pomona.documents import parse_json
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
_ONE = 1 + 1e-3  # what probabilities of a network sum to, with all that rounding adds
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
        pq.ParquetWriter(partial, schema, compression="zstd", write_page_checksum=True) as file,
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
        file, said = _opened(path)
        if said.of != _fingerprint(uri):
            message = f"was kept of {said.name}, and {uri} is another model"
            raise PomonaError(message, where=path, remedy=_REMEDY)
        self.name, self.identity = uri, f"{said.identity}:top{said.k}"
        self.runs, self.vocabulary = said.runs, said.vocabulary
        self.prefix, self.adds_prefix = said.prefix, said.adds_prefix
        self.encode, self.spelled = other.encode, other.spelled
        self._rows = self._read(file, min(said.k, said.vocabulary))

    def _read(self, file: pq.ParquetFile, k: int) -> Iterator[tuple[int, Any, Known]]:
        try:
            for batch in file.iter_batches(_GROUP):
                yield from _windows(batch, k, self.vocabulary)
        except (OSError, pa.ArrowException, ValueError) as error:
            message = f"is damaged: {reason_of(error)}"
            raise PomonaError(message, where=self._path, remedy=_REMEDY) from None

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


@dataclass(frozen=True)
class _Said:
    """What a file says of the model; see `Side`."""

    format: int
    of: str
    k: int
    name: str
    identity: str
    runs: str
    vocabulary: int
    prefix: int | None
    adds_prefix: bool


def _opened(path: Path) -> tuple[pq.ParquetFile, _Said]:
    from pydantic import TypeAdapter, ValidationError

    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
        told = parse_json((file.schema_arrow.metadata or {})[_MARK], path, remedy=_REMEDY)
        if told.get("format") != _FORMAT:
            message = f"has format {told.get('format')}; this Pomona reads format {_FORMAT}"
            raise PomonaError(message, where=path, remedy=_REMEDY)
        said = TypeAdapter(_Said).validate_python(told)
        if not file.schema_arrow.equals(_SCHEMA):
            raise ValueError("it has other columns")
    except (OSError, pa.ArrowException, KeyError, ValueError, ValidationError) as error:
        told = "" if isinstance(error, KeyError | ValidationError) else f": {reason_of(error)}"
        message = f"holds nothing that was kept of a model{told}"
        raise PomonaError(message, where=path, remedy=_REMEDY) from None
    return file, said


def _windows(batch: pa.RecordBatch, k: int, vocabulary: int) -> Iterator[tuple[int, Any, Known]]:
    """The windows of a batch. Raises ValueError for what no model says."""
    columns = {name: batch.column(name) for name in batch.schema.names}
    for row in range(batch.num_rows):
        first = columns["first"][row].as_py()
        ids, *known = (columns[name][row].values.to_numpy() for name in ("ids", *_KNOWN))
        n = len(ids) - (first or 0)
        top, logprobs, tail, target = known
        sizes = [len(top), len(logprobs), len(tail), len(target)]
        if not first or n < 1 or sizes != [n * k, n * k, n, n]:
            raise ValueError(f"window {row + 1} has numbers of other positions")
        masses = np.concatenate([np.exp(logprobs), tail, np.exp(target)])
        if top.min() < 0 or top.max() >= vocabulary or not np.all((masses >= 0) & (masses <= _ONE)):
            raise ValueError(f"window {row + 1} holds no distributions")
        top, logprobs, tail, target = (torch.from_numpy(values.copy()) for values in known)
        parts = (top.long().view(n, k), logprobs.double().view(n, k))
        yield first, ids, Known(*parts, tail.double(), target.double())


def _fingerprint(uri: str) -> str:
    file = gguf_of(uri)
    return fingerprint(locate(uri) if file is None else file)
