"""From tables to the items of an arena: pairs of completions to compare, single ones to rate."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from pomona.arena.annotating.people import tag_of
from pomona.arena.annotating.schema import items
from pomona.arena.annotating.store import Store
from pomona.errors import PomonaError
from pomona.records import Where, as_text, read
from pomona.text import base_tag

Item = dict[str, Any]
_PAIR = ("prompt", "model_a", "model_b", "completion_a", "completion_b")
_RATE = {"prompt": "prompt", "completion": "completion_a"}
_MORE = {"lang": "language", "item": "name", "rank": "rank", "propensity": "propensity"}
_CONTENT = ("kind", "language", *_PAIR)
_AT_ONCE = 500


def read_pairs(table: Where) -> list[Item]:
    """The items of a table with the columns prompt, model_a, model_b, completion_a and
    completion_b, and optional lang, item, rank (the smallest is shown first) and propensity.

    Raises:
        PomonaError: there is no row, a column or a value is missing, both models are one, or two
            rows are one item with other texts.
    """
    return _read(table, "pair", {name: name for name in _PAIR}, {})


def read_answers(table: Where) -> list[Item]:
    """The items of a table with the columns prompt and completion, and optional model and those of
    `read_pairs`: answers to rate. Raises as `read_pairs`.
    """
    return _read(table, "rate", _RATE, {"model": "model_a"})


def add_items(store: Store, given: Sequence[Item], overlap: int) -> int:
    """Add items, each for `overlap` people, and say how many are new. What is there already stays
    as it is, but for its rank and propensity.

    Raises PomonaError when an item is there with other texts; nothing is added then.
    """
    new = 0
    with store.writing() as to:
        for start in range(0, len(given), _AT_ONCE):
            new += _enter(to, given[start : start + _AT_ONCE], overlap, store.where)
    return new


def _read(
    table: Where, kind: str, needed: Mapping[str, str], optional: Mapping[str, str]
) -> list[Item]:
    records = read(table).require(*needed)
    where = next(iter(records.paths), "table")
    known = {**needed, **optional, **_MORE}
    columns = [name for name in known if name in records.column_names]
    found: dict[str, Item] = {}
    row = 0
    for batch in records.select(*columns).batches():
        texts = [as_text(batch.column(name)).to_pylist() for name in columns]
        for values in zip(*texts, strict=True):
            row += 1
            place = f"{where}, row {row}"
            given = {known[name]: value for name, value in zip(columns, values, strict=True)}
            item = _item(kind, given, [known[name] for name in needed], place, row)
            before = found.setdefault(item["name"], item)
            if before is not item:
                _compare(before, item, place)
    if not found:
        raise PomonaError("holds no rows", where=where, remedy="give a table with rows")
    return list(found.values())


def _item(kind: str, given: dict[str, Any], needed: Sequence[str], place: str, row: int) -> Item:
    for name, value in given.items():
        if name in needed and (value is None or (value == "" and name.startswith("model"))):
            raise PomonaError(f"{name} is missing", where=place, remedy="give it, or drop the row")
        if isinstance(value, str) and "\0" in value:
            message = f"{name} has the character NUL in it"
            raise PomonaError(message, where=place, remedy="no database keeps it: remove it")
    if kind == "pair" and given["model_a"] == given["model_b"]:
        remedy = "compare two models; `rate` takes single answers"
        raise PomonaError("both models are one", where=place, remedy=remedy)
    language = (given.get("language") or "").strip() or None
    item = {name: given.get(name) for name in _CONTENT} | {"kind": kind, "language": language}
    item |= {
        "tag": language and tag_of(language),
        "base": language and base_tag(language),
        "rank": _number(given, "rank", place, float(row)),
        "propensity": _number(given, "propensity", place, None),
    }
    content = json.dumps([item[name] for name in _CONTENT])
    item["name"] = given.get("name") or hashlib.sha256(content.encode()).hexdigest()[:20]
    return item


def _number(given: Mapping[str, Any], name: str, place: str, default: float | None) -> float | None:
    if given.get(name) in (None, ""):
        return default
    try:
        value = float(given[name])
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or (name == "propensity" and not 0 < value <= 1):
        remedy = "give a number above 0, at most 1" if name == "propensity" else "give a number"
        raise PomonaError(f'{name} is "{given[name]}"', where=place, remedy=remedy)
    return value


def _enter(to: Connection, given: Sequence[Item], overlap: int, where: str) -> int:
    names = [item["name"] for item in given]
    found = select(items.c.name, items.c.rank, items.c.propensity, *map(items.c.get, _CONTENT))
    there = {row.name: row._asdict() for row in to.execute(found.where(items.c.name.in_(names)))}
    for item in given:
        if item["name"] in there:
            _compare(there[item["name"]], item, where)
    new = [
        {**item, "overlap": overlap, "taken": 0, "open": True}
        for item in given
        if item["name"] not in there
    ]
    if new:
        to.execute(insert(items), new)
    if moved := list(_moved(given, there)):
        values = {"rank": bindparam("to_rank"), "propensity": bindparam("to_propensity")}
        to.execute(update(items).where(items.c.name == bindparam("of")).values(values), moved)
    return len(new)


def _moved(given: Sequence[Item], there: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for item in given:
        before = there.get(item["name"])
        if before and any(before[name] != item[name] for name in ("rank", "propensity")):
            of, rank, propensity = (item[name] for name in ("name", "rank", "propensity"))
            yield {"of": of, "to_rank": rank, "to_propensity": propensity}


def _compare(one: Mapping[str, Any], other: Mapping[str, Any], place: str) -> None:
    for name in _CONTENT:
        if one[name] != other[name]:
            message = f'item "{other["name"]}" is there already with another {name}'
            raise PomonaError(message, where=place, remedy="give the item another name")
