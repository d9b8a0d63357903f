"""What happened so far, in numbers that go on after a kill: rows, failures, costs, stops."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from pomona.synth.teachers import Lesson, Lessons, Reject, Usage

UNKNOWN = "unknown"
Counts = dict[str, int]
_COSTS = ("prompt_tokens", "completion_tokens", "flops", "money", "cpu_seconds")


@dataclass
class TeacherTally:
    """What one teacher did. `recent` holds of its last rows whether each failed; `failed` counts
    why, `chosen` the rows out that it wrote.
    """

    asked: int = 0
    answered: int = 0
    chosen: int = 0
    failed: Counts = field(default_factory=dict)
    not_asked: Counts = field(default_factory=dict)
    costs: dict[str, float | None] = field(default_factory=lambda: dict.fromkeys(_COSTS, 0))
    recent: list[bool] = field(default_factory=list)
    stopped: str | None = None

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
        self._pay(lessons.usage)

    def _pay(self, usage: Usage) -> None:
        if usage.prompt_tokens == usage.completion_tokens == 0 and not usage.cpu_seconds:
            return  # nothing was done, of which nothing is unknown
        for name in _COSTS:
            before, more = self.costs[name], getattr(usage, name)
            self.costs[name] = None if before is None or more is None else before + more

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
    """All that a run counts."""

    rows_in: int = 0
    rows_out: int = 0
    refilled: int = 0
    rejects: dict[str, Counts] = field(default_factory=dict)
    licences: Counts = field(default_factory=dict)
    source_licences: Counts = field(default_factory=dict)
    langs: dict[str, list[int]] = field(default_factory=dict)
    preferences: int = 0
    teachers: dict[str, TeacherTally] = field(default_factory=dict)

    def of(self, teacher: str) -> TeacherTally:
        """What a teacher did."""
        return self.teachers.setdefault(teacher, TeacherTally())

    def spent(self, limit: str) -> float:
        """What all teachers cost of tokens, money or flops; what nobody knows counts nothing."""
        names = ("prompt_tokens", "completion_tokens") if limit == "tokens" else (limit,)
        return sum(one.costs[name] or 0 for one in self.teachers.values() for name in names)

    def reject(self, reject: Reject, lang: str) -> None:
        """Count a row without an answer."""
        self.rows_in += 1
        count(self.rejects.setdefault(reject.teacher, {}), reject.reason)
        self._lang(lang)[0] += 1

    def accept(self, lesson: Lesson, source_licence: str | None, lang: str) -> None:
        """Count a row with an answer."""
        self.rows_in += 1
        self.rows_out += 1
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
    """One more of this name."""
    counts[name] = counts.get(name, 0) + 1


def most(counts: Counts, number: int | None = None) -> list[tuple[str, int]]:
    """The most frequent first; of equals the first that was met."""
    return Counter(counts).most_common(number)
