"""What a fit and a plan say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from numpy.typing import ArrayLike, NDArray

from pomona.scale.laws.checks import Families, LackOfFit, Untuned
from pomona.scale.laws.fitting import Fitted
from pomona.scale.laws.forms import Law
from pomona.scale.laws.held_out import HeldOut
from pomona.scale.laws.multiverse import Multiverse
from pomona.scale.runs import Runs

Ends = tuple[float, float] | None
UNITS = {
    "E, A, B, alpha, beta": "of the form; losses in nats a token; A and B are not to be read alone",
    "exponent": "beta / (alpha + beta): by which power of the compute the best parameters grow",
    "intervals": "95 %, from resampled runs; null where nothing is known",
    "held_out": "mean relative error, bias (predicted - observed) and the share inside their bands",
    "spread": "standard deviation of ln loss about the law, from the median",
    "correlation": "of ln A and alpha over the resamples",
}


@dataclass(frozen=True)
class ScalingFit:
    """A law of the runs. Numbers are None where the runs do not tell them, and `notes` say why.

    told: E, A, B, alpha, beta and exponent, of data_constrained also R_D and R_N.
    intervals: of each its 95 % interval.
    fitted: the law with its refits, which predicts.
    correlation: of ln A and alpha over the refits.
    """

    form: str
    told: Mapping[str, float | None]
    intervals: Mapping[str, Ends]
    n: int
    spread: float
    correlation: float | None
    held_out: HeldOut
    lack_of_fit: LackOfFit
    untuned: Sequence[Untuned]
    families: Families | None
    multiverse: Multiverse | None
    notes: Sequence[str]
    signature: str
    seed: int
    runs: Runs
    fitted: Fitted

    @property
    def law(self) -> Law:
        """The law with the best numbers, also those that the runs tell badly."""
        return self.fitted.law

    def predict(
        self, params: ArrayLike, tokens: ArrayLike, unique_tokens: ArrayLike | None = None
    ) -> tuple[NDArray[Any], NDArray[Any] | None, NDArray[Any] | None]:
        """The loss of runs `[n]`, and the ends of the 95 % band of one more training each; no ends
        where too few runs say what they are.
        """
        return self.fitted.predict(params, tokens, unique_tokens)

    def to_json(self) -> dict[str, Any]:
        """All but runs and refits, as JSON has it."""
        told: dict[str, Any] = {**self.told, "intervals": dict(self.intervals), "form": self.form}
        told |= {"n": self.n, "spread": self.spread, "correlation": self.correlation}
        told |= {"held_out": asdict(self.held_out), "lack_of_fit": asdict(self.lack_of_fit)}
        told |= {"stretch": self.fitted.stretch, "untuned": [asdict(one) for one in self.untuned]}
        told["families"] = None if self.families is None else asdict(self.families)
        told["multiverse"] = None if self.multiverse is None else asdict(self.multiverse)
        told |= {"notes": list(self.notes), "seed": self.seed, "signature": self.signature}
        return {**told, "units": UNITS}


@dataclass(frozen=True)
class Allocation:
    """The best model for a budget: `params`, `tokens` and `epochs` of them, and the loss with the
    band of one more training.

    intervals: of params, tokens and loss, from resampled runs; None of a published law.
    params_within, tokens_within: of the models whose loss is 1 % above the best at most.
    """

    params: float
    tokens: float
    epochs: float | None
    loss: float
    intervals: Mapping[str, Ends]
    params_within: tuple[float, float]
    tokens_within: tuple[float, float]
    flops: float
    training_flops: float
    inference_flops: float
    served: float
    unique: float | None
    form: str
    law: str
    notes: Sequence[str]
    signature: str
    seed: int
    curve: Sequence[Mapping[str, float]]

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**asdict(self), "intervals": dict(self.intervals), "notes": list(self.notes)}
