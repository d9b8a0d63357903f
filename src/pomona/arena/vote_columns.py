"""Which columns of a table of votes hold what, and the table's own names for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from pomona.errors import PomonaError, nearest

# What a column is taken for by its name, in lower case.
_KNOWN = {
    "model_a": "model_a left",
    "model_b": "model_b right",
    "winner": "winner",
    "prompt": "prompt question instruction",
    "voter": "voter worker judge annotator",
    "item": "item item_id",
    "category": "category",
    "n": "n count",
    "completion_a": "completion_a response_a answer_a",
    "completion_b": "completion_b response_b answer_b",
    "time": "time tstamp timestamp",
    "id": "id question_id vote_id",
}
ONE_OF = ("winner_model_a", "winner_model_b", "winner_tie")  # columns of which one is 1


@dataclass(frozen=True)
class VoteColumns:
    """Which columns of a table of votes hold what; those left out are told by their usual names.

    Args:
        model_a: Column of the models shown first, or on the left.
        model_b: Column of the models shown second.
        winner: Column of outcomes: model_a, model_b, tie, tie (bothbad), left, right, or the name
            of the model that won.
        prompt: Column of prompts, or of their ids.
        voter: Column of who voted.
        item: Column of what several votes were on, such as a prompt with its two answers.
        category: Column of categories.
        n: Column of how many votes a row stands for.
        completion_a: Column of the first model's answers.
        completion_b: Column of the second model's answers.
        time: Column of when the vote was given.
        id: Column of the votes' own names.
    """

    model_a: str | None = None
    model_b: str | None = None
    winner: str | None = None
    prompt: str | None = None
    voter: str | None = None
    item: str | None = None
    category: str | None = None
    n: str | None = None
    completion_a: str | None = None
    completion_b: str | None = None
    time: str | None = None
    id: str | None = None


def names_of(there: Sequence[str], columns: VoteColumns, where: str) -> dict[str, str]:
    """The table's own name of each column that is known. Raises PomonaError for a column that is
    not there or named twice, and unless there are two models and one kind of outcome.
    """
    asked = {one.name: getattr(columns, one.name) for one in fields(columns)}
    known = dict(_KNOWN)
    if {"left", "right", "model_x", "model_y"} <= set(there):
        known["item"] += " id"  # of LLMFAO, where a pair of answers has one id
        known["id"] = ""
    lower = {name.lower(): name for name in reversed(there)} | {name: name for name in there}
    names: dict[str, str] = {}
    for name, usual in known.items():
        if (column := asked[name]) is not None:
            if column not in there:
                remedy = f"{nearest(column, there)}; --{name.replace('_', '-')} names another"
                raise PomonaError(f'there is no column "{column}"', where=where, remedy=remedy)
            names[name] = column
        elif found := next((lower[one] for one in usual.split() if one in lower), None):
            names[name] = found
    taken = [column for name, column in names.items()]
    for name, column in list(names.items()):
        if taken.count(column) > 1 and asked[name] is None:
            del names[name]  # another meaning was asked for
    for name, column in names.items():
        if (other := next(n for n, c in names.items() if c == column)) != name:
            message = f'"{column}" is named as {other} and as {name}'
            raise PomonaError(message, where=where, remedy="name one column for each")
    _check_shape(there, names, where)
    return names


def _check_shape(there: Sequence[str], names: Mapping[str, str], where: str) -> None:
    """Raise PomonaError unless there are two models and one kind of outcome."""
    for name in ("model_a", "model_b"):
        if name not in names:
            taken = {column: of for of, column in names.items()}
            free = [column for column in there if column not in taken]
            remedy = f"{nearest(name, free or there)}; --{name.replace('_', '-')} names another"
            message = f'there is no column "{name}"'
            if name in taken:
                message = f'"{name}" is named as {taken[name]}, and no column is left for {name}'
            raise PomonaError(message, where=where, remedy=remedy)
    won = {"win_a", "win_b"} & set(there)
    kinds = [
        *([f'"{names["winner"]}"'] if "winner" in names else []),
        *(['"win_a" and "win_b"'] if won else []),
        *([f'"{ONE_OF[0]}"'] if set(ONE_OF[:2]) & set(there) else []),
    ]
    if not kinds:
        remedy = f"{nearest('winner', there)}; --winner names another"
        raise PomonaError('there is no column "winner"', where=where, remedy=remedy)
    if len(kinds) > 1 or (won and "n" in names):
        told = " and ".join([*kinds, *([f'"{names["n"]}"'] if won and "n" in names else [])])
        message, remedy = f"{told} both say who won", "leave out all but one"
        raise PomonaError(message, where=where, remedy=remedy)
    if len(won) == 1 or len(set(ONE_OF[:2]) & set(there)) == 1:
        pair = ("win_a", "win_b") if won else ONE_OF[:2]
        lost = next(name for name in pair if name not in there)
        remedy = "give the wins of both models"
        raise PomonaError(f'there is no column "{lost}"', where=where, remedy=remedy)
