"""Sources Daft cannot read strictly enough, as a Daft scan with one task a file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from daft import DataFrame
from daft.io.source import DataSource, DataSourceTask
from daft.recordbatch import RecordBatch
from daft.schema import Schema

from pomona.records._source import Source


class _Task(DataSourceTask):
    def __init__(self, part: Source) -> None:
        self.part = part

    @property
    def schema(self) -> Schema:
        return Schema.from_pyarrow_schema(self.part.schema)

    async def read(self) -> AsyncIterator[RecordBatch]:
        for batch in self.part.stream(self.part.schema.names, None):
            yield RecordBatch.from_arrow_record_batches([batch], batch.schema)


class _Scan(DataSource):
    def __init__(self, source: Source) -> None:
        self.source = source

    @property
    def name(self) -> str:
        return self.source.where

    @property
    def schema(self) -> Schema:
        return Schema.from_pyarrow_schema(self.source.schema)

    async def get_tasks(self, pushdowns: Any) -> AsyncIterator[DataSourceTask]:
        for part in self.source.parts():
            yield _Task(part)


def scan(source: Source) -> DataFrame:
    """`source` as a lazy Daft frame."""
    return _Scan(source).read()
