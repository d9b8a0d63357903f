"""GGUF files that answer messages, run by llama.cpp in this process."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.models.chat._cells import Cells
from pomona.models.chat._check import check
from pomona.models.chat._choices import Choice, choices_of
from pomona.models.chat._cost import Meter
from pomona.models.chat._engine import Engine, start
from pomona.models.chat._gguf_header import header, shape_of
from pomona.models.chat._identity import fingerprint
from pomona.models.chat._text import content_of
from pomona.models.chat._wire import Wire
from pomona.models.chat.errors import ModelError, too_long, wrong_request
from pomona.models.chat.protocol import Ability, Finish, Reply, Request, Spent
from pomona.models.chat.retry import Passing

_LONGEST = 8192
_NO_SEED = (1 << 32) - 1  # llama.cpp takes this one for "any"
_PATIENCE = 3600.0


class LlamaChat:
    """llama.cpp's own server on a loopback port, with a key that only this object knows. Belongs to one event loop.

    Samples of one temperature are decoded together and the prompt is read once; samples of other temperatures find it in the cache.
    The random numbers of a sample depend on seed and index alone. Log-probabilities, though, move by about 0.01 with what else is read and
    decoded at the same time, and where many tokens are about as likely another one is drawn: for equal answers ask one request at a time,
    or keep answers in a store. `extra` goes through to the server. Replies have a `logprob` where `extra` has
    `"logprobs": true`: reading probabilities back adds about a third to the time of a small model.
    """

    def __init__(
        self,
        path: Path,
        *,
        name: str | None = None,
        threads: int = 1,
        slots: int = 8,
        context: int | None = None,
        price: tuple[float, float] | None = None,
    ) -> None:
        metadata, tensors = header(path)
        trained = metadata.get(f"{metadata.get('general.architecture')}.context_length") or _LONGEST
        self.name, self.identity = name or path.stem, f"llama.cpp:{fingerprint(path)}"
        self.context, self._slots = context or min(int(trained), _LONGEST), slots
        self.chat = "tokenizer.chat_template" in metadata
        tools: frozenset[Ability] = frozenset({"tools"} if "tools" in str(metadata.get("tokenizer.chat_template")) else ())
        self.abilities: frozenset[Ability] = frozenset[Ability]({"embed", "options"}) | tools
        self._meter = Meter(shape_of(metadata, tensors), price)
        self._path, self._threads = path, threads
        self._cells = Cells(self.context)
        self._key = secrets.token_urlsafe(24)
        self._engine = start(path, threads=threads, slots=slots, context=self.context, key=self._key)
        self._wire = self._connect(self._engine)
        self._embedder: tuple[Engine, Wire] | None = None
        self._embedding = asyncio.Lock()

    async def reply(self, request: Request, samples: Sequence[tuple[int, float]]) -> list[Reply]:
        """See the protocol."""
        found = {(reply.index, reply.temperature): reply async for reply in self.each(request, samples)}
        return [found[sample] for sample in samples]

    async def each(self, request: Request, samples: Sequence[tuple[int, float]]) -> AsyncIterator[Reply]:
        """See the protocol. Of several temperatures the one with fewest samples goes first and leaves the prompt in the cache."""
        check(request, samples)
        prompt, read = await self._prompt(request)
        most = max(1, min(self._slots, (self.context - read) // request.max_tokens))
        for place, (temperature, indices) in enumerate(_groups(samples, most)):
            async with self._cells.taken(read + len(indices) * request.max_tokens):
                started = time.perf_counter()
                choices = await self._answered(request, prompt, temperature, indices)
                seconds = (time.perf_counter() - started) / len(indices)
            for index, (choice, tokens) in zip(indices, choices, strict=True):
                paid = 0 if place or index != indices[0] else read
                spent = self._meter.spent(context=read, prompt_tokens=paid, completion_tokens=tokens, seconds=seconds)
                yield self._reply(choice, index, temperature, spent)

    async def stream(self, request: Request) -> AsyncIterator[str | Reply]:
        """See the protocol."""
        if request.tools:
            reply = (await self.reply(request, [(0, request.temperature)]))[0]
            if reply.text:
                yield reply.text
            yield reply
            return
        check(request, [(0, request.temperature)])
        prompt, read = await self._prompt(request)
        body = {**_body(request, prompt, request.temperature, [0]), "stream": True}
        text, logs, last = "", [], None
        async with self._cells.taken(read + request.max_tokens):
            started = time.perf_counter()
            try:
                async with aclosing(self._wire.events("completion", body)) as events:
                    async for event in events:
                        piece = event.get("content") or ""
                        text += piece
                        logs += event.get("completion_probabilities") or []
                        if piece:
                            yield piece
                        if event.get("stop"):
                            last = event
                            break
            except (Passing, ModelError) as failure:
                raise self._failed(failure) from failure
            seconds = time.perf_counter() - started
        if last is None:
            raise ModelError("the answer ended before its end", status=502, where=self.name)
        choice, tokens = _choice({**last, "content": text, "completion_probabilities": logs})
        spent = self._meter.spent(context=read, prompt_tokens=read, completion_tokens=tokens, seconds=seconds)
        yield self._reply(choice, 0, request.temperature, spent)

    async def score(self, request: Request, completions: Sequence[str]) -> list[NDArray[np.float32]]:
        """llama.cpp's server cannot score given text, so this is a ModelError."""
        raise wrong_request("llama.cpp cannot score given text", where=self.name, remedy="score with torch: open the checkpoint as hf:PATH")

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See the protocol: the mean of the last hidden states, over its length. The first call loads the file a second time."""
        if not texts:
            return np.zeros((0, 0), np.float32)
        async with self._embedding:
            if self._embedder is None:
                engine = await asyncio.to_thread(
                    start, self._path, threads=self._threads, slots=1, context=self.context, key=self._key, embedding=True
                )
                self._embedder = engine, self._connect(engine)
        answer = await self._post("v1/embeddings", {"input": [text or " " for text in texts]}, self._embedder[1])
        rows = sorted(answer["data"], key=lambda row: row["index"])
        vectors = np.array([row["embedding"] for row in rows], np.float32)
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)

    async def close(self) -> None:
        """Close the connections and stop llama.cpp."""
        engines = [self._engine]
        await self._wire.close()
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
            text = str((await self._post("apply-template", _messages(request)))["prompt"])
        ids = (await self._post("tokenize", {"content": text, "add_special": True, "parse_special": True}))["tokens"]
        if not ids:
            raise wrong_request("the prompt is empty, and the model needs at least one token")
        if len(ids) + 1 > self.context:
            raise too_long(len(ids), self.context, self.name)
        return text, len(ids)

    async def _answered(self, request: Request, prompt: str, temperature: float, indices: Sequence[int]) -> list[tuple[Choice, int]]:
        """Choices, and the tokens computed for each. With tools the chat route is taken, which reads calls out of an answer."""
        if request.tools:
            answer = await self._post("v1/chat/completions", {**_body(request, None, temperature, indices), **_messages(request)})
            choices = choices_of(answer, ())
            texts = [choice.text + "".join(json.dumps(call["function"]) for call in choice.tool_calls) for choice in choices]
            counts = [len((await self._post("tokenize", {"content": text}))["tokens"]) for text in texts]
            return [(choice, count + 1) for choice, count in zip(choices, counts, strict=True)]
        answer = await self._post("completion", _body(request, prompt, temperature, indices))
        rows = sorted(answer, key=lambda row: row["index"]) if isinstance(answer, list) else [answer]
        return [_choice(row) for row in rows]

    def _reply(self, choice: Choice, index: int, temperature: float, spent: Spent) -> Reply:
        return Reply(choice.text, choice.finish or "stop", spent, self.name, index, temperature, choice.logprob, choice.tool_calls)

    async def _post(self, path: str, body: Mapping[str, Any], wire: Wire | None = None) -> Any:
        try:
            return await (wire or self._wire).post_any(path, body)
        except (Passing, ModelError) as failure:
            raise self._failed(failure) from failure

    def _failed(self, failure: Passing | ModelError) -> ModelError:
        if isinstance(failure, Passing):
            return ModelError(f"llama.cpp failed: {failure.reason}", status=502, where=self.name)
        return ModelError(failure.message, status=failure.status, where=self.name, remedy="check the parameters", code=failure.code)

    def _connect(self, engine: Engine) -> Wire:
        return Wire(engine.address + "/", key=self._key, timeout=_PATIENCE, connections=64)


def _groups(samples: Sequence[tuple[int, float]], slots: int) -> list[tuple[float, list[int]]]:
    """(temperature, consecutive indices), at most `slots` each: what one request can ask, for its seeds count up from the first."""
    groups: list[tuple[float, list[int]]] = []
    for temperature, index in sorted({(temperature, index) for index, temperature in samples}):
        last = groups[-1] if groups else None
        if last and last[0] == temperature and last[1][-1] == index - 1 and len(last[1]) < slots:
            last[1].append(index)
        else:
            groups.append((temperature, [index]))
    return sorted(groups, key=lambda group: len(group[1]))


def _body(request: Request, prompt: str | None, temperature: float, indices: Sequence[int]) -> dict[str, Any]:
    body: dict[str, Any] = {
        "n_predict": request.max_tokens,
        "temperature": temperature,
        "top_k": 0,
        "top_p": request.top_p,
        "min_p": request.min_p,
        "samplers": ["temperature", "top_p", "min_p"],
        "seed": _seed(request.seed, indices[0]),
        "cache_prompt": True,
    }
    if prompt is not None:
        body["prompt"] = prompt
    if len(indices) > 1:
        body["n_cmpl"] = len(indices)
    if request.stop:
        body["stop"] = list(request.stop)
    if request.options:
        body["grammar"] = "root ::= " + " | ".join(map(_literal, request.options))
    extra = dict(request.extra)
    if extra.pop("logprobs", False) and prompt is not None:
        body["n_probs"] = 1
    return {**body, **extra}


def _messages(request: Request) -> dict[str, Any]:
    messages = [{**message, "content": content_of(message)} for message in request.messages]
    return {"messages": messages, "tools": [dict(tool) for tool in request.tools]} if request.tools else {"messages": messages}


def _seed(seed: int, index: int) -> int:
    """llama.cpp adds 1 to the seed for each further sample of a request, so consecutive indices have consecutive seeds."""
    base = int.from_bytes(hashlib.sha256(f"llama:{seed}".encode()).digest()[:4], "little")
    return (base + index) % _NO_SEED


def _choice(row: Mapping[str, Any]) -> tuple[Choice, int]:
    """One choice and the tokens that were computed for it."""
    finish: Finish = "length" if row.get("stop_type") == "limit" else "stop"
    logs = [token["logprob"] for token in row.get("completion_probabilities") or ()]
    return Choice(row["content"], finish, math.fsum(logs) if logs else None), int(row["tokens_predicted"])


def _literal(text: str) -> str:
    """A string as GBNF writes it."""
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return '"' + "".join(escapes.get(letter, letter) for letter in text) + '"'
