"""The loss as a function of parameters and tokens, and what its parameters are fitted by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pomona.errors import PomonaError

Floats = NDArray[np.float64]
FormName = Literal["chinchilla", "no_floor", "kaplan", "data_constrained"]
NAMES = ("E", "A", "B", "alpha", "beta", "R_D", "R_N")


@dataclass(frozen=True)
class Law:
    """The loss in nats a token after training N parameters on D tokens, U of them different.

    chinchilla: E + A/N^alpha + B/D^beta (Hoffmann et al. 2022, §3.3). no_floor: the same, E = 0.
    kaplan: (A^(1/beta) N^(-alpha/beta) + B^(1/beta)/D)^beta, that is
    ((N_c/N)^(alpha/beta) + D_c/D)^beta with A = N_c^alpha and B = D_c^beta (Kaplan et al. 2020,
    eq. 1.5), which has no floor either.
    data_constrained: chinchilla of effective parameters and tokens: a token's repetitions are worth
    R_D, and parameters beyond the best for U tokens R_N times as much at most (Muennighoff et al.
    2023, eq. 5 and 6). None of the two: no discount. It never says that repetition harms.
    """

    E: float
    A: float
    B: float
    alpha: float
    beta: float
    R_D: float | None = None
    R_N: float | None = None
    form: FormName = "chinchilla"

    @property
    def exponent(self) -> float:
        """By which power of the compute the best number of parameters grows: beta/(alpha+beta)."""
        return self.beta / (self.alpha + self.beta)

    @property
    def values(self) -> Floats:
        """The law as `[7]` numbers in the order of `NAMES`, NaN for what it has not."""
        told = [getattr(self, name) for name in NAMES]
        return np.array([np.nan if one is None else one for one in told], np.float64)

    def loss(
        self, params: ArrayLike, tokens: ArrayLike, unique_tokens: ArrayLike | None = None
    ) -> Floats:
        """The loss that the law gives, of one shape with `params` and `tokens`; all tokens differ
        where `unique_tokens` is left out.
        """
        return evaluate(self.form, self.values, params, tokens, unique_tokens)


PUBLISHED = {
    "hoffmann": Law(
        float(np.exp(0.5267228)), float(np.exp(6.0073404)), float(np.exp(6.0179186)),
        0.33917084, 0.2849083,
    ),
    "besiroglu": Law(1.817, 482.006, 2085.434, 0.34781, 0.36585),
    "muennighoff": Law(
        float(np.exp(0.6254804)), float(np.exp(6.255414)), float(np.exp(7.3049974)),
        0.3526596, 0.3526596, 15.387756, 5.309743, "data_constrained",
    ),
}  # fmt: skip
SOURCES = {
    "hoffmann": "Hoffmann et al. 2022 (arXiv 2203.15556), approach 3",
    "besiroglu": "Besiroglu et al. 2024 (arXiv 2404.10102), a fit to 240 of those runs",
    "muennighoff": "Muennighoff et al. 2023 (arXiv 2305.16264), C4, up to 9e9 parameters",
}


def evaluate(
    form: str,
    values: Floats,
    params: ArrayLike,
    tokens: ArrayLike,
    unique_tokens: ArrayLike | None = None,
) -> Floats:
    """The loss of laws `[..., 7]`, in the order of `NAMES`, for runs `[n]`: `[..., n]`."""
    n, d = np.asarray(params, np.float64), np.asarray(tokens, np.float64)
    E, A, B, alpha, beta, worth_d, worth_n = (
        values[..., place, None] if np.ndim(n) or values.ndim > 1 else values[..., place]
        for place in range(len(NAMES))
    )
    if form == "kaplan":
        return (A ** (1 / beta) * n ** (-alpha / beta) + B ** (1 / beta) / d) ** beta
    if form == "data_constrained" and unique_tokens is not None:
        unique = np.minimum(np.asarray(unique_tokens, np.float64), d)
        # Resampled factors reach 1e17, whose best size is beyond every float or below it.
        with np.errstate(divide="ignore", over="ignore"):
            most = best_params((A, B), alpha, beta, unique)
            n = effective(n, np.minimum(n, most), worth_n)
            d = effective(d, unique, worth_d)
    with np.errstate(divide="ignore"):
        return E + A * n**-alpha + B * d**-beta


def effective(seen: Floats, unique: Floats, worth: Floats) -> Floats:
    """What `seen` is worth of which `unique` is new and the rest repeats: each part as large as
    `unique` is worth less, all repetitions together `worth` times `unique`.
    """
    repeats = np.maximum(seen / unique - 1, 0)
    with np.errstate(invalid="ignore"):
        told = unique * (1 + worth * -np.expm1(-repeats / worth))
    return np.where(np.isnan(worth), seen, told)


def best_params(factors: tuple[Any, Any], alpha: Any, beta: Any, tokens: Floats) -> Floats:
    """The number of parameters for which so many tokens are the best, all of them different, by the
    factors A and B and the exponents.
    """
    ratio = (alpha * factors[0] / (beta * factors[1])) ** (1 / (alpha + beta))
    return (tokens * ratio) ** (beta / alpha) * ratio


def check_form(form: str) -> None:
    """Raise PomonaError for a form that there is none of."""
    known: Sequence[str] = FormName.__args__
    if form not in known:
        remedy = f"known: {', '.join(known)}"
        raise PomonaError(f'there is no form "{form}"', where="form", remedy=remedy)
