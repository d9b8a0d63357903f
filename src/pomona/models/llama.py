"""GGUF files that answer messages, run by llama.cpp's server inside this process, over the JSON of
its own completion route.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.models.checkpoint import fingerprint
from pomona.models.concurrency import FairSemaphore, TransientError
from pomona.models.flops import gguf_shape
from pomona.models.http.choices import UpstreamChoice, choices_of
from pomona.models.http.client import HttpClient, usage_of
from pomona.models.http.model import vectors_of
from pomona.models.llama_library import (
    CUT,
    Engine,
    GrowingRow,
    Prompt,
    body_of,
    check_grammar,
    choice_of,
    constrains,
    ending,
    groups,
    kept,
    messages_of,
    start,
)
from pomona.models.locating import gguf_header
from pomona.models.model import Ability, CostModel, Model
from pomona.models.request import (
    Draw,
    ModelError,
    Reply,
    ReplyPiece,
    Request,
    Spent,
    check,
    check_ids,
    tokens_within,
    too_long,
    wrong_request,
)
from pomona.models.schemas import Hold, called, described, hold_of, unfollowed, unheld

_LONGEST = 8192
_PATIENCE = 3600.0
_LONGEST_TOKEN = 8  # bytes of one, about, in an ending
_LONGEST_CHARACTER = 4  # tokens that one can be spread over, a byte each


class LlamaModel(Model):
    """llama.cpp's own server on a loopback port, with a key that only this object knows. Belongs to
    one event loop.

    Samples of one temperature are decoded together and the prompt is read once; samples of other
    temperatures find it in the cache. The random numbers of a sample depend on seed and index
    alone. Log-probabilities, though, move by about 0.01 with what else is read and decoded at the
    same time, and where many tokens are about as likely another one is drawn: for equal answers ask
    one request at a time, as `together` does. `extra` goes through to the server. Replies have a
    `logprob` where the request asks for `logprobs`: reading probabilities back adds about a third
    to the time of a small model. Of tokens that share a character only the last one's probability
    is known.
    """

    local = True

    def __init__(
        self,
        path: Path,
        *,
        name: str | None = None,
        chat: bool = False,
        threads: int = 1,
        slots: int = 8,
        context: int | None = None,
        price: tuple[float, float] | None = None,
    ) -> None:
        metadata, tensors = gguf_header(path)
        trained = metadata.get(f"{metadata.get('general.architecture')}.context_length") or _LONGEST
        self.name, self.identity = name or path.stem, f"llama.cpp:{fingerprint(path)}"
        self.context, self._slots = context or min(int(trained), _LONGEST), slots
        self.uri, self.chat = self.name, chat
        tools: frozenset[Ability] = frozenset(
            {"tools"} if "tools" in str(metadata.get("tokenizer.chat_template")) else ()
        )
        schema: frozenset[Ability] = frozenset({"schema"} if constrains() else ())
        self.abilities: frozenset[Ability] = (
            frozenset[Ability]({"generate", "embed", "options", "prefix"}) | tools | schema
        )
        self.shape = gguf_shape(metadata, tensors)
        self._costs = CostModel(self.shape, price)
        self._path, self._threads = path, threads
        # All answers share one context, and llama.cpp fails the one that finds it full.
        self._room = FairSemaphore(self.context)
        self._key = secrets.token_urlsafe(24)
        self._engine = start(
            path, threads=threads, slots=slots, context=self.context, key=self._key
        )
        self._client = self._connect(self._engine)
        self._embedder: tuple[Engine, HttpClient] | None = None
        self._embedding = asyncio.Lock()

    async def each(self, request: Request, samples: Sequence[Draw]) -> AsyncGenerator[Reply, None]:
        """See `Model`. Of several temperatures the one with fewest samples goes first and
        leaves the prompt in the cache.
        """
        check(request, samples, self.name)
        hold = await self._hold(request)
        request = self._held(request, hold)
        prompt, read = await self._prompt(request)
        for place, (temperature, indices) in enumerate(
            groups(samples, self._at_once(request, read))
        ):
            drawn = await self._drawn(request, prompt, read, temperature, indices, first=not place)
            for reply in drawn:
                if hold is None or hold.kept(reply):
                    yield reply
                    continue
                narrow = self._held(request, hold, narrow=True)
                (again,) = await self._drawn(narrow, prompt, read, temperature, [reply.index])
                if not hold.kept(again, narrow=True):
                    raise unfollowed(self.name)
                yield replace(again, spent=reply.spent + again.spent)

    async def stream(
        self, request: Request, samples: Sequence[Draw]
    ) -> AsyncGenerator[ReplyPiece | Reply, None]:
        """See `Model`; with tools a sample comes in one piece."""
        if request.tools:
            async for reply in self.each(request, samples):
                if reply.text:
                    yield ReplyPiece(reply.text, reply.index, reply.tokens)
                yield reply
            return
        check(request, samples, self.name)
        hold = await self._hold(request)
        # What was told in pieces cannot be taken back.
        request = self._held(request, hold, narrow=True)
        prompt, read = await self._prompt(request)
        for place, (temperature, indices) in enumerate(
            groups(samples, self._at_once(request, read))
        ):
            async with self._room.taken(read + len(indices) * request.max_tokens):
                started, grown = time.perf_counter(), {index: GrowingRow() for index in indices}
                async with aclosing(self._growing(request, prompt, temperature, grown)) as pieces:
                    async for piece in pieces:
                        yield piece
                seconds = (time.perf_counter() - started) / len(indices)
            for index, one in grown.items():
                choice, tokens = choice_of(one.row)
                await _keep(request, [choice])
                first = not place and index == indices[0]
                spent = self._spent(read, tokens, seconds, first=first)
                reply = choice.reply(request, self.name, index, temperature, spent)
                if hold is not None and not hold.kept(reply, narrow=True):
                    raise unfollowed(self.name)
                yield reply

    async def logprobs(
        self, request: Request, completions: Sequence[str], *, end: bool = False
    ) -> tuple[list[NDArray[np.float32]], Spent]:
        """llama.cpp's server cannot score given text, so this is a ModelError."""
        remedy = "score with torch: open the checkpoint as hf:PATH"
        raise wrong_request("llama.cpp cannot score given text", where=self.name, remedy=remedy)

    async def vectors(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], Spent]:
        """See `Model`: the mean of the last hidden states, over its length. The first call
        loads the file a second time.
        """
        if not texts:
            return np.zeros((0, 0), np.float32), Spent()
        async with self._embedding:
            if self._embedder is None:
                engine = await asyncio.to_thread(
                    start,
                    self._path,
                    threads=self._threads,
                    slots=1,
                    context=self.context,
                    key=self._key,
                    embedding=True,
                )
                self._embedder = engine, self._connect(engine)
        started = time.perf_counter()
        answer = await self._post(
            "v1/embeddings", {"input": [text or " " for text in texts]}, self._embedder[1]
        )
        vectors = await asyncio.to_thread(vectors_of, answer, len(texts), self.name)
        counted = usage_of(answer, embedding=True)
        read = counted[0] if counted else sum(self.tokens(Request(prompt=text)) for text in texts)
        even = [read // len(texts) + (at < read % len(texts)) for at in range(len(texts))]
        spent = self._costs.embedded(even, time.perf_counter() - started)
        return vectors, spent

    def cost(self, prompt: int, answer: int = 0, samples: int = 1) -> Spent:
        """See `Model`."""
        return self._costs.pool(prompt, answer, samples)

    def _spent(self, read: int, tokens: int, seconds: float, *, first: bool) -> Spent:
        """What one sample cost; the first of a call pays for the prompt."""
        return self._costs.spent(
            context=read,
            prompt_tokens=read if first else 0,
            completion_tokens=tokens,
            seconds=seconds,
        )

    async def close(self) -> None:
        """Close the connections and stop llama.cpp."""
        engines = [self._engine]
        await self._client.close()
        if self._embedder is not None:
            await self._embedder[1].close()
            engines.append(self._embedder[0])
            self._embedder = None
        for engine in engines:
            await asyncio.to_thread(engine.stop)

    async def _hold(self, request: Request) -> Hold | None:
        """What the answer must follow."""
        if request.logit_bias:
            self._check_ids(request.logit_bias, "logit_bias")
        if not request.must_call and request.schema is None:
            return None
        if "schema" not in self.abilities:
            raise self.without("schema")
        work = partial(hold_of, request, check_grammar, tagged="tools" in self.abilities)
        return await asyncio.to_thread(work)

    def _held(self, request: Request, hold: Hold | None, *, narrow: bool = False) -> Request:
        """The request with the grammar that its answer must follow."""
        if hold is None:
            return request
        grammar = hold.narrower if narrow and hold.narrower else hold.grammar
        request = request if "tools" in self.abilities else described(request)
        return replace(request, extra={**request.extra, "grammar": grammar})

    async def _drawn(
        self,
        request: Request,
        prompt: Prompt,
        read: int,
        temperature: float,
        indices: Sequence[int],
        *,
        first: bool = False,
    ) -> list[Reply]:
        """Samples of consecutive indices; the first of a call pays for the prompt."""
        async with self._room.taken(read + len(indices) * request.max_tokens):
            started = time.perf_counter()
            choices = await self._answered(request, prompt, temperature, indices)
            seconds = (time.perf_counter() - started) / len(indices)
        await _keep(request, [choice for choice, _ in choices])
        replies = []
        for index, (choice, tokens) in zip(indices, choices, strict=True):
            spent = self._spent(read, tokens, seconds, first=first and index == indices[0])
            replies.append(choice.reply(request, self.name, index, temperature, spent))
        return replies

    async def spell(self, ids: Sequence[int]) -> str:
        """See `Model`."""
        self._check_ids(ids)
        return await self._spelled(ids)

    async def _names(self, ids: Sequence[int]) -> list[str]:
        return [await self._spelled([one]) for one in ids]

    async def _spelled(self, ids: Sequence[int]) -> str:
        return (await self._post("detokenize", {"tokens": list(ids)}))["content"] if ids else ""

    def _check_ids(self, ids: Iterable[int], where: str | None = None) -> None:
        if self.shape is None:  # llama.cpp ends the process at an id that it has not
            raise wrong_request("the file does not say how many tokens there are", where=self.name)
        check_ids(ids, self.shape.vocabulary, where)

    async def _prompt(self, request: Request) -> tuple[Prompt, int]:
        """The prompt with what answers begin with, by the chat template in the file; its tokens."""
        if request.tools and "tools" not in self.abilities:
            raise self.without("tools")
        if request.tools and request.prefix:
            raise wrong_request("cannot begin an answer with tools", remedy="leave the tools out")
        text = request.prompt
        if text is None:
            text = str((await self._post("apply-template", messages_of(request)))["prompt"])
        given = list(request.prompt_ids)
        ids = given or await self._ids(text, special=True)
        begun = await self._ids(request.prefix, special=False) if request.prefix else []
        if not ids:
            raise wrong_request("the prompt is empty, and the model needs at least one token")
        if (read := len(ids) + len(begun)) + 1 > self.context:
            raise too_long(read, self.context, self.name)
        return [*ids, *begun] if begun or given else text, read

    async def _ids(self, text: str, *, special: bool) -> list[int]:
        flags = {"add_special": special, "parse_special": special}
        return (await self._post("tokenize", {"content": text, **flags}))["tokens"]

    async def _answered(
        self, request: Request, prompt: Prompt, temperature: float, indices: Sequence[int]
    ) -> list[tuple[UpstreamChoice, int]]:
        """Choices, and the tokens computed for each. With tools the chat route is taken, which
        reads calls out of an answer.
        """
        if request.tools and not request.must_call:
            answer = await self._post(
                "v1/chat/completions",
                {**body_of(request, None, temperature, indices), **messages_of(request)},
            )
            choices = choices_of(answer, (), self.name)
            for choice in choices:
                if choice.finish == "length":
                    choice.text = choice.text.rstrip(CUT)
            usage = usage_of(answer) if len(choices) == 1 else None  # it counts the first alone
            if usage is not None:
                return [(choices[0], usage[1])]
            return [(choice, await self._counted(request, choice)) for choice in choices]
        if request.stop and request.logprobs is not None:
            # Where all comes at once, tokens are missing: as many as the stop string has by itself.
            grown = {index: GrowingRow() for index in indices}
            async with aclosing(self._growing(request, prompt, temperature, grown)) as pieces:
                async for _ in pieces:
                    pass
            return [choice_of(one.row) for one in grown.values()]
        answer = await self._post("completion", body_of(request, prompt, temperature, indices))
        rows = (
            sorted(answer, key=lambda row: row["index"]) if isinstance(answer, list) else [answer]
        )
        rows = [{**row, "content": await self._uncut(row)} for row in rows]
        if request.schema is not None or request.must_call:
            rows = [await self._ended(request, row) for row in rows]
        return [choice_of(row) for row in rows]

    async def _growing(
        self, request: Request, prompt: Prompt, temperature: float, grown: dict[int, GrowingRow]
    ) -> AsyncGenerator[ReplyPiece, None]:
        """Pieces of the samples of one temperature, which grow by them to their end."""
        indices = list(grown)
        body = {**body_of(request, prompt, temperature, indices), "stream": True}
        async with aclosing(self._events(body)) as events:
            async for event in events:
                index, most = indices[event.get("index") or 0], request.logprobs
                names = await self._names(grown[index].nameless(event))
                if (piece := grown[index].by(event, index, most, names)) is not None:
                    yield piece
                if all(one.last for one in grown.values()):
                    break
        for index, one in grown.items():
            if one.last is None:
                raise ModelError("the answer ended before its end", status=502, where=self.name)
            told, left = one.kept_back
            if left:  # some vocabularies lose the blank before the first word of all
                before, whole = await self._spelled(told), await self._spelled([*told, *left])
                names = await self._names(left)
                if (piece := one.rest(before, whole, names, index, request.logprobs)) is not None:
                    yield piece

    async def _counted(self, request: Request, choice: UpstreamChoice) -> int:
        """The tokens of a choice that llama.cpp did not count: those of its text and calls, with
        the end token where it has one.
        """
        if choice.finish == "length":
            return request.max_tokens
        text = choice.text + "".join(json.dumps(call["function"]) for call in choice.tool_calls)
        ids = (await self._post("tokenize", {"content": text}))["tokens"]
        return min(len(ids) + 1, request.max_tokens)

    async def _uncut(self, row: Mapping[str, Any]) -> str:
        """The text of a row up to the last token that ends a character: as it is streamed, where
        llama.cpp holds back tokens that end within one.
        """
        text, tokens = row["content"], row.get("tokens") or []
        if row.get("stop_type") != "limit" or not text.endswith(CUT):
            return text
        for left in range(len(tokens) - 1, max(0, len(tokens) - _LONGEST_CHARACTER) - 1, -1):
            whole = await self._spelled(tokens[:left])
            # Some vocabularies lose the blank before the first word when they are read back.
            begun = next(
                (lead + whole for lead in ("", " ") if text.startswith(lead + whole)), None
            )
            if begun is not None and not begun.endswith(CUT):
                return begun
        return text.rstrip(CUT)

    async def _ended(self, request: Request, row: dict[str, Any]) -> dict[str, Any]:
        """A row of a held answer that was cut, with a short ending in place of its last tokens; as
        it is where none is found that has no more tokens than they are.
        """
        tokens, off = row.get("tokens") or [], 0
        while row.get("stop_type") == "limit" and off <= len(tokens):
            kept_ids = {"tokens": tokens[: len(tokens) - off]}
            begun = (await self._post("detokenize", kept_ids))["content"].rstrip(CUT)
            if row["content"].startswith(begun):
                work = partial(ending, request.extra["grammar"], begun, _LONGEST_TOKEN * off)
                text = begun + (await asyncio.to_thread(work) or "")
                whole = partial(kept, request.extra["grammar"], text, whole=True)
                if (
                    await asyncio.to_thread(whole)
                    and len(await self._ids(text, special=False)) <= request.max_tokens
                ):
                    told = tokens_within(row.get("completion_probabilities") or (), begun)
                    return {**row, "content": text, "completion_probabilities": list(told)}
            off = off + off // 2 if off > 2 else off + 1
        return row

    def _at_once(self, request: Request, read: int) -> int:
        """How many samples after a prompt of so many tokens fit into the context together."""
        return max(1, min(self._slots, (self.context - read) // request.max_tokens))

    async def _events(self, body: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        try:
            async with aclosing(self._client.events("completion", body)) as events:
                async for event in events:
                    yield event
        except (TransientError, ModelError) as failure:
            raise self._failed(failure) from failure

    async def _post(
        self, path: str, body: Mapping[str, Any], wire: HttpClient | None = None
    ) -> Any:
        try:
            return await (wire or self._client).post_any(path, body)
        except (TransientError, ModelError) as failure:
            raise self._failed(failure) from failure

    def _failed(self, failure: TransientError | ModelError) -> ModelError:
        if isinstance(failure, TransientError):
            return ModelError(f"llama.cpp failed: {failure.reason}", status=502, where=self.name)
        return ModelError(
            failure.message,
            status=failure.status,
            where=self.name,
            remedy="check the parameters",
            code=failure.code,
        )

    def _connect(self, engine: Engine) -> HttpClient:
        return HttpClient(engine.address + "/", key=self._key, timeout=_PATIENCE, connections=64)


async def _keep(request: Request, choices: Sequence[UpstreamChoice]) -> None:
    """Read the call in each choice of a request that must call. A ModelError where llama.cpp gave
    up a grammar on the way, which it does not tell.
    """
    if not request.must_call and request.schema is None:
        return
    for choice in choices:
        whole = choice.finish != "length" and not request.stop
        work = partial(kept, request.extra["grammar"], choice.text, whole=whole)
        if not await asyncio.to_thread(work):
            raise unheld("llama.cpp gave it up on the way")
        if request.must_call:
            choice.calls = [*map(dict, called(choice.text))]
            choice.finish = "tool_calls" if whole and choice.calls else choice.finish
            choice.text, choice.tokens = "", []
