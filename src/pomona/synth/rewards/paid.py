"""Rewards that cost something: what was judged before is not judged again, and a budget is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Self

import numpy as np

from pomona.answers import Account, Budget
from pomona.synth.rewards.kept import Paid, RewardStore, usage_of
from pomona.synth.rewards.reward import Floats, Key, by_row, key_of
from pomona.synth.teachers import Assignment, Candidate, Usage

_LIMITS = [one.name for one in fields(Budget)]
Left = Callable[[], tuple[Budget | None, str | None]]


def unlimited() -> tuple[Budget | None, str | None]:
    """No budget."""
    return None, None


def spent(limit: str) -> str:
    """Why something was not judged when a limit was met."""
    return f"the budget of {limit} is spent"


class PaidReward:
    """A reward whose numbers are kept in the file `store`, or without one as long as the object
    lives. What is made from this says `key` and `judge`.

    left: what is left of a budget whenever answers are judged, and the name of a limit that is met
    already. It is passed by at most one request; what was not judged for it has failed, and `met`
    is then the limit's name.
    """

    name: str
    signature: str

    def __init__(self, store: Path | None, left: Left = unlimited) -> None:
        self._store, self._left = RewardStore(store), left
        self._failures: dict[Key, str] = {}
        self._paid: dict[bytes, Paid] = {}
        self._charged: dict[bytes, Usage] = {}
        self.met: str | None = None
        self._fresh = 0

    @property
    def failures(self) -> Mapping[Key, str]:
        """See `Reward`."""
        return self._failures

    def charged(self) -> dict[bytes, Usage]:
        """What each number cost that was asked for since this was last called."""
        told, self._charged = self._charged, {}
        return told

    @property
    def usage(self) -> Usage:
        """See `Reward`: a number counts once, however often it was asked for."""
        return usage_of([*self._paid.values()], self._fresh)

    def fit(self, candidates: Sequence[Candidate]) -> Self:
        """See `Reward`."""
        return self

    def key(self, candidate: Candidate) -> bytes:
        """What the number depends on."""
        raise NotImplementedError

    def judge(self, rows: Sequence[Sequence[Candidate]], account: Account) -> dict[bytes, str]:
        """Judge candidates, each list of one row, paid from the account, and `keep` their numbers.
        Returns why some have none.
        """
        raise NotImplementedError

    def at_most(self, answers: Sequence[tuple[Assignment, int]]) -> Usage:
        """What answers to rows cost to judge, each of so many tokens."""
        raise NotImplementedError

    def keep(self, made: Mapping[bytes, Paid]) -> None:
        """Keep numbers as soon as they are there: they were paid for."""
        self._store.keep(self.signature, made)
        self._fresh += len(made)

    def score(self, candidates: Sequence[Candidate]) -> Floats:
        """See `Reward`. Equal answers to rows of one text are judged once."""
        keys = [self.key(one) for one in candidates]
        seen, rows = set(self._store.held(keys)), []
        for places in by_row(candidates):
            left = {keys[at]: candidates[at] for at in places if keys[at] not in seen}
            seen |= left.keys()
            if left:
                rows.append([*left.values()])
        failed = self._judged(rows) if rows else {}
        known = self._store.held(keys)
        new = {key: one for key, one in known.items() if key not in self._paid}
        self._paid |= new
        self._charged |= {key: one.usage for key, one in new.items()}
        self.met = next((name for name in _LIMITS if spent(name) in failed.values()), None)
        for key, one in zip(keys, candidates, strict=True):
            if key in failed:
                self._failures[key_of(one)] = failed[key]
            else:
                self._failures.pop(key_of(one), None)
        return np.array([known[key].value if key in known else np.nan for key in keys])

    def _judged(self, rows: Sequence[Sequence[Candidate]]) -> dict[bytes, str]:
        budget, met = self._left()
        if met is not None:
            return {self.key(one): spent(met) for row in rows for one in row}
        return self.judge(rows, Account(budget))

    def close(self) -> None:
        """Close the file."""
        self._store.close()
