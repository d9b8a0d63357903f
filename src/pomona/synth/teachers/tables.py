"""Answers that are there already, such as a translation memory, as a teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pomona.synth.teachers.teacher import (
    Assignment,
    Lesson,
    Lessons,
    Reject,
    Terms,
    Usage,
    check_ids,
)


@dataclass(frozen=True)
class TableTeacher:
    """A table that answers the texts that are in it, the draws of a row with its several answers.

    answers: by text and language, with the licence of each.
    """

    name: str
    answers: Mapping[tuple[str, str], Sequence[tuple[str, str | None]]]
    terms: Terms = field(default_factory=Terms)

    def teach(self, rows: Sequence[Assignment], sample: int = 0) -> Lessons:
        """See `Teacher`."""
        check_ids(rows)
        made = tuple(self._row(row, sample) for row in rows)
        return Lessons(made, Usage(money=0.0))

    def _row(self, row: Assignment, sample: int) -> Lesson | Reject:
        known = self.answers.get((row.text, row.lang), ())
        if sample >= len(known):
            lacking = "has no further answer" if known else "has no answer to this text"
            return Reject(row.id, self.name, lacking, asked=False)
        text, licence = known[sample]
        return Lesson(row.id, text, self.name, licence, sample=sample)
