"""Gradual magnitude pruning while a model is trained (Zhu and Gupta 2017, arXiv 1710.01878)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import TrainerCallback

from pomona.errors import PomonaError


@dataclass(frozen=True)
class GradualPruning:
    """How a model is pruned while it is trained: each matrix inside its blocks has a rising share
    of zeros, from `initial` at the share `begin` of the steps to `level` at `end`, in stages
    `every` so many steps. `embeddings`: these, and the output head, too.

    Raises PomonaError for shares that are none, and where the end is not after the beginning.
    """

    level: float
    initial: float = 0.0
    begin: float = 0.0
    end: float = 0.75
    every: int = 10
    embeddings: bool = False

    def __post_init__(self) -> None:
        wrong = {
            f"level is {self.level}": not 0 < self.level < 1,
            f"initial is {self.initial}": not 0 <= self.initial <= self.level,
            f"begin is {self.begin} and end {self.end}": not 0 <= self.begin < self.end <= 1,
            f"every is {self.every}": self.every < 1,
        }
        for message in (message for message, found in wrong.items() if found):
            remedy = "give shares from 0 to 1, initial at most level, begin before end"
            raise PomonaError(message, where="pruning", remedy=remedy)

    def at(self, step: int, steps: int) -> float | None:
        """The share of zeros that step `step` of `steps`, counted from 1, makes; None where it
        makes none. s_t = s_f + (s_i − s_f)(1 − (t − t₀) / (nΔt))³, with Δt = `every`; where not one
        Δt fits in between, `level` comes at the end.
        """
        first = max(1, round(self.begin * steps))
        last = max(first, round(self.end * steps))
        if not (stages := (last - first) // self.every):
            return {first: self.initial, last: self.level}.get(step)
        stage, between = divmod(step - first, self.every)
        if stage < 0 or between or stage > stages:
            return None
        return self.level + (self.initial - self.level) * (1 - stage / stages) ** 3


class Pruner(TrainerCallback):
    """Prunes the weights of a training. What is pruned stays so: the zeros are in the weights, so
    that a training which goes on from a checkpoint knows them.
    """

    def __init__(self, model: torch.nn.Module, pruning: GradualPruning) -> None:
        self.pruning = pruning
        self._weights = {
            name: weight
            for name, weight in model.named_parameters()
            if weight.ndim == 2 and (".layers." in name or pruning.embeddings)
        }
        if not self._weights:
            remedy = "gradual pruning knows models with `.layers.`"
            raise PomonaError("has no matrix inside a block", where="model", remedy=remedy)
        self._gone: dict[str, torch.Tensor] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The zeros of the weights that the training begins with, or goes on from."""
        self._gone = {name: weight.detach() == 0 for name, weight in self._weights.items()}

    @torch.no_grad()
    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """After each step, since the optimizer has moved what is pruned."""
        share = self.pruning.at(state.global_step, state.max_steps)
        for name, weight in self._weights.items():
            weight[self._gone[name]] = 0
            if share is not None:
                self._gone[name] = _smallest(weight, round(share * weight.numel()))
                weight[self._gone[name]] = 0


def _smallest(weight: torch.Tensor, count: int) -> torch.Tensor:
    """Where the `count` smallest weights are; among equal ones the first."""
    flat = weight.detach().abs().flatten()
    chosen = torch.zeros_like(flat, dtype=torch.bool)
    if count:
        threshold = flat.kthvalue(count).values
        chosen = flat < threshold
        equal = (flat == threshold).nonzero().flatten()
        chosen[equal[: count - int(chosen.sum())]] = True
    return chosen.view_as(weight)
