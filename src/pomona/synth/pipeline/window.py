"""One window of rows: asked of their teachers, the best answer of each chosen, and what checks take
away asked again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pomona.answers import Budget
from pomona.synth.pipeline.inputs import InputRow
from pomona.synth.pipeline.pool import Pool, licence_refused
from pomona.synth.pipeline.recipe import SynthRecipe
from pomona.synth.pipeline.tally import Tally
from pomona.synth.teachers import Candidate, Lesson, Lessons, Reject, Usage

_LIMITS = ("tokens", "money", "flops", "seconds")
NOBODY = ""  # the teacher of a reject that no teacher was asked about


@dataclass
class Case:
    """A row under way: who is asked, what they wrote, what was wrong with it, and the end."""

    row: InputRow
    teachers: Sequence[str] = ()
    candidates: list[Candidate] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    refused: set[int] = field(default_factory=set)
    scores: dict[int, float] = field(default_factory=dict)
    chosen: Candidate | None = None
    reject: Reject | None = None

    @property
    def open(self) -> bool:
        """Whether nothing is decided yet."""
        return self.chosen is None and self.reject is None


class Windows:
    """Takes windows of rows in order. Everything that a window gives depends on the rows and on
    those before it alone.
    """

    def __init__(
        self,
        recipe: SynthRecipe,
        pool: Pool,
        route: Callable[[Sequence[InputRow]], list[tuple[str, ...]]],
        tally: Tally,
        licences: Sequence[str] | None,
    ) -> None:
        self._recipe, self._pool, self._route, self._tally = recipe, pool, route, tally
        self._licences = licences
        self._started = time.monotonic()

    def take(self, rows: Sequence[InputRow]) -> dict[str, Any]:
        """Answer a window; its rows out, rejects and preferences as they are kept."""
        cases = [Case(row) for row in rows]
        for case in cases:
            case.reject = self._not_to_ask(case.row)
        self._routed([case for case in cases if case.open])
        most = max((one.samples for one in self._pool.teachers.values()), default=1)
        for sample in range(most):
            self._ask([case for case in cases if case.open], sample, lambda one, s=sample: s < one)
        self._settle(cases)
        for sample in range(most, most + self._recipe.refill):
            left = [case for case in cases if case.open]
            self._ask(left, sample, lambda _: True)
            self._settle(left)
            self._tally.refilled += sum(case.chosen is not None for case in left)
        for case in cases:
            if case.open:
                case.reject = self._lost(case)
        self._note(cases)
        return self._kept(cases)

    def _not_to_ask(self, row: InputRow) -> Reject | None:
        """Why nobody is asked about a row; None where somebody is."""
        reason = None
        if not row.asked.text.strip():
            reason = "the text is empty"
        elif not row.asked.lang:
            reason = "has no language to be answered in"
        elif (refused := licence_refused(row.licence, self._licences)) is not None:
            reason = f"its text {refused}"
        return None if reason is None else Reject(row.asked.id, NOBODY, reason, asked=False)

    def _routed(self, cases: Sequence[Case]) -> None:
        routes = self._route([case.row for case in cases])
        for case, names in zip(cases, routes, strict=True):
            case.teachers = names
            if not names:
                asked = case.row.asked
                reason = f"no teacher goes from {asked.source_lang} to {asked.lang}"
                case.reject = Reject(asked.id, NOBODY, reason, asked=False)

    def _ask(self, cases: Sequence[Case], sample: int, wanted: Callable[[int], bool]) -> None:
        """Ask the teachers of each case for one more draw, each of them for all of its rows."""
        for name, teacher in self._pool.teachers.items():
            mine = [case for case in cases if name in case.teachers]
            if not mine or not wanted(teacher.samples):
                continue
            told = self._tally.of(name)
            rows = [case.row.asked for case in mine]
            reason = f"not asked: {told.stopped}" if told.stopped else None
            budget, met = self._left()
            reason = reason or (f"the budget of {met} is spent" if met else None)
            if reason is not None:
                made = (Reject(row.id, name, reason, asked=False) for row in rows)
                lessons = Lessons(tuple(made), Usage())
            else:
                lessons = teacher.teach(rows, sample, budget)
            told.add(lessons)
            for case, one in zip(mine, lessons.rows, strict=True):
                if isinstance(one, Lesson):
                    case.candidates.append(Candidate(case.row.asked, one))
                else:
                    case.rejects.append(one)

    def _left(self) -> tuple[Budget | None, str | None]:
        """What is left of the budget, and the name of a limit that is met."""
        limits = self._recipe.budget.model_dump(exclude_none=True)
        used = {name: self._tally.spent(name) for name in limits if name != "seconds"}
        used["seconds"] = time.monotonic() - self._started
        left = {name: limits[name] - used[name] for name in _LIMITS if name in limits}
        met = next((name for name, rest in left.items() if rest <= 0), None)
        return (Budget(**left) if left and met is None else None), met

    def _settle(self, cases: Iterable[Case]) -> None:
        """Choose of each case the best candidate that passes."""
        for case in cases:
            if not case.open:
                continue
            for at in self._ranked(case):
                candidate = case.candidates[at]
                if at in case.refused:
                    continue
                reason = self._wrong(candidate)
                if reason is None:
                    case.chosen = candidate
                    break
                case.refused.add(at)
                lesson = candidate.lesson
                trace = lesson.text[:200]
                made = Reject(lesson.id, lesson.teacher, reason, lesson.finish_reason, trace)
                case.rejects.append(made)

    def _ranked(self, case: Case) -> list[int]:
        """The places of a case's candidates, the best first; of equals the first."""
        places = range(len(case.candidates))
        return sorted(places, key=lambda at: (-case.scores.get(at, float("-inf")), at))

    def _wrong(self, candidate: Candidate) -> str | None:
        """Why a candidate is not chosen."""
        refused = licence_refused(candidate.lesson.licence, self._licences)
        return None if refused is None else f"its answer {refused}"

    def _lost(self, case: Case) -> Reject:
        """The reject of a row that nobody answered: the first that was asked says why."""
        return next((one for one in case.rejects if one.asked), case.rejects[0])

    def _note(self, cases: Sequence[Case]) -> None:
        stop = self._recipe.stop
        for name in self._pool.teachers:
            failed: list[bool] = []
            for case in cases:
                mine = [one for one in case.rejects if one.teacher == name and one.asked]
                wrote = any(one.lesson.teacher == name for one in case.candidates)
                if mine or wrote:
                    kept = sum(one.lesson.teacher == name for one in case.candidates)
                    refused = sum(case.candidates[at].lesson.teacher == name for at in case.refused)
                    failed.append(kept == refused)
            self._tally.of(name).look(failed, stop.window, stop.failures)
        for case in cases:
            lang = case.row.asked.lang
            if case.chosen is not None:
                self._tally.accept(case.chosen.lesson, case.row.licence, lang)
            elif case.reject is not None:
                self._tally.reject(case.reject, lang)

    def _kept(self, cases: Sequence[Case]) -> dict[str, Any]:
        return {
            "rows": [row_of(case, self._recipe.alternatives) for case in cases if case.chosen],
            "rejects": [reject_of(case, case.reject) for case in cases if case.reject],
            "preferences": [],
            "tally": self._tally.to_json(),
        }


def row_of(case: Case, alternatives: bool) -> Mapping[str, Any]:
    """A row out, as files have it."""
    assert case.chosen is not None
    asked, lesson = case.row.asked, case.chosen.lesson
    made: dict[str, Any] = {
        "id": asked.id,
        "text": asked.text,
        "source_lang": asked.source_lang,
        "lang": asked.lang,
        "answer": lesson.text,
        "teacher": lesson.teacher,
        "licence": lesson.licence,
        "source_licence": case.row.licence,
        "sample": lesson.sample,
        "finish_reason": lesson.finish_reason,
        "unknown_words": lesson.unknown,
    }
    if alternatives:
        others = [one.lesson for one in case.candidates if one is not case.chosen]
        made["alternatives"] = [
            {
                "answer": one.text,
                "teacher": one.teacher,
                "licence": one.licence,
                "sample": one.sample,
            }
            for one in others
        ]
    return made


def reject_of(case: Case, reject: Reject) -> Mapping[str, Any]:
    """A reject, as files have it, with all attempts at it."""
    asked = case.row.asked
    parts = ("teacher", "reason", "finish_reason", "trace")
    made = {name: getattr(reject, name) for name in parts}
    attempts = [{name: getattr(one, name) for name in parts} for one in case.rejects]
    named = {
        "id": asked.id,
        "text": asked.text,
        "source_lang": asked.source_lang,
        "lang": asked.lang,
    }
    return {**named, **made, "teacher": reject.teacher or None, "attempts": attempts}
