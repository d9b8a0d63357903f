"""From tables to the items of an arena: pairs of completions to compare, single ones to rate."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from pomona.arena.annotating.people import is_tag, tag_of
from pomona.arena.annotating.queue import DRAWN
from pomona.arena.annotating.schema import items
from pomona.arena.annotating.store import Store
from pomona.errors import PomonaError
from pomona.records import RowName, Where, as_text, read_named
from pomona.text import base_tag

Item = dict[str, Any]
_PAIR = ("prompt", "model_a", "model_b", "completion_a", "completion_b")
_RATE = {"prompt": "prompt", "completion": "completion_a"}
_MORE = {"lang": "language", "item": "name", **{name: name for name in DRAWN}}
_CONTENT = ("kind", "language", *_PAIR)
_AT_ONCE = 500
_Name = tuple[str, frozenset[str | None]]


def read_pairs(table: Where) -> list[Item]:
    """The items of a table with the columns prompt, model_a, model_b, completion_a and
    completion_b, and optional lang, item, rank (the smallest is shown first), and propensity and
    available of a queue. A pair that stands there n times is for n people.

    Raises:
        PomonaError: there is no row, a column or a value is missing, both models are one, or two
            rows with the same item and models have other texts.
    """
    return _read(table, "pair", {name: name for name in _PAIR}, {})


def read_answers(table: Where) -> list[Item]:
    """The items of a table with the columns prompt and completion, and optional model and those of
    `read_pairs`: answers to rate. Raises as `read_pairs`.
    """
    return _read(table, "rate", _RATE, {"model": "model_a"})


def add_items(store: Store, given: Sequence[Item], overlap: int) -> int:
    """Add items, each for `overlap` people, and say how many are new. What is there already stays
    as it is, but for what a queue says of it, and where these are more people.

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
    records = read_named(table, "table").complete(*needed)
    where = records.source.where
    known = {**needed, **optional, **_MORE}
    columns = [name for name in known if name in records.column_names]
    found: list[Item] = []
    often, named = Counter[str](), dict[_Name, str]()
    for batch in records.select(*columns).batches():
        texts = [as_text(batch.column(name)).to_pylist() for name in columns]
        for values in zip(*texts, strict=True):
            name = RowName(records, len(found))
            given = {known[name]: value for name, value in zip(columns, values, strict=True)}
            item = _item(kind, given, [known[name] for name in needed], name, len(found) + 1)
            _compare(named, item, name)
            often[item["same"]] += 1
            found.append({**item, "key": f"{item['same']}-{often[item['same']]}"})
    if not found:
        raise PomonaError("holds no rows", where=where, remedy="give a table with rows")
    return found


def _item(kind: str, given: dict[str, Any], needed: Sequence[str], place: object, row: int) -> Item:
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
    if language and not is_tag(tag_of(language)):
        message, remedy = f'lang is "{language[:40]}", no tag', "write en, pt-BR, or leave it empty"
        raise PomonaError(message, where=place, remedy=remedy)
    item = {name: given.get(name) for name in _CONTENT} | {"kind": kind, "language": language}
    item |= {
        "tag": language and tag_of(language),
        "base": language and base_tag(language),
        "rank": _number(given, "rank", place, float(row)),
        "propensity": _number(given, "propensity", place, None),
        "available": _number(given, "available", place, None),
    }
    sides = [(item["model_a"] or "", item["completion_a"])]
    sides += [(item["model_b"], item["completion_b"])] if kind == "pair" else []
    sides.sort()  # whichever stands first, it is the same pair
    about = [kind, language, item["prompt"]]
    item["name"] = given.get("name") or _hashed([*about, [model for model, _ in sides]])
    item["same"] = _hashed([*about, sides, given.get("name")])
    return item


def _hashed(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:24]


def _number(
    given: Mapping[str, Any], name: str, place: object, default: float | None
) -> float | None:
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
    names, keys = ({item[column] for item in given} for column in ("name", "key"))
    same = select(items.c.name, items.c.model_a, items.c.model_b, items.c.same)
    named = {
        _name(row._asdict()): row.same for row in to.execute(same.where(items.c.name.in_(names)))
    }
    for item in given:
        _compare(named, item, where)
    told = *DRAWN, "overlap"
    kept = select(items.c.key, *(items.c[name] for name in told)).where(items.c.key.in_(keys))
    there = {row.key: row for row in to.execute(kept)}
    # Who starts again without --overlap does not want fewer people than before.
    given = [
        {**item, "overlap": max(overlap, getattr(there.get(item["key"]), "overlap", 0))}
        for item in given
    ]
    new = [{**item, "taken": 0, "open": True} for item in given if item["key"] not in there]
    if new:
        to.execute(insert(items), new)
    moved = [
        {"of": item["key"]} | {f"to_{name}": item[name] for name in told}
        for item in given
        if item["key"] in there
        and tuple(there[item["key"]])[1:] != tuple(item[name] for name in told)
    ]
    if moved:
        values: dict[str, Any] = {name: bindparam(f"to_{name}") for name in told}
        values["open"] = items.c.taken < bindparam("to_overlap")
        to.execute(update(items).where(items.c.key == bindparam("of")).values(values), moved)
    return len(new)


def _name(item: Mapping[str, Any]) -> _Name:
    return item["name"], frozenset((item["model_a"], item["model_b"]))


def _compare(named: dict[_Name, str], item: Item, place: object) -> None:
    """Note what an item of these models with this name asks; PomonaError where that was other."""
    if named.setdefault(_name(item), item["same"]) != item["same"]:
        message = f'item "{item["name"]}" is there already with another prompt, answer or language'
        raise PomonaError(message, where=place, remedy="give the item another name")
