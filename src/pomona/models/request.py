"""What is asked of a model, what it answers with which tokens, and the errors of what cannot be
answered.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from pomona.errors import PomonaError, positive
from pomona.models.sampling import Sampling, check_sampling

if TYPE_CHECKING:
    import numpy as np

Message = Mapping[str, Any]  # as in the OpenAI API: role, content, tool_calls, tool_call_id, …
Token = Mapping[str, Any]  # as in the OpenAI API: token, logprob, bytes, top_logprobs
Finish = Literal["stop", "length", "tool_calls", "content_filter"]
Draw = tuple[int, float]  # one sample wanted: its index and its temperature


class Steer(Protocol):
    """Changes what a network says next. `model` is the identity of the one it belongs to,
    `identity` names what it does.
    """

    @property
    def model(self) -> str:
        """The identity of the model it was made for."""
        ...

    @property
    def identity(self) -> str:
        """Equal identities do the same."""
        ...

    @property
    def flops(self) -> float:
        """What it computes itself for one token."""
        ...

    def __call__(self, states: Any, logits: Any) -> Any:
        """New logits `[…, vocabulary]` from what goes into the output projection, `[…, d]`, and
        what comes out of it (torch tensors).
        """
        ...


class Spelled(NamedTuple):
    """A prompt that was given as token ids, with the text that they spell, "" where that is not
    known.
    """

    text: str
    ids: tuple[int, ...]


@dataclass(frozen=True)
class Request(Sampling):
    """What is asked of a model: messages, or a plain `prompt` that no chat template touches; and
    how the answer is drawn.

    `options`, where given, are the only answers allowed (constrained decoding). `extra` goes
    through to a server untouched.
    schema: a JSON Schema that the answer must follow; True is any JSON.
    must_call: names of `tools`, one of which the answer must be a call of.
    logprobs: None, or how many alternatives to each token its log-probability shall come with, from
        0.
    steer: what leads the answers, while requests beside are not steered. Only the model it was
        made for takes it.
    prefix: what every answer begins with already; a reply has what follows it. To messages it needs
        the ability "prefix".
    """

    messages: tuple[Message, ...] = ()
    prompt: str | None = None
    max_tokens: int = 512
    temperature: float = 0.0
    seed: int = 0
    tools: tuple[Mapping[str, Any], ...] = ()
    options: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    logprobs: int | None = None
    steer: Steer | None = None
    schema: Mapping[str, Any] | bool | None = None
    must_call: tuple[str, ...] = ()
    prefix: str = ""
    spelled: Spelled | None = None

    @property
    def prompt_ids(self) -> tuple[int, ...]:
        """The token ids of the prompt, where they were given and nobody changed the text."""
        given = self.spelled
        return given.ids if given is not None and given.text == self.prompt else ()

    @property
    def held(self) -> bool:
        """Whether not every text may be the answer."""
        return bool(self.options or self.must_call) or self.schema is not None


@dataclass(frozen=True)
class Spent:
    """What an answer cost: tokens as we count them, FLOPs by the cost model where the model's shape
    is known, money where it has a price.

    Where several answers share one prompt, the first of a call pays for reading it and the others
    have 0 prompt tokens, so a sum is what the call cost. `estimated` says that tokens were guessed
    from the text, because nobody counted them.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    flops: float = 0.0
    money: float = 0.0
    seconds: float = 0.0
    estimated: bool = False

    def __add__(self, other: Spent) -> Spent:
        numbers = (
            getattr(self, name) + getattr(other, name)
            for name in self.__dataclass_fields__
            if name != "estimated"
        )
        return Spent(*numbers, estimated=self.estimated or other.estimated)


@dataclass(frozen=True)
class Reply:
    """One answer. `logprob` is the sum of its tokens' natural logs under the model's own
    distribution, None where a server does not say.

    `tokens` are those of the text, where the request asked for `logprobs` and the model gives them.
    `reasoning` is what the model thought before it answered, and `refusal` what it said instead of
    answering, where a server tells them apart from the text.
    """

    text: str
    finish_reason: Finish
    spent: Spent
    model: str
    index: int = 0
    temperature: float = 0.0
    logprob: float | None = None
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    tokens: tuple[Token, ...] = ()
    reasoning: str | None = None
    refusal: str | None = None

    @property
    def answered(self) -> bool:
        """Whether it is an answer: neither refused nor taken away by a filter."""
        return self.refusal is None and self.finish_reason != "content_filter"


@dataclass(frozen=True)
class ReplyPiece:
    """What the sample `index` goes on with: text, its tokens where the request asked for
    `logprobs`, and what the model thinks before it answers.
    """

    text: str
    index: int = 0
    tokens: tuple[Token, ...] = ()
    reasoning: str = ""


@dataclass(frozen=True)
class Sample:
    """One generated answer.

    `token_ids` int32 `[t]` without the end token; `logprobs` float32 `[t]`, natural log under the
    model's own distribution (temperature 1, nothing cut off); `finish_reason` is "stop" when the
    model ended by itself, "length" when the limit did. `completion_tokens` counts what was
    computed: the end token too.
    """

    text: str
    token_ids: np.ndarray
    logprobs: np.ndarray
    finish_reason: Literal["stop", "length"]
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class BatchTerms:
    """How a server takes batches of requests.

    price: money for a million prompt tokens and a million answer tokens in a batch; None is that of
    single requests. requests, bytes: the most of one file.
    """

    price: tuple[float, float] | None = None
    requests: int = 50_000
    bytes: int = 100_000_000

    def __post_init__(self) -> None:
        positive(self, "the terms of batches", "requests", "bytes")


Ask = tuple[Request, Sequence[Draw]]  # a request and the draws wanted of it
_MOST_LOGPROBS = 20


def check(request: Request, samples: Sequence[Draw], unsteerable: str | None = None) -> None:
    """A ModelError of status 400 names the first argument out of range, or the model `unsteerable`
    where it is to be steered.
    """
    if request.max_tokens < 1:
        raise wrong_request(
            f"max_tokens is {request.max_tokens}", remedy="ask for at least one token"
        )
    check_sampling(request, wrong_request)
    for index, temperature in samples:
        if index < 0:
            raise wrong_request(f"the sample index is {index}", remedy="count samples from 0")
        if not 0 <= temperature < math.inf:
            raise wrong_request(
                f"temperature is {temperature}",
                remedy="use 0 for the likeliest answer, or a positive number",
            )
    if request.prompt is None and not request.messages:
        raise wrong_request("no messages", remedy="give at least one message, or a prompt")
    if request.logprobs is not None and not 0 <= request.logprobs <= _MOST_LOGPROBS:
        raise wrong_request(
            f"logprobs is {request.logprobs}", remedy=f"use a number from 0 to {_MOST_LOGPROBS}"
        )
    if any(not option for option in request.options):
        raise wrong_request("an option is empty", remedy="give every option at least one character")
    if bool(request.options) + bool(request.must_call) + (request.schema is not None) > 1:
        raise wrong_request(
            "an answer can be held to options, to a schema or to a call, and not to two of them",
            remedy="leave one out",
        )
    if unsteerable is not None and request.steer is not None:
        raise wrong_request(
            "cannot be steered",
            where=unsteerable,
            remedy="use a torch model (hf:PATH), or leave steering out",
        )


_PER_MESSAGE = 16  # tokens a chat template puts around a message, at most
_SYSTEM = 32  # and what it adds by itself
_BYTES_PER_TOKEN = 3


def prompt_tokens(request: Request) -> int:
    """A guess of the tokens of a request's prompt, from its bytes."""
    if request.prompt_ids:
        return len(request.prompt_ids)
    if request.prompt is not None:
        return _tokens(request.prompt + request.prefix) + 1
    tools = (
        _tokens(json.dumps([dict(tool) for tool in request.tools], default=str))
        if request.tools
        else 0
    )
    return (
        _SYSTEM
        + tools
        + _tokens(request.prefix)
        + sum(
            _tokens(_content(message.get("content"))) + _PER_MESSAGE for message in request.messages
        )
    )


def _content(content: Any) -> str:
    return (
        content
        if isinstance(content, str)
        else json.dumps(content or "", ensure_ascii=False, default=str)
    )


def _tokens(text: str) -> int:
    return -(-len(text.encode("utf-8", "surrogatepass")) // _BYTES_PER_TOKEN)


def content_of(message: Message) -> str:
    """The text of a message whose content is a string, a list of text parts, or None. A ModelError
    for pictures and sound.
    """
    content: Any = message.get("content")
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, Sequence):
        raise wrong_request(
            "the content of a message is neither text nor a list of parts",
            where=f"role {message.get('role')}",
        )
    parts: list[str] = []
    for part in content:
        if not isinstance(part, dict) or part.get("type") != "text":
            kind = part.get("type") if isinstance(part, dict) else type(part).__name__
            raise wrong_request(
                f'a part of type "{kind}" in a message', remedy="this model reads text only"
            )
        parts.append(str(part.get("text", "")))
    return "".join(parts)


def last_user(messages: Sequence[Message]) -> str:
    """The text of the last user message; a ModelError when there is none."""
    for message in reversed(messages):
        if message.get("role") == "user":
            return content_of(message)
    raise wrong_request(
        "no message has the role user", remedy="give at least one user message, or a prompt"
    )


def token_entry(raw: bytes, logprob: float, top: Sequence[tuple[bytes, float]] = ()) -> Token:
    """A token that spells `raw`; what is no whole character in it is shown as U+FFFD. `top` are its
    likeliest alternatives.
    """
    return {**_spelled(raw, logprob), "top_logprobs": [_spelled(*other) for other in top]}


def wanted_tokens(tokens: Sequence[Token], most: int | None) -> tuple[Token, ...]:
    """The tokens with at most so many alternatives each; none where they were not asked for."""
    if most is None:
        return ()
    return tuple(
        {**token, "top_logprobs": list(token.get("top_logprobs") or ())[:most]} for token in tokens
    )


def tokens_within(tokens: Sequence[Token], text: str) -> tuple[Token, ...]:
    """The tokens that begin within the text, which a stop string has cut."""
    size, before, kept = len(text.encode()), 0, []
    for token in tokens:
        if before >= size:
            break
        kept.append(token)
        before += len(token["bytes"])
    return tuple(kept)


def _spelled(raw: bytes, logprob: float) -> dict[str, Any]:
    return {"token": raw.decode("utf-8", "replace"), "bytes": list(raw), "logprob": logprob}


class ModelError(PomonaError):
    """A request that cannot succeed, or one that all retries failed.

    `status` is what to answer a client: 400, 404, 413 or 422 where the request itself is wrong, 429
    where a limit was met, 502 where the model's side failed, 504 where it took too long. `upstream`
    is the status the model's server gave, None without one. `code` is a short name as in the OpenAI
    API (such as "context_length_exceeded"), and `retry_after` the seconds a server asked to wait.
    `param` is the field of the request that its server named, and `field` one that it refused and
    that has nothing to do with the prompt: whoever asks the same of another is refused again.
    """

    exit_code = 1

    def __init__(
        self,
        message: str,
        *,
        status: int,
        where: object = None,
        remedy: str | None = None,
        upstream: int | None = None,
        code: str | None = None,
        retry_after: float | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(message, where=where, remedy=remedy)
        self.param = param
        self.field: str | None = None
        self.status, self.upstream, self.code, self.retry_after = (
            status,
            upstream,
            code,
            retry_after,
        )


def wrong_request(
    message: str, *, where: object = None, remedy: str | None = None, code: str | None = None
) -> ModelError:
    """The error of a request that no retry can help: status 400."""
    return ModelError(message, status=400, where=where, remedy=remedy, code=code)


def check_ids(ids: Iterable[int], vocabulary: int, where: str | None = None) -> None:
    """A ModelError for a token id that the model has not, with the field that has it."""
    wrong = next((id for id in ids if not 0 <= id < vocabulary), None)
    if wrong is not None:
        message = f"there is no token {wrong}; the model has {vocabulary:,}, from 0"
        remedy = "use the tokenizer of this model, or give text"
        raise wrong_request(message, where=where, remedy=remedy)


def too_long(tokens: int, context: int, name: str) -> ModelError:
    """The error of a prompt that leaves no room for an answer."""
    return wrong_request(
        f"the prompt has {tokens:,} tokens, and {name} takes {context:,} with the answer",
        remedy="shorten the messages, or use a model with a longer context",
        code="context_length_exceeded",
    )
