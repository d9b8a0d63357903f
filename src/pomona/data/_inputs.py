"""What operations on data take: paths, globs, tables or records, opened and read file by file so
that errors and cards can name them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from pomona.errors import PomonaError
from pomona.records import Records, as_records, read

Inputs = str | Path | Sequence[str | Path] | pa.Table | Records


def opened(inputs: Inputs) -> Records:
    """The records of `inputs`."""
    return as_records(inputs) if isinstance(inputs, Records | pa.Table) else read(inputs)


def parts(records: Records) -> list[tuple[str, Records]]:
    """Each file with its rows, in order; the first rows only (`head`) are one part."""
    source = records._source
    if records._limit is not None:
        return [(source.where, records)]
    return [(part.where, replace(records, _source=part)) for part in source.parts()]


def need_text(records: Records, name: str, remedy: str = "name a column of strings") -> None:
    """Raise PomonaError when the column is missing or does not hold text."""
    kind = records.require(name).schema.field(name).type
    if not pa.types.is_string(kind):
        raise PomonaError(
            f'column "{name}" holds {kind}, not text', where=records._source.where, remedy=remedy
        )
