"""Teachers asked for all rows of a window, within the budget, and no more once they are stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace

from pomona.answers import Budget, Submitted
from pomona.synth.pipeline.case import Case
from pomona.synth.pipeline.pool import Pool
from pomona.synth.pipeline.recipe import Budget as Limits
from pomona.synth.pipeline.tally import COSTS, TOKENS, Counted, Tally
from pomona.synth.teachers import (
    Assignment,
    Candidate,
    Lesson,
    Lessons,
    Reject,
    Terms,
    Usage,
)

_LIMITS = ("tokens", "money", "flops", "seconds")
_NOTHING = Usage()
Draw = tuple[str, int]  # a teacher, and which of its answers to a row


class Asking:
    """Asks, and notes in the tally what was asked and what it cost; the budget knows what was spent
    `before`, too. `started` is when its seconds began, of a monotonic clock; now when left out.
    `counted` is what stands in a tally already.
    """

    def __init__(
        self,
        pool: Pool,
        limits: Limits,
        tally: Tally,
        before: Tally | None = None,
        started: float | None = None,
        counted: Counted | None = None,
    ) -> None:
        self._pool, self.tally, self._before = pool, tally, before or Tally()
        self._limits = limits.model_dump(exclude_none=True)
        self._started = time.monotonic() if started is None else started
        self.counted = Counted() if counted is None else counted
        # Draws that were answered, while somebody wants to know: teacher, draw (None: it rewrote).
        self.drawn: list[tuple[str, int | None, Assignment]] | None = None

    def ask(self, wanted: Mapping[Draw, Sequence[Case]]) -> None:
        """Give each case what its draws bring: candidates and rejects, by teacher and draw."""
        pool = self._pool.teachers
        order = [*pool]
        draws = sorted(wanted, key=lambda draw: (order.index(draw[0]), draw[1]))
        each = {name: [draw for draw in draws if draw[0] == name] for name, _ in draws}
        apart: dict[str, list[Draw]] = {}
        for name, mine in each.items():
            if (place := pool[name].apart) is not None:
                apart.setdefault(place, []).extend(mine)
        made: dict[Draw, Lessons | Submitted] = {}
        if len(each) > 1 and apart and not self._limits:
            # Each draw of a teacher after the other, and none beside others where a budget is set:
            # what is left of it must be known. Teachers of one model may ask the same: the second
            # finds in the store what the first has paid for.
            with ThreadPoolExecutor(len(apart)) as threads:
                here = [name for name in each if pool[name].teacher and pool[name].apart is None]
                work = [threads.submit(self._all, mine, wanted) for mine in apart.values()]
                for name in here:
                    made |= self._all(each[name], wanted)
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
                self._pool.teachers[name].submit(rows, self.left()[0])
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
        lessons = self._made(teacher, None, rows)[0]
        self.tally.of(teacher).add(lessons)
        return lessons

    def help(self, teacher: str, rows: Sequence[Assignment]) -> Lessons:
        """What a teacher writes for a reward, which may ask for the same again."""
        named = [replace(row, id=f"{row.source_lang}>{row.lang}: {row.text}") for row in rows]
        lessons, new = self._made(teacher, 0, named)
        first = tuple(one for at, one in enumerate(lessons.rows) if at in new)
        self.tally.of(teacher).add(Lessons(first, lessons.usage))
        return lessons

    def _lessons(self, draw: Draw, cases: Sequence[Case]) -> Lessons | Submitted:
        name, sample = draw
        try:
            return self._made(name, sample, [case.row.asked for case in cases])[0]
        except Submitted as waits:  # the others submit theirs first
            return waits

    def _made(
        self, name: str, sample: int | None, rows: Sequence[Assignment]
    ) -> tuple[Lessons, set[int]]:
        """What a teacher writes to rows, and the places of those that were not asked about before:
        only these cost something, the others come from the store.
        """
        if (stopped := self.tally.of(name).stopped) is not None:
            return _refused(name, rows, f"not asked: {stopped}"), set(range(len(rows)))
        ahead = self.tally.ahead.get(name, {})
        paid = {row.id for row in rows if ahead.pop(_draw(sample, row), None)}
        asks = self._pool.teachers[name].asks
        keys = [
            Counted.key(asks, sample, row.text, row.source_lang, row.lang, row.original)
            for row in rows
        ]
        new: dict[str, int] = {}
        for at, key in enumerate(keys):
            if key not in self.counted.known:
                new.setdefault(key, at)
        made: dict[int, Lesson | Reject] = {}
        usage = _NOTHING

        def ask(places: Sequence[int]) -> None:
            nonlocal usage
            told = self._within(name, sample, [rows[at] for at in places], paid)
            made.update(zip(places, told.rows, strict=True))
            usage = _both(usage, told.usage)
            for at, one in zip(places, told.rows, strict=True):
                if isinstance(one, Lesson) or one.finish_reason is not None:
                    self.counted.add(keys[at])

        if new:
            ask([*new.values()])
        left = [at for at in range(len(rows)) if at not in made]
        for at in left:  # like one before it: asked again only where that one failed
            if keys[at] not in self.counted.known:
                ask([at])
        if again := [at for at in left if at not in made]:
            told = self._told(name, sample, [rows[at] for at in again], None)
            made.update(zip(again, told.rows, strict=True))
        whole = Lessons(tuple(made[at] for at in range(len(rows))), usage)
        return whole, set(new.values())

    def _within(
        self, name: str, sample: int | None, rows: Sequence[Assignment], paid: set[str]
    ) -> Lessons:
        """Within the budget, the rows first that a pilot paid for: they cost nothing more, whatever
        is left of it.
        """
        first = [row for row in rows if row.id in paid]
        rest = [row for row in rows if row.id not in paid]
        if not self._limits or not rest:
            return self._told(name, sample, rows, None)
        if not first:
            return self._told(name, sample, rows, self.left())
        known = self._told(name, sample, first, None)
        more = self._told(name, sample, rest, self.left(known.usage))
        each = (iter(known.rows), iter(more.rows))
        made = tuple(next(each[row.id not in paid]) for row in rows)
        return Lessons(made, _both(known.usage, more.usage))

    def _told(
        self,
        name: str,
        sample: int | None,
        rows: Sequence[Assignment],
        left: tuple[Budget | None, str | None] | None,
    ) -> Lessons:
        budget, met = left or (None, None)
        if met is not None:
            return _refused(name, rows, f"the budget of {met} is spent")
        teacher = self._pool.teachers[name]
        if sample is None:
            made = teacher.rewrite(rows, budget)
        else:
            made = teacher.teach(rows, sample, budget)
        if self.drawn is not None:
            # What failed before there was a reply has cost nothing, and is in no store.
            self.drawn += [
                (name, sample, row)
                for row, one in zip(rows, made.rows, strict=True)
                if isinstance(one, Lesson) or one.finish_reason is not None
            ]
        return made

    def costs(self) -> dict[str, dict[str, dict[str, float | None]]]:
        """What each of the draws cost that were noted, by teacher: read from their stores."""
        told: dict[str, dict[str, dict[str, float | None]]] = {}
        drawn = self.drawn or []
        drawn.sort(key=lambda one: (one[0], -1 if one[1] is None else one[1], one[2].id))
        for name, sample, row in drawn:
            made = Asking(self._pool, Limits(), Tally())._told(name, sample, [row], None)
            used = asdict(made.usage)
            told.setdefault(name, {})[_draw(sample, row)] = {kind: used[kind] for kind in COSTS}
        return told

    def _note(self, name: str, cases: Sequence[Case], lessons: Lessons) -> None:
        self.tally.of(name).add(lessons)
        for case, one in zip(cases, lessons.rows, strict=True):
            if isinstance(one, Lesson):
                case.candidates.append(Candidate(case.row.asked, one))
            else:
                case.rejects.append(one)

    def left(self, more: Usage = _NOTHING) -> tuple[Budget | None, str | None]:
        """What is left of the budget less `more`, and the name of a limit that is met."""
        if not self._limits:
            return None, None
        both = (self.tally, self._before)
        used = {
            name: sum(one.spent(name) for one in both)
            + sum(getattr(more, kind) or 0 for kind in (TOKENS if name == "tokens" else (name,)))
            for name in {*self._limits} - {"seconds"}
        }
        used["seconds"] = time.monotonic() - self._started
        left = {name: self._limits[name] - used[name] for name in _LIMITS if name in self._limits}
        met = next((name for name, rest in left.items() if rest <= 0), None)
        return (Budget(**left) if met is None else None), met


def _both(one: Usage, two: Usage) -> Usage:
    """The sum, of which nothing is unknown where nothing was asked."""
    if one is _NOTHING or two is _NOTHING:
        return one if two is _NOTHING else two
    return one + two


class Helper:
    """A teacher that works for a reward: asked, counted and limited as all are."""

    def __init__(self, name: str, pool: Pool, asking: Callable[[], Asking]) -> None:
        self.name, self._pool, self._asking = name, pool, asking

    @property
    def terms(self) -> Terms:
        """See `Teacher`."""
        return self._pool.teachers[self.name].teacher.terms

    def teach(self, rows: Sequence[Assignment], sample: int = 0) -> Lessons:
        """See `Teacher`. Its first draws alone."""
        return self._asking().help(self.name, rows)


def _refused(name: str, rows: Sequence[Assignment], reason: str) -> Lessons:
    return Lessons(tuple(Reject(row.id, name, reason, asked=False) for row in rows), _NOTHING)


def _draw(sample: int | None, row: Assignment) -> str:
    """How a draw is called in the tally; texts alone say what is rewritten."""
    return row.text if sample is None else f"{sample} {row.id}"
