"""What is known of models beside their votes: who made them, what they are variants of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pomona.arena.votes import Votes
from pomona.errors import PomonaError, nearest
from pomona.records import Records, RowName, Where, as_text, read_named

_KNOWN = {
    "organisation": ("organisation", "organization", "org", "provider"),
    "licence": ("licence", "license"),
    "family": ("family",),
    "checkpoint": ("checkpoint",),
    "submitted": ("submitted", "variants"),
    "retired": ("retired", "deprecated"),
}
_MODEL = ("model", "name", "key", "model_name")
_NO = {"", "no", "false", "0", "none", "null"}


@dataclass(frozen=True)
class Known:
    """What a table tells of the models that have votes; None where it has no such column, and no
    entry where a cell is empty.

    organisation: who made it. family: the variants it was chosen from. checkpoint: its weights.
    submitted: how many variants were tried before it was published, itself among them.
    retired: whether it is no longer shown.
    """

    organisation: dict[str, str] | None = None
    family: dict[str, str] | None = None
    checkpoint: dict[str, str] | None = None
    submitted: dict[str, int] | None = None
    retired: dict[str, bool] | None = None


def known_models(votes: Votes, table: Where | None) -> Known:
    """What a table of models says; and where it does not, organisations of the columns
    organisation_a and organisation_b of the votes.

    Raises:
        PomonaError: the table cannot be read, names no models, one twice, none that has votes, or a
            number of variants that is none.
    """
    told = {} if table is None else _read(votes, table)
    if told.get("organisation") is None and (of := _of_votes(votes)) is not None:
        told["organisation"] = of
    return Known(**told)


def made_by(table: Where | None) -> dict[str, dict[str, str | None]]:
    """Organisation and licence of each model of a table, None where it does not say.

    Raises:
        PomonaError: the table cannot be read, names no models, one twice with other facts, or
            neither organisations nor licences.
    """
    if table is None:
        return {}
    records, rows, columns, _ = _table(table)
    kinds = ("organisation", "licence")
    if not any(kind in columns for kind in kinds):
        message, remedy = "needs the columns model, and organisation or licence", "add one of them"
        raise PomonaError(message, where=records.source.where, remedy=remedy)
    return {
        name: {kind: (columns[kind][row] if kind in columns else "") or None for kind in kinds}
        for name, row in rows.items()
    }


def _table(
    table: Where,
) -> tuple[Records, dict[str, int], dict[str, list[str]], dict[str, str | None]]:
    """A table of models, the row of each model, the known columns that it has,
    their cells without blanks around them, and what the table calls these.
    """
    records = read_named(table, "models")
    where, whole = records.source.where, records.to_table()
    there = {name.lower(): name for name in reversed(whole.column_names)}
    own = {
        known: next((there[name] for name in names if name in there), None)
        for known, names in {"model": _MODEL, **_KNOWN}.items()
    }
    if own["model"] is None:
        remedy = nearest("model", whole.column_names)
        raise PomonaError('there is no column "model"', where=where, remedy=remedy)
    models = as_text(whole[own.pop("model") or ""]).to_pylist()
    columns = {
        known: [(cell or "").strip() for cell in as_text(whole[name]).to_pylist()]
        for known, name in own.items()
        if name is not None
    }
    rows: dict[str, int] = {}
    for row, name in enumerate(one or "" for one in models):
        first = rows.setdefault(name, row)
        if any(cells[row] != cells[first] for cells in columns.values()):
            too = records.other_row(first, row)
            message = f'"{name[:60]}" stands in {too} too, and says otherwise'
            raise PomonaError(
                message, where=records.row_name(row), remedy="give each model one row"
            )
    return records, rows, columns, own


def _read(votes: Votes, table: Where) -> dict[str, Any]:
    records, there, columns, own = _table(table)
    rows = {name: there[name] for name in votes.models if name in there}
    if not rows:
        message = f'none of its models has votes, such as "{votes.models[0][:60]}"'
        where = records.source.where
        raise PomonaError(message, where=where, remedy="write names as the votes do")
    told: dict[str, Any] = {}
    for known, values in columns.items():
        cells = {name: values[row] for name, row in rows.items() if values[row]}
        if known == "retired":
            told[known] = {name: values[row].lower() not in _NO for name, row in rows.items()}
        elif known == "submitted":
            told[known] = {
                name: _number(cell, RowName(records, rows[name]), own[known])
                for name, cell in cells.items()
            }
        elif known != "licence":
            told[known] = cells
    return told


def _number(cell: str, where: object, column: str | None) -> int:
    try:
        value = float(cell)
    except ValueError:
        value = -1.0
    if value < 1 or value != int(value):
        message, remedy = f'"{column}" is {cell[:40]}', "give a whole number from 1 on"
        raise PomonaError(message, where=where, remedy=remedy)
    return int(value)


def _of_votes(votes: Votes) -> dict[str, str] | None:
    """Organisations by columns of the votes, where each model has one."""
    found: dict[str, str] = {}
    for side, models in (("a", votes.a), ("b", votes.b)):
        names = (f"{name}_{side}" for name in _KNOWN["organisation"])
        column = next((one for one in names if one in votes.columns.column_names), None)
        if column is None:
            return None
        pairs = pa.table({"model": models, "of": as_text(votes.columns[column])})
        pairs = pairs.filter(pairs["of"].is_valid()).group_by(["model", "of"]).aggregate([])
        for model, of in zip(*(pairs[one].to_pylist() for one in ("model", "of")), strict=True):
            name = votes.models[model]
            if found.setdefault(name, of) != of:
                message = f'"{name[:60]}" is of "{found[name][:40]}" and of "{of[:40]}"'
                raise PomonaError(message, where=votes.where, remedy="name one organisation")
    return found


def grouped(of: dict[str, str], names: Sequence[str]) -> dict[str, list[int]]:
    """The models of each group, as places in `names`."""
    found: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        if name in of:
            found.setdefault(of[name], []).append(place)
    return dict(sorted(found.items()))
