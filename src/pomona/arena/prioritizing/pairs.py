"""Pairs of answers that people may be asked about, and which recorded votes were on which."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pomona.arena.votes import Votes
from pomona.errors import PomonaError
from pomona.records import Where, as_text, read_named

COLUMNS = ("prompt", "model_a", "model_b", "completion_a", "completion_b")
Ints = NDArray[np.int64]
Floats = NDArray[Any]  # float64, which its stubs lose on the way


@dataclass(frozen=True)
class Pairs:
    """Different pairs of answers, each a prompt, two models and their completions.

    table: [n] rows as they were read, the first of those that are the same pair.
    prompts: their texts; prompt: int64 [n] which one.
    models: sorted names; a, b: int64 [n] which ones.
    answers: texts of different answers [m], each to one prompt by one model: answer_prompt,
        answer_model int64 [m]; first, second: int64 [n] which ones.
    where: the table, as errors name it.
    """

    table: pa.Table
    prompts: list[str]
    models: list[str]
    prompt: Ints
    a: Ints
    b: Ints
    answers: list[str]
    answer_prompt: Ints
    answer_model: Ints
    first: Ints
    second: Ints
    where: str

    def __len__(self) -> int:
        return len(self.prompt)

    def texts(self) -> list[tuple[str, str]]:
        """Both answers of each pair."""
        return [
            (self.answers[a], self.answers[b]) for a, b in zip(self.first, self.second, strict=True)
        ]


def read_pairs(pairs: Where) -> Pairs:
    """The pairs of a table with the columns `prompt`, `model_a`, `model_b`, `completion_a` and
    `completion_b`; all others go along. A pair that is there twice, in either order, counts once.

    Raises:
        PomonaError: a column is missing, a row has no value in one or names one model twice (by
            its number, from 1), or there are no rows.
    """
    records = read_named(pairs, "the pairs").complete(*COLUMNS)
    where = str(records.source.where)
    table = records.to_table()
    if not len(table):
        raise PomonaError("has no rows", where=where, remedy="give pairs of answers")
    texts = {name: as_text(table[name]) for name in COLUMNS}
    for name, column in texts.items():
        if column.null_count:
            row = pc.index(column.is_null(), True).as_py()
            remedy = "fill it in, or leave the row out"
            raise PomonaError(f'has no "{name}"', where=records.row_name(row), remedy=remedy)
    prompt, prompts = _codes([texts["prompt"]])
    both, models = _codes([texts["model_a"], texts["model_b"]], ordered=True)
    a, b = both[: len(table)], both[len(table) :]
    if (a == b).any():
        row = int(np.argmax(a == b))
        message = f'has "{models[a[row]]}" on both sides'
        raise PomonaError(message, where=records.row_name(row), remedy="name two models")
    text, written = _codes([texts["completion_a"], texts["completion_b"]])
    keys = np.stack([np.concatenate([prompt, prompt]), both, text], 1)
    answers, owner = np.unique(keys, axis=0, return_inverse=True)
    owner = owner.reshape(-1)
    first, second = owner[: len(table)], owner[len(table) :]
    low, high = np.minimum(first, second), np.maximum(first, second)
    _, kept = np.unique(low * np.int64(len(answers)) + high, return_index=True)
    kept.sort()
    return Pairs(
        table.take(pa.array(kept)),
        prompts,
        models,
        prompt[kept],
        a[kept],
        b[kept],
        [written[one] for one in answers[:, 2]],
        answers[:, 0],
        answers[:, 1],
        first[kept],
        second[kept],
        where,
    )


def _codes(columns: list[Any], *, ordered: bool = False) -> tuple[Ints, list[str]]:
    """Values as indices into the different ones, of all columns end to end."""
    whole = pa.chunked_array([chunk for one in columns for chunk in _chunks(one)], pa.string())
    found = whole.combine_chunks().dictionary_encode()
    indices = found.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    names: list[str] = found.dictionary.to_pylist()
    if ordered:
        order = sorted(range(len(names)), key=names.__getitem__)
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        indices, names = place[indices], [names[one] for one in order]
    return indices, names


def _chunks(column: Any) -> list[Any]:
    return column.chunks if isinstance(column, pa.ChunkedArray) else [column]


@dataclass(frozen=True)
class Observed:
    """What recorded votes say of pairs.

    pair: int64 [rows of the votes] the pair that each was on, -1 for none of them.
    votes, ties: float64 [n pairs] how many there were.
    """

    pair: Ints
    votes: Floats
    ties: Floats


def observed(pairs: Pairs, votes: Votes) -> Observed:
    """Which pair each vote was on: of its prompt and its models, and where there are several such
    pairs of its completions.

    Raises:
        PomonaError: the votes name no prompts, or none is on a pair.
    """
    prompt, labels = votes.codes("prompt")
    places = {name: place for place, name in enumerate(pairs.prompts)}
    of_prompt = np.array([places.get(name, -1) for name in labels] + [-1], np.int64)[prompt]
    models = {name: place for place, name in enumerate(pairs.models)}
    of_model = np.array([models.get(name, -1) for name in votes.models], np.int64)
    a, b = of_model[votes.a], of_model[votes.b]
    known = (of_prompt >= 0) & (a >= 0) & (b >= 0)
    size = len(pairs.models)

    def key(prompt: Ints, a: Ints, b: Ints) -> Ints:
        return (prompt * size + np.minimum(a, b)) * size + np.maximum(a, b)

    keys = key(pairs.prompt, pairs.a, pairs.b)
    order = np.argsort(keys, kind="stable")
    wanted = key(of_prompt, a, b)
    at = np.minimum(np.searchsorted(keys[order], wanted), len(keys) - 1)
    found = np.where(known & (keys[order][at] == wanted), order[at], -1)
    several = np.bincount(np.searchsorted(keys[order], keys, "left"), minlength=len(keys)) > 1
    twice = (found >= 0) & several[at]
    if twice.any():
        found[twice] = _by_texts(pairs, votes, np.flatnonzero(twice))
    if not (found >= 0).any():
        remedy = "both name prompts and models alike: the same texts, or the same ids"
        raise PomonaError(
            f"no vote is on a pair of {pairs.where}", where=votes.where, remedy=remedy
        )
    on = found >= 0
    count = votes.count[on].astype(np.float64)
    total = np.bincount(found[on], count, len(pairs))
    ties = np.bincount(found[on], count * (votes.outcome[on] >= 2), len(pairs))
    return Observed(found, total, ties)


def _by_texts(pairs: Pairs, votes: Votes, rows: Ints) -> list[int]:
    """The pair of each of these votes by what was shown; -1 where the votes do not say it."""
    if not {"completion_a", "completion_b"} <= set(votes.columns.column_names):
        return [-1] * len(rows)
    there = {
        (pairs.prompts[p], frozenset(((pairs.models[a], x), (pairs.models[b], y)))): place
        for place, (p, a, b, (x, y)) in enumerate(
            zip(pairs.prompt, pairs.a, pairs.b, pairs.texts(), strict=True)
        )
    }
    shown = [
        as_text(votes.columns[name]).take(pa.array(rows)).to_pylist()
        for name in ("prompt", "completion_a", "completion_b")
    ]
    return [
        there.get((p, frozenset(((votes.models[a], x), (votes.models[b], y)))), -1)
        for p, x, y, a, b in zip(*shown, votes.a[rows], votes.b[rows], strict=True)
    ]
