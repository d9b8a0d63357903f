"""GGUF files that answer messages, run by llama.cpp's server inside this process."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.errors import PomonaError
from pomona.models.checkpoint import fingerprint
from pomona.models.concurrency import FairSemaphore
from pomona.models.errors import ModelError, too_long, wrong_request
from pomona.models.gguf_header import header, shape_of
from pomona.models.http.choices import Choice, choices_of, usage_of
from pomona.models.http.client import HttpClient
from pomona.models.http.pacing import TransientError
from pomona.models.llama.completion import GrowingRow, body_of, choice_of, groups, messages_of
from pomona.models.model import Ability, CostModel, Model
from pomona.models.request import (
    Draw,
    Piece,
    Reply,
    Request,
    Spent,
    check,
)

_LONGEST = 8192
_PATIENCE = 3600.0


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
        metadata, tensors = header(path)
        trained = metadata.get(f"{metadata.get('general.architecture')}.context_length") or _LONGEST
        self.name, self.identity = name or path.stem, f"llama.cpp:{fingerprint(path)}"
        self.context, self._slots = context or min(int(trained), _LONGEST), slots
        self.uri, self.chat = self.name, chat
        tools: frozenset[Ability] = frozenset(
            {"tools"} if "tools" in str(metadata.get("tokenizer.chat_template")) else ()
        )
        self.abilities: frozenset[Ability] = (
            frozenset[Ability]({"generate", "embed", "options"}) | tools
        )
        self._costs = CostModel(shape_of(metadata, tensors), price)
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

    async def reply(self, request: Request, samples: Sequence[Draw]) -> list[Reply]:
        """See `Model`."""
        found = {
            (reply.index, reply.temperature): reply async for reply in self.each(request, samples)
        }
        return [found[sample] for sample in samples]

    async def each(self, request: Request, samples: Sequence[Draw]) -> AsyncGenerator[Reply, None]:
        """See `Model`. Of several temperatures the one with fewest samples goes first and
        leaves the prompt in the cache.
        """
        check(request, samples, self.name)
        prompt, read = await self._prompt(request)
        for place, (temperature, indices) in enumerate(
            groups(samples, self._at_once(request, read))
        ):
            async with self._room.taken(read + len(indices) * request.max_tokens):
                started = time.perf_counter()
                choices = await self._answered(request, prompt, temperature, indices)
                seconds = (time.perf_counter() - started) / len(indices)
            for index, (choice, tokens) in zip(indices, choices, strict=True):
                paid = 0 if place or index != indices[0] else read
                spent = self._costs.spent(
                    context=read, prompt_tokens=paid, completion_tokens=tokens, seconds=seconds
                )
                yield choice.reply(request, self.name, index, temperature, spent)

    async def stream(
        self, request: Request, samples: Sequence[Draw]
    ) -> AsyncGenerator[Piece | Reply, None]:
        """See `Model`; with tools a sample comes in one piece."""
        if request.tools:
            async for reply in self.each(request, samples):
                if reply.text:
                    yield Piece(reply.text, reply.index, reply.tokens)
                yield reply
            return
        check(request, samples, self.name)
        prompt, read = await self._prompt(request)
        for place, (temperature, indices) in enumerate(
            groups(samples, self._at_once(request, read))
        ):
            async with self._room.taken(read + len(indices) * request.max_tokens):
                started, grown = time.perf_counter(), {index: GrowingRow() for index in indices}
                body = {**body_of(request, prompt, temperature, indices), "stream": True}
                async with aclosing(self._events(body)) as events:
                    async for event in events:
                        index = indices[event.get("index") or 0]
                        if (piece := grown[index].by(event, index, request.logprobs)) is not None:
                            yield piece
                        if all(one.last for one in grown.values()):
                            break
                seconds = (time.perf_counter() - started) / len(indices)
            for index, one in grown.items():
                if one.last is None:
                    raise ModelError("the answer ended before its end", status=502, where=self.name)
                choice, tokens = choice_of(one.row)
                paid = 0 if place or index != indices[0] else read
                spent = self._costs.spent(
                    context=read, prompt_tokens=paid, completion_tokens=tokens, seconds=seconds
                )
                yield choice.reply(request, self.name, index, temperature, spent)

    async def logprobs(
        self, request: Request, completions: Sequence[str]
    ) -> tuple[list[NDArray[np.float32]], Spent]:
        """llama.cpp's server cannot score given text, so this is a ModelError."""
        raise wrong_request(
            "llama.cpp cannot score given text",
            where=self.name,
            remedy="score with torch: open the checkpoint as hf:PATH",
        )

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
        rows = sorted(answer["data"], key=lambda row: row["index"])
        vectors = np.array([row["embedding"] for row in rows], np.float32)
        read, _ = usage_of(answer) or (sum(self.tokens(Request(prompt=text)) for text in texts), 0)
        even = [read // len(texts) + (at < read % len(texts)) for at in range(len(texts))]
        spent = self._costs.embedded(even, time.perf_counter() - started)
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12), spent

    def cost(self, prompt: int, answer: int = 0, samples: int = 1) -> Spent:
        """See `Model`."""
        return self._costs.pool(prompt, answer, samples)

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

    async def _prompt(self, request: Request) -> tuple[str, int]:
        """The prompt as text, by the chat template in the file, and its tokens."""
        text = request.prompt
        if text is None:
            text = str((await self._post("apply-template", messages_of(request)))["prompt"])
        ids = (
            await self._post(
                "tokenize", {"content": text, "add_special": True, "parse_special": True}
            )
        )["tokens"]
        if not ids:
            raise wrong_request("the prompt is empty, and the model needs at least one token")
        if len(ids) + 1 > self.context:
            raise too_long(len(ids), self.context, self.name)
        return text, len(ids)

    async def _answered(
        self, request: Request, prompt: str, temperature: float, indices: Sequence[int]
    ) -> list[tuple[Choice, int]]:
        """Choices, and the tokens computed for each. With tools the chat route is taken, which
        reads calls out of an answer.
        """
        if request.tools:
            answer = await self._post(
                "v1/chat/completions",
                {**body_of(request, None, temperature, indices), **messages_of(request)},
            )
            choices = choices_of(answer, ())
            texts = [
                choice.text + "".join(json.dumps(call["function"]) for call in choice.tool_calls)
                for choice in choices
            ]
            counts = [
                len((await self._post("tokenize", {"content": text}))["tokens"]) for text in texts
            ]
            return [(choice, count + 1) for choice, count in zip(choices, counts, strict=True)]
        answer = await self._post("completion", body_of(request, prompt, temperature, indices))
        rows = (
            sorted(answer, key=lambda row: row["index"]) if isinstance(answer, list) else [answer]
        )
        return [choice_of(row) for row in rows]

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


_QUIET = -1
_BATCH = 2048


class Engine:
    """A running server; `address` is its loopback URL."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self.address: str = server.listening_address

    def stop(self) -> None:
        """End it and give its memory back."""
        self._server = None


def start(
    path: Path, *, threads: int, slots: int, context: int, key: str, embedding: bool = False
) -> Engine:
    """Load a GGUF file. `slots` answers are decoded at once; each may fill the whole `context`,
    which all share.

    With `embedding` it gives mean-pooled vectors instead of answers. A PomonaError when llama.cpp
    cannot load the file.
    """
    import xllamacpp as library

    xllamacpp: Any = library  # its compiled names are unknown to type checkers

    settings: Any = xllamacpp.CommonParams()
    settings.model.path = str(path)
    settings.n_ctx, settings.n_parallel, settings.kv_unified = context, slots, True
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = threads
    settings.api_keys, settings.ui, settings.endpoint_slots = [key], False, False
    settings.use_jinja, settings.warmup, settings.verbosity = True, False, _QUIET
    settings.cache_ram_mib = 0
    if embedding:
        settings.embedding, settings.pooling_type = (
            True,
            xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN,
        )
        settings.n_batch = settings.n_ubatch = min(context, _BATCH)
    try:
        return Engine(xllamacpp.Server(settings))
    except Exception as error:  # the library raises no narrower class
        raise PomonaError(
            f"llama.cpp cannot load it: {error}",
            where=path,
            remedy="is the file whole, and memory enough?",
        ) from error
