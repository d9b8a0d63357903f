"""The one door to Daft: telemetry off, the runner chosen once, Records in and out as Daft frames
for the levers.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from pomona.errors import PomonaError
from pomona.records._parquet import ParquetSource
from pomona.records._source import Source, Streamed, TableSource, kept
from pomona.records._store import is_remote
from pomona.records._types import plain

if TYPE_CHECKING:
    from daft import DataFrame

ENGINES = ("native", "ray")
_OFF = {
    "DO_NOT_TRACK": "1",
    "SCARF_NO_ANALYTICS": "1",
    "DAFT_ANALYTICS_ENABLED": "0",
    "DAFT_PROGRESS_BAR": "0",
}
_OURS = re.compile(r"\b(?:PomonaError|ResourceError): (.*)", re.DOTALL)


def check(engine: str | None) -> str:
    """The engine's name. Raises PomonaError when it is unknown or not installed."""
    name = engine or "native"
    if name not in ENGINES:
        raise PomonaError(
            f'there is no engine "{name}"', remedy=f"choose one of: {', '.join(ENGINES)}"
        )
    if name == "ray" and importlib.util.find_spec("ray") is None:
        raise PomonaError("the ray engine is not installed", remedy="pip install 'pomona[ray]'")
    return name


def daft(engine: str = "native") -> Any:
    """The daft module, quiet, with its runner set. Raises PomonaError when the process already runs
    another engine.
    """
    os.environ.update(_OFF)
    import daft as module

    current = module.runners._get_runner()
    if current is None:
        module.set_runner_ray(
            noop_if_initialized=True
        ) if engine == "ray" else module.set_runner_native()
    elif current.name != engine:
        message = f"this process already runs the {current.name} engine"
        raise PomonaError(
            message, remedy=f"use one engine in a process; start another for {engine}"
        )
    return module


def to_frame(source: Source, engine: str = "native") -> DataFrame:
    """`source` as a lazy Daft frame. Daft's native runner holds a file's rows in memory: stream
    where memory matters.
    """
    module = daft(engine)
    if isinstance(source, FrameSource):
        return source.frame
    if isinstance(source, TableSource):
        return module.from_arrow(source.table.cast(source.schema))
    if isinstance(source, ParquetSource):
        for file in source.files:
            source.fragment(file)
        return module.read_parquet(
            [_literal(file) for file in source.files], io_config=_s3(module, source.where)
        )
    from pomona.records._scan import scan

    return scan(source)


def _literal(path: str) -> str:
    return path if is_remote(path) else re.sub(r"([*?\[\]{}])", r"\\\1", os.path.abspath(path))  # noqa: PTH100


def _s3(module: Any, uri: str) -> Any:
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if not is_remote(uri) or not endpoint:
        return None
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    return module.io.IOConfig(s3=module.io.S3Config(endpoint_url=endpoint, region_name=region))


@contextmanager
def translated() -> Iterator[None]:
    """Give an error that crossed Daft its own words back."""
    try:
        yield
    except PomonaError:
        raise
    except Exception as error:
        ours = _OURS.search(str(error))
        if ours is None:
            raise
        raise PomonaError(ours[1].strip()) from error


@dataclass(frozen=True)
class FrameSource(Streamed):
    """The result of a Daft computation, not yet run."""

    frame: Any
    where: str = "the table"

    @property
    def schema(self) -> pa.Schema:
        return plain(self.frame.schema().to_pyarrow_schema())

    def stream(
        self, columns: Sequence[str], keep: pc.Expression | None
    ) -> Iterator[pa.RecordBatch]:
        with translated():
            for batch in self.frame.to_arrow_iter(results_buffer_size=1):
                yield kept(batch.cast(self.schema), keep)
