"""The answers of teachers, arranged by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pomona.errors import PomonaError
from pomona.synth.routing.policies import Policy
from pomona.synth.teachers import Assignment, Candidate


@dataclass(frozen=True)
class Routed:
    """What a policy does with the n rows of a pool: `kept[i]`, the candidates that stay of row i by
    their numbers, none where nobody answered; `paid[i]`, those that were written for it.
    """

    kept: tuple[tuple[int, ...], ...]
    paid: tuple[tuple[int, ...], ...]

    @property
    def generations(self) -> int:
        """Answers that were written."""
        return sum(map(len, self.paid))

    @property
    def answered(self) -> NDArray[np.bool_]:
        """Rows that have an answer, `[n]`."""
        return np.array([bool(kept) for kept in self.kept], bool)


@dataclass(frozen=True)
class Pool:
    """Candidates by row: of `rows` `[n]` and `teachers` `[t]`, the number of the candidate that a
    teacher wrote at a draw is `at[row, teacher, draw]`, −1 where there is none.
    """

    candidates: Sequence[Candidate]
    rows: tuple[Assignment, ...]
    teachers: tuple[str, ...]
    at: NDArray[np.int64]

    @classmethod
    def of(cls, candidates: Sequence[Candidate]) -> Pool:
        """Arrange candidates: rows as they come, teachers by name. Raises PomonaError for none, or
        two answers of one teacher to one row at one draw.
        """
        if not candidates:
            raise PomonaError("there are no answers", remedy="give the answers of teachers")
        rows = {one.row.id: one.row for one in candidates}
        teachers = sorted({one.lesson.teacher for one in candidates})
        row_at = {name: number for number, name in enumerate(rows)}
        teacher_at = {name: number for number, name in enumerate(teachers)}
        draws = 1 + max(one.lesson.sample for one in candidates)
        at = np.full((len(rows), len(teachers), draws), -1, np.int64)
        for number, one in enumerate(candidates):
            place = row_at[one.row.id], teacher_at[one.lesson.teacher], one.lesson.sample
            if at[place] >= 0:
                message = f"has two answers of {one.lesson.teacher} at draw {one.lesson.sample}"
                raise PomonaError(message, where=f'row "{one.row.id}"', remedy="keep one of them")
            at[place] = number
        return cls(candidates, tuple(rows.values()), tuple(teachers), at)

    def matrix(self, values: ArrayLike) -> NDArray[np.float64]:
        """Values of candidates as those of the first draws, `[n, t]`, NaN where there is none."""
        values = self._checked(values)
        first = self.at[:, :, 0]
        return np.where(first >= 0, values[first], np.nan)

    def route(self, policy: Policy, rewards: ArrayLike) -> Routed:
        """What a policy asks, and keeps by these rewards of the candidates `[c]`, NaN where
        unknown: then it counts below all others. Of equal rewards the first asked stays.
        """
        values = self._checked(rewards)
        kept, paid = [], []
        for row, names in enumerate(policy.ask(self.rows)):
            written = self._written(row, names)
            if policy.keep == "first":
                written = written[:1]
            stays = written
            if policy.keep == "best" and written:
                told = np.nan_to_num(values[written], nan=-np.inf)
                stays = [written[int(np.argmax(told))]]
            kept.append(tuple(stays))
            paid.append(tuple(written))
        return Routed(tuple(kept), tuple(paid))

    def _written(self, row: int, names: Sequence[str]) -> list[int]:
        """The candidates of a row that are asked for, those that there are."""
        seen: dict[str, int] = {}
        found = []
        for name in names:
            draw = seen[name] = seen.get(name, -1) + 1
            teacher = self.teachers.index(name) if name in self.teachers else None
            if teacher is not None and draw < self.at.shape[2]:
                number = int(self.at[row, teacher, draw])
                if number >= 0:
                    found.append(number)
        return found

    def _checked(self, values: ArrayLike) -> NDArray[np.float64]:
        told = np.asarray(values, np.float64)
        if told.shape != (len(self.candidates),):
            message = f"{told.shape} values of {len(self.candidates)} answers"
            raise PomonaError(message, remedy="give one number an answer, NaN where unknown")
        return told
