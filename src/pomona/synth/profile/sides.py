"""What is profiled: the texts of a table with what is known of each, or a model's answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pomona.errors import PomonaError
from pomona.records import Records, Where, as_records, as_text, read

USUAL = ("text", "completion", "answer", "translation")
Labels = NDArray[Any]


@dataclass(frozen=True)
class TextColumns:
    """Which columns hold what.

    Args:
        column: Column of texts, or of lists of texts such as candidates; text, completion, answer
            or translation, whichever there is first, when left out.
        lang: Column of languages, which syllables are counted by; lang where there is one. Without
            it Latin letters are taken for English.
        group: Column by which figures are shown as well.
        cluster: Column of what hangs together and is drawn together for intervals; where prompts
            have several answers, the prompt.
        id: Column that says which rows of two tables belong together; id where both have one and
            share some.
        prompt: Column of prompts, or of their ids: rows with the same are answers to one; of a
            column of lists each row is one.
        confidence: Column of confidences, from 0 to 1, for the calibration error.
        correct: Column that says whether each answer was right, for the calibration error.
    """

    column: str | None = None
    lang: str | None = None
    group: str | None = None
    cluster: str | None = None
    id: str | None = None
    prompt: str | None = None
    confidence: str | None = None
    correct: str | None = None


@dataclass(frozen=True, eq=False)
class Side:
    """Texts with their labels, each an array of objects `[n]`, null where there is no such column.
    `rows` are their places in the table, from 1; `numbers` its columns of numbers by name.
    """

    name: str
    records: Records
    texts: list[str]
    rows: NDArray[np.intp]
    langs: Labels | None = None
    groups: Labels | None = None
    clusters: Labels | None = None
    ids: Labels | None = None
    prompts: Labels | None = None
    numbers: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    paths: Sequence[str] = ()
    unanswered: int = 0  # rows of the table without a text

    def row_name(self, place: int) -> str:
        """How errors name the row of a text."""
        return self.records.row_name(int(self.rows[place]) - 1)

    @property
    def several(self) -> bool:
        """Whether a prompt has several answers."""
        return self.prompts is not None and len(set(self.prompts.tolist())) < len(self.prompts)


def read_side(
    source: Where | Records,
    columns: TextColumns,
    numbers: Sequence[str],
    name: str | None = None,
    *,
    answered: bool = False,
) -> Side:
    """The texts of a table; with `answered` those of rows that have some. Raises PomonaError for a
    column that is missing or of another type, and for a row without a value.
    """
    records = as_records(source) if isinstance(source, Records | pa.Table) else read(source)
    where = str(records.source.where)
    names = records.column_names
    column = columns.column or next((one for one in USUAL if one in names), None)
    if column is None:
        remedy = f"name it: --column {names[0]}" if names else "give a table with texts"
        raise PomonaError(f"has no column {', '.join(USUAL)}", where=where, remedy=remedy)
    wanted = {name: getattr(columns, name) for name in ("lang", "group", "cluster", "id", "prompt")}
    wanted |= {
        name: name
        for name in ("lang", "id", "prompt")
        if wanted[name] is None and name != column and _names(records, name)
    }
    given = [each for each in wanted.values() if each is not None]
    asked = [each for name in wanted if (each := getattr(columns, name)) in given]
    records.require(column, *asked, *numbers)
    if not answered and pa.types.is_string(records.schema.field(column).type):
        records = records.complete(*asked, *numbers, texts=[column])
    records = records.select(*dict.fromkeys([column, *given, *numbers]))
    table = records.to_table()
    if table.num_rows == 0:
        raise PomonaError("has no rows", where=where, remedy="give a table with texts")
    texts, rows = _texts(records, table, column, answered=answered)
    labels: dict[str, Labels | None] = {}
    for what, each in wanted.items():
        # Nobody named a column that is used because of its name: with nulls it is not used, except
        # that single rows may have no language
        strict = records if getattr(columns, what) is not None else None
        known = None if each is None else _labels(table, each, strict, nulls=what == "lang")
        labels[what] = None if known is None else known[rows]
    if len(rows) != table.num_rows and columns.prompt is None:
        labels["prompt"] = (rows + 1).astype(object) if labels["id"] is None else labels["id"]
    side = Side(
        name or _name(source, where),
        records,
        texts,
        rows + 1,
        labels["lang"],
        labels["group"],
        labels["cluster"],
        labels["id"],
        labels["prompt"],
        {each: _numbers(records, table, each)[rows] for each in numbers},
        records.paths,
        table.num_rows - len(np.unique(rows)),
    )
    if side.clusters is None and side.several:
        side = replace(side, clusters=side.prompts)
    return side


def _name(source: Any, where: str) -> str:
    return str(source) if isinstance(source, str | Path) else where


def _texts(
    records: Records, table: pa.Table, column: str, *, answered: bool
) -> tuple[list[str], NDArray[np.intp]]:
    """The texts, and the row of each; with `answered` nulls are left out."""
    values, kind = table.column(column), table.schema.field(column).type
    where = str(records.source.where)
    listed = pa.types.is_list(kind) and pa.types.is_string(kind.value_type)
    if not pa.types.is_string(kind) and not listed:
        remedy = "name a column of texts, or of lists of texts: --column NAME"
        raise PomonaError(f'column "{column}" holds {kind}, not text', where=where, remedy=remedy)
    try:
        told = values.to_pylist()
    except UnicodeDecodeError as error:
        remedy = "decode the texts with their own encoding first"
        message = f'column "{column}" is not valid UTF-8'
        raise PomonaError(message, where=where, remedy=remedy) from error
    texts: list[str] = []
    rows: list[int] = []
    for row, value in enumerate(told):
        several = value if isinstance(value, list) else [value]
        for text in several:
            if text is None and answered:
                continue
            if text is None:
                raise _null(column, records, row)
            texts.append(text)
            rows.append(row)
    if not texts:
        raise PomonaError(f'column "{column}" has no texts', where=where, remedy="give some")
    return texts, np.array(rows, np.intp)


def _names(records: Records, column: str) -> bool:
    """Whether there is such a column of texts or whole numbers."""
    if column not in records.column_names:
        return False
    kind = records.schema.field(column).type
    return pa.types.is_string(kind) or pa.types.is_integer(kind)


def _labels(
    table: pa.Table, column: str, strict: Records | None, *, nulls: bool = False
) -> Labels | None:
    """The values as texts; with a null that must not be None, or where it is `strict` an
    error.
    """
    values = as_text(table.column(column).combine_chunks()).to_pylist()
    if None in values and not nulls:
        if strict is None:
            return None
        raise _null(column, strict, values.index(None))
    told = np.empty(len(values), dtype=object)
    told[:] = values
    return told


def _numbers(records: Records, table: pa.Table, column: str) -> NDArray[np.float64]:
    values = table.column(column).to_pylist()
    told = np.empty(len(values))
    for row, value in enumerate(values):
        if value is None:
            raise _null(column, records, row)
        word = str(value).strip().lower()
        try:
            told[row] = {"true": 1.0, "false": 0.0}[word] if word in ("true", "false") else word
        except ValueError as error:
            message = f'column "{column}" is "{str(value)[:40]}", which is no number'
            at = records.row_name(row)
            raise PomonaError(message, where=at, remedy="give numbers") from error
    return told


def _null(column: str, records: Records, row: int) -> PomonaError:
    message = f'column "{column}" is null'
    return PomonaError(message, where=records.row_name(row), remedy="fill it, or leave it out")
