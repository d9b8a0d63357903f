"""How far the work is: for one person, and for each language."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from sqlalchemy import and_, func, or_, select

from pomona.arena.annotating.people import Person
from pomona.arena.annotating.queue import KINDS, speaks
from pomona.arena.annotating.schema import answers, items, tasks
from pomona.arena.annotating.store import Store

_LASTS = 5.0  # seconds that a count of open items is good for
_MOST = 1000


class Progress:
    """What is done and what is left, in a store. Open items are counted anew after some seconds
    only: all that ask have the same number.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._open: dict[tuple[str, ...], tuple[float, dict[str, int]]] = {}

    def of(self, person: Person) -> dict[str, int]:
        """How many answers this person has given (`done`), and with those that they could give
        now (`total`).
        """
        when, by_kind = self._free(person)
        free = sum(by_kind.values())
        mine, live = tasks.c.person == person.id, answers.c.undone.is_(None)
        answered = select(func.count()).where(answers.c.person == person.id, live)
        # Of the items that were free then, those that were shown to this person before or since,
        # in whatever of their rows.
        seen = select(func.count(items.c.id.distinct()))
        seen = seen.select_from(tasks).join(items, items.c.same == tasks.c.same)
        since = and_(tasks.c.item == items.c.id, tasks.c.made >= when)
        seen = seen.where(mine, or_(items.c.open, since))
        held = select(func.count()).where(mine, tasks.c.state == "open")
        with self._store.reading() as source:
            done, passed, shown = (source.scalar(each) or 0 for each in (answered, seen, held))
        return {"done": done, "total": done + max(0, free - passed + shown)}

    def by_language(self) -> list[dict[str, Any]]:
        """Of each language: its items, how many of them all asked have answered, how many people
        took part, and the share of pairs of votes on one item that agree (None without such).
        """
        live = answers.c.undone.is_(None)
        counted = select(tasks.c.item, func.count().label("n")).join_from(answers, tasks)
        n = counted.where(live).group_by(tasks.c.item).subquery()
        whole = func.count().filter(n.c.n >= items.c.overlap)
        totals = select(items.c.language, func.count().label("total"), whole.label("done"))
        who = func.count(answers.c.person.distinct()).label("people")
        took = select(items.c.language, who).select_from(answers.join(tasks).join(items))
        # A pair that stands there twice is one of two people, as if it were there once.
        votes = select(items.c.same, items.c.language, answers.c.outcome, func.count().label("n"))
        votes = votes.select_from(answers.join(tasks).join(items)).where(live)
        votes = votes.where(answers.c.kind == "pair")
        with self._store.reading() as source:
            found = totals.outerjoin_from(items, n).group_by(items.c.language)
            rows = source.execute(found.order_by(items.c.language)).all()
            took = source.execute(took.where(live).group_by(items.c.language))
            persons = {row.language: row.people for row in took}
            agreed = _agreement(
                source.execute(
                    votes.group_by(items.c.same, items.c.language, answers.c.outcome)
                ).all()
            )
        return [
            {
                "language": row.language,
                "done": row.done,
                "total": row.total,
                "people": persons.get(row.language, 0),
                "agreement": agreed.get(row.language),
            }
            for row in rows
        ]

    def languages(self) -> list[str]:
        """The tags of the languages of all items."""
        wanted = select(items.c.tag).where(items.c.tag.is_not(None)).distinct()
        with self._store.reading() as source:
            return [tag for tag in source.scalars(wanted) if tag]

    def kinds(self, person: Person) -> list[str]:
        """The kinds of items in a person's languages of which some have a free place."""
        return [kind for kind in KINDS if self._free(person)[1].get(kind)]

    def _free(self, person: Person) -> tuple[float, dict[str, int]]:
        """How many items of each kind in a person's languages had a free place, and when."""
        now = time.time()
        when, counts = self._open.get(person.languages, (0.0, {}))
        if not 0 <= now - when < _LASTS:
            free = select(items.c.kind, func.count().label("n")).where(items.c.open, speaks(person))
            with self._store.reading() as source:
                counts = {row.kind: row.n for row in source.execute(free.group_by(items.c.kind))}
            if len(self._open) >= _MOST:
                self._open.clear()
            when = now
            self._open[person.languages] = when, counts
        return when, counts


def _agreement(rows: Iterable[Any]) -> dict[str | None, float]:
    votes = defaultdict[tuple[str | None, str], list[int]](list)
    for row in rows:
        votes[row.language, row.same].append(row.n)
    same, pairs = defaultdict[str | None, int](int), defaultdict[str | None, int](int)
    for (language, _), counts in votes.items():
        same[language] += sum(n * (n - 1) for n in counts)
        pairs[language] += sum(counts) * (sum(counts) - 1)
    return {language: same[language] / n for language, n in pairs.items() if n}
