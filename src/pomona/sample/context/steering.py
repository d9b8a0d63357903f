"""Answers led towards texts that are wanted and away from texts that are not, token by token,
without training: by datastores of what a network saw and which token came next.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from pomona.errors import PomonaError
from pomona.files import atomic_file
from pomona.models import Model, Reply, Request
from pomona.models.torch import TorchModel

_ROWS = 1 << 16  # keys compared at once, so that the distances stay small


@dataclass(frozen=True, eq=False)
class Datastore:
    """`keys` float32 `[n, d]`: what goes into the output projection at a place of a text. `tokens`
    int64 `[n]`: the next token there.

    `identity` is that of the model the keys are from; only with it can they be compared.
    """

    keys: torch.Tensor
    tokens: torch.Tensor
    identity: str

    @classmethod
    def build(cls, model: TorchModel, texts: Sequence[str]) -> Datastore:
        """One entry for each token of the texts after their first. A PomonaError when no text has
        two tokens.

        Runs in the calling thread: use it before the model answers requests. Texts longer than the
        context are cut off there.
        """
        keys, tokens = [], []
        for ids in model.codec.prompts(list(texts)):
            seen = ids[: model.context]
            if len(seen) > 1:
                keys.append(_states(model, seen[:-1]))
                tokens.append(torch.tensor(seen[1:]))
        if not keys:
            remedy = "give longer texts"
            raise PomonaError("no text has two tokens", where="Datastore.build", remedy=remedy)
        return cls(torch.cat(keys), torch.cat(tokens), model.identity)

    def save(self, path: str | Path) -> Path:
        """Write the store as one safetensors file, whole or not at all."""
        tensors = {"keys": self.keys.contiguous(), "tokens": self.tokens.contiguous()}
        with atomic_file(path) as partial:
            save_file(tensors, partial, metadata={"identity": self.identity})
        return Path(path)

    @classmethod
    def open(cls, path: str | Path) -> Datastore:
        """Read what `save` wrote. A PomonaError when it is not such a file."""
        remedy = "build one with `pomona sample datastore`"
        try:
            with safe_open(str(path), "pt") as file:
                keys, tokens = file.get_tensor("keys"), file.get_tensor("tokens")
                identity = (file.metadata() or {})["identity"]
        except (OSError, SafetensorError, KeyError) as error:
            raise PomonaError(f"is no datastore: {error}", where=path, remedy=remedy) from error
        if keys.ndim != 2 or tokens.shape != keys.shape[:1] or not len(keys):
            message = "its keys and tokens do not belong together"
            raise PomonaError(message, where=path, remedy=remedy)
        return cls(keys.float(), tokens.long(), identity)

    @property
    def digest(self) -> str:
        """16 hex digits that name the content."""
        content = b"".join(part.cpu().numpy().tobytes() for part in (self.keys, self.tokens))
        return hashlib.sha256(content).hexdigest()[:16]

    def log_probabilities(
        self, states: torch.Tensor, vocabulary: int, *, k: int, temperature: float
    ) -> torch.Tensor:
        """Log-probability of each token by the neighbours of each state, float32
        `[rows, vocabulary]`, from states `[rows, d]`.

        p(w) is the softmax of −(squared distance) / temperature over the k nearest keys, summed
        over those whose next token is w (Khandelwal et al. 2020, eq. 2). A token that no neighbour
        has gets what the least likely found token of its row has: log 0 would outweigh everything.
        (The authors' code takes the least of the whole batch, so that an answer depends on the
        others of its batch.)
        """
        distances, rows = self._nearest(states.float(), min(k, len(self.keys)))
        weights = torch.softmax(-distances / temperature, dim=-1)
        sums = torch.zeros((len(states), vocabulary), device=states.device)
        sums.scatter_add_(1, self.tokens.to(states.device)[rows], weights)
        least = torch.where(sums > 0, sums, torch.inf).amin(dim=-1, keepdim=True)
        return torch.where(sums > 0, sums, least).log()

    def _nearest(self, states: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Squared distances, ascending, and rows of the k nearest keys, `[rows, k]` each; keys go
        through in blocks.
        """
        device = states.device
        best = torch.empty((len(states), 0), device=device)
        rows = torch.empty((len(states), 0), dtype=torch.int64, device=device)
        for first in range(0, len(self.keys), _ROWS):
            keys = self.keys[first : first + _ROWS].to(device)
            sizes = states.square().sum(1, keepdim=True) + keys.square().sum(1)
            distances = (sizes - 2 * states @ keys.T).clamp_(min=0)
            numbers = torch.arange(first, first + len(keys), device=device).expand(len(states), -1)
            best, rows = torch.cat([best, distances], 1), torch.cat([rows, numbers], 1)
            best, order = best.topk(min(k, best.shape[1]), dim=1, largest=False)
            rows = rows.gather(1, order)
        return best, rows


@torch.inference_mode()
def _states(model: TorchModel, ids: Sequence[int]) -> torch.Tensor:
    """The last hidden state at each token, float32 `[tokens, d]`."""
    with model.arithmetic:
        inputs = torch.tensor([list(ids)], device=model.network.device)
        states = model.network.base_model(input_ids=inputs, use_cache=False)
    return states.last_hidden_state[0].float().cpu()


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
        return 2.0 * (self.wanted.keys.numel() + self.unwanted.keys.numel())

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
