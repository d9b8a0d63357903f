"""What every model that answers messages can do, whatever runs it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Message = Mapping[str, Any]  # as in the OpenAI API: role, content, tool_calls, tool_call_id, …
Finish = Literal["stop", "length", "tool_calls"]
Ability = Literal["score", "embed", "options", "tools"]


@dataclass(frozen=True)
class Request:
    """What is asked of a model: messages, or a plain `prompt` that no chat template touches.

    `options`, where given, are the only answers allowed (constrained decoding). `extra` goes through to a server untouched.
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


@dataclass(frozen=True)
class Spent:
    """What an answer cost: tokens as we count them, FLOPs by the cost model where the model's shape is known, money where it has a price.

    Where several answers share one prompt, the first of a call pays for reading it and the others have 0 prompt tokens, so a sum is what
    the call cost. `estimated` says that tokens were guessed from the text, because nobody counted them.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    flops: float = 0.0
    money: float = 0.0
    seconds: float = 0.0
    estimated: bool = False

    def __add__(self, other: Spent) -> Spent:
        numbers = (getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__ if name != "estimated")
        return Spent(*numbers, estimated=self.estimated or other.estimated)


@dataclass(frozen=True)
class Reply:
    """One answer. `logprob` is the sum of its tokens' natural logs under the model's own distribution, None where a server does not say."""

    text: str
    finish_reason: Finish
    spent: Spent
    model: str
    index: int = 0
    temperature: float = 0.0
    logprob: float | None = None
    tool_calls: tuple[Mapping[str, Any], ...] = ()


@runtime_checkable
class ChatModel(Protocol):
    """Answers requests. `identity` names weights or server for the store: equal identities give equal answers to equal requests."""

    name: str
    identity: str
    abilities: frozenset[Ability]

    async def reply(self, request: Request, samples: Sequence[tuple[int, float]]) -> list[Reply]:
        """One reply for each (sample index, temperature), in that order, the prompt read once where the model allows.

        A sample depends on request, seed and its index alone. Raises PomonaError when the request cannot succeed or all retries failed.
        """
        ...

    def stream(self, request: Request) -> AsyncIterator[str | Reply]:
        """Pieces of text of one answer as they come, then the whole Reply as the last item. Closing it early stops the work."""
        ...

    async def score(self, request: Request, completions: Sequence[str]) -> list[NDArray[np.float32]]:
        """Natural-log probability of each token of each completion, with the ability "score"."""
        ...

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors `[n, d]`, with the ability "embed"."""
        ...

    async def close(self) -> None:
        """Give back memory and connections."""
        ...


@runtime_checkable
class Gradual(ChatModel, Protocol):
    """A model that gives the replies of one request as they come, so that none is lost when another fails."""

    def each(self, request: Request, samples: Sequence[tuple[int, float]]) -> AsyncIterator[Reply]:
        """The replies of `reply`, each as soon as it is there, in any order. An error comes last, after all that succeeded."""
        ...
