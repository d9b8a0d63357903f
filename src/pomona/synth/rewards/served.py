"""Reward models of servers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pomona.answers import Account, Exhausted, together
from pomona.models import ModelError, RetryPolicy, Spent, require, wait_for
from pomona.synth.rewards.kept import Paid, key_of_texts
from pomona.synth.rewards.paid import Left, PaidReward, spent, unlimited
from pomona.synth.teachers import Assignment, Candidate, Usage, check_prompt, fill

if TYPE_CHECKING:
    from pomona.models.http import Judged

_FAILURES = 5  # requests in a row that fail for the server's own sake, after which none is asked
_ROW_FAULTS = frozenset({400, 413, 422})  # what is wrong with a row, and not with the server


class HttpReward(PaidReward):
    """What a server's reward model gives an answer, see `pomona.models.http.RewardModel`; the
    answers of a row go in one request, where the server takes several.

    prompt: a template of what the model is shown as the prompt. whole: of prompt and answer, with
    {prompt} and {answer}, for servers that put no chat template to them. price: money for a million
    tokens that it reads. store: the file that keeps the numbers. left: see `PaidReward`. Requests
    that fail are tried again as the server asks; a row that fails after that is NaN and a failure,
    and so are all that follow five such in a row, which are not asked.
    Raises PomonaError for an address without a path and a template that cannot be filled.
    """

    name = "http"

    def __init__(
        self,
        url: str,
        prompt: str = "{text}",
        *,
        whole: str | None = None,
        price: float | None = None,
        store: Path | None = None,
        left: Left = unlimited,
        concurrency: int = 4,
        timeout: float = 120.0,
        policy: RetryPolicy | None = None,
    ) -> None:
        super().__init__(store, left)
        require("httpx", extra="serve")
        check_prompt(prompt, self.name)
        self._url, self._prompt, self._whole, self._price = url, prompt, whole, price
        self._concurrency, self._timeout, self._policy = concurrency, timeout, policy

    @property
    def signature(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """See `Reward`."""
        whole = "" if self._whole is None else f"|{self._whole}"
        return f"http|{self._url}|{self._prompt}{whole}|version:1"

    def key(self, candidate: Candidate) -> bytes:
        """See `PaidReward`."""
        return key_of_texts(
            self.signature, fill(self._prompt, candidate.row), candidate.lesson.text
        )

    def judge(self, rows: Sequence[Sequence[Candidate]], account: Account) -> dict[bytes, str]:
        """See `PaidReward`."""
        return wait_for(self._asked(rows, account))

    def _spent(self, tokens: int) -> Spent:
        return Spent(tokens, money=tokens * (self._price or 0.0) / 1e6)

    def at_most(self, answers: Sequence[tuple[Assignment, int]]) -> Usage:
        """See `PaidReward`; by the length of the texts."""
        from pomona.models.http import RewardModel

        model = RewardModel(self._url)
        read = sum(model.guess(fill(self._prompt, row), [""]) + tokens for row, tokens in answers)
        money = None if self._price is None else self._spent(read).money
        return Usage(prompt_tokens=read, money=money, estimated=True)

    async def _asked(
        self, rows: Sequence[Sequence[Candidate]], account: Account
    ) -> dict[bytes, str]:
        from pomona.models.http import RewardModel

        model = RewardModel(
            self._url,
            whole=self._whole,
            timeout=self._timeout,
            concurrency=self._concurrency,
            policy=self._policy,
        )
        places, failures = asyncio.Semaphore(self._concurrency), list[ModelError]()

        async def judged(several: Sequence[Candidate]) -> dict[bytes, str]:
            async with places:
                if len(failures) >= _FAILURES:
                    last = f"{_FAILURES} requests in a row failed, the last: {failures[-1]}"
                    return dict.fromkeys(map(self.key, several), f"not asked: {last}")
                prompt = fill(self._prompt, several[0].row)
                answers = [one.lesson.text for one in several]
                expected = self._spent(model.guess(prompt, answers))
                try:
                    async with account.turn(lambda _: expected) as turn:
                        told = await model.judge(prompt, answers)
                        account.add(self._spent(told.tokens), turn)
                except Exhausted as met:
                    return dict.fromkeys(map(self.key, several), spent(met.limit))
                except ModelError as error:
                    if error.status not in _ROW_FAULTS and len(failures) < _FAILURES:
                        failures.append(error)
                    return dict.fromkeys(map(self.key, several), str(error))
            if len(failures) < _FAILURES:
                failures.clear()
            self.keep(self._made(several, told))
            return {}

        try:
            if model.one_by_one:  # one that fails takes no other with it
                rows = [[one] for row in rows for one in row]
            told = await together([judged(several) for several in rows])
        finally:
            await model.close()
        return {key: why for each in told for key, why in each.items()}

    def _made(self, several: Sequence[Candidate], told: Judged) -> dict[bytes, Paid]:
        """The numbers of a row's answers, each with its share of the tokens."""
        least, more = divmod(told.tokens, len(several))
        made: dict[bytes, Paid] = {}
        for at, (one, score) in enumerate(zip(several, told.scores, strict=True)):
            tokens = least + (at < more)
            money = None if self._price is None else self._spent(tokens).money
            made[self.key(one)] = Paid(score, tokens, money=money, estimated=told.estimated)
        return made
