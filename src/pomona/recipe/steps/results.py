"""What a finished step left, read back: a file that is damaged is named with the folder to delete,
so that the step alone is done anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pomona.documents import read_json
from pomona.errors import PomonaError, first_line
from pomona.files import read_array, write_json

if TYPE_CHECKING:
    from pydantic import TypeAdapter

SERVING = "serving.json"
BEGUN = "begun.parquet"  # what the answers to items begin with already
NOTE = "step.json"  # written last in the folder of every result
T = TypeVar("T")


@dataclass(frozen=True)
class Serving:
    """What `serving.json` says of a step that works on the items which are answered: FLOPs of
    answering one, FLOPs of making what that needs beside a model, and the bytes of it; tokens put
    through models for one item, what they cost, and seconds. What is not known is None; without
    tokens nothing is paid, and seconds that are not said are the step's own.
    """

    flops_per_item: float | None
    flops_once: float | None = 0.0
    bytes: int | None = 0
    tokens_per_item: float | None = 0.0
    money_per_item: float | None = None
    seconds_per_item: float | None = None


def with_seconds(serving: Serving, more: float) -> Serving:
    """The same taking so many seconds more an item."""
    known = serving.seconds_per_item
    return replace(serving, seconds_per_item=None if known is None else known + more)


def write_serving(folder: Path, serving: Serving) -> None:
    """Write it beside the rest of a result."""
    write_json(folder / SERVING, asdict(serving))


def read_serving(folder: Path) -> Serving:
    """What answering with this step costs; nothing where it says nothing."""
    path = folder / SERVING
    return read_result(path, Serving) if path.is_file() else Serving(0.0)


def _again(path: Path) -> str:
    """What to do about a damaged file in the result of a step."""
    folder = next((one for one in path.parents if (one / NOTE).is_file()), path.parent)
    return f"delete {folder} and run again: only what it holds is made anew"


@cache
def _adapter(kind: type[T]) -> TypeAdapter[T]:
    """What checks a kind of result; to make one takes longer than to use it."""
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def read_result(path: Path, kind: type[T]) -> T:
    """The JSON in `path` as `kind`, every field of it given. Raises PomonaError."""
    from pydantic import ValidationError

    remedy = _again(path)
    value = read_json(path, top=None, remedy=remedy)
    names = [field.name for field in fields(kind)] if is_dataclass(kind) else []
    try:
        if missing := [name for name in names if name not in value]:
            raise PomonaError(f"`{missing[0]}` is missing", where=path, remedy=remedy)
        return _adapter(kind).validate_python(value)
    except (ValidationError, TypeError) as error:
        told = error.errors()[0] if isinstance(error, ValidationError) else None
        key = ".".join(map(str, told["loc"])) if told else ""
        message = f"`{key}`: {told['msg']}" if told and key else "is not what a step writes"
        raise PomonaError(message, where=path, remedy=remedy) from None


def read_rows(path: Path, *columns: str) -> pa.Table:
    """The table in `path`, with these columns. Raises PomonaError."""
    remedy = _again(path)
    try:
        table = pq.read_table(path, columns=list(columns) or None)
    except (pa.ArrowException, OSError) as error:
        message = f"cannot be read: {first_line(error)}"
        raise PomonaError(message, where=path, remedy=remedy) from None
    for name in columns:
        if name not in table.column_names:
            raise PomonaError(f'the column "{name}" is missing', where=path, remedy=remedy)
    return table


def statistics_name(place: int) -> str:
    """The file of the statistics of the task's first metric, or of another."""
    return f"statistics-{place}.npy" if place else "statistics.npy"


def read_statistics(path: Path, rows: int) -> NDArray[np.float64]:
    """Per-item statistics, float64 `[rows, k]`. Raises PomonaError."""
    try:
        values = np.array(read_array(path))
    except (ValueError, OSError) as error:
        message = f"cannot be read: {first_line(error)}"
        raise PomonaError(message, where=path, remedy=_again(path)) from None
    kind, shape = getattr(values, "dtype", None), getattr(values, "shape", ())
    if kind != np.float64 or len(shape) != 2 or shape[0] != rows or not np.isfinite(values).all():
        message = f"does not hold the statistics of {rows} items"
        raise PomonaError(message, where=path, remedy=_again(path))
    return values


@contextmanager
def made_here(*folders: Path) -> Iterator[None]:
    """Where a file in the result of a step is damaged, the remedy is not to download it again."""
    try:
        yield
    except PomonaError as error:
        for folder in folders:
            at = str(error.where).startswith(str(folder))
            if at and (folder / NOTE).is_file():
                raise PomonaError(
                    error.message, where=error.where, remedy=_again(folder / NOTE)
                ) from None
        raise
