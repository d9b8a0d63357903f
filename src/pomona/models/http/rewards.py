"""Reward models behind servers, in the forms that servers have for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from pomona.errors import PomonaError
from pomona.models.concurrency import RetryPolicy, retrying
from pomona.models.http.choices import TokenCounter
from pomona.models.http.client import HttpClient, Place, Section, checked, malformed, usage_of
from pomona.models.http.dialect import key_for
from pomona.models.request import ModelError, Request

_POOLED = ("classify", "pooling")
_PAIRED = {"rerank": ("query", "documents"), "score": ("text_1", "text_2")}
_Numbers = Annotated[list[float], Field(min_length=1)]


class Read(Section):
    """What SGLang says beside a number."""

    prompt_tokens: Annotated[int, Field(ge=0)] | None = None


class Rewarded(Section):
    """What a server gives one text, under the name that it has there: `relevance_score` of
    rerankers, `score` of vLLM's /score, `probs` of its /classify and `data` of its /pooling, which
    may have a number for each token, `embedding` of SGLang's /classify.
    """

    index: Place | None = None
    relevance_score: float | None = None
    score: float | None = None
    probs: _Numbers | None = None
    embedding: _Numbers | None = None
    data: Annotated[list[_Numbers], Field(min_length=1)] | _Numbers | None = None
    meta_info: Read | None = None

    def number(self, where: str) -> float:
        """The reward. A ModelError where there is none, or more than one."""
        if isinstance(self.data, list) and isinstance(self.data[0], list):
            told: Any = self.data[-1]  # of a model that rewards each token, that of all of them
        else:
            told = self.probs or self.embedding or self.data
        alone = self.score if self.relevance_score is None else self.relevance_score
        numbers: list[float] = told or ([] if alone is None else [alone])
        if len(numbers) != 1:
            message = f"a reward is one number, not {len(numbers)}"
            raise ModelError(message, status=502, where=where, remedy="serve a reward model")
        return numbers[0]


class Several(Section):
    """The answer of a server about several texts."""

    results: list[Rewarded] | None = None
    data: list[Rewarded] | None = None


class Parts(Section):
    """The same of a server that answers a list alone."""

    parts: list[Rewarded]


class Scores(Section):
    """The answer to a prompt with its answers."""

    scores: list[float]


@dataclass(frozen=True)
class Judged:
    """The rewards of answers, and the tokens that the server read for them: as it counted them, or
    by the length of the texts, which `estimated` says.
    """

    scores: list[float]
    tokens: int
    estimated: bool


class RewardModel:
    """A reward model at `http(s)://HOST/PATH`, or `…#MODEL` where the server wants a name.

    What is sent and read depends on how the path ends (vLLM 0.20, SGLang 0.5; rerankers of
    llama.cpp and Jina):
    `/rerank`: query and documents → results or a list, by index; `/score`: text_1 and text_2 →
    data, by index; `/classify`, `/pooling`: each answer alone as a conversation of prompt and
    answer, to which the server puts its chat template, or with `whole`, a template with {prompt}
    and {answer}, all answers as texts (which SGLang's /classify wants). Any other gets
    `{"prompt": …, "answers": […]}` and answers `{"scores": […]}`.
    Its key is that of `pomona.models.load`. Belongs to one event loop. Raises PomonaError when the
    address names no path.
    """

    def __init__(
        self,
        address: str,
        *,
        whole: str | None = None,
        timeout: float = 120.0,
        concurrency: int = 1,
        policy: RetryPolicy | None = None,
    ) -> None:
        self.address, self._whole = address, whole
        self._url, _, self._model = address.partition("#")
        if whole is not None:
            _check(whole, address)
        base, _, self._path = self._url.rpartition("/")
        if base.count("/") < 2:
            remedy = "write http://HOST/PATH of the reward model"
            raise PomonaError("names no path", where=address, remedy=remedy)
        self._policy = policy or RetryPolicy()
        key = key_for(base)
        self._client = HttpClient(base + "/", key=key, timeout=timeout, connections=concurrency)

    @property
    def one_by_one(self) -> bool:
        """Whether each answer is a request of its own."""
        return self._path in _POOLED and self._whole is None

    async def scores(self, prompt: str, answers: Sequence[str]) -> list[float]:
        """The reward of each answer. See `judge`."""
        return (await self.judge(prompt, answers)).scores

    async def judge(self, prompt: str, answers: Sequence[str]) -> Judged:
        """The reward of each answer, from one request unless they go one by one. A ModelError when
        all retries failed or the server does not reward every answer with one number.
        """
        if not self.one_by_one or len(answers) == 1:
            return await self._judged(prompt, answers)
        each = [await self._judged(prompt, [answer]) for answer in answers]
        scores = [score for one in each for score in one.scores]
        return Judged(scores, sum(one.tokens for one in each), any(one.estimated for one in each))

    def guess(self, prompt: str, answers: Sequence[str]) -> int:
        """Tokens that the server will read, by the length of the texts."""
        return sum(TokenCounter.guess(Request(prompt=prompt + answer)) for answer in answers)

    async def _judged(self, prompt: str, answers: Sequence[str]) -> Judged:
        body, url = self._body(prompt, answers), self._url
        if self._model:
            body["model"] = self._model
        answer = await retrying(
            lambda: self._client.post_any(self._path, body), self._policy, where=url, key=prompt
        )
        counted = usage_of(answer, embedding=True) if isinstance(answer, dict) else None
        tokens = counted[0] if counted else None
        if self._path in _POOLED or self._path in _PAIRED:
            parts = _parts(answer, url)
            tokens = _read(parts) if tokens is None else tokens
            scores = _in_order(parts, len(answers), url)
        else:
            scores = checked(answer, Scores, url).scores
        if len(scores) != len(answers):
            message = f"{len(scores)} scores for {len(answers)} answers"
            raise ModelError(message, status=502, where=url)
        if tokens is None:
            return Judged(scores, self.guess(prompt, answers), True)
        return Judged(scores, tokens, False)

    def _body(self, prompt: str, answers: Sequence[str]) -> dict[str, Any]:
        if self._path in _PAIRED:
            one, several = _PAIRED[self._path]
            return {one: prompt, several: list(answers)}
        if self._path not in _POOLED:
            return {"prompt": prompt, "answers": list(answers)}
        if self._whole is None:
            turns = (("user", prompt), ("assistant", answers[0]))
            return {"messages": [{"role": role, "content": text} for role, text in turns]}
        texts = [self._whole.format(prompt=prompt, answer=answer) for answer in answers]
        return {"input": texts, "text": texts}  # as vLLM calls them, and SGLang

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()


def _check(whole: str, where: str) -> None:
    try:
        whole.format(prompt="", answer="")
    except (KeyError, IndexError, ValueError) as error:
        remedy = "write {prompt} and {answer} in it, and other braces twice"
        message = f"the template of prompt and answer has no place for {error}"
        raise PomonaError(message, where=where, remedy=remedy) from error
    if "{answer}" not in whole:
        message = "the template of prompt and answer has no {answer}"
        raise PomonaError(message, where=where, remedy="write {answer} where the answer goes")


def _parts(answer: Any, where: str) -> list[Rewarded]:
    if isinstance(answer, list):
        return checked({"parts": answer}, Parts, where).parts
    several = checked(answer, Several, where)
    parts = several.data if several.results is None else several.results
    if parts is None:
        raise malformed('it has neither "results" nor "data"', where)
    return parts


def _read(parts: Sequence[Rewarded]) -> int | None:
    """The tokens of all texts, where the server counted those of each."""
    each = [one.meta_info.prompt_tokens for one in parts if one.meta_info]
    known = [count for count in each if count]
    return sum(known) if parts and len(known) == len(parts) else None


def _in_order(parts: Sequence[Rewarded], count: int, where: str) -> list[float]:
    """The number of each text: by its index, or where there is none by its place."""
    numbers: Mapping[int, float] = {
        at if one.index is None else one.index: one.number(where) for at, one in enumerate(parts)
    }
    return [numbers[at] for at in range(count) if at in numbers]
