"""The likelihood of an answer under a third model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pomona.answers import Account
from pomona.errors import PomonaError
from pomona.models import Model, Spent, load
from pomona.synth.rewards.kept import Paid, key_of_texts
from pomona.synth.rewards.paid import Left, PaidReward, spent, unlimited
from pomona.synth.teachers import Assignment, Candidate, Usage, check_prompt, fill

_TOGETHER = 256  # answers that are judged and kept at once: a kill costs no more


class Likelihood(PaidReward):
    """The mean natural-log probability of an answer's tokens, its end among them, after a prompt:
    of a model that is none of the teachers, since each finds its own answers likely.

    model: what `pomona.models.load` opens, or a model that is open; it must score. prompt: a
    template with {text}, {source_lang} and {lang}. against: a prompt without the text, whose mean
    is subtracted: what is likely anyway, as the model's own family writes it, counts less then
    (pointwise mutual information). raw: prompts without a chat template. store: the file that keeps
    the numbers. left: see `PaidReward`. settings: what else `load` takes, such as a price.
    An answer that is too long for the model is NaN and a failure. Raises PomonaError for a template
    that cannot be filled, and for a model that cannot score.
    """

    name = "likelihood"

    def __init__(
        self,
        model: str | Model,
        prompt: str,
        *,
        against: str | None = None,
        store: Path | None = None,
        left: Left = unlimited,
        raw: bool = False,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(store, left)
        self._given, self._prompt, self._raw = model, prompt, raw
        self._settings = dict(settings or {})
        check_prompt(prompt, self.name)
        self._against = against
        if against is not None:
            check_prompt(against + "{text}", self.name)

    @cached_property
    def model(self) -> Model:
        """The model, opened when it is first needed."""
        model = self._given
        if isinstance(model, str):
            model = load(model, need={"score"}, chat=not self._raw, **self._settings)
        if "score" not in model.abilities:
            raise model.without("score")
        return model

    @property
    def signature(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """See `Reward`."""
        form = "raw" if self._raw else "chat"
        against = "" if self._against is None else f"|against {self._against}"
        prompts = f"{form}|{self._prompt}{against}"
        return f"likelihood|{self.model.identity}|{prompts}|mean|end:yes|version:1"

    def key(self, candidate: Candidate) -> bytes:
        """See `PaidReward`."""
        return key_of_texts(
            self.signature, fill(self._prompt, candidate.row), candidate.lesson.text
        )

    def judge(self, rows: Sequence[Sequence[Candidate]], account: Account) -> dict[bytes, str]:
        """See `PaidReward`."""
        failed: dict[bytes, str] = {}
        left = [one for row in rows for one in row]
        while left:
            if (met := account.met) is not None:
                return failed | dict.fromkeys(map(self.key, left), spent(met))
            count = self._affordable(left[:_TOGETHER], account)
            several, left = left[:count], left[count:]
            try:
                self._pay(several, account)
            except PomonaError:  # of one that is too long all fail: each alone then
                for one in several:
                    try:
                        self._pay([one], account)
                    except PomonaError as error:
                        failed[self.key(one)] = str(error)
        return failed

    def at_most(self, answers: Sequence[tuple[Assignment, int]]) -> Usage:
        """See `PaidReward`."""
        total = Spent()
        for template in self._templates:
            read = self.model.count_tokens([fill(template, row) for row, _ in answers])
            for prompt, (_, tokens) in zip(read, answers, strict=True):
                total += self.model.cost(int(prompt), tokens + 1)
        return Usage(
            prompt_tokens=total.prompt_tokens,
            completion_tokens=total.completion_tokens,
            flops=total.flops or None,
            money=total.money if self._settings.get("price") else None,
        )

    @property
    def _templates(self) -> list[str]:
        return [self._prompt] if self._against is None else [self._prompt, self._against]

    def _affordable(self, several: Sequence[Candidate], account: Account) -> int:
        """How many of the first are judged at once: as many as the account has room for, or one."""
        if not account.budget.limits:
            return len(several)
        total, texts = Spent(), [one.lesson.text for one in several]
        read = [self.model.count_tokens([fill(t, o.row) for o in several]) for t in self._templates]
        for at, tokens in enumerate(self.model.count_tokens(texts)):
            for prompt in read:
                total += self.model.cost(int(prompt[at]), int(tokens) + 1)
            if not account.holds(total):
                return max(1, at)
        return len(several)

    def _pay(self, several: Sequence[Candidate], account: Account) -> None:
        made = self._means_of(several)
        self.keep(made)
        for one in made.values():
            account.add(
                Spent(one.prompt_tokens, one.answer_tokens, one.flops or 0.0, one.money or 0.0)
            )

    def _means_of(self, several: Sequence[Candidate]) -> dict[bytes, Paid]:
        made = self._means(self._prompt, several)
        if self._against is not None:
            other = self._means(self._against, several)
            made = [_less(one, two) for one, two in zip(made, other, strict=True)]
        return dict(zip(map(self.key, several), made, strict=True))

    def _means(self, template: str, several: Sequence[Candidate]) -> list[Paid]:
        prompts = [fill(template, one.row) for one in several]
        logs = self.model.score(prompts, [one.lesson.text for one in several], end=True)
        made: list[Paid] = []
        for each, tokens in zip(logs, self.model.count_tokens(prompts), strict=True):
            cost = self.model.cost(int(tokens), len(each))
            # Rounded, since what is computed together moves the last digits.
            value = round(float(np.mean(each, dtype=np.float64)), 5)
            money = cost.money if self._settings.get("price") else None
            made.append(Paid(value, int(tokens), len(each), cost.flops or None, money))
        return made


def _less(one: Paid, other: Paid) -> Paid:
    """The difference, which cost both."""

    def both(mine: float | None, others: float | None) -> float | None:
        return None if mine is None or others is None else mine + others

    return Paid(
        round(one.value - other.value, 5),
        one.prompt_tokens + other.prompt_tokens,
        one.answer_tokens + other.answer_tokens,
        both(one.flops, other.flops),
        both(one.money, other.money),
    )
