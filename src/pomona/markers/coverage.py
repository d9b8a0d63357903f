"""`report`: of how many rows each marker is known, by what, and what is rare."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute

from pomona._version import __version__
from pomona.documents import parse_json
from pomona.errors import PomonaError
from pomona.files import check_into
from pomona.markers.chats import Side, texts_of
from pomona.markers.columns import BY, FORM, PREFIX, SURE, opened, tagged
from pomona.markers.measures import token_counter
from pomona.markers.results import PAGE, Coverage, Report
from pomona.markers.training import bare_rows
from pomona.places import check_outputs
from pomona.records import Records, Where

pc: Any = pyarrow.compute  # its stubs lack most functions


_MOST = 1000  # values that are listed


def report(
    inputs: Where | Records,
    *,
    tail: float = 0.05,
    tokenizer: str | None = None,
    page: Path | None = None,
) -> Report:
    """Say of how many rows each marker is known, by what and how surely, and which values are rare.

    Args:
        inputs: Rows that `pomona markers tag` wrote.
        tail: A value is in the tail where less than this share of the rows have it.
        tokenizer: Model or tokenizer.json that counts what the lists cost, of what `pomona markers
            apply` wrote.
        page: Folder for a page with a picture, and with the values of each marker.

    Raises:
        PomonaError: the rows have no tags, `tail` is no share, there are no lists to count, or the
            page would replace something else.
    """
    if not 0 < tail < 1:
        raise PomonaError(f"{tail} is no share", where="--tail", remedy="give more than 0, below 1")
    records = opened(inputs)
    check_outputs({"--page": page}, records.paths, folders=["--page"])
    if page is not None:
        check_into(page, [PAGE])
    names = tagged(records)
    columns = [PREFIX + name + end for name in names for end in ("", BY, SURE)]
    table = records.select(*columns).to_table()
    # A file of JSON has no type where nothing is known.
    ends = {BY: pa.string(), SURE: pa.float64()}
    for place, column in enumerate(columns):
        kind = ends.get(column[len(PREFIX + names[place // 3]) :], table[column].type)
        kind = pa.string() if pa.types.is_null(kind) else kind
        table = table.set_column(place, column, table[column].cast(kind))
    found = tuple(_coverage(table, name, tail) for name in names)
    counted = "" if tokenizer is None else f"|tokenizer:{tokenizer}"
    signature = f"markers report|tail:{tail:g}{counted}|version:{__version__}"
    cost = None if tokenizer is None else _cost(records, tokenizer)
    told = Report(table.num_rows, found, tail, cost, signature)
    if page is not None:
        from pomona.markers.page import write_page

        write_page(told, page)
    return told


def _cost(records: Records, tokenizer: str) -> dict[str, float]:
    """Mean tokens of prompts and answers without lists, and of the lists."""
    where, remedy = str(records.source.where), "count the rows that pomona markers apply wrote"
    if FORM not in records.column_names:
        raise PomonaError("has no lists to count", where=where, remedy=remedy)
    count, table = token_counter(tokenizer), records.to_table()
    if not table.num_rows:
        raise PomonaError("has no rows", where=where, remedy=remedy)
    told, bare = parse_json(table[FORM][0].as_py().encode(), where), bare_rows(table, [])
    found: dict[str, float] = {}
    sides: tuple[tuple[Side, str], ...] = (("prompt", "prompt"), ("answer", "completion"))
    for name, kind in sides:
        alone = name == "prompt" and told["prompt"] != told["completion"]
        texts = [
            texts_of(rows[told[kind]].combine_chunks(), name, alone=alone).to_pylist()
            for rows in (bare, table)
        ]
        without, with_ = (sum(count(several)) / len(several) for several in texts)
        found |= {name: without, f"{name}_list": with_ - without}
    whole = found["prompt"] + found["answer"]
    lists = found["prompt_list"] + found["answer_list"]
    return {**found, "times": 1 + lists / whole if whole else 1.0}


def _coverage(table: pa.Table, name: str, tail: float) -> Coverage:
    values, n = table[PREFIX + name], table.num_rows
    known = n - values.null_count
    by = Counter(_counted(table[PREFIX + name + BY]))
    number = not pa.types.is_string(values.type)
    counts = None if number else _counted(values)
    rare = {one: count for one, count in (counts or {}).items() if count < tail * known}
    quantiles = None
    if number and known:
        places = (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)
        cuts = pc.quantile(values, list(places)).to_pylist()
        quantiles = {f"{place:g}": cut for place, cut in zip(places, cuts, strict=True)}
    listed = None if counts is None else dict(list(counts.items())[:_MOST])
    return Coverage(
        name, known, known / n if n else None, dict(by.most_common()),
        pc.mean(table[PREFIX + name + SURE]).as_py(), listed, quantiles,
        dict(list(rare.items())[-_MOST:]), sum(rare.values()),
    )  # fmt: skip


def _counted(values: pa.ChunkedArray) -> dict[str, int]:
    counts = pc.value_counts(values.drop_null()).to_pylist()
    ranked = sorted(counts, key=lambda one: (-one["counts"], one["values"]))
    return {one["values"]: one["counts"] for one in ranked}
