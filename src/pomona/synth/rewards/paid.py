"""Rewards that cost something: what was judged before is not judged again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np

from pomona.synth.rewards.kept import Paid, RewardStore, usage_of
from pomona.synth.rewards.reward import Floats, Key, by_row, key_of
from pomona.synth.teachers import Candidate, Usage


class PaidReward:
    """A reward whose numbers are kept in the file `store`, or without one as long as the object
    lives. What is made from this says `key` and `judge`.
    """

    name: str
    signature: str

    def __init__(self, store: Path | None) -> None:
        self._store = RewardStore(store)
        self._failures: dict[Key, str] = {}
        self._paid: dict[bytes, Paid] = {}
        self._fresh = 0

    @property
    def failures(self) -> Mapping[Key, str]:
        """See `Reward`."""
        return self._failures

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

    def judge(self, rows: Sequence[Sequence[Candidate]]) -> dict[bytes, str]:
        """Judge candidates, each list of one row, and `keep` their numbers. Returns why some have
        none.
        """
        raise NotImplementedError

    def keep(self, made: Mapping[bytes, Paid]) -> None:
        """Keep numbers as soon as they are there: they were paid for."""
        self._store.keep(self.signature, made)
        self._fresh += len(made)

    def score(self, candidates: Sequence[Candidate]) -> Floats:
        """See `Reward`. Equal answers to a row are judged once."""
        keys = [self.key(one) for one in candidates]
        known, rows = self._store.held(keys), []
        for places in by_row(candidates):
            left = {keys[at]: candidates[at] for at in places if keys[at] not in known}
            if left:
                rows.append([*left.values()])
        failed = self.judge(rows) if rows else {}
        known = self._store.held(keys)
        self._paid |= known
        for key, one in zip(keys, candidates, strict=True):
            if key in failed:
                self._failures[key_of(one)] = failed[key]
            else:
                self._failures.pop(key_of(one), None)
        return np.array([known[key].value if key in known else np.nan for key in keys])

    def close(self) -> None:
        """Close the file."""
        self._store.close()
