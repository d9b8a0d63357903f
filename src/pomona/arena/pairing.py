"""Pairs of answers to the same items, for people or judges to compare."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pomona.errors import PomonaError, nearest
from pomona.records import Card, Input, Results, Where, as_text, read, read_named

# Of a table in memory: RUN#SYSTEM, how the system is called in the run, and its files.
_NAME, _SYSTEM, _FILES = b"pomona.name", b"pomona.system", b"pomona.files"
_ID = ("id", "item")
_ANSWER = ("prediction", "answer", "completion")
_PROMPT = ("input", "prompt", "source")
_LANG = ("lang", "group")


@dataclass(frozen=True)
class _Answers:
    """What one system answered, by the ids of the items."""

    name: str
    where: str
    texts: dict[str, str]
    prompts: dict[str, str]
    more: dict[str, dict[str, Any]]


def pairs(
    inputs: Sequence[Where],
    *,
    out: str | Path,
    per_item: int | None = None,
    same: bool = False,
    seed: int = 0,
) -> Card:
    """Pair the answers of several systems to the same items, for people or judges to compare.

    Each input holds the answers of one system: a table with the columns `id`, `prediction` (or
    `answer`) and `input` (or `prompt`), or a system of a finished run, RUN#SYSTEM. Items that two
    systems answered become a pair of these; which of the two comes first is random.

    Args:
        inputs: Answers of two systems or more.
        out: File to write, with the columns item, prompt, model_a, model_b, completion_a,
            completion_b and, where known, lang and cluster.
        per_item: At most so many pairs an item, drawn at random; all of them when left out.
        same: Also pairs of equal answers, which are ties without asking anybody.
        seed: Of what is random.

    Raises:
        PomonaError: fewer than two systems, two with one name, a column is missing, an id stands
            twice, an answer is null, or no item has two answers that differ.
    """
    if len(inputs) < 2:
        remedy = "name the answers of two systems or more"
        raise PomonaError("a pair needs two systems", where="inputs", remedy=remedy)
    if per_item is not None and per_item < 1:
        raise PomonaError(f"{per_item} pairs an item", where="per_item", remedy="give 1 or more")
    systems = [_read(one) for one in inputs]
    _refuse_alike(systems)
    table, equal = _paired(systems, per_item, same, np.random.default_rng(seed))
    if not len(table):
        message = f"no item has two answers that differ (equal pairs: {equal:,})"
        remedy = "give the answers of other systems to the same items, with the same ids"
        raise PomonaError(message, where=systems[1].where, remedy=remedy)
    paths = [path for one in inputs for path in _files(one)]
    with Results({"the pairs": out}, inputs=paths) as results:
        results.write("the pairs", read(table))
        card = Card(
            "arena pairs",
            {"per_item": per_item, "same": same, "seed": seed},
            tuple(Input(one.where, len(one.texts), None) for one in systems),
            sum(len(one.texts) for one in systems),
            len(table),
            details={"models": [one.name for one in systems], "equal": equal},
        )
        return results.publish(card)


def _read(given: Where) -> _Answers:
    source = read(given)
    told = (
        str(given) if isinstance(given, str | Path) else _told(given, _NAME) or source.source.where
    )
    columns = {
        "id": _column(_ID, source.column_names, told),
        "answer": _column(_ANSWER, source.column_names, told),
        "prompt": _column(_PROMPT, source.column_names, told),
    }
    others = {"lang": _first(_LANG, source.column_names), "cluster": "cluster"}
    others = {to: name for to, name in others.items() if name in source.column_names}
    source = read_named(given, told).complete(*columns.values())
    source = source.select(*dict.fromkeys([*columns.values(), *others.values()]))
    table = source.to_table()
    ids, texts, prompts = (as_text(table[name]).to_pylist() for name in columns.values())
    found: dict[str, str] = {}
    for row, (id_, text, prompt) in enumerate(zip(ids, texts, prompts, strict=True)):
        for name, value in zip(columns.values(), (id_, text, prompt), strict=True):
            if value is None:
                remedy = "fill it in, or leave the row out"
                raise PomonaError(f'"{name}" is null', where=source.row_name(row), remedy=remedy)
        if id_ in found:
            remedy = "give every item an id of its own, one row each"
            raise PomonaError(f'id "{id_}" twice', where=source.row_name(row), remedy=remedy)
        found[id_] = text
    more = {to: as_text(table[name]).to_pylist() for to, name in others.items()}
    name = _told(given, _SYSTEM) or (told.rpartition("#")[2] if "#" in told else Path(told).stem)
    shown = {to: dict(zip(ids, values, strict=True)) for to, values in more.items()}
    return _Answers(name, told, found, dict(zip(ids, prompts, strict=True)), shown)


def _told(given: Where, key: bytes) -> str:
    metadata = getattr(getattr(given, "schema", None), "metadata", None) or {}
    return metadata.get(key, b"").decode()


def _files(given: Where) -> list[str]:
    return json.loads(_told(given, _FILES) or "[]") or read(given).paths


def _first(names: Sequence[str], there: Sequence[str]) -> str | None:
    return next((name for name in names if name in there), None)


def _column(names: Sequence[str], there: Sequence[str], where: str) -> str:
    found = _first(names, there)
    if found is None:
        remedy = f"{' or '.join(names)}: {nearest(names[0], there)}"
        raise PomonaError(f'there is no column "{names[0]}"', where=where, remedy=remedy)
    return found


def _refuse_alike(systems: Sequence[_Answers]) -> None:
    first: dict[str, _Answers] = {}
    for one in systems:
        if one.name in first:
            message = f'is called "{one.name}", as {first[one.name].where} is'
            remedy = "give the file another name: it is the model's in the votes"
            raise PomonaError(message, where=one.where, remedy=remedy)
        first[one.name] = one


def _paired(
    systems: Sequence[_Answers], per_item: int | None, same: bool, rng: np.random.Generator
) -> tuple[pa.Table, int]:
    """The pairs, the items in the order in which they first stand, and how many were equal."""
    rows: list[dict[str, Any]] = []
    equal = 0
    for id_ in dict.fromkeys(id_ for one in systems for id_ in one.texts):
        two: list[tuple[_Answers, _Answers]] = []
        of = [one for one in systems if id_ in one.texts]
        for one in of[1:]:
            if one.prompts[id_] != of[0].prompts[id_]:
                message = f'item "{id_}" asks something else in {of[0].where}'
                remedy = "give the same items to every system, each with an id of its own"
                raise PomonaError(message, where=one.where, remedy=remedy)
        for a, b in combinations(of, 2):
            alike = a.texts[id_].strip() == b.texts[id_].strip()
            equal += alike
            if same or not alike:
                two.append((a, b) if rng.random() < 0.5 else (b, a))
        keep = rng.permutation(len(two))[:per_item]
        for at in sorted(keep.tolist()):
            a, b = two[at]
            rows.append(_row(id_, a, b, systems))
    names = ("item", "prompt", "model_a", "model_b", "completion_a", "completion_b")
    known = [to for to in ("lang", "cluster") if any(to in one.more for one in systems)]
    schema = pa.schema([(name, pa.string()) for name in (*names, *known)])
    return pa.Table.from_pylist(rows, schema), equal


def _row(id_: str, a: _Answers, b: _Answers, systems: Sequence[_Answers]) -> dict[str, Any]:
    return {
        "item": id_,
        "prompt": a.prompts[id_],
        "model_a": a.name,
        "model_b": b.name,
        "completion_a": a.texts[id_],
        "completion_b": b.texts[id_],
        **{to: of[id_] for one in systems for to, of in one.more.items() if id_ in of},
    }
