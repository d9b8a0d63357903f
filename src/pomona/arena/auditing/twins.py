"""The same checkpoint under two names must not differ in its rating."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from pomona.arena.auditing.board import ALPHA, Board
from pomona.errors import PomonaError, nearest
from pomona.stats import holm

# What names a way of serving and not a model, at the end of a name or of a part of it
_SERVED = re.compile(
    r"(?:^|[-_ .])(?:api|hf|fp8|fp16|bf16|int8|int4|4bit|8bit|awq|gptq|gguf)(?=$|[-_ .])", re.I
)


@dataclass(frozen=True)
class Twins:
    """Two names of one checkpoint: their difference in Elo with its 95 % interval.

    found: "given" or "by name". p_value: that both have the same rating (two-sided); p_holm:
    corrected for the number of twins. reason: why they were not compared.
    """

    first: str
    second: str
    found: str
    difference: float | None
    low: float | None
    high: float | None
    p_value: float | None
    p_holm: float | None
    reason: str | None


@dataclass(frozen=True)
class TwinAudit:
    """All twins, those that differ most surely first."""

    null: str
    p_value: float | None
    alarm: bool
    twins: list[Twins]


def twins(
    board: Board, given: Sequence[str], checkpoint: dict[str, str] | None, models: Sequence[str]
) -> TwinAudit | str:
    """Compare the twins that are given as NAME=NAME, that share a checkpoint, and those whose names
    are the same but for how they are written or served.

    Raises:
        PomonaError: a given twin is no pair of two models.
    """
    pairs = dict.fromkeys(_given(given, models), "given")
    by_checkpoint: dict[str, list[str]] = {}
    for name, of in (checkpoint or {}).items():
        by_checkpoint.setdefault(of, []).append(name)
    pairs |= dict.fromkeys(_pairs(by_checkpoint.values()), "given")
    by_name: dict[str, list[str]] = {}
    for name in models:
        by_name.setdefault(plain(name), []).append(name)
    for pair in _pairs(by_name.values()):
        pairs.setdefault(pair, "by name")
    if not pairs:
        return "no twins are given, and no two names are the same but for how they are written"
    rated = {name: place for place, name in enumerate(board.votes.models)}
    told = [_compared(board, *pair, found, rated) for pair, found in sorted(pairs.items())]
    known = [one.p_value for one in told if one.p_value is not None]
    corrected = iter(holm(known).tolist())
    told = [one if one.p_value is None else replace(one, p_holm=next(corrected)) for one in told]
    told.sort(key=lambda one: (one.p_holm is None, one.p_holm or 0.0, one.p_value or 0.0))
    least = min((one.p_holm for one in told if one.p_holm is not None), default=None)
    null = "two names of one checkpoint have the same rating"
    return TwinAudit(null, least, least is not None and least <= ALPHA, told)


def plain(name: str) -> str:
    """A name without its organisation, case, punctuation, and words for how it is served."""
    return re.sub(r"[\W_]+", "", _SERVED.sub("", name.rsplit("/", 1)[-1])).lower() or name


def _pairs(groups: Iterable[Sequence[str]]) -> list[tuple[str, str]]:
    return [pair for one in groups for pair in combinations(sorted(one), 2)]


def _given(given: Sequence[str], models: Sequence[str]) -> list[tuple[str, str]]:
    pairs = []
    for one in given:
        # A name may hold an equals sign: both sides must be models
        cuts = [(one[:at], one[at + 1 :]) for at, letter in enumerate(one) if letter == "="]
        right = [cut for cut in cuts if cut[0] in models and cut[1] in models]
        if len(right) != 1 or right[0][0] == right[0][1]:
            sides = one.split("=")
            unknown = next((side for side in sides if side not in models), sides[0])
            remedy = f"write NAME=NAME, of two models that have votes; {nearest(unknown, models)}"
            message = f'"{one[:120]}" names no two models'
            raise PomonaError(message, where="--twins", remedy=remedy)
        pairs.append((min(right[0]), max(right[0])))
    return pairs


def _compared(board: Board, first: str, second: str, found: str, rated: dict[str, int]) -> Twins:
    if first not in rated or second not in rated:
        lost = first if first not in rated else second
        reason = f"{lost} has no finite rating"
        return Twins(first, second, found, None, None, None, None, None, reason)
    one = board.difference(rated[first], rated[second])
    reason = "too few votes for an error" if one.p_value is None else None
    return Twins(first, second, found, one.elo, one.low, one.high, one.p_value, None, reason)
