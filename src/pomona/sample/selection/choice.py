"""What a selection works with, and what it decides."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pomona.answers import Account, MeteredModel, ask, conversation, draw
from pomona.models import Ability, Draw, Model, Reply, Request, Spent, able
from pomona.sample.strategy import Strategy

Result = TypeVar("Result")


@dataclass(frozen=True)
class Choice:
    """The index of the chosen candidate, a score for every candidate (higher is better), what else
    is worth telling, and the candidates where they are more than the pool.
    """

    chosen: int
    scores: tuple[float, ...]
    notes: Mapping[str, Any] = field(default_factory=dict)
    candidates: tuple[Reply, ...] = ()


@dataclass
class SelectionContext:
    """The request, the pool and who can be asked about it. `spent` adds up what the selection
    itself cost.
    """

    request: Request
    strategy: Strategy
    models: Sequence[Model]
    account: Account
    judge: Model | None = None
    seed: int = 0
    checklist: tuple[str, ...] = ()  # further items for the judge, from feedback
    weights: tuple[float, ...] = ()  # of the candidates as evidence, where they differ
    spent: Spent = field(default_factory=Spent)
    rewards: dict[str, float] = field(default_factory=dict)  # by text, as far as they are known

    @property
    def arbiter(self) -> Model:
        """The judge, or without one the first model."""
        return self.judge or self.models[0]

    async def ask(self, request: Request) -> Reply:
        """One reply of the arbiter. Exhausted when a limit is met."""
        reply = await ask(self.arbiter, request, self.account)
        self.spent += reply.spent
        return reply

    async def draw(self, request: Request, samples: Sequence[Draw]) -> list[Reply]:
        """Further answers of the first model, fewer when a limit is met."""
        replies, _ = await draw(self.models[0], request, samples, self.account)
        self.spent = sum((reply.spent for reply in replies), self.spent)
        return replies

    def able(self, ability: Ability) -> Model | None:
        """The judge or the first model that has the ability, None without one."""
        return able([self.judge, *self.models], ability)

    async def score(
        self, model: Model, request: Request, completions: Sequence[str], *, end: bool = False
    ) -> list[NDArray[np.float32]]:
        """The model's log-probabilities of completions, with `end` that of their end too, paid for.
        Exhausted when a limit is met.
        """

        def work(payer: MeteredModel) -> Awaitable[tuple[list[NDArray[np.float32]], Spent]]:
            return payer.logprobs(request, completions, end=end)

        return (await self._paying(model, work))[0]

    async def embed(self, model: Model, texts: Sequence[str]) -> NDArray[np.float32]:
        """The model's vectors, paid for. Exhausted when a limit is met."""
        return (await self._paying(model, lambda payer: payer.vectors(texts)))[0]

    async def _paying(
        self, model: Model, work: Callable[[MeteredModel], Awaitable[Result]]
    ) -> Result:
        payer = MeteredModel(model, self.account)
        try:
            return await work(payer)
        finally:
            self.spent += payer.spent

    def chance(self, purpose: str) -> random.Random:
        """Random numbers that depend on seed, prompt and purpose alone."""
        return random.Random(f"{self.seed}\0{purpose}\0{conversation(self.request)}")


def highest(scores: ArrayLike) -> int:
    """The index of the highest score, the first of those equal to nine decimals: greedy answers
    come first and win ties.
    """
    return int(np.argmax(np.round(np.asarray(scores, np.float64), 9)))
