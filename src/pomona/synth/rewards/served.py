"""Reward models of servers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from pomona.answers import together
from pomona.models import ModelError, RetryPolicy, require, wait_for
from pomona.synth.rewards.kept import Paid, key_of_texts
from pomona.synth.rewards.paid import PaidReward
from pomona.synth.teachers import Candidate, check_prompt, fill

_FAILURES = 5  # requests in a row that fail for the server's own sake, after which none is asked
_ROW_FAULTS = frozenset({400, 413, 422})  # what is wrong with a row, and not with the server


class HttpReward(PaidReward):
    """What a server's reward model gives an answer, see `pomona.models.http.RewardModel`; the
    answers of a row go in one request, where the server takes several.

    prompt: a template of what the model is shown as the prompt. whole: of prompt and answer, with
    {prompt} and {answer}, for servers that put no chat template to them. store: the file that keeps
    the numbers. Requests that fail are tried again as the server asks; a row that fails after that
    is NaN and a failure, and so are all that follow five such in a row, which are not asked.
    Raises PomonaError for an address without a path and a template that cannot be filled.
    """

    name = "http"

    def __init__(
        self,
        url: str,
        prompt: str = "{text}",
        *,
        whole: str | None = None,
        store: Path | None = None,
        concurrency: int = 4,
        timeout: float = 120.0,
        policy: RetryPolicy | None = None,
    ) -> None:
        super().__init__(store)
        require("httpx", extra="serve")
        check_prompt(prompt, self.name)
        self._url, self._prompt, self._whole = url, prompt, whole
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

    def judge(self, rows: Sequence[Sequence[Candidate]]) -> dict[bytes, str]:
        """See `PaidReward`."""
        return wait_for(self._judged(rows))

    async def _judged(self, rows: Sequence[Sequence[Candidate]]) -> dict[bytes, str]:
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
                try:
                    scores = await model.scores(prompt, [one.lesson.text for one in several])
                except ModelError as error:
                    if error.status not in _ROW_FAULTS and len(failures) < _FAILURES:
                        failures.append(error)
                    return dict.fromkeys(map(self.key, several), str(error))
            if len(failures) < _FAILURES:
                failures.clear()
            made = zip(map(self.key, several), map(Paid, scores), strict=True)
            self.keep(dict(made))
            return {}

        try:
            if model.one_by_one:  # one that fails takes no other with it
                rows = [[one] for row in rows for one in row]
            told = await together([judged(several) for several in rows])
        finally:
            await model.close()
        return {key: why for each in told for key, why in each.items()}
