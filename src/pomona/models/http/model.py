"""Models behind any OpenAI-compatible server."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from pomona.errors import PomonaError
from pomona.models.concurrency import (
    Presence,
    Rate,
    RequestLimits,
    Retries,
    RetryPolicy,
    TransientError,
    merged,
    retrying,
)
from pomona.models.http.choices import (
    Given,
    TokenCounter,
    UpstreamChoice,
    body_of,
    choices_of,
    grown_by,
    held,
    no_option,
)
from pomona.models.http.client import (
    HttpClient,
    Vectors,
    checked,
    malformed,
    usage_of,
)
from pomona.models.http.dialect import Dialect, key_for
from pomona.models.model import Ability, CostModel, Model
from pomona.models.request import (
    BatchTerms,
    Draw,
    ModelError,
    Reply,
    ReplyPiece,
    Request,
    Spent,
    check,
)

_LASTING = ("id", "root", "parent", "owned_by", "max_model_len", "meta")


class HttpModel(Model):
    """A model named by `http(s)://HOST/v1#NAME`. Belongs to one event loop.

    `n` samples of one temperature are asked in one request; the choices are counted, and missing
    ones asked singly. The seed sent is the request's for sample 0 and a hash of seed and index
    after it; whether equal seeds give equal answers is the server's affair. Prompt tokens are the
    server's, answers' tokens are counted with `tokenizer` (a folder or tokenizer.json) where one is
    given, else the server's, corrected where it counted only one choice; without either they are
    estimated from the text and marked.
    """

    abilities: frozenset[Ability] = frozenset(
        {"generate", "embed", "options", "schema", "tools", "batches"}
    )

    def __init__(
        self,
        uri: str,
        *,
        chat: bool = False,
        api_key: str | None = None,
        concurrency: int = 8,
        rate: Rate | None = None,
        timeout: float = 120.0,
        policy: RetryPolicy | None = None,
        price: tuple[float, float] | None = None,
        tokenizer: str | None = None,
        batches: BatchTerms | None = None,
        wait_for_server: float | None = None,
    ) -> None:
        base, _, name = uri.partition("#")
        url = httpx.URL(base)
        if not url.host or not name:
            raise PomonaError(
                f'"{uri}" names no server and model',
                remedy="write http://HOST/v1#NAME, with the model's name after the #",
            )
        if url.userinfo:
            raise PomonaError(
                "a user name or password in the address",
                where=url.host,
                remedy="set POMONA_API_KEY_HOST instead, with the name of the host",
            )
        self.uri, self.chat = uri, chat
        self.name, self.identity = name, f"http:{base.rstrip('/')}#{name}"
        self.client = HttpClient(
            base.rstrip("/") + "/",
            key=api_key or key_for(base),
            timeout=timeout,
            connections=concurrency,
        )
        self._limits = RequestLimits(concurrency, rate)
        self.dialect = Dialect(uri)
        self.policy = policy or RetryPolicy()
        look = partial(self.client.get, "models")
        self._presence = Presence(look, self.policy, self.identity, wait_for_server)
        self._waits = wait_for_server is not None
        self._costs = CostModel(price=price)
        self.counter = TokenCounter(tokenizer)
        self._asked = itertools.count()
        terms = batches or BatchTerms()
        self.batch_terms = replace(terms, price=terms.price or price)

    async def each(self, request: Request, samples: Sequence[Draw]) -> AsyncGenerator[Reply, None]:
        """See `Model`. Requests of different temperatures go out at the same time; the replies of
        one request to the server come together, and its failure does not stop the others.
        """
        check(request, samples, self.name)
        groups = _groups(samples).items()
        waiting = {
            asyncio.ensure_future(self._ask(request, temperature, ids)): (temperature, ids)
            for temperature, ids in groups
        }
        failed: BaseException | None = None
        try:
            while waiting:
                done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    temperature, ids = waiting.pop(task)
                    if (error := task.exception()) is not None:
                        failed = failed or error
                        continue
                    replies = task.result()
                    for index in ids[len(replies) :]:  # choices that did not come are asked singly
                        waiting[asyncio.ensure_future(self._ask(request, temperature, [index]))] = (
                            temperature,
                            [index],
                        )
                    for reply in replies:
                        yield reply
        finally:
            for task in waiting:
                task.cancel()
        if failed is not None:
            raise failed

    async def stream(
        self, request: Request, samples: Sequence[Draw]
    ) -> AsyncGenerator[ReplyPiece | Reply, None]:
        """See `Model`: one stream for each temperature. One cut in the middle is asked again
        and goes on where it was.

        A ModelError where the new answers do not begin with what was given already: that cannot be
        taken back.
        """
        check(request, samples, self.name)
        streams = [
            self._streamed(request, temperature, indices)
            for temperature, indices in _groups(samples).items()
        ]
        async with aclosing(merged(streams)) as coming:
            async for item in coming:
                yield item

    async def logprobs(
        self, request: Request, completions: Sequence[str], *, end: bool = False
    ) -> tuple[list[NDArray[np.float32]], Spent]:
        """Servers ignore requests for the probabilities of a given text, so this is a
        ModelError.
        """
        raise ModelError(
            "a server cannot score given text",
            status=400,
            where=self.identity,
            remedy="score with a torch model (hf:PATH)",
        )

    async def prompt_logprobs(
        self, ids: Sequence[int], top: int
    ) -> list[tuple[list[tuple[int, float]], float]]:
        """For each token of a prompt the `top` likeliest tokens in its place with their natural-log
        probabilities, best first, and its own; of the first, which nothing predicts, none and 0.

        It is what vLLM's completions tell. A ModelError where the server does not.
        """
        body = {"model": self.name, "prompt": list(ids), "max_tokens": 1, "temperature": 0}
        answer, _ = await self._post("completions", body | {"prompt_logprobs": top}, len(ids) + 1)
        return await asyncio.to_thread(prompt_logprobs_of, answer, ids, top, self.identity)

    async def vectors(
        self, texts: Sequence[str | Sequence[int]]
    ) -> tuple[NDArray[np.float32], Spent]:
        """See `Model`; texts may be token ids of the server's model."""
        if not texts:
            return np.zeros((0, 0), np.float32), Spent()
        guesses = (
            self.tokens(Request(prompt=text)) if isinstance(text, str) else len(text)
            for text in texts
        )
        guessed, started = sum(guesses), time.monotonic()
        body = {"model": self.name, "input": list(texts)}
        answer, _ = await self._post("embeddings", body, guessed)
        vectors = await asyncio.to_thread(vectors_of, answer, len(texts), self.identity)
        usage = usage_of(answer, embedding=True)
        spent = self._costs.embedded(
            [usage[0] if usage else guessed], time.monotonic() - started, estimated=usage is None
        )
        return vectors, spent

    async def says(self) -> dict[str, Any]:
        """What the server's list of models tells of this one that stays as long as it is the same;
        empty where the list does not have it. A ModelError when the server does not answer, which
        is waited for where that was asked for.
        """
        try:
            ask = partial(self.client.get, "models")
            answer = await (self._presence.asked(ask) if self._waits else ask())
        except TransientError as failure:
            remedy = "start the server, wait for it (wait_for_server), or name another"
            message = f"does not answer: {failure}"
            raise ModelError(message, status=502, where=self.identity, remedy=remedy) from failure
        except ModelError as refused:
            if refused.upstream in {404, 405}:  # a server need not have the list
                return {}
            raise
        listed = answer.get("data") if isinstance(answer, dict) else None
        rows = [row for row in listed or () if isinstance(row, dict)]
        told = next((row for row in rows if row.get("id") == self.name), {})
        return {name: told[name] for name in _LASTING if name in told}

    async def spell(self, ids: Sequence[int]) -> str:
        """See `Model`: no text, which is its server's to make, but no ids beyond a tokenizer that
        is at hand.
        """
        self.counter.check_ids(ids)
        return ""

    def cost(self, prompt: int, answer: int = 0, samples: int = 1) -> Spent:
        """See `Model`; without FLOPs, since nobody knows the model's shape."""
        return self._costs.pool(prompt, answer, samples)

    async def close(self) -> None:
        """Close all connections."""
        await self.client.close()

    async def _ask(
        self, request: Request, temperature: float, indices: Sequence[int]
    ) -> list[Reply]:
        """At least one and at most `len(indices)` replies from one request."""
        path, body = body_of(request, self.name, temperature, indices)
        started = time.monotonic()
        read = partial(choices_of, options=request.options, where=self.identity)
        tokens = _estimate(request, len(indices))
        answer, several = await self._post(path, body, tokens, read, own=request.extra)
        seconds = time.monotonic() - started
        choices = (await asyncio.to_thread(held, several, request))[: len(indices)]
        if not choices:
            raise no_option(request, self.identity)
        usage = usage_of(answer)
        spent = await self.counter.spent(request, choices, usage, self._costs, seconds)
        return [
            choice.reply(request, self.name, index, temperature, cost)
            for choice, cost, index in zip(choices, spent, indices, strict=False)
        ]

    async def _streamed(
        self, request: Request, temperature: float, indices: Sequence[int]
    ) -> AsyncGenerator[ReplyPiece | Reply, None]:
        """Samples of one temperature from one stream, those that did not come from further ones."""
        missing, given = list(indices), [Given() for _ in indices]
        retries = Retries(self.policy, self.identity, self.name)
        while True:
            try:
                async with aclosing(self._attempt(request, temperature, indices, given)) as coming:
                    async for item in coming:
                        self._presence.there()
                        if isinstance(item, Reply):
                            missing.remove(item.index)
                        yield item
                break
            except TransientError as failure:
                if self._presence.misses(failure):
                    await self._presence.back(failure)
                    continue
                pause = retries.pause(failure)
                self._hold(failure)
                await asyncio.sleep(pause)
        for index in missing:
            async with aclosing(self._streamed(request, temperature, [index])) as coming:
                async for item in coming:
                    yield item

    async def _attempt(
        self, request: Request, temperature: float, indices: Sequence[int], given: Sequence[Given]
    ) -> AsyncGenerator[ReplyPiece | Reply, None]:
        """What one stream adds to what was given, then the replies that came of it. A
        TransientError when it breaks off.
        """
        path, body = body_of(request, self.name, temperature, indices)
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        started, choices, usage = time.monotonic(), [UpstreamChoice() for _ in indices], None
        async with (
            self._limits.turn(_estimate(request, len(indices))) as turn,
            aclosing(self._events(path, body, request.extra)) as events,
        ):
            async for event in events:
                usage = event.get("usage") or usage
                grown_by(event, choices, self.identity)
                for choice, index, told in zip(choices, indices, given, strict=True):
                    if (
                        piece := told.fresh(choice, index, request.logprobs, self.name)
                    ) is not None:
                        yield piece
            came = [
                (choice, index)
                for choice, index in zip(choices, indices, strict=True)
                if choice.begun
            ]
            if not came or any(choice.finish is None for choice, _ in came):
                raise TransientError("the stream ended without a finish reason")
            ended = [choice for choice, _ in came]
            if len(await asyncio.to_thread(held, ended, request)) < len(ended):
                raise no_option(request, self.identity)
            spent = await self.counter.spent(
                request,
                ended,
                usage_of({"usage": usage}),
                self._costs,
                time.monotonic() - started,
            )
            turn.tokens = sum(cost.prompt_tokens + cost.completion_tokens for cost in spent)
        for (choice, index), cost in zip(came, spent, strict=True):
            yield choice.reply(request, self.name, index, temperature, cost)

    async def _post(
        self,
        path: str,
        body: dict[str, Any],
        tokens: int,
        read: Callable[[dict[str, Any]], list[UpstreamChoice]] | None = None,
        own: Collection[str] = (),
    ) -> tuple[dict[str, Any], list[UpstreamChoice]]:
        """The answer, and the choices that `read` finds in it."""

        async def once() -> tuple[dict[str, Any], list[UpstreamChoice]]:
            """One try, within the limits of the server."""
            async with self._limits.turn(tokens) as turn:
                try:
                    answer = await self._answered(path, body, own)
                    if read is not None and not answer.get("choices"):
                        raise TransientError("the answer has no choices")
                    choices = [] if read is None else read(answer)
                except TransientError as failure:
                    self._hold(failure)
                    raise
                usage = usage_of(answer)
                turn.tokens = sum(usage) if usage else tokens
                return answer, choices

        asked = partial(self._presence.asked, once)
        return await retrying(asked, self.policy, where=self.identity, key=str(next(self._asked)))

    async def _answered(
        self, path: str, body: dict[str, Any], own: Collection[str]
    ) -> dict[str, Any]:
        """The answer to a body, said as the server takes it."""
        while True:
            sent = self.dialect.said(body)
            try:
                return await self.client.post(path, sent)
            except ModelError as refused:
                if not self.dialect.learns(refused, sent, own):
                    refused.field = self.dialect.refused_field(refused, sent)
                    raise

    async def _events(
        self, path: str, body: dict[str, Any], own: Collection[str]
    ) -> AsyncGenerator[dict[str, Any], None]:
        """The events of the streamed answer to a body, said as the server takes it."""
        while True:
            sent = self.dialect.said(body)
            try:
                async with aclosing(self.client.events(path, sent)) as events:
                    async for event in events:
                        yield event
                return
            except ModelError as refused:  # before the first event, if at all
                if not self.dialect.learns(refused, sent, own):
                    refused.field = self.dialect.refused_field(refused, sent)
                    raise

    def _hold(self, failure: TransientError) -> None:
        if failure.status == 429 and failure.retry_after:
            self._limits.hold(min(failure.retry_after, self.policy.total))


def prompt_logprobs_of(
    answer: Mapping[str, Any], ids: Sequence[int], top: int, where: str
) -> list[tuple[list[tuple[int, float]], float]]:
    """What a completion says of its prompt. A ModelError where it says nothing of it, or not of
    every token.
    """
    choices = answer.get("choices")
    told = choices[0].get("prompt_logprobs") if isinstance(choices, list) and choices else None
    if told is None:
        raise ModelError(
            "tells no log-probabilities of a given text",
            status=502,
            where=where,
            remedy="use a server whose completions know prompt_logprobs, such as vLLM, or a "
            "checkpoint",
        )
    rows: list[tuple[list[tuple[int, float]], float]] = [([], 0.0)]
    try:
        for token, row in zip(ids[1:], told[1:], strict=True):
            own = float(row[str(token)]["logprob"])
            told_of = sorted((-float(one["logprob"]), int(key)) for key, one in row.items())
            if not told_of or not all(map(math.isfinite, (own, told_of[0][0]))):
                raise ValueError
            rows.append(([(key, -negative) for negative, key in told_of[:top]], own))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise malformed(f"its prompt_logprobs are not of the {len(ids)} tokens", where) from None
    return rows


def vectors_of(answer: Mapping[str, Any], texts: int, where: str) -> NDArray[np.float32]:
    """The unit vectors `[texts, d]` of a server's embeddings, in their order. A ModelError of
    status 502 where they are not one for each text, of one length, and finite.
    """
    rows = sorted(checked(answer, Vectors, where).data, key=lambda row: row.index)
    if [row.index for row in rows] != list(range(texts)):
        raise malformed(f"{len(rows)} vectors for {texts} texts", where)
    if len({len(row.embedding) for row in rows}) > 1:
        raise malformed("its vectors have different lengths", where)
    with np.errstate(over="ignore"):
        vectors = np.array([row.embedding for row in rows], np.float32)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.isfinite(lengths).all():
        raise malformed("a vector is too long for 32 bits", where)
    return vectors / np.maximum(lengths, 1e-12)


def _groups(samples: Sequence[Draw]) -> dict[float, list[int]]:
    """The indices of each temperature."""
    groups: dict[float, list[int]] = {}
    for index, temperature in dict.fromkeys(samples):
        groups.setdefault(temperature, []).append(index)
    return groups


def _estimate(request: Request, n: int) -> int:
    """Tokens a request may take, before anybody counted them."""
    return TokenCounter.guess(request) + n * request.max_tokens
