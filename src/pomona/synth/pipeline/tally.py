"""What happened so far, in numbers that go on after a kill: rows, failures, costs, stops."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from pomona.synth.pipeline.case import Refused
from pomona.synth.rewards import PaidReward, Reward
from pomona.synth.teachers import Lesson, Lessons, Reject

UNKNOWN = "unknown"
_MANY, _OTHERS = 500, "other reasons"
Counts = dict[str, int]
Costs = dict[str, float | None]
TOKENS = ("prompt_tokens", "completion_tokens")
COSTS = ("prompt_tokens", "completion_tokens", "flops", "money", "cpu_seconds")


class Counted:
    """What stands in a tally already: the second time an answer or a reward comes from a store it
    costs nothing. `known` are hashes of what was asked.
    """

    def __init__(self, known: Iterable[str] = ()) -> None:
        self.known = set(known)
        self._new: list[str] = []

    @staticmethod
    def key(*parts: object) -> str:
        """The hash of what was asked."""
        told = repr(parts).encode("utf-8", "surrogatepass")
        return hashlib.blake2b(told, digest_size=8).hexdigest()

    def add(self, key: str) -> bool:
        """Note a key; False where it is known."""
        if key in self.known:
            return False
        self.known.add(key)
        self._new.append(key)
        return True

    def take(self) -> list[str]:
        """Those that came since this was last called."""
        told, self._new = self._new, []
        return told


@dataclass
class TeacherTally:
    """What one teacher did. `recent` holds of its last rows whether each failed; `failed` counts
    why, `chosen` the rows out that it wrote. `estimated` says that its tokens are a guess.
    """

    asked: int = 0
    answered: int = 0
    chosen: int = 0
    failed: Counts = field(default_factory=dict)
    not_asked: Counts = field(default_factory=dict)
    costs: Costs = field(default_factory=lambda: dict.fromkeys(COSTS, 0))
    recent: list[bool] = field(default_factory=list)
    stopped: str | None = None
    estimated: bool = False

    def add(self, lessons: Lessons) -> None:
        """Take in what it answered, and what that cost."""
        for one in lessons.rows:
            if isinstance(one, Lesson):
                self.answered += 1
            elif one.asked:
                count(self.failed, one.reason)
            else:
                count(self.not_asked, one.reason)
            self.asked += isinstance(one, Lesson) or one.asked
        add_costs(self.costs, asdict(lessons.usage))
        self.estimated |= lessons.usage.estimated

    def look(self, failed: list[bool], window: int, share: float) -> None:
        """Note of rows, in order, whether each failed, and stop where of so many in a row this
        share did.
        """
        for one in failed:
            self.recent.append(one)
            del self.recent[:-window]
            bad = sum(self.recent)
            if self.stopped is None and len(self.recent) == window and bad >= share * window:
                self.stopped = f"{bad} of {window} rows in a row failed"


@dataclass
class Tally:
    """All that a run counts. `ahead` has by teacher and draw what a pilot paid for and no row has
    come to yet; `rewards` is what rewards cost, of whose tokens some are `guessed`.
    """

    rows_in: int = 0
    rows_out: int = 0
    answers: int = 0
    refilled: int = 0
    near_duplicates: int = 0
    rejects: dict[str, Counts] = field(default_factory=dict)
    licences: Counts = field(default_factory=dict)
    source_licences: Counts = field(default_factory=dict)
    langs: dict[str, list[int]] = field(default_factory=dict)
    preferences: int = 0
    rewards: Costs = field(default_factory=lambda: dict.fromkeys(COSTS, 0))
    guessed: bool = False
    teachers: dict[str, TeacherTally] = field(default_factory=dict)
    ahead: dict[str, dict[str, Costs]] = field(default_factory=dict)

    def of(self, teacher: str) -> TeacherTally:
        """What a teacher did."""
        return self.teachers.setdefault(teacher, TeacherTally())

    @property
    def paid(self) -> list[TeacherTally]:
        """Teachers that were asked anything."""
        return [one for one in self.teachers.values() if one.asked]

    def spent(self, limit: str) -> float:
        """What all teachers and rewards cost of tokens, money or flops; what nobody knows counts
        nothing.
        """
        names = TOKENS if limit == "tokens" else (limit,)
        costs = [self.rewards, *(one.costs for one in self.teachers.values())]
        costs += [one for draws in self.ahead.values() for one in draws.values()]
        return sum(one[name] or 0 for one in costs for name in names)

    @property
    def unused(self) -> dict[str, Costs]:
        """What is ahead, by teacher."""
        told: dict[str, Costs] = {}
        for name, draws in self.ahead.items():
            for one in draws.values():
                add_costs(told.setdefault(name, dict.fromkeys(COSTS, 0)), one)
        return told

    def charge(self, rewards: Iterable[Reward], counted: Counted) -> None:
        """Take in what rewards cost since they were last charged."""
        for reward in rewards:
            if isinstance(reward, PaidReward):
                for key, usage in reward.charged().items():
                    if counted.add(counted.key(reward.name, key)):
                        add_costs(self.rewards, asdict(usage))
                        self.guessed |= usage.estimated

    def reject(self, reject: Reject, lang: str) -> None:
        """Count a row without an answer."""
        self.rows_in += 1
        told = reject.check if isinstance(reject, Refused) else reject.reason
        count(self.rejects.setdefault(reject.teacher, {}), told)
        self._lang(lang)[0] += 1

    def accept(self, lessons: Sequence[Lesson], source_licence: str | None, lang: str) -> None:
        """Count a row with answers."""
        self.rows_in += 1
        self.rows_out += 1
        for lesson in lessons:
            self.answers += 1
            self.of(lesson.teacher).chosen += 1
            count(self.licences, lesson.licence or UNKNOWN)
            count(self.source_licences, source_licence or UNKNOWN)
        counts = self._lang(lang)
        counts[0] += 1
        counts[1] += 1

    def _lang(self, lang: str) -> list[int]:
        return self.langs.setdefault(lang, [0, 0])

    def to_json(self) -> dict[str, Any]:
        """All of it, as `from_json` reads it."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """What `to_json` gave."""
        known = {one.name: value[one.name] for one in fields(cls)}
        made = {name: TeacherTally(**one) for name, one in known.pop("teachers").items()}
        return cls(**known, teachers=made)


def count(counts: Counts, name: str) -> None:
    """One more of this name; names beyond many are told together."""
    name = name if name in counts or len(counts) < _MANY else _OTHERS
    counts[name] = counts.get(name, 0) + 1


def add_costs(costs: Costs, usage: Mapping[str, Any]) -> None:
    """Add what was used; nothing where nothing was done, of which nothing is unknown."""
    if not any(usage[name] for name in ("prompt_tokens", "completion_tokens", "cpu_seconds")):
        return
    for name in COSTS:
        known, more = costs[name], usage[name]
        costs[name] = None if known is None or more is None else known + more


def most(counts: Counts, number: int | None = None) -> list[tuple[str, int]]:
    """The most frequent first; of equals the first that was met."""
    return Counter(counts).most_common(number)
