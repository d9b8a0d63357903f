"""Columns, fields and types of JSONL that first come after the rows that were looked at."""

from __future__ import annotations

import re
from dataclasses import replace

import pyarrow as pa

from pomona.records.column_types import (
    all_types,
    in_parts,
    is_id,
    key_sign,
    natural_type,
    unseen,
    widen,
)
from pomona.records.parsing import ParsedRow, is_array, jsonl_rows, packs
from pomona.records.source import notes_between
from pomona.records.store import line_blocks
from pomona.records.text_source import PARTED, TextSource, rows_of, spelt_notes


def with_all_types(source: TextSource) -> TextSource:
    """A source of JSONL with the columns and types that all rows need, where only the first were
    looked at, and what files have otherwise by all rows too. All are parsed once; those that are
    malformed stay so.
    """
    if not source.sampled:
        return source
    found, ids = {one.name: one.type for one in source.schema}, dict[str, set[type]]()
    schemas = dict[str, pa.Schema]()
    for file in source.files:
        own = dict[str, pa.DataType]()
        for pack in packs(rows_of(file, source.kind), lambda _: None):
            rows = [row.values for row in pack]
            for name in source.parted:
                rows = [{**row, name: in_parts(row[name])} if name in row else row for row in rows]
            if source.chosen:
                rows = [{name: row[name] for name in found if name in row} for row in rows]
            own = all_types(own, rows)
            for name in filter(is_id, own):
                ids.setdefault(name, set()).update(type(row.get(name)) for row in rows)
        schemas[file] = pa.schema(list(own.items()))
        for name, kind in own.items():
            found[name] = widen(found.get(name, pa.null()), kind) or found[name]
    spelt = frozenset(name for name, kinds in ids.items() if {int, str} <= kinds)
    found |= dict.fromkeys(spelt, pa.string())
    schema = pa.schema(list(found.items()))
    notes = notes_between(schemas, schema) if len(schemas) > 1 else ()
    notes += spelt_notes(spelt, notes)
    notes += tuple(note for note in source.notes if note.endswith(PARTED))
    return replace(source, schema=schema, spelt=spelt, sampled=False, notes=notes)


def with_late_types(source: TextSource) -> TextSource:
    """A source of JSONL whose columns that were null in all of the first rows, or have fields or
    lists of which nothing else was seen, have the type of the values that come later.
    """
    found = {one.name: one.type for one in source.schema if unseen(one.name, one.type)}
    if source.kind != "jsonl" or any(map(is_array, source.files)):
        return source
    whole = {name for name, kind in found.items() if pa.types.is_null(kind)}
    for file in source.files if found else ():
        for block in line_blocks(file):
            signs = [sign for name, kind in found.items() for sign in unseen(name, kind)]
            # Whole numbers may be followed by others.
            signs += [key_sign(name, False) for name in whole if found[name] == pa.int64()]
            if not signs or not re.search(b"|".join(signs), block):
                continue
            parsed = jsonl_rows(block.split(b"\n"))
            rows = [one.values for one in parsed if isinstance(one, ParsedRow)]
            for name, kind in [*found.items()]:
                values = [row.get(name) for row in rows]
                values = [in_parts(one) for one in values] if name in source.parted else values
                found[name] = widen(kind, natural_type(values)) or kind
    fields = [pa.field(one.name, found.get(one.name, one.type)) for one in source.schema]
    return replace(source, schema=pa.schema(fields))
