"""What people said of rows: a column of the table, or of another one such as an audit's labels.csv,
joined by an id or by the text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from pomona.answers.categories import NONE, Definitions
from pomona.errors import PomonaError, quantity
from pomona.records import Records, TableSource, Where, as_records, as_text, read

AUDIT = ("number", "label", "offensive", "porn")  # columns of the labels.csv of `data audit`
_CUT, _ENDS = 2000, " […]"  # what an audit shows of a long text


@dataclass(frozen=True)
class HumanLabels:
    """Labels `[n]` with the places `[n]` of their rows in the table; how many of another table had
    no row, and how many rows of a text that is there more than once.
    """

    labels: tuple[str, ...]
    places: tuple[int, ...]
    unmatched: int = 0
    ambiguous: int = 0


def human_labels(
    table: pa.Table,
    where: str,
    human: str,
    *,
    column: str,
    labels: Where | None = None,
    id: str | None = None,
) -> HumanLabels:
    """The labels in the column `human` of the table, or of the table `labels`; empty ones are none.

    Rows are joined by the column `id`, or else by the text and, of an audit, its group. Raises
    PomonaError for a column that is missing, and where nothing is labelled or no row is found.
    """
    if labels is None:
        said = _said(Records.of(TableSource(table, where)), human)
        found = [(place, label) for place, label in enumerate(said) if label]
        if not found:
            remedy = "name the column in which people said it: --human COLUMN"
            raise PomonaError(f'column "{human}" has no labels', where=where, remedy=remedy)
        return HumanLabels(tuple(label for _, label in found), tuple(place for place, _ in found))
    records = as_records(labels) if isinstance(labels, pa.Table | Records) else read(labels)
    return _joined(table, records, human, column, id)


def _said(records: Records, human: str) -> list[str | None]:
    values = as_text(records.select(human).to_table().column(0).combine_chunks()).to_pylist()
    return [None if value is None else value.strip() or None for value in values]


def _joined(
    table: pa.Table, records: Records, human: str, column: str, id: str | None
) -> HumanLabels:
    where, said = str(records.source.where), _said(records, human)
    names = records.column_names
    audit = set(AUDIT) <= set(names)
    if id is not None:
        records.require(id)
        pairs = [(id, id)]
    else:
        text = "text" if audit or column not in names else column
        records.require(text)
        pairs = [(column, text)]
        if audit and names[1] in table.column_names and names[1] != column:
            pairs.append((names[1], names[1]))
    own = _keys(table, [one for one, _ in pairs])
    theirs = _keys(records.select(*(other for _, other in pairs)).to_table(), [o for _, o in pairs])
    places: dict[tuple[str, ...], int] = {}
    several: set[tuple[str, ...]] = set()
    for place, key in enumerate(own):
        if key in places:
            several.add(key)
        places.setdefault(key, place)
    labelled = [(label, key) for label, key in zip(said, theirs, strict=True) if label]
    if not labelled:
        remedy = "name the column in which people said it: --human COLUMN"
        raise PomonaError(f'column "{human}" has no labels', where=where, remedy=remedy)
    found = [(label, key) for label, key in labelled if key in places]
    if not found:
        message = f"of its {quantity(len(labelled), 'label')} none is of a row of the table"
        remedy = "name the column that both have: --id COLUMN"
        raise PomonaError(message, where=where, remedy=remedy)
    return HumanLabels(
        tuple(label for label, _ in found),
        tuple(places[key] for _, key in found),
        len(labelled) - len(found),
        len({key for _, key in found} & several),
    )


def _keys(table: pa.Table, names: Sequence[str]) -> list[tuple[str, ...]]:
    columns = [as_text(table.column(name).combine_chunks()).to_pylist() for name in names]
    return [tuple(map(_plain, values)) for values in zip(*columns, strict=True)]


def _plain(value: str | None) -> str:
    """A text as an audit shows it, however a spreadsheet writes its line ends or trims it."""
    text = (value or "").removesuffix(_ENDS)[:_CUT]
    return " ".join(text.removeprefix("'").split())


def several_in(label: str, definitions: Definitions) -> frozenset[str]:
    """The categories in a label of a row that may be in several: between plus signs, commas or
    semicolons, or in a JSON list. "none" and the name for the others are no category.
    """
    if label in definitions.categories:
        return frozenset([label])
    parts = (part.strip(' []"') for part in re.split(r"[+,;]", label))
    return frozenset(parts) - {"", NONE, definitions.otherwise or NONE}
