"""What showing data again is worth: the repetition law of Muennighoff et al. 2023."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray

from pomona.errors import PomonaError

CAVEAT = (
    "fitted on C4 with decoder models of up to about 9 billion parameters; elsewhere it is "
    "a guess. "
    "The law never predicts harm: it lets repeated data be worth ever less, while real models "
    "overfit"
)
FREE_EPOCHS = 4.0  # up to here the paper finds repeated data about as good as new (abstract)


@dataclass(frozen=True)
class RepetitionLaw:
    """Constants of L = E + A / N_eff^alpha + B / D_eff^beta and of its two decays (arXiv
    2305.16264, §3).

    `data_decay` is R*_D and `parameter_decay` is R*_N: the repeats after which the worth of one
    more has fallen to 1/e. The defaults are the paper's fit.
    """

    log_a: float = 6.255414
    log_b: float = 7.3049974
    log_e: float = 0.6254804
    alpha: float = 0.3526596
    beta: float = 0.3526596
    data_decay: float = 15.387756
    parameter_decay: float = 5.309743

    @property
    def balance(self) -> float:
        """G = (alpha A / (beta B))^(1 / (alpha + beta)), which ties the best N to the best D."""
        return (self.alpha / self.beta * math.exp(self.log_a - self.log_b)) ** (
            1 / (self.alpha + self.beta)
        )

    def matching_parameters(self, tokens: float) -> float:
        """N_opt(D): the parameters that suit `tokens` unique tokens."""
        return (tokens * self.balance) ** (self.beta / self.alpha) * self.balance


C4 = RepetitionLaw()


@dataclass(frozen=True)
class Prediction:
    """What the law says of one training: `loss` in nats a token, `epochs` over the unique data, and
    what is worth as much when all new.
    """

    loss: float
    epochs: float
    effective_tokens: float
    effective_parameters: float
    caveat: str = CAVEAT


@dataclass(frozen=True)
class Allocation:
    """The best use of `flops` with `unique` tokens: `parameters`, `tokens` in all, `epochs`, and
    the `loss` predicted in nats.
    """

    flops: float
    unique: float
    parameters: float
    tokens: float
    epochs: float
    loss: float
    caveat: str = CAVEAT


@overload
def effective_data(epochs: float, *, law: RepetitionLaw = C4) -> float: ...
@overload
def effective_data(
    epochs: NDArray[np.float64], *, law: RepetitionLaw = C4
) -> NDArray[np.float64]: ...
def effective_data(
    epochs: float | NDArray[np.float64], *, law: RepetitionLaw = C4
) -> float | NDArray[np.float64]:
    """D_eff / U: how many times its unique tokens a set is worth after `epochs` passes (§3). At
    most 1 + R*_D = 16.4.

    Below one pass it is `epochs` itself. Fitted on C4 with decoders up to about 9 B parameters; the
    law never predicts harm. Raises PomonaError when `epochs` is negative or NaN.
    """
    values = np.asarray(epochs, np.float64)
    if not (values >= 0).all():
        raise PomonaError(
            f"{epochs} is not a number of passes", where="epochs", remedy="give 0 or more"
        )
    worth = np.minimum(values, 1) + law.data_decay * -np.expm1(
        -np.maximum(values - 1, 0) / law.data_decay
    )
    return float(worth) if worth.ndim == 0 else worth


def repetition_worth(
    unique: float, epochs: Sequence[float] = (1, 2, 4, 8, 16)
) -> list[dict[str, float]]:
    """Tell what repeated data are worth by the law of Muennighoff et al. 2023.

    A row for each of `epochs`: `tokens` are seen in all, and `worth` as much as so many new ones
    (see `effective_data`).

    Args:
        unique: Unique tokens.
        epochs: Passes over them; 1, 2, 4, 8 and 16 when left out.

    Raises:
        PomonaError: a number of passes is negative or NaN.
    """
    return [
        {"epochs": e, "tokens": unique * e, "worth": unique * float(effective_data(e))}
        for e in epochs
    ]


@overload
def loss(parameters: float, tokens: float, unique: float, *, law: RepetitionLaw = C4) -> float: ...
@overload
def loss(
    parameters: NDArray[np.float64],
    tokens: NDArray[np.float64],
    unique: float,
    *,
    law: RepetitionLaw = C4,
) -> NDArray[np.float64]: ...
def loss(
    parameters: float | NDArray[np.float64],
    tokens: float | NDArray[np.float64],
    unique: float,
    *,
    law: RepetitionLaw = C4,
) -> float | NDArray[np.float64]:
    """L(N, D, U) in nats a token: `parameters` trained on `tokens`, of which at most `unique` are
    different (§3).

    Fitted on C4 with decoders up to about 9 B parameters; the law never predicts that repetition
    harms. Arrays go element by element. Raises PomonaError unless all three are finite and
    positive.
    """
    n, d = np.asarray(parameters, np.float64), np.asarray(tokens, np.float64)
    _positive(parameters=n, tokens=d, unique=np.asarray(unique, np.float64))
    value = math.exp(law.log_e) + np.exp(law.log_a) / _parameters(n, unique, law) ** law.alpha
    value = value + np.exp(law.log_b) / _tokens(d, unique, law) ** law.beta
    return float(value) if value.ndim == 0 else value


def predict(
    parameters: float, tokens: float, unique: float, *, law: RepetitionLaw = C4
) -> Prediction:
    """`loss` with what lies behind it and its caveat. Raises PomonaError unless all three are
    finite and positive.
    """
    value = loss(parameters, tokens, unique, law=law)
    n, d = np.float64(parameters), np.float64(tokens)
    return Prediction(
        value, tokens / unique, float(_tokens(d, unique, law)), float(_parameters(n, unique, law))
    )


def allocation(flops: float, unique: float, *, law: RepetitionLaw = C4) -> Allocation:
    """The parameters and tokens with the lowest loss for C = 6 N D `flops` when only `unique`
    tokens are different (§5).

    A one-dimensional search over log N, between 10^-6 and 10^6 times the N at which N = D: a grid,
    then ever finer ones around its best. Raises PomonaError unless both are finite and positive.
    """
    _positive(flops=np.asarray(flops, np.float64), unique=np.asarray(unique, np.float64))
    total, middle = flops / 6, math.log(flops / 6) / 2
    grid = middle + np.linspace(-6, 6, 4001) * math.log(10)
    for _ in range(8):
        size = np.exp(grid)
        best = int(np.argmin(loss(size, total / size, unique, law=law)))
        grid = np.linspace(grid[max(0, best - 1)], grid[min(len(grid) - 1, best + 1)], 41)
    n = math.exp(float(grid[len(grid) // 2]))
    d = total / n
    return Allocation(flops, unique, n, d, d / unique, loss(n, d, unique, law=law))


def _tokens(
    tokens: NDArray[np.float64] | np.float64, unique: float, law: RepetitionLaw
) -> NDArray[np.float64]:
    return unique * np.asarray(effective_data(np.asarray(tokens / unique), law=law))


def _parameters(
    parameters: NDArray[np.float64] | np.float64, unique: float, law: RepetitionLaw
) -> NDArray[np.float64]:
    own = np.minimum(parameters, law.matching_parameters(unique))
    decay = law.parameter_decay
    return np.asarray(own * (1 + decay * -np.expm1(-(parameters / own - 1) / decay)))


def _positive(**values: NDArray[np.float64]) -> None:
    for name, value in values.items():
        if not (np.isfinite(value) & (value > 0)).all():
            raise PomonaError(
                f"{value} is not a positive number",
                where=name,
                remedy="give how many there are, such as 25e9",
            )
