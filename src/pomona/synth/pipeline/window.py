"""One window of rows: asked of their teachers, the best answer of each chosen, and what checks take
away asked again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pomona.errors import quantity
from pomona.synth.pipeline.asking import Asking, Draw
from pomona.synth.pipeline.case import (
    NOBODY,
    Case,
    preference_of,
    reject_of,
    rows_of,
)
from pomona.synth.pipeline.inputs import InputRow
from pomona.synth.pipeline.judging import Judging
from pomona.synth.pipeline.pool import Pool, licence_refused
from pomona.synth.pipeline.recipe import SynthRecipe
from pomona.synth.pipeline.tally import Tally
from pomona.synth.routing import Policy
from pomona.synth.teachers import Assignment, Candidate, Lesson, Reject, fill

_ALL = 1 << 30  # answers of a row


class Windows:
    """Takes windows of rows in order. Everything that a window gives depends on the rows and on
    those before it alone. `places` has by id how many answers are wanted; one of all where it is
    None.
    """

    def __init__(
        self,
        recipe: SynthRecipe,
        pool: Pool,
        policy: Policy,
        asking: Asking,
        judging: Judging,
        tally: Tally,
        licences: Sequence[str] | None,
        places: Mapping[str, int] | None,
    ) -> None:
        self._recipe, self._pool, self._policy, self._tally = recipe, pool, policy, tally
        self._asking, self._judging = asking, judging
        self._licences, self._places = licences, places
        self._new: Counter[str] = Counter()  # rows out of this window, by language

    def take(self, rows: Sequence[InputRow]) -> dict[str, Any]:
        """Answer a window; its rows out, rejects and preferences as they are kept."""
        cases = [Case(row, self._wanted(row)) for row in rows]
        self._new = Counter()
        self._look(cases)
        left = [case for case in cases if case.open]
        while left:  # a text near another's waits for what becomes of that
            now, left = self._judging.parted(left)
            self._answer(now)
            for case in left:
                if self._judging.repeats(case.lang, case.row.asked.text):
                    case.reject = self._judging.repeated(case.row.asked.id)
            left = [case for case in left if case.open]
        self._note(cases)
        return self._kept(cases)

    def _answer(self, cases: Sequence[Case]) -> None:
        """Ask about cases until each is decided."""
        self._route(cases)
        while wanted := self._next(cases):
            self._ask(wanted)
        for more in range(1, self._recipe.refill + 1):
            self._close(cases)
            left = [case for case in cases if case.open and not self._satisfied(case)]
            before = sum(len(case.kept) for case in left)
            self._ask(self._again(left, more))
            self._tally.refilled += sum(len(case.kept) for case in left) - before
        self._close(cases)
        for case in cases:
            if case.reject is None and not case.kept:
                case.reject = case.lost()

    def _close(self, cases: Sequence[Case]) -> None:
        """Reject the rows without an answer whose language has as many as it may have."""
        for case in cases:
            if case.open and not case.kept and self._room(case.lang) <= 0:
                limit = quantity(self._recipe.limit or 0, "row")
                reason = f"the limit of {limit} of {case.lang} is reached"
                case.reject = Reject(case.row.asked.id, NOBODY, reason, asked=False)

    def _wanted(self, row: InputRow) -> int:
        if self._places is not None:
            return self._places[row.asked.id]
        return _ALL if self._policy.keep == "all" else 1

    def _satisfied(self, case: Case) -> bool:
        return bool(case.kept) and self._policy.keep == "all" and self._places is None

    def _look(self, cases: Sequence[Case]) -> None:
        """Reject the rows that nobody is asked about."""
        copies = self._judging.tests.alike([case.row.asked.text for case in cases])
        for case, copy in zip(cases, copies, strict=True):
            reason, asked = None, case.row.asked
            if not asked.text.strip():
                reason = "the text is empty"
            elif not asked.lang:
                reason = "has no language to be answered in"
            elif copy:
                reason = "is a near copy of a test item"
            elif (refused := licence_refused(case.row.licence, self._licences)) is not None:
                reason = f"its text {refused}"
            elif not case.wanted:
                reason = f"the quota of {asked.lang} has others"
            elif self._judging.repeats(case.lang, asked.text):
                case.reject = self._judging.repeated(asked.id)
            if reason is not None:
                case.reject = Reject(asked.id, NOBODY, reason, asked=False)
        self._close(cases)

    def _room(self, lang: str) -> int:
        """How many more rows of a language may come out."""
        limit = self._recipe.limit
        done = self._tally.langs.get(lang, [0, 0])[1] + self._new[lang]
        return _ALL if limit is None else limit - done

    def _route(self, cases: Sequence[Case]) -> None:
        routes = self._policy.ask([case.row.asked for case in cases])
        for case, names in zip(cases, routes, strict=True):
            asked = case.row.asked
            case.route = [name for name in names if self._knows(name, asked)]
            if not case.route:
                reason = f"no teacher goes from {asked.source_lang} to {asked.lang}"
                case.reject = Reject(asked.id, NOBODY, reason, asked=False)

    def _knows(self, name: str, row: Assignment) -> bool:
        return name in self._pool.teachers and self._pool.teachers[name].knows(row)

    def _next(self, cases: Sequence[Case]) -> dict[Draw, list[Case]]:
        """Whom to ask next about which cases: all of the route, or where one answer is enough the
        next one of it; no more of a language than may come out.
        """
        wanted: dict[Draw, list[Case]] = {}
        under: Counter[str] = Counter()
        for case in cases:
            if not case.open or case.asked >= len(case.route):
                continue
            if not case.kept:
                if under[case.lang] >= self._room(case.lang):
                    continue
                under[case.lang] += 1
            upto = case.asked + 1 if self._policy.keep == "first" else len(case.route)
            draws = Counter(case.route[case.asked : upto])
            case.asked = upto
            for name, times in draws.items():
                for draw in range(max(times, self._pool.teachers[name].samples)):
                    wanted.setdefault((name, draw), []).append(case)
        return wanted

    def _again(self, cases: Sequence[Case], more: int) -> dict[Draw, list[Case]]:
        """A further draw of the teachers that replied; of the first one where one answer is enough.
        A request that failed had all its tries.
        """
        wanted: dict[Draw, list[Case]] = {}
        for case in cases:
            names = Counter(name for name in case.route if case.replied(name))
            for name in [*names][: 1 if self._policy.keep == "first" else None]:
                draws = max(names[name], self._pool.teachers[name].samples)
                wanted.setdefault((name, draws + more - 1), []).append(case)
        return wanted

    def _ask(self, wanted: Mapping[Draw, Sequence[Case]]) -> None:
        cases = list({id(case): case for some in wanted.values() for case in some}.values())
        cases.sort(key=lambda case: case.row.place)
        self._asking.ask(wanted)
        self._judging.see(cases)
        self._rephrase(cases)
        for case in cases:
            had = bool(case.kept)
            if had or self._room(case.lang) > 0:
                self._judging.settle(case)
                self._new[case.lang] += bool(case.kept) and not had

    def _rephrase(self, cases: Iterable[Case]) -> None:
        """Have a second model write the best answers anew. Where it fails the draft stays."""
        step = self._recipe.rephrase
        if step is None:
            return
        work: list[tuple[Case, int]] = []
        for case in cases:
            drafts = [at for at in self._judging.ranked(case) if at not in case.drafts]
            new = [at for at in drafts if at not in case.drafts.values()]
            if case.open:
                work += [(case, at) for at in new[: max(0, case.wanted - len(case.kept))]]
        rows = [_draft(step.prompt, place, *one) for place, one in enumerate(work)]
        if not rows:
            return
        lessons = self._asking.rewrite(step.teacher, rows)
        touched: dict[int, Case] = {}
        for (case, at), one in zip(work, lessons.rows, strict=True):
            name = case.row.asked.id
            if isinstance(one, Lesson):
                draft = case.candidates[at].lesson
                licences = sorted({one.licence or "", draft.licence or ""} - {""})
                known = one.licence is not None and draft.licence is not None
                made = replace(
                    one,
                    id=name,
                    licence=" AND ".join(licences) if known else None,
                    sample=len(case.drafts),
                )
                case.drafts[len(case.candidates)] = at
                case.candidates.append(Candidate(case.row.asked, made))
                touched[id(case)] = case
            else:
                case.rejects.append(replace(one, id=name))
        self._judging.see([*touched.values()])

    def _note(self, cases: Sequence[Case]) -> None:
        stop = self._recipe.stop
        for name in self._pool.teachers:
            told = [failed for case in cases if (failed := case.failed(name)) is not None]
            self._tally.of(name).look(told, stop.window, stop.failures)
        for case in cases:
            if case.reject is not None:
                self._tally.reject(case.reject, case.lang)
            else:
                kept = [case.candidates[at].lesson for at in case.kept]
                self._tally.accept(kept, case.row.licence, case.lang)

    def _kept(self, cases: Sequence[Case]) -> dict[str, Any]:
        pairs: list[dict[str, Any]] = []
        if (form := self._recipe.preferences) is not None:
            made = (preference_of(case, fill(form.prompt, case.row.asked)) for case in cases)
            pairs = [pair for pair in made if pair is not None]
            self._tally.preferences += len(pairs)
        out = [case for case in cases if case.reject is None]
        alternatives = self._recipe.alternatives
        return {
            "rows": [row for case in out for row in rows_of(case, alternatives=alternatives)],
            "rejects": [reject_of(case, case.reject) for case in cases if case.reject],
            "preferences": pairs,
            "tally": self._tally.to_json(),
            "paid": self._asking.counted.take(),
        }


def _draft(template: str, place: int, case: Case, at: int) -> Assignment:
    """What the second model reads of a case's answer."""
    asked, answer = case.row.asked, case.candidates[at].lesson.text
    prompt = template.format(
        answer=answer, text=asked.text, source_lang=asked.source_lang, lang=asked.lang
    )
    return Assignment(str(place), prompt, case.lang, case.lang)
