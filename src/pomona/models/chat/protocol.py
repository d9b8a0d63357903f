"""What every model that answers messages can do, whatever runs it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Message = Mapping[str, Any]  # as in the OpenAI API: role, content, tool_calls, tool_call_id, …
Token = Mapping[str, Any]  # as in the OpenAI API: token, logprob, bytes, top_logprobs
Finish = Literal["stop", "length", "tool_calls"]
Ability = Literal["score", "embed", "options", "tools"]
Sample = tuple[int, float]  # its index and its temperature


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


@dataclass(frozen=True)
class Request:
    """What is asked of a model: messages, or a plain `prompt` that no chat template touches.

    `options`, where given, are the only answers allowed (constrained decoding). `extra` goes
    through to a server untouched.
    logprobs: None, or how many alternatives to each token its log-probability shall come with, from
        0.
    steer: what leads the answers, while requests beside are not led. Only the model it was made for
        takes it.
    """

    messages: tuple[Message, ...] = ()
    prompt: str | None = None
    max_tokens: int = 512
    temperature: float = 0.0
    top_p: float = 1.0
    min_p: float = 0.0
    stop: tuple[str, ...] = ()
    seed: int = 0
    tools: tuple[Mapping[str, Any], ...] = ()
    options: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    logprobs: int | None = None
    steer: Steer | None = None


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


@dataclass(frozen=True)
class Piece:
    """What the sample `index` goes on with: text, and its tokens where the request asked for
    `logprobs`.
    """

    text: str
    index: int = 0
    tokens: tuple[Token, ...] = ()


Asked = tuple[Request, Sequence[Sample]]  # a request and the samples wanted of it


@runtime_checkable
class ChatModel(Protocol):
    """Answers requests. `identity` names weights or server for the store: equal identities give
    equal answers to equal requests.
    """

    name: str
    identity: str
    abilities: frozenset[Ability]

    async def reply(self, request: Request, samples: Sequence[Sample]) -> list[Reply]:
        """One reply for each (sample index, temperature), in that order, the prompt read once where
        the model allows.

        A sample depends on request, seed and its index alone. Raises PomonaError when the request
        cannot succeed or all retries failed.
        """
        ...

    def stream(self, request: Request, samples: Sequence[Sample]) -> AsyncIterator[Piece | Reply]:
        """Pieces of the samples as they come, mixed; the Reply of a sample follows its last piece.
        Indices differ.

        Closing it early stops the work.
        """
        ...

    async def score(
        self, request: Request, completions: Sequence[str]
    ) -> tuple[list[NDArray[np.float32]], Spent]:
        """Natural-log probability of each token of each completion, with the ability "score", and
        what that cost.
        """
        ...

    async def embed(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], Spent]:
        """Unit vectors `[n, d]`, with the ability "embed", and what they cost."""
        ...

    def tokens(self, request: Request) -> int:
        """Tokens of the prompt: counted where a tokenizer is at hand, else guessed from the text,
        rather too many.
        """
        ...

    def cost(self, prompt: int, answer: int = 0, samples: int = 1) -> Spent:
        """What so many samples of `answer` tokens after one prompt of so many tokens cost, the
        prompt read once.

        A given answer costs as much to score, with its prompt, and a text to embed at most as much
        as to read.
        """
        ...

    async def close(self) -> None:
        """Give back memory and connections."""
        ...


@runtime_checkable
class Together(ChatModel, Protocol):
    """A model that computes here, where by rounding an answer depends on those that are computed
    with it.
    """

    async def together(self, asked: Sequence[Asked]) -> list[list[Reply] | BaseException]:
        """What `reply` gives to each request, or its error. What is computed together is a function
        of `asked` alone.
        """
        ...


@runtime_checkable
class Gradual(ChatModel, Protocol):
    """A model that gives the replies of one request as they come, so that none is lost when another
    fails.
    """

    def each(self, request: Request, samples: Sequence[Sample]) -> AsyncIterator[Reply]:
        """The replies of `reply`, each as soon as it is there, in any order. An error comes last,
        after all that succeeded.
        """
        ...


def able(models: Iterable[ChatModel | None], ability: Ability) -> ChatModel | None:
    """The first model that has the ability, None without one."""
    return next(
        (model for model in models if model is not None and ability in model.abilities), None
    )
