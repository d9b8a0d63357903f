"""A model that follows a script, to see what levers do with its answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from pomona.models import Model, Reply, ReplyPiece, Request, Spent


class Scripted(Model):
    """Gives the replies of a script in turn, text or (text, tool calls), and keeps what it was
    asked.
    """

    name, identity = "scripted", "scripted:1"

    def __init__(
        self, *script: str | tuple[str, Sequence[Mapping[str, Any]]], abilities: Sequence[Any] = ()
    ) -> None:
        self.script, self.abilities = list(script), frozenset(abilities)
        self.asked: list[Request] = []

    async def reply(self, request: Request, samples: Sequence[tuple[int, float]]) -> list[Reply]:
        self.asked.append(request)
        index, temperature = samples[0]
        text = self.script.pop(0)
        said, calls = text if isinstance(text, tuple) else (text, ())
        return [
            Reply(
                said,
                "stop",
                Spent(10, 5, 2.0, 0.25),
                self.name,
                index,
                temperature,
                tool_calls=tuple(calls),
            )
        ]

    async def stream(
        self, request: Request, samples: Sequence[tuple[int, float]]
    ) -> AsyncIterator[ReplyPiece | Reply]:
        yield (await self.reply(request, samples))[0]

    async def logprobs(
        self, request: Request, completions: Sequence[str], *, end: bool = False
    ) -> Any: ...

    async def vectors(self, texts: Sequence[str]) -> Any: ...

    def tokens(self, request: Request) -> int:
        return 10

    def cost(self, prompt: int, answer: int = 0, samples: int = 1) -> Spent:
        return Spent(prompt, answer * samples)

    async def close(self) -> None: ...


def ask(text: str, **settings: Any) -> Request:
    return Request(messages=({"role": "user", "content": text},), **settings)
