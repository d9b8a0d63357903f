"""The leaderboard of the votes collected so far, for those who have voted themselves."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select

from pomona.arena.annotating.people import Person
from pomona.arena.annotating.queue import settled
from pomona.arena.annotating.schema import answers
from pomona.arena.annotating.store import Store


class Board:
    """Ratings of the votes in a store that nobody can take back any more: what stands in no board
    yet cannot be looked up there, undone and voted otherwise. `needed` votes of one's own come
    first; leads may look before.
    """

    def __init__(self, store: Store, needed: int) -> None:
        self._store, self._needed = store, needed

    def of(self, person: Person) -> dict[str, Any]:
        """What this person may see."""
        votes = select(func.count()).where(answers.c.kind == "pair", settled())
        with self._store.reading() as source:
            total = source.scalar(votes) or 0
            own = source.scalar(votes.where(answers.c.person == person.id)) or 0
        needed = 0 if person.is_lead else max(0, self._needed - own)
        return {
            "rows": [],
            "votes": total,
            "own": own,
            "needed": needed,
            "signature": None,
            "note": None,
        }
