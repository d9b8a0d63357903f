"""Which of a row's answers are taken: checks, rewards, objectives, and what was taken before."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pomona.synth.checks import HeldOut, NearDuplicates, checks_from, reason_of
from pomona.synth.pipeline.case import NOBODY, Case
from pomona.synth.pipeline.pool import licence_refused
from pomona.synth.pipeline.recipe import SynthRecipe
from pomona.synth.pipeline.sections import refuse_lists
from pomona.synth.pipeline.tally import Counted, Tally
from pomona.synth.rewards import PaidReward, Reward, Weighted, key_of, spent
from pomona.synth.steering import choose, objectives_from
from pomona.synth.teachers import Reject

_ALIKE = 0.8  # from which texts of rows are near copies of a test's, where the recipe says nothing


class TestItems:
    """The texts of a recipe's tests, and their answers where they are named."""

    def __init__(self, recipe: SynthRecipe) -> None:
        alike = recipe.checks.near_duplicates or _ALIKE
        self._texts = HeldOut(alike) if recipe.test else None
        self._answers = None
        for test in recipe.test:
            if test.answer is not None and self._answers is None:
                self._answers = HeldOut(alike)
            for column, index in ((test.text, self._texts), (test.answer, self._answers)):
                if column is not None and index is not None:
                    records = test.read().require(column).select(column)
                    for batch in records.batches():
                        refuse_lists(batch, str(records.source.where))
                        texts = [str(text) for text in batch[0].to_pylist() if text]
                        index.add_all(texts)

    def alike(self, texts: Sequence[str]) -> list[bool]:
        """Whether each text is a near copy of a test item's."""
        if self._texts is None:
            return [False] * len(texts)
        return self._texts.alike(texts)

    def answered(self, answer: str) -> bool:
        """Whether an answer is a near copy of a test item's."""
        return self._answers is not None and self._answers.alike([answer])[0]


class Judging:
    """Judges candidates. What was taken is known by `accept`, also from earlier starts."""

    def __init__(
        self,
        recipe: SynthRecipe,
        reward: Reward | None,
        tally: Tally,
        tests: TestItems,
        licences: Sequence[str] | None = None,
        counted: Counted | None = None,
    ) -> None:
        self._recipe, self._reward, self._tally, self.tests = recipe, reward, tally, tests
        self._licences, self._counted = licences, counted or Counted()
        self._checks = checks_from(recipe.checks)
        self._objectives = objectives_from(recipe.steer.objectives)
        parts = [] if reward is None else parts_of(reward)
        names = recipe.rewards.chosen if recipe.rewards else ()
        self._parts = dict(zip(names, parts, strict=False))  # pilots look at texts alone
        alike = recipe.checks.near_duplicates
        self._alike = alike
        self._texts: dict[str, NearDuplicates] = {}
        self._taken: dict[str, NearDuplicates] = {}

    def repeats(self, lang: str, text: str) -> bool:
        """Whether a text is a near copy of one that was answered in this language."""
        known = self._texts.get(lang)
        return known is not None and known.nearest(text) is not None

    def parted(self, cases: Sequence[Case]) -> tuple[list[Case], list[Case]]:
        """Cases whose texts are no near copies of one another in a language, and the others."""
        now: list[Case] = []
        later: list[Case] = []
        seen: dict[str, NearDuplicates] = {}
        for case in cases:
            text = case.row.asked.text
            if self._alike is None:
                now.append(case)
                continue
            known = seen.setdefault(case.lang, NearDuplicates(self._alike))
            if known.nearest(text) is None:
                known.add(text)
                now.append(case)
            else:
                later.append(case)
        return now, later

    def see(self, cases: Sequence[Case]) -> None:
        """Look at new candidates: what checks refuse is marked, and rewards are given."""
        fresh = [case for case in cases if case.seen < len(case.candidates)]
        if not fresh:
            return
        for case in fresh:
            for at in range(case.seen, len(case.candidates)):
                self._check(case, at)
        if self._reward is not None:
            self._score(fresh, self._reward)
        for case in fresh:
            case.seen = len(case.candidates)

    def _check(self, case: Case, at: int) -> None:
        candidate = case.candidates[at]
        if (why := licence_refused(candidate.lesson.licence, self._licences)) is not None:
            case.refuse(at, "licence", why, fault=False)
        elif (found := reason_of(self._checks, candidate)) is not None:
            case.refuse(at, *found)

    def _score(self, cases: Sequence[Case], reward: Reward) -> None:
        every = [one for case in cases for one in case.candidates]
        values = reward.score(every)
        filters = self._recipe.filters
        parts = {name: self._parts[name].score(every) for name in filters}
        self._tally.charge(parts_of(reward), self._counted)
        self._give_up(cases, reward)
        place = 0
        for case in cases:
            for at in range(len(case.candidates)):
                if np.isfinite(values[place]):
                    case.scores[at] = float(values[place])
                for name, least in filters.items():
                    value = parts[name][place]
                    if at >= case.seen and at not in case.refused and not value >= least:
                        told = f"{value:.4g}, less than {least:g}"
                        case.refuse(at, f"filter {name}", told, fault=False)
                place += 1

    def _give_up(self, cases: Sequence[Case], reward: Reward) -> None:
        """Reject the rows of which an answer could not be judged for the budget: with more of it
        another might be the best.
        """
        paid = [part for part in parts_of(reward) if isinstance(part, PaidReward)]
        met = next((part.met for part in paid if part.met is not None), None)
        if met is None:
            return
        for case in cases:
            new = [key_of(one) for one in case.candidates[case.seen :]]
            lacks = any(reward.failures.get(name, "").endswith(spent(met)) for name in new)
            if lacks and not case.kept:
                case.reject = Reject(case.row.asked.id, NOBODY, spent(met), asked=False)

    def ranked(self, case: Case) -> list[int]:
        """The candidates of a case that nothing speaks against, the best first: those that rewrite
        others go before all.
        """
        places = [at for at in range(len(case.candidates)) if at not in case.refused]
        if self._objectives and places:
            places = self._steered(case, places)
        else:
            places.sort(key=lambda at: (-case.scores.get(at, -np.inf), case.turn(at), at))
        return sorted(places, key=lambda at: at not in case.drafts)

    def _steered(self, case: Case, places: list[int]) -> list[int]:
        among = [case.candidates[at] for at in places]
        steer = self._recipe.steer
        chosen = choose(among, self._objectives, steer.how, keep=len(among), seed=self._recipe.seed)
        return [next(at for at in places if case.candidates[at] is one.candidate) for one in chosen]

    def settle(self, case: Case) -> None:
        """Keep the best candidates of a case that are no near copies of what was taken; none where
        its text is one, which no other answer would mend.
        """
        asked = case.row.asked
        if case.reject is not None:
            return
        if not case.kept and self.repeats(case.lang, asked.text):
            case.reject = self.repeated(asked.id)
            return
        for at in self.ranked(case):
            if not case.open:
                return
            text = case.candidates[at].lesson.text
            if at in case.kept or any(
                case.candidates[one].lesson.text == text for one in case.kept
            ):
                continue
            if at in case.drafts.values() and any(case.drafts.get(one) == at for one in case.kept):
                continue
            if self.tests.answered(text):
                case.refuse(at, "a near copy of a test item's answer", "", fault=False)
            elif (why := self._copies(case, text)) is not None:
                case.refuse(at, "near_duplicates", why, fault=False)
                self._tally.near_duplicates += 1
            else:
                case.kept.append(at)
                self.accept(case.lang, asked.text, text, first=len(case.kept) == 1)

    def repeated(self, name: str) -> Reject:
        """The reject of a row whose text is a near copy of one that was answered."""
        self._tally.near_duplicates += 1
        return Reject(name, NOBODY, "is a near copy of a row that was taken", asked=False)

    def _copies(self, case: Case, answer: str) -> str | None:
        if self._alike is None or case.lang not in self._taken:
            return None
        return self._taken[case.lang].reason(_whole(case.row.asked.text, answer))

    def accept(self, lang: str, text: str, answer: str, *, first: bool) -> None:
        """Know an answer as taken, and with the first of a row its text."""
        if self._alike is None:
            return
        if lang not in self._taken:
            self._texts[lang] = NearDuplicates(self._alike)
            self._taken[lang] = NearDuplicates(self._alike)
        if first:
            self._texts[lang].add(text)
        self._taken[lang].add(_whole(text, answer))


def parts_of(reward: Reward) -> list[Reward]:
    """The rewards that it is made of, itself where it is one alone."""
    return [part for part, _ in reward.parts] if isinstance(reward, Weighted) else [reward]


def _whole(text: str, answer: str) -> str:
    return f"{text}\n{answer}"
