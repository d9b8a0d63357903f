"""The leaderboard of the votes collected so far, for those who have voted themselves."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import pyarrow as pa
from sqlalchemy import Connection, func, select

from pomona.arena.annotating.people import Person
from pomona.arena.annotating.queue import settled
from pomona.arena.annotating.schema import answers, items, tasks
from pomona.arena.annotating.store import Store
from pomona.arena.ratings.run import fit
from pomona.arena.votes import OUTCOMES
from pomona.errors import PomonaError

_AT_ONCE = 500
_LASTS = 5.0  # seconds in which all that ask see the same ratings

_VOTE = {
    "model_a": items.c.model_a,
    "model_b": items.c.model_b,
    "winner": answers.c.outcome,
    "item": items.c.name,
    "prompt": items.c.id,
    "voter": answers.c.person,
}


@dataclass(frozen=True)
class Standing:
    """Ratings of so many votes, best first; `note` says why there are none, or of whom."""

    votes: int
    rows: list[dict[str, Any]]
    signature: str | None
    note: str | None


class Board:
    """Ratings of the votes in a store that nobody can take back any more: what can be undone is in
    no board, so that nobody looks whose answer it was and votes again. `needed` votes of one's own
    come first; leads may look before.
    """

    def __init__(self, store: Store, needed: int) -> None:
        self._store, self._needed = store, needed
        self._lock = threading.Lock()
        self._when, self._standing = 0.0, Standing(-1, [], None, None)
        self._prompts: dict[int, str] = {}  # of items, which never change: digests

    def of(self, person: Person) -> dict[str, Any]:
        """What this person may see."""
        votes = select(func.count()).where(answers.c.kind == "pair", settled())
        with self._store.reading() as source:
            total = source.scalar(votes) or 0
            own = source.scalar(votes.where(answers.c.person == person.id)) or 0
        needed = 0 if person.is_lead else max(0, self._needed - own)
        standing = Standing(total, [], None, None) if needed else self._standing_of(total)
        return vars(standing) | {"own": own, "needed": needed}

    def _standing_of(self, total: int) -> Standing:
        with self._lock:
            if total != self._standing.votes and time.monotonic() - self._when >= _LASTS:
                self._standing = self._rated()
                self._when = time.monotonic()
            return self._standing

    def _rated(self) -> Standing:
        wanted = select(*_VOTE.values()).select_from(answers.join(tasks).join(items))
        with self._store.reading() as source:
            votes = source.execute(wanted.where(answers.c.kind == "pair", settled())).all()
            self._digest(source, {row.id for row in votes})
        if not votes:
            return Standing(0, [], None, "there are no votes yet")
        columns = dict(zip(_VOTE, map(list, zip(*votes, strict=True)), strict=True))
        columns["winner"] = [OUTCOMES[outcome] for outcome in columns["winner"]]
        # What an export has for clusters is here as well, so that both give the same intervals.
        columns["prompt"] = [self._prompts[item] for item in columns["prompt"]]
        table = pa.table(columns)
        try:
            found = fit(table)
        except PomonaError as error:
            return Standing(table.num_rows, [], None, error.message)
        rows = [
            {
                "model": row.model,
                "rating": row.rating,
                "low": row.ci_low,
                "high": row.ci_high,
                "rank": row.rank,
                "votes": row.votes,
            }
            for row in found.rows
            if row.rating is not None
        ]
        unrated = [f"{row.model}: {row.why}" for row in found.rows if row.rating is None]
        return Standing(table.num_rows, rows, found.signature, "; ".join(unrated) or None)

    def _digest(self, source: Connection, wanted: set[int]) -> None:
        """Know the prompts of these items."""
        new = sorted(wanted - self._prompts.keys())
        for start in range(0, len(new), _AT_ONCE):
            some = items.c.id.in_(new[start : start + _AT_ONCE])
            for row in source.execute(select(items.c.id, items.c.prompt).where(some)):
                self._prompts[row.id] = sha256(row.prompt.encode()).hexdigest()
