"""What is known of models beside their votes: who made them, what they are variants of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pomona.arena.votes import Votes
from pomona.errors import PomonaError, nearest
from pomona.records import Where, as_text, read

_KNOWN = {
    "model": ("model", "name", "key", "model_name"),
    "organization": ("organization", "organisation", "org", "provider"),
    "family": ("family",),
    "checkpoint": ("checkpoint",),
    "submitted": ("submitted", "variants"),
    "retired": ("retired", "deprecated"),
}
_NO = {"", "no", "false", "0", "none", "null"}


@dataclass(frozen=True)
class Known:
    """What a table tells of the models that have votes; None where it has no such column, and no
    entry where a cell is empty.

    organization: who made it. family: the variants it was chosen from. checkpoint: its weights.
    submitted: how many variants were tried before it was published, itself among them.
    retired: whether it is no longer shown.
    """

    organization: dict[str, str] | None = None
    family: dict[str, str] | None = None
    checkpoint: dict[str, str] | None = None
    submitted: dict[str, int] | None = None
    retired: dict[str, bool] | None = None


def known_models(votes: Votes, table: Where | None) -> Known:
    """What a table of models says; and where it does not, organizations of the columns
    organization_a and organization_b of the votes.

    Raises:
        PomonaError: the table cannot be read, names no models, one twice, none that has votes, or a
            number of variants that is none.
    """
    told = {} if table is None else _read(votes, table)
    if told.get("organization") is None and (of := _of_votes(votes)) is not None:
        told["organization"] = of
    return Known(**told)


def _read(votes: Votes, table: Where) -> dict[str, Any]:
    where = "models" if isinstance(table, pa.Table) else str(table)
    read_table = read(table).to_table()
    there = {name.lower(): name for name in reversed(read_table.column_names)}
    columns = {
        known: next((there[name] for name in names if name in there), None)
        for known, names in _KNOWN.items()
    }
    if (named := columns.pop("model")) is None:
        remedy = nearest("model", read_table.column_names)
        raise PomonaError('there is no column "model"', where=where, remedy=remedy)
    models = as_text(read_table[named]).to_pylist()
    seen: dict[str, int] = {}
    for row, name in enumerate(models):
        if name in seen:
            message = f'"{str(name)[:60]}" stands in row {seen[name] + 1} too'
            place = f"{where}, row {row + 1}"
            raise PomonaError(message, where=place, remedy="give each model one row")
        seen[name] = row
    rows = {name: seen[name] for name in votes.models if name in seen}
    if not rows:
        message = f'none of its models has votes, such as "{votes.models[0][:60]}"'
        raise PomonaError(message, where=where, remedy="write names as the votes do")
    told: dict[str, Any] = {}
    for known, column in columns.items():
        if column is None:
            continue
        values = as_text(read_table[column]).to_pylist()
        cells = {n: v for n, r in rows.items() if (v := (values[r] or "").strip())}
        if known == "retired":
            told[known] = {n: (values[r] or "").strip().lower() not in _NO for n, r in rows.items()}
        elif known == "submitted":
            told[known] = {
                name: _number(cell, f"{where}, row {rows[name] + 1}", column)
                for name, cell in cells.items()
            }
        else:
            told[known] = cells
    return told


def _number(cell: str, where: str, column: str) -> int:
    try:
        value = float(cell)
    except ValueError:
        value = -1.0
    if value < 1 or value != int(value):
        message, remedy = f'"{column}" is {cell[:40]}', "give a whole number from 1 on"
        raise PomonaError(message, where=where, remedy=remedy)
    return int(value)


def _of_votes(votes: Votes) -> dict[str, str] | None:
    """Organizations by columns of the votes, where each model has one."""
    found: dict[str, str] = {}
    for side, models in (("a", votes.a), ("b", votes.b)):
        names = (f"{name}_{side}" for name in _KNOWN["organization"])
        column = next((one for one in names if one in votes.columns.column_names), None)
        if column is None:
            return None
        pairs = pa.table({"model": models, "of": as_text(votes.columns[column])})
        pairs = pairs.filter(pairs["of"].is_valid()).group_by(["model", "of"]).aggregate([])
        for model, of in zip(*(pairs[one].to_pylist() for one in ("model", "of")), strict=True):
            name = votes.models[model]
            if found.setdefault(name, of) != of:
                message = f'"{name[:60]}" is of "{found[name][:40]}" and of "{of[:40]}"'
                raise PomonaError(message, where=votes.where, remedy="name one organization")
    return found


def grouped(of: dict[str, str], names: Sequence[str]) -> dict[str, list[int]]:
    """The models of each group, as places in `names`."""
    found: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        if name in of:
            found.setdefault(of[name], []).append(place)
    return dict(sorted(found.items()))
