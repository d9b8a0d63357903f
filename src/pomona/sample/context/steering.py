"""Answers led towards texts that are wanted and away from texts that are not, token by token, without training."""

from __future__ import annotations

import hashlib
import math
from collections.abc import AsyncIterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pomona.errors import PomonaError
from pomona.models.chat.protocol import Ability, Reply, Request
from pomona.models.chat.torch import TorchChat
from pomona.sample.context.datastore import Datastore


def steered(logits: torch.Tensor, wanted: torch.Tensor, unwanted: torch.Tensor, *, alpha: float = 2.0, top_p: float = 0.9) -> torch.Tensor:
    """log_softmax(z + α (log p⁺ − log p⁻)), `[rows, vocabulary]`, where z is −∞ outside the top-p tokens of the logits.

    wanted, unwanted: log p⁺ and log p⁻, `[rows, vocabulary]`. Pozzobon et al. 2023 (arXiv 2310.07589), section 2.
    """
    plain = torch.log_softmax(logits.float(), dim=-1)
    if top_p < 1:
        ordered, index = plain.sort(dim=-1, descending=True)
        before = ordered.exp().cumsum(dim=-1) - ordered.exp()
        plain = plain.masked_fill((before >= top_p).scatter(1, index, before >= top_p), -torch.inf)
    return torch.log_softmax(plain + alpha * (wanted - unwanted), dim=-1)


class Steered:
    """A ChatModel: the checkpoint `model` with every answer and every score led from `unwanted` towards `wanted` texts.

    alpha: how strongly; 0 leaves only top-p. k: neighbours in each datastore. temperature: of the neighbours' weights; it divides squared
    distances, so it belongs to the size of the states (the paper's 100 is for GPT-2). top_p: the tokens steering may choose among.
    `logprob` of a reply is under the steered distribution. The model is steered until `close`, which closes it too.
    A PomonaError when a datastore is from another model, or a setting is out of range.
    """

    def __init__(
        self,
        model: TorchChat,
        wanted: Datastore,
        unwanted: Datastore,
        *,
        alpha: float = 2.0,
        k: int = 1024,
        temperature: float = 100.0,
        top_p: float = 0.9,
    ) -> None:
        for name, good in (("alpha", math.isfinite(alpha)), ("k", k >= 1), ("temperature", temperature > 0), ("top_p", 0 < top_p <= 1)):
            if not good:
                raise PomonaError(
                    f"{name} is out of range", where="Steered", remedy="alpha finite, k from 1, temperature over 0, top_p in (0, 1]"
                )
        for store in (wanted, unwanted):
            if store.identity != model.identity:
                raise PomonaError("the datastore is from another model", where=model.name, remedy="build it with this one")
        self.model, self.name = model, f"{model.name} steered"
        settings = f"{wanted.digest}:{unwanted.digest}:{alpha}:{k}:{temperature}:{top_p}"
        self.identity = f"{model.identity}+steered:{hashlib.sha256(settings.encode()).hexdigest()[:16]}"
        self.abilities: frozenset[Ability] = model.abilities

        def steer(module: object, states: tuple[Any, ...], logits: torch.Tensor) -> torch.Tensor:
            rows, size = states[0].flatten(0, -2), logits.shape[-1]
            near, far = (store.log_probabilities(rows, size, k=k, temperature=temperature) for store in (wanted, unwanted))
            return steered(logits.flatten(0, -2), near, far, alpha=alpha, top_p=top_p).view(logits.shape)

        head: Any = model.model.network.get_output_embeddings()
        self._hook = head.register_forward_hook(steer)

    async def reply(self, request: Request, samples: Sequence[tuple[int, float]]) -> list[Reply]:
        """See the protocol."""
        return await self.model.reply(request, samples)

    def stream(self, request: Request) -> AsyncIterator[str | Reply]:
        """See the protocol."""
        return self.model.stream(request)

    async def score(self, request: Request, completions: Sequence[str]) -> list[NDArray[np.float32]]:
        """See the protocol; −∞ for a token outside of top-p."""
        return await self.model.score(request, completions)

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See the protocol; steering does not change states."""
        return await self.model.embed(texts)

    async def close(self) -> None:
        """End the steering and close the model."""
        await self.model.close()
        self._hook.remove()
