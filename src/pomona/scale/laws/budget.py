"""The best parameters and tokens for a budget of FLOPs, for many laws at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pomona.scale.laws.forms import evaluate
from pomona.scale.runs import FLOPS_EACH

Floats = NDArray[np.float64]
SERVED_EACH = 2  # FLOPs a parameter and a token that is served (Sardana et al. 2024, §2)
_GRID, _ZOOMS, _HALVINGS = 257, 6, 60


@dataclass(frozen=True)
class Budget:
    """FLOPs to train a model of N parameters and to serve `served` tokens with it over its life:
    6 N D + 2 N served. `unique` tokens are different, where that is limited.
    """

    flops: float
    served: float = 0.0
    unique: float | None = None

    def tokens(self, log_params: Floats) -> Floats:
        """How many tokens such models can be trained on, below 1 where the budget is served up."""
        left = self.flops * np.exp(-log_params) - SERVED_EACH * self.served
        return np.maximum(left / FLOPS_EACH, 1e-3)

    def losses(self, form: str, laws: Floats, log_params: Floats) -> Floats:
        """Losses `[b, n]` of laws `[b, 7]` where models `[b, n]` or `[n]` use up the budget."""
        tokens = self.tokens(log_params)
        at = (np.exp(log_params), tokens)
        return evaluate(form, laws, *at, None if self.unique is None else self.unique)

    def best(self, form: str, laws: Floats) -> Floats:
        """ln N of the lowest loss of each law, `[b]`, by zooming into a grid."""
        low, high = np.zeros(len(laws)), np.full(len(laws), self._highest())
        for _ in range(_ZOOMS):
            grid = np.linspace(low, high, _GRID, axis=-1)
            at = self.losses(form, laws, grid).argmin(1)
            rows = np.arange(len(laws))
            low, high = grid[rows, np.maximum(at - 1, 0)], grid[rows, np.minimum(at + 1, _GRID - 1)]
        return (low + high) / 2

    def within(self, form: str, law: Floats, best: float, share: float) -> tuple[float, float]:
        """ln N of the smallest and the largest model of which the loss is `share` above the best at
        most.
        """
        most = (1 + share) * self.losses(form, law[None], np.array([best]))[0, 0]
        ends = []
        for outside in (0.0, self._highest()):
            inside = best
            for _ in range(_HALVINGS):
                middle = (inside + outside) / 2
                if self.losses(form, law[None], np.array([middle]))[0, 0] <= most:
                    inside = middle
                else:
                    outside = middle
            ends.append(inside)
        return ends[0], ends[1]

    def _highest(self) -> float:
        """ln N of the model that the budget trains on one token."""
        return float(np.log(self.flops / (FLOPS_EACH + SERVED_EACH * self.served)))
