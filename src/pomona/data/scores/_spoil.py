"""Spoilt copies of a table's rows, and the table with them behind it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from pomona.data.scores._input import Layout, chunks
from pomona.data.scores._probes import Probes, make_probes
from pomona.errors import PomonaError
from pomona.records import Derived, Records
from pomona.tasks import fields_of


@dataclass(frozen=True)
class Spoilt:
    """Spoilt copies to score: `table` in the order of `kinds`, from which column, and rows and
    groups of the input.
    """

    table: pa.Table
    kinds: dict[str, Probes]
    corrupt: str
    rows: int
    groups: Counter[str]


@dataclass(frozen=True)
class Followed(Derived):
    """Records and, behind them, a table with the same columns."""

    table: pa.Table

    def stream(
        self, columns: Sequence[str], keep: pc.Expression | None
    ) -> Iterator[pa.RecordBatch]:
        yield from self.records.batches()
        yield from self.table.cast(self.schema).to_batches()


def spoil(
    records: Records, source: str, layout: Layout, corrupt: str | None, n: int, seed: int
) -> Spoilt:
    """Read what is to be spoilt, spoil `n` pairs either way, and put them into copies of their
    rows.

    Raises PomonaError when a row lacks something, there are too few, or one column must be named.
    """
    assert layout.prompt is not None and layout.completion is not None
    label = _only(layout.completion, records, "completion", "give a column, or a template of one")
    corrupt = corrupt or _only(layout.prompt, records, "prompt", "name the one to spoil: corrupt")
    if corrupt not in _fields(layout.prompt, records) or corrupt == label:
        raise PomonaError(
            f'"{corrupt}" is not a column of the prompt alone',
            where="corrupt",
            remedy=f"it is {layout.prompt!r}",
        )
    texts, labels, groups = [], [], []
    for rows in chunks(records, Layout("", corrupt, label, None, layout.group), source):
        texts += rows.prompts or []
        labels += rows.texts
        groups += rows.groups or []
    kinds = make_probes(texts, labels, n=n, groups=groups or None, seed=seed)
    copies = records.select(*layout.columns(records)).to_table()
    parts = []
    for probes in kinds.values():
        part = copies.take(probes.rows)
        for name, values in ((corrupt, probes.inputs), (label, probes.completions)):
            part = part.set_column(
                part.column_names.index(name), pa.field(name, pa.string()), pa.array(values)
            )
        parts.append(part)
    return Spoilt(pa.concat_tables(parts), kinds, corrupt, len(texts), Counter(groups))


def _fields(part: str, records: Records) -> set[str]:
    return {part} if part in records.column_names else fields_of(part)


def _only(part: str, records: Records, where: str, remedy: str) -> str:
    names = sorted(_fields(part, records))
    if len(names) != 1:
        raise PomonaError(f"{part!r} has {len(names)} columns", where=where, remedy=remedy)
    return names[0]
