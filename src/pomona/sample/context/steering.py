"""Answers led towards texts that are wanted and away from texts that are not, token by token,
without training: by datastores of what a network saw and which token came next.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch

from pomona.errors import PomonaError
from pomona.models import Model, Reply, Request
from pomona.models.torch import Datastore


def steered(
    logits: torch.Tensor,
    wanted: torch.Tensor,
    unwanted: torch.Tensor,
    *,
    alpha: float = 2.0,
    top_p: float = 0.9,
) -> torch.Tensor:
    """log_softmax(z + α (log p⁺ − log p⁻)), `[rows, vocabulary]`, where z is −∞ outside the top-p
    tokens of the logits.

    wanted, unwanted: log p⁺ and log p⁻, `[rows, vocabulary]`. Pozzobon et al. 2023 (arXiv
    2310.07589), section 2.
    """
    plain = torch.log_softmax(logits.float(), dim=-1)
    if top_p < 1:
        ordered, index = plain.sort(dim=-1, descending=True)
        before = ordered.exp().cumsum(dim=-1) - ordered.exp()
        plain = plain.masked_fill((before >= top_p).scatter(1, index, before >= top_p), -torch.inf)
    return torch.log_softmax(plain + alpha * (wanted - unwanted), dim=-1)


@dataclass(frozen=True, eq=False)
class Steering:
    """Leads the answers to one request, and scores given with it, from `unwanted` towards `wanted`
    texts; requests beside it are not led.

    alpha: how strongly; 0 leaves only top-p. k: neighbours in each datastore. temperature: of the
        neighbours' weights; it divides squared
    distances, so it belongs to the size of the states (the paper's 100 is for GPT-2). top_p: the
    tokens steering may choose among. `logprob` of a reply is under the steered distribution, where
    tokens outside of top-p have −∞. Needs the model the datastores are from.
    A PomonaError when the datastores are from different models, or a setting is out of range.
    """

    wanted: Datastore
    unwanted: Datastore
    alpha: float = 2.0
    k: int = 1024
    temperature: float = 100.0
    top_p: float = 0.9
    name: str = "steering"

    def __post_init__(self) -> None:
        good = math.isfinite(self.alpha), self.k >= 1, self.temperature > 0, 0 < self.top_p <= 1
        for setting, holds in zip(("alpha", "k", "temperature", "top_p"), good, strict=True):
            if not holds:
                remedy = "alpha finite, k from 1, temperature over 0, top_p in (0, 1]"
                raise PomonaError(f"{setting} is out of range", where="Steering", remedy=remedy)
        if self.wanted.identity != self.unwanted.identity:
            message, remedy = (
                "the datastores are from different models",
                "build both with the same one",
            )
            raise PomonaError(message, where="Steering", remedy=remedy)

    @property
    def model(self) -> str:
        """The identity of the model it was made for."""
        return self.wanted.identity

    @cached_property
    def identity(self) -> str:
        """16 hex digits of the datastores and all settings."""
        stores = (self.wanted.digest, self.unwanted.digest)
        settings = (*stores, self.alpha, self.k, self.temperature, self.top_p)
        return hashlib.sha256(":".join(map(str, settings)).encode()).hexdigest()[:16]

    @property
    def flops(self) -> float:
        """Of one token: the products of its state with all keys."""
        return self.wanted.flops() + self.unwanted.flops()

    def __call__(self, states: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """The steered logits, by the states `[…, d]` that led to them, `[…, vocabulary]`."""
        rows, size = states.flatten(0, -2), logits.shape[-1]
        near, far = (
            store.log_probabilities(rows, size, k=self.k, temperature=self.temperature)
            for store in (self.wanted, self.unwanted)
        )
        plain = logits.flatten(0, -2)
        return steered(plain, near, far, alpha=self.alpha, top_p=self.top_p).view(logits.shape)

    async def before(self, request: Request, model: Model) -> tuple[Request, Mapping[str, Any]]:
        """See the protocol."""
        return replace(request, steer=self), {"steer": self.identity}

    async def after(
        self, request: Request, reply: Reply, model: Model, notes: Mapping[str, Any]
    ) -> tuple[Reply, Mapping[str, Any]]:
        """See the protocol; the reply stays as it is."""
        return reply, notes
