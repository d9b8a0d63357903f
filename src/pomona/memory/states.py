"""What a model was trained on, remembered by the states it had there: the next token is partly the
network's, partly that of the nearest states (kNN-LM, Khandelwal et al. 2020, arXiv 1911.00172;
for translation Khandelwal et al. 2021, arXiv 2010.00710).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from pomona.errors import PomonaError
from pomona.models.torch import Datastore


@dataclass(frozen=True, eq=False)
class Interpolation:
    """Leads answers by a datastore: p = (1 − λ) p_network + λ p_neighbours, where p_neighbours is
    the softmax of −(squared distance) / temperature over the `k` nearest entries of `group`, and
    only the network's where the group has none. It is the `steer` of a request, and one of the
    `steers` of `generate`.

    weight: λ; 0 changes nothing. temperature: it divides squared distances, so it belongs to the
    model; a twentieth to a tenth of `Datastore.spread` is a good beginning. A PomonaError when a
    setting is out of range.
    """

    store: Datastore
    temperature: float
    weight: float = 0.5
    k: int = 16
    group: str | None = None

    def __post_init__(self) -> None:
        good = 0 <= self.weight <= 1, self.k >= 1, 0 < self.temperature < math.inf
        for setting, holds in zip(("weight", "k", "temperature"), good, strict=True):
            if not holds:
                remedy = "weight from 0 to 1, k from 1, temperature above 0"
                message = f"{setting} is {getattr(self, setting)}"
                raise PomonaError(message, where="Interpolation", remedy=remedy)

    def of(self, groups: Sequence[str]) -> list[Interpolation]:
        """The same within each of the groups, one for each given."""
        each = {group: replace(self, group=group) for group in dict.fromkeys(groups)}
        return [each[group] for group in groups]

    @property
    def model(self) -> str:
        """The identity of the model it was made for."""
        return self.store.identity

    @cached_property
    def identity(self) -> str:
        """16 hex digits of the datastore, the group and all settings."""
        parts = (self.store.digest, self.temperature, self.weight, self.k, self.group)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]

    @property
    def flops(self) -> float:
        """Of one token: the products of its state with all keys of the group."""
        return self.store.flops(self.group) if self.weight else 0.0

    def __call__(self, states: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """The logarithm of p, by the states `[…, d]` that led to the logits `[…, vocabulary]`."""
        start, end = self.store.span(self.group)
        if not self.weight or start == end:
            return logits
        plain = torch.log_softmax(logits.float(), dim=-1).flatten(0, -2)
        near = self.store.probabilities(
            states.flatten(0, -2),
            logits.shape[-1],
            k=self.k,
            temperature=self.temperature,
            group=self.group,
        )
        own, theirs = math.log1p(-self.weight) if self.weight < 1 else -math.inf, self.weight
        mixed = torch.logaddexp(plain + own, (near * theirs).log())
        return mixed.view(logits.shape)
