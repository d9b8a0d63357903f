"""Teachers asked for all rows of a window, within the budget, and no more once they are stopped."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from pomona.answers import Budget, Submitted
from pomona.synth.pipeline.case import Case
from pomona.synth.pipeline.pool import Pool
from pomona.synth.pipeline.recipe import Budget as Limits
from pomona.synth.pipeline.tally import Tally
from pomona.synth.teachers import Assignment, Candidate, Lesson, Lessons, Reject, Usage

_LIMITS = ("tokens", "money", "flops", "seconds")
Draw = tuple[str, int]  # a teacher, and which of its answers to a row


class Asking:
    """Asks, and notes in the tally what was asked and what it cost; the budget knows what was spent
    `before`, too.
    """

    def __init__(
        self, pool: Pool, limits: Limits, tally: Tally, before: Tally | None = None
    ) -> None:
        self._pool, self._tally, self._before = pool, tally, before or Tally()
        self._limits = limits.model_dump(exclude_none=True)
        self._started = time.monotonic()

    def ask(self, wanted: Mapping[Draw, Sequence[Case]]) -> None:
        """Give each case what its draws bring: candidates and rejects, by teacher and draw."""
        pool = self._pool.teachers
        order = [*pool]
        draws = sorted(wanted, key=lambda draw: (order.index(draw[0]), draw[1]))
        each = {name: [draw for draw in draws if draw[0] == name] for name, _ in draws}
        apart = [name for name in each if pool[name].apart]
        made: dict[Draw, Lessons | Submitted] = {}
        if len(each) > 1 and apart and not self._limits:
            # Each draw of a teacher after the other, and none beside others where a budget is set:
            # what is left of it must be known.
            with ThreadPoolExecutor(len(apart)) as threads:
                work = [
                    threads.submit(self._all, each.pop(name), wanted)
                    for name in apart
                    if pool[name].teacher
                ]
                for mine in each.values():
                    made |= self._all(mine, wanted)
                for one in work:
                    made |= one.result()
        waits: Submitted | None = None
        for draw in draws:
            told = made.get(draw) or self._lessons(draw, wanted[draw])
            if isinstance(told, Submitted):
                waits = told
            else:
                self._note(draw[0], wanted[draw], told)
        if waits is not None:
            raise waits

    def submit(self, wanted: Mapping[str, Sequence[Assignment]]) -> None:
        """Hand rows to the teachers that take all of them in batches. Submitted while any are under
        way, of all teachers.
        """
        waits: Submitted | None = None
        for name, rows in wanted.items():
            try:
                self._pool.teachers[name].submit(rows, self._left()[0])
            except Submitted as told:
                waits = told
        if waits is not None:
            raise waits

    def _all(
        self, draws: Sequence[Draw], wanted: Mapping[Draw, Sequence[Case]]
    ) -> dict[Draw, Lessons | Submitted]:
        return {draw: self._lessons(draw, wanted[draw]) for draw in draws}

    def rewrite(self, teacher: str, rows: Sequence[Assignment]) -> Lessons:
        """What a model writes to rows whose texts are all that it is sent."""
        told = self._tally.of(teacher)
        lessons = self._refused(teacher, rows)
        if lessons is None:
            lessons = self._pool.teachers[teacher].rewrite(rows, self._left()[0])
        told.add(lessons)
        return lessons

    def _lessons(self, draw: Draw, cases: Sequence[Case]) -> Lessons | Submitted:
        name, sample = draw
        rows = [case.row.asked for case in cases]
        refused = self._refused(name, rows)
        if refused is not None:
            return refused
        try:
            return self._pool.teachers[name].teach(rows, sample, self._left()[0])
        except Submitted as waits:  # the others submit theirs first
            return waits

    def _refused(self, name: str, rows: Sequence[Assignment]) -> Lessons | None:
        """The rejects of a teacher that is stopped, or that nothing is left for."""
        stopped, met = self._tally.of(name).stopped, self._left()[1]
        if stopped is None and met is None:
            return None
        reason = f"not asked: {stopped}" if stopped else f"the budget of {met} is spent"
        return Lessons(tuple(Reject(row.id, name, reason, asked=False) for row in rows), Usage())

    def _note(self, name: str, cases: Sequence[Case], lessons: Lessons) -> None:
        self._tally.of(name).add(lessons)
        for case, one in zip(cases, lessons.rows, strict=True):
            if isinstance(one, Lesson):
                case.candidates.append(Candidate(case.row.asked, one))
            else:
                case.rejects.append(one)

    def _left(self) -> tuple[Budget | None, str | None]:
        """What is left of the budget, and the name of a limit that is met."""
        if not self._limits:
            return None, None
        both = (self._tally, self._before)
        used = {
            name: sum(one.spent(name) for one in both) for name in {*self._limits} - {"seconds"}
        }
        used["seconds"] = time.monotonic() - self._started
        left = {name: self._limits[name] - used[name] for name in _LIMITS if name in self._limits}
        met = next((name for name, rest in left.items() if rest <= 0), None)
        return (Budget(**left) if met is None else None), met
