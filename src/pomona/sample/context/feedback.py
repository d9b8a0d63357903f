"""What users said about answers, kept in SQLite: corrections, complaints and what a user likes;
which strategy to try next by it, and corrections shown to the model (`Memory`).
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from pomona.db import Database
from pomona.documents import parse_json
from pomona.errors import PomonaError
from pomona.models import Model, Reply, Request
from pomona.sample.context.messages import before_question, harmless, question
from pomona.text import search_terms

Result = TypeVar("Result")
_TABLES = (
    """create table said (
        id integer primary key, prompt text not null, chosen text not null, rejected text,
        edited text, complaint text, good integer,
        strategy text, user text, "group" text, time real not null)""",
    'create index by_strategy on said ("group", strategy, good)',
    "create index by_user on said (user)",
    (
        "create table defaults (user text not null, name text not null, value text not null, "
        "primary key (user, name)) without rowid"
    ),
)


_LATEST = 2000  # rows of a user that are looked through for an answer
_READ = 4000  # characters of a prompt by which it is compared


@dataclass(frozen=True)
class Said:
    """One row. `good` is None where nobody said."""

    id: int
    prompt: str
    chosen: str
    rejected: str | None
    edited: str | None
    complaint: str | None
    good: bool | None
    strategy: str | None
    user: str | None
    group: str | None
    time: float

    @property
    def better(self) -> str | None:
        """The answer as it should have been: the edited one, or one that was called good or
        preferred to another.
        """
        if self.edited is not None:
            return self.edited
        preferred = self.good is None and self.rejected is not None
        return self.chosen if self.good or preferred else None


@dataclass(frozen=True)
class Arm:
    """A strategy with how often its answers were called good and not good."""

    name: str
    good: int = 0
    bad: int = 0

    @property
    def mean(self) -> float:
        """The mean of its posterior, Beta(1 + good, 1 + bad)."""
        return (1 + self.good) / (2 + self.good + self.bad)


def thompson(arms: Sequence[Arm], *, seed: int) -> Arm:
    """The arm with the highest draw from its posterior Beta(1 + good, 1 + bad), of equals the
    first.

    Thompson 1933; Agrawal & Goyal 2012, algorithm 1, whose regret grows with the logarithm of the
    number of choices. The draws are decided by the seed and the counts of all arms. A PomonaError
    when there is no arm.
    """
    if not arms:
        remedy = "name at least one"
        raise PomonaError("no strategies to choose from", where="thompson", remedy=remedy)
    counts = (count for arm in arms for count in (arm.good, arm.bad))
    source = np.random.default_rng([seed & 0xFFFFFFFF, *counts])
    draws = [source.beta(1 + arm.good, 1 + arm.bad) for arm in arms]
    return arms[int(np.argmax(draws))]


class Feedback:
    """The file at `path`, made when it is not there. Several threads and processes may use it; each
    row is on disk when `add` returns.

    A PomonaError when the file is damaged, or a database of something else.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        # What a user takes back must not stay in free pages, and a row is on disk when it is told.
        self._file = Database(
            path,
            _TABLES,
            what="feedback",
            application=b"POMF",
            settings=("synchronous = full", "secure_delete = on"),
        )

    def add(
        self,
        *,
        prompt: str,
        chosen: str,
        rejected: str | None = None,
        edited: str | None = None,
        complaint: str | None = None,
        good: bool | None = None,
        strategy: str | None = None,
        user: str | None = None,
        group: str | None = None,
    ) -> int:
        """Keep what was said about the answer `chosen` and give back the number of the row.

        rejected: an answer that was not taken. edited: the answer as the user corrected it. good:
            thumbs up or down; where it is not given,
        an edit or a complaint counts as not good, and a choice over a rejected answer as good.
        A PomonaError when the prompt is empty, or a text is not valid Unicode.
        """
        if not prompt.strip():
            remedy = "say which prompt was answered"
            raise PomonaError("feedback without a prompt", where=self.path, remedy=remedy)
        if good is None and any(given is not None for given in (rejected, edited, complaint)):
            good = edited is None and complaint is None
        texts = (prompt, chosen, rejected, edited, complaint)
        values = (None, *texts, good, strategy, user, group, time.time())
        with self._file.reading() as file:  # one statement is a transaction of its own
            places = ", ".join("?" * len(values))
            row = file.execute(f"insert into said values ({places})", values).lastrowid
        assert row is not None
        return row

    def forget(self, user: str) -> int:
        """Remove all that names this user, from the file's free pages and its log too, and say how
        many rows that was.
        """
        deletions = [f"delete from {table} where user = ?" for table in ("said", "defaults")]
        with self._file.writing() as file:
            removed = sum(file.execute(each, (user,)).rowcount for each in deletions)
        with self._file.reading() as file:  # the log holds what was deleted until it is emptied
            file.execute("pragma wal_checkpoint(truncate)").fetchone()
        return removed

    def rows(self, *, user: str | None = None, latest: int | None = None) -> list[Said]:
        """Every row of this user, or the latest so many, oldest first; without a user the rows that
        name nobody.
        """
        with self._file.reading() as file:
            query = "select * from said where user is ? order by id desc limit ?"
            most = -1 if latest is None else latest
            said = [Said(*row) for row in file.execute(query, (user, most))]
        return [
            replace(row, good=None if row.good is None else bool(row.good)) for row in said[::-1]
        ]

    def arms(self, strategies: Sequence[str], *, group: str | None = None) -> list[Arm]:
        """How often each strategy was called good and not good, in this group, by all users."""
        with self._file.reading() as file:
            query = (
                'select strategy, sum(good), sum(1 - good) from said where "group" is ? and '
                "good is not null group by strategy"
            )
            counts = {name: (good, bad) for name, good, bad in file.execute(query, (group,))}
        return [Arm(name, *counts.get(name, (0, 0))) for name in strategies]

    def choose(self, strategies: Sequence[str], *, group: str | None = None, seed: int) -> str:
        """The strategy to answer with: see `thompson`. The same seed and the same feedback
        give the same one.
        """
        return thompson(self.arms(strategies, group=group), seed=seed).name

    def similar(
        self, prompt: str, k: int = 3, *, user: str | None = None, least: float = 0.0
    ) -> list[tuple[Said, float]]:
        """The `k` rows of this user (as in `rows`, of the latest 2,000) whose prompts are most like
        this one, and how much: the share of their words in common.

        The share is Jaccard's, in [0, 1], and must be over `least`; of equals the latest comes
        first.
        """
        return [pair for pair in self._ranked(prompt, user) if pair[1] > least][:k]

    def checklist(self, prompt: str, n: int = 4, *, user: str | None = None) -> list[str]:
        """At most `n` complaints of this user (as in `similar`), as items of a checklist: on
        similar prompts first, then the latest.
        """
        items: dict[str, str] = {}
        for row, _ in self._ranked(prompt, user):
            if words := (row.complaint or "").split():
                items.setdefault(" ".join(search_terms(row.complaint or "")), " ".join(words))
        return list(items.values())[:n]

    def _ranked(self, prompt: str, user: str | None) -> list[tuple[Said, float]]:
        """The rows of a user with their similarity, the most similar first, then the latest."""
        asked = _terms(prompt[:_READ])
        rows = self.rows(user=user, latest=_LATEST)
        scored = [(row, _jaccard(asked, _terms(row.prompt[:_READ]))) for row in rows]
        return sorted(scored, key=lambda pair: (-pair[1], -pair[0].id))

    def set_defaults(self, user: str, values: Mapping[str, Any]) -> None:
        """What holds for this user where a request says nothing: strategy, markers, anything JSON
        can hold. None removes a value.
        """
        with self._file.writing() as file:
            for name, value in values.items():
                file.execute("delete from defaults where user = ? and name = ?", (user, name))
                if value is not None:
                    row = (user, name, json.dumps(value, ensure_ascii=False))
                    file.execute("insert into defaults values (?, ?, ?)", row)

    def defaults(self, user: str) -> dict[str, Any]:
        """What `set_defaults` keeps for this user."""
        with self._file.reading() as file:
            rows = file.execute("select name, value from defaults where user = ?", (user,))
            return {
                name: parse_json(value.encode(), self.path, top=None, finite=False)
                for name, value in rows
            }

    async def run(self, work: Callable[[], Result]) -> Result:
        """What `work`, which uses this object, returns: in the file's own thread, while the event
        loop goes on.
        """
        return await self._file.run(work)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@functools.lru_cache(maxsize=1 << 14)
def _terms(text: str) -> frozenset[str]:
    return frozenset(search_terms(text))


def _jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / len(one | other) if one or other else 0.0


@dataclass(frozen=True)
class Memory:
    """Shows the model how similar prompts should have been answered, as earlier turns of the
    conversation, the most similar last.

    Only what `user` said is used, or without a user what names nobody. k: most examples. least:
    similarity a prompt must be over, the Jaccard index of words. items: most complaints in the
    notes. Notes: `examples` (row, similarity) and `checklist`, for CHOPS.
    """

    feedback: Feedback
    user: str | None = None
    k: int = 3
    least: float = 0.2
    items: int = 4
    name: str = "memory"

    async def before(self, request: Request, model: Model) -> tuple[Request, Mapping[str, Any]]:
        """See the protocol."""
        asked = question(request)
        similar, complaints = await self.feedback.run(partial(self._remembered, asked))
        latest: dict[str, tuple[Said, float]] = {}
        for row, share in similar:  # of equal prompts the latest correction counts
            if row.better:
                latest.setdefault(row.prompt, (row, share))
        shown = list(latest.values())[: self.k]
        notes = {
            "examples": [{"row": row.id, "similarity": share} for row, share in shown],
            "checklist": [harmless(item) for item in complaints],
        }
        turns = [(harmless(row.prompt), harmless(row.better or "")) for row, _ in reversed(shown)]
        return (before_question(request, turns) if turns else request), notes

    async def after(
        self, request: Request, reply: Reply, model: Model, notes: Mapping[str, Any]
    ) -> tuple[Reply, Mapping[str, Any]]:
        """See the protocol; the reply stays as it is."""
        return reply, notes

    def _remembered(self, asked: str) -> tuple[list[tuple[Said, float]], list[str]]:
        """Rows with prompts like this one, and complaints."""
        similar = self.feedback.similar(asked, 8 * self.k, user=self.user, least=self.least)
        return similar, self.feedback.checklist(asked, self.items, user=self.user)
