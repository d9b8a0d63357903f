"""GGUF files that answer messages, run by llama.cpp's server inside this process, over the JSON of
its own completion route.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import time
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
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
from pomona.models.llama_library import Engine, check_grammar, constrains, kept, one_of, start
from pomona.models.locating import gguf_header
from pomona.models.model import Ability, CostModel, Model
from pomona.models.request import (
    Draw,
    Finish,
    ModelError,
    Reply,
    ReplyPiece,
    Request,
    Spent,
    Token,
    check,
    check_ids,
    content_of,
    tokens_within,
    too_long,
    wanted_tokens,
    wrong_request,
)
from pomona.models.schemas import called, described, grammar_of, unheld

_NO_SEED = (1 << 32) - 1  # llama.cpp takes this one for "any"
_TOKEN = ("token", "logprob", "bytes", "top_logprobs")
_LONGEST = 8192
_PATIENCE = 3600.0
_PENALISED = 1 << 17  # tokens that penalties look back
_CUT = "\ufffd"  # what stands for a character of which bytes are missing
_Prompt = str | list[int]  # as text, or as tokens where answers are begun with others
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
        request = await self._held(request)
        prompt, read = await self._prompt(request)
        for place, (temperature, indices) in enumerate(
            _groups(samples, self._at_once(request, read))
        ):
            async with self._room.taken(read + len(indices) * request.max_tokens):
                started = time.perf_counter()
                choices = await self._answered(request, prompt, temperature, indices)
                seconds = (time.perf_counter() - started) / len(indices)
            await _keep(request, [choice for choice, _ in choices])
            for index, (choice, tokens) in zip(indices, choices, strict=True):
                first = not place and index == indices[0]
                spent = self._spent(read, tokens, seconds, first=first)
                yield choice.reply(request, self.name, index, temperature, spent)

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
        request = await self._held(request)
        prompt, read = await self._prompt(request)
        for place, (temperature, indices) in enumerate(
            _groups(samples, self._at_once(request, read))
        ):
            async with self._room.taken(read + len(indices) * request.max_tokens):
                started, grown = time.perf_counter(), {index: _GrowingRow() for index in indices}
                body = {**_body_of(request, prompt, temperature, indices), "stream": True}
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
                choice, tokens = _choice_of(one.row)
                await _keep(request, [choice])
                first = not place and index == indices[0]
                spent = self._spent(read, tokens, seconds, first=first)
                yield choice.reply(request, self.name, index, temperature, spent)

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

    async def _held(self, request: Request) -> Request:
        """The request with the grammar that its answer must follow."""
        if request.logit_bias:
            self._check_ids(request.logit_bias)
        if not request.must_call and request.schema is None:
            return request
        if "schema" not in self.abilities:
            raise self.without("schema")
        work = partial(grammar_of, request, check_grammar, tagged="tools" in self.abilities)
        grammar = await asyncio.to_thread(work)
        request = request if "tools" in self.abilities else described(request)
        return replace(request, extra={**request.extra, "grammar": grammar})

    async def spell(self, ids: Sequence[int]) -> str:
        """See `Model`."""
        self._check_ids(ids)
        return (await self._post("detokenize", {"tokens": list(ids)}))["content"]

    def _check_ids(self, ids: Iterable[int]) -> None:
        if self.shape is None:  # llama.cpp ends the process at an id that it has not
            raise wrong_request("the file does not say how many tokens there are", where=self.name)
        check_ids(ids, self.shape.vocabulary)

    async def _prompt(self, request: Request) -> tuple[_Prompt, int]:
        """The prompt with what answers begin with, by the chat template in the file; its tokens."""
        if request.tools and "tools" not in self.abilities:
            raise self.without("tools")
        if request.tools and request.prefix:
            raise wrong_request("cannot begin an answer with tools", remedy="leave the tools out")
        text = request.prompt
        if text is None:
            text = str((await self._post("apply-template", _messages_of(request)))["prompt"])
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
        self, request: Request, prompt: _Prompt, temperature: float, indices: Sequence[int]
    ) -> list[tuple[UpstreamChoice, int]]:
        """Choices, and the tokens computed for each. With tools the chat route is taken, which
        reads calls out of an answer.
        """
        if request.tools and not request.must_call:
            answer = await self._post(
                "v1/chat/completions",
                {**_body_of(request, None, temperature, indices), **_messages_of(request)},
            )
            choices = choices_of(answer, (), self.name)
            for choice in choices:
                if choice.finish == "length":
                    choice.text = choice.text.rstrip(_CUT)
            usage = usage_of(answer) if len(choices) == 1 else None  # it counts the first alone
            if usage is not None:
                return [(choices[0], usage[1])]
            return [(choice, await self._counted(request, choice)) for choice in choices]
        answer = await self._post("completion", _body_of(request, prompt, temperature, indices))
        rows = (
            sorted(answer, key=lambda row: row["index"]) if isinstance(answer, list) else [answer]
        )
        return [_choice_of({**row, "content": await self._uncut(row)}) for row in rows]

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
        if row.get("stop_type") != "limit" or not text.endswith(_CUT):
            return text
        for left in range(len(tokens) - 1, max(0, len(tokens) - _LONGEST_CHARACTER) - 1, -1):
            whole = (await self._post("detokenize", {"tokens": tokens[:left]}))["content"]
            # Some vocabularies lose the blank before the first word when they are read back.
            begun = next(
                (lead + whole for lead in ("", " ") if text.startswith(lead + whole)), None
            )
            if begun is not None and not begun.endswith(_CUT):
                return begun
        return text.rstrip(_CUT)

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


@dataclass
class _GrowingRow:
    """One streamed sample so far. `last` is its final event, once that has come."""

    text: str = ""
    tokens: list[Token] = field(default_factory=list)
    last: Mapping[str, Any] | None = None
    _told: int = 0

    def by(self, event: Mapping[str, Any], index: int, most: int | None) -> ReplyPiece | None:
        """What an event adds, None where that is nothing; tokens of text that is held back wait for
        it.
        """
        content = event.get("content") or ""
        self.text += content
        self.tokens += _spelled(event)
        if event.get("stop"):
            self.last, self.tokens = event, _shown(event, self.text, self.tokens)
        if not content and (self.last is None or self._told >= len(self.tokens)):
            return None
        fresh, self._told = self.tokens[self._told :], len(self.tokens)
        return ReplyPiece(content, index, wanted_tokens(fresh, most))

    @property
    def row(self) -> dict[str, Any]:
        """The sample as the route gives it without streaming."""
        return {**(self.last or {}), "content": self.text, "completion_probabilities": self.tokens}


def _groups(samples: Sequence[Draw], slots: int) -> list[tuple[float, list[int]]]:
    """(temperature, consecutive indices), at most `slots` each: what one request can ask, for its
    seeds count up from the first.
    """
    groups: list[tuple[float, list[int]]] = []
    for temperature, index in sorted({(temperature, index) for index, temperature in samples}):
        last = groups[-1] if groups else None
        if last and last[0] == temperature and last[1][-1] == index - 1 and len(last[1]) < slots:
            last[1].append(index)
        else:
            groups.append((temperature, [index]))
    return sorted(groups, key=lambda group: len(group[1]))


def _body_of(
    request: Request, prompt: _Prompt | None, temperature: float, indices: Sequence[int]
) -> dict[str, Any]:
    """What is posted for samples of consecutive indices; without a prompt it is for the chat route,
    which knows tools.
    """
    body: dict[str, Any] = {
        "n_predict": request.max_tokens,
        "temperature": temperature,
        "top_k": request.top_k,
        "top_p": request.top_p,
        "min_p": request.min_p,
        "samplers": [
            *(["penalties"] if request.penalised else []),
            *(["top_k"] if request.top_k else []),
            *("temperature", "top_p", "min_p"),
        ],
        "seed": _seed(request.seed, indices[0]),
        "cache_prompt": True,
        "return_tokens": True,
    }
    if request.penalised:
        body |= {
            "repeat_last_n": _PENALISED,
            "repeat_penalty": request.repetition_penalty,
            "frequency_penalty": request.frequency_penalty,
            "presence_penalty": request.presence_penalty,
        }
    if request.logit_bias:
        body["logit_bias"] = [list(pair) for pair in request.logit_bias.items()]
    if prompt is not None:
        body["prompt"] = prompt
    if len(indices) > 1:
        body["n_cmpl"] = len(indices)
    if request.stop:
        body["stop"] = list(request.stop)
    if request.options:
        body["grammar"] = one_of(request.options)
    if request.logprobs is not None:
        known = {"n_probs": max(1, request.logprobs)}  # of the chat route: its own names for it
        body |= (
            known
            if prompt is not None
            else {"logprobs": True, "top_logprobs": max(1, request.logprobs)}
        )
    return {**body, **request.extra}


def _messages_of(request: Request) -> dict[str, Any]:
    """The messages and tools of a request."""
    messages = [{**message, "content": content_of(message)} for message in request.messages]
    tools = {"tools": [dict(tool) for tool in request.tools]} if request.tools else {}
    return {"messages": messages, **tools}


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


def _seed(seed: int, index: int) -> int:
    """llama.cpp adds 1 to the seed for each further sample of a request, so consecutive indices
    have consecutive seeds.
    """
    base = int.from_bytes(hashlib.sha256(f"llama:{seed}".encode()).digest()[:4], "little")
    return (base + index) % _NO_SEED


def _choice_of(row: Mapping[str, Any]) -> tuple[UpstreamChoice, int]:
    """One choice and the tokens that were computed for it."""
    finish: Finish = "length" if row.get("stop_type") == "limit" else "stop"
    return UpstreamChoice(row["content"], finish, _shown(row, row["content"], _spelled(row))), int(
        row["tokens_predicted"]
    )


def _spelled(row: Mapping[str, Any]) -> list[Token]:
    return [
        {name: token[name] for name in _TOKEN if name in token}
        for token in row.get("completion_probabilities") or ()
    ]


def _shown(row: Mapping[str, Any], text: str, tokens: list[Token]) -> list[Token]:
    """The tokens without those of a stop string."""
    return list(tokens_within(tokens, text)) if row.get("stop_type") == "word" else tokens
