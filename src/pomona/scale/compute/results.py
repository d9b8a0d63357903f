"""What counting a model tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

from pomona.pages import UNKNOWN, amount, clean, count, flops, parameters, short
from pomona.scale.compute.energy import Efficiency, Energy
from pomona.scale.compute.equivalents import Equivalents, Rival
from pomona.scale.compute.thresholds import Standings

UNITS = {
    "forward_flops, training_flops of modules": "operations a token, on average over a sequence",
    "training": "tokens; operations in all",
    "energy": "kilowatt-hours; hours for which they run a brain of 20 W",
}


@dataclass(frozen=True)
class Planned:
    """A model that is still to be made, or an address of one that is there: what its configuration
    will say, and the tokens it is trained on, None where nobody said.
    """

    model: str | Mapping[str, Any]
    tokens: float | None


@dataclass(frozen=True)
class ModuleCost:
    """A row of the table: `layers` modules of a kind, their weights, those that a token meets, and
    FLOPs a token.
    """

    module: str
    layers: int
    parameters: int
    active: int
    forward_flops: float
    training_flops: float


@dataclass(frozen=True)
class Convention:
    """A way to count training: the weights that it counts, FLOPs a token, and these by the exact
    ones; None where what it needs is not known.
    """

    convention: str
    weights: int | None
    training_flops: float | None
    ratio: float | None


@dataclass(frozen=True)
class Training:
    """Tokens and FLOPs of a training; `source` says who tells the FLOPs."""

    tokens: float
    flops: float
    source: str


@dataclass(frozen=True)
class ModelFlops:
    """A model's cost. `forward_flops` and `training_flops` are a token's, None where attention is
    not known. parameters: total; active, those that a token meets; embedding, tables and an output
    projection of its own; non_embedding, the active ones without these.
    """

    model: str
    architecture: str
    context: int
    masked: bool
    parameters: Mapping[str, int]
    modules: Sequence[ModuleCost]
    forward_flops: float | None
    training_flops: float | None
    conventions: Sequence[Convention]
    training: Training | None
    equivalents: Equivalents | None
    against: Rival | None
    thresholds: Standings
    efficiency: Efficiency
    energy: Mapping[str, Energy | None]
    notes: Sequence[str]

    @property
    def signature(self) -> str:
        """All that the numbers depend on."""
        return f"flops|{self.counted}|{self.settings}"

    @property
    def counted(self) -> str:
        """Weights of each module, those that a token meets, and the training, for signatures."""
        sizes = ",".join(f"{one.parameters}/{one.active}" for one in self.modules)
        trained = "unknown" if self.training is None else f"{self.training.flops:.6g}"
        return f"{self.architecture}:{sizes}:trained:{trained}"

    @property
    def settings(self) -> str:
        """What the count was asked for, for signatures."""
        half = "yes" if self.masked else "no"
        energy, date = f"{self.efficiency.flop_per_joule:.6g}", self.thresholds.date
        told = f"context:{self.context}|masked:{half}|flop_per_joule:{energy}|date:{date}"
        if self.equivalents is not None:
            how = self.equivalents.answering
            told += f"|answering:{how.prompt}+{how.answer}x{how.samples}x{how.answers}"
        if self.against is not None:
            rival = self.against
            told += f"|against:{rival.model}:{rival.answer_flops:.6g}:{rival.dearer_from}"
        return f"{told}|pomona:{version('pomona')}"

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        told = asdict(self) | {"thresholds": self.thresholds.to_json()}
        return {**told, "units": UNITS, "signature": self.signature}

    def facts(self) -> list[tuple[str, str]]:
        """Training, equivalents and energy in words, for the page and the terminal."""
        lines = []
        if self.training is not None:
            told = f"{flops(self.training.flops)} FLOP on {short(self.training.tokens)} tokens"
            lines.append(("training", f"{told} ({self.training.source})"))
        else:
            lines.append(("training", f"{UNKNOWN}: give the tokens it is trained on"))
        bought = self.equivalents
        if bought is None:
            return lines
        how = bought.answering
        lines += [
            ("tokens served for as much", short(bought.served_tokens)),
            (f"answers of {how.samples} samples for as much", short(bought.served_answers)),
            (
                f"{how.samples} samples an answer cost as much as one of",
                f"a model of {parameters(bought.sampled_parameters)} parameters "
                f"({times(bought.sampled_flops / bought.answer_flops)} an answer)",
            ),
            (
                f"{short(how.answers)} answers of {how.samples} samples, not counted by thresholds",
                f"{flops(bought.answers_flops)} FLOP: training with them is {times(bought.moved)}",
            ),
            (
                "tokens at which a training of this size is best spent",
                f"{short(bought.tokens_by_rule)} at 20 a parameter, {short(bought.tokens_by_law)} "
                "by the law of Besiroglu et al. (2024)",
            ),
        ]
        if (rival := self.against) is not None:
            told = f"{count(rival.samples)} samples"
            if rival.samples < how.samples:
                up_to = UNKNOWN if rival.dearer_from is None else count(rival.dearer_from)
                told += f"; with {how.samples} all is cheaper up to {up_to} answers"
            lines.append((f"an answer of {clean(rival.model)} pays for", told))
        lines += [
            (f"energy of {_ENERGY[name]}", used.told())
            for name, used in self.energy.items()
            if used is not None
        ]
        lines.append(("at", self.efficiency.told()))
        return lines


def times(ratio: float | None) -> str:
    """`0.83×`."""
    return UNKNOWN if ratio is None else f"{amount(ratio)}×"


@dataclass(frozen=True)
class SizesFlops:
    """The costs of the sizes of a recipe, in its order."""

    sizes: Sequence[ModelFlops]

    @property
    def signature(self) -> str:
        """All that the numbers depend on."""
        return "|".join(["flops", *(one.counted for one in self.sizes), self.sizes[0].settings])

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"sizes": [one.to_json() for one in self.sizes], "signature": self.signature}


_ENERGY = {"training": "the training", "answer": "an answer", "answers": "all answers"}
