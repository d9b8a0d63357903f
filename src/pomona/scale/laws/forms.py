"""The loss as a function of parameters and tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Law:
    """L = E + A/N^alpha + B/D^beta, of N parameters and D tokens, in nats a token (Hoffmann et al.
    2022).
    """

    E: float
    A: float
    B: float
    alpha: float
    beta: float

    @property
    def exponent(self) -> float:
        """By which power of the compute the best number of parameters grows: beta/(alpha+beta)."""
        return self.beta / (self.alpha + self.beta)

    def loss(self, params: np.ndarray | float, tokens: np.ndarray | float) -> np.ndarray:
        """The loss that the law gives, for arrays of one shape."""
        n, d = np.asarray(params, np.float64), np.asarray(tokens, np.float64)
        return self.E + self.A * n**-self.alpha + self.B * d**-self.beta
