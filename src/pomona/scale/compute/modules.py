"""What a model's configuration alone says of its modules: how many weights each has, how many of
them a token meets, and what that costs. No weights are read.

A weight that takes part in a matrix product costs as `models.forward_flops` has it. Looking up a
token or a position is a gather and costs nothing; norms and biases are no products either. A
mixture's token meets the experts that its router chooses, the shared ones and the router.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pomona.models import Shape, forward_flops


@dataclass(frozen=True)
class Module:
    """The modules of one kind in all layers. `active` of its `parameters` are met by a token, and
    `multiplied` of these stand in matrix products.

    attention: summed over its layers, heads × the mean width of a key and a value; 0 where nothing
        is attended to. window: positions that a token attends to at most, None for all of them.
    """

    name: str
    layers: int
    parameters: int
    active: int
    multiplied: int
    attention: int = 0
    window: int | None = None

    def forward(self, context: int, *, masked: bool = False) -> float:
        """FLOPs of a token forward, on average over a sequence of `context` tokens. `masked` counts
        the positions too that are computed and thrown away where there is no causal kernel.
        """
        shape = Shape(1, 0, self.attention, 0, self.multiplied, 0, 0)
        return forward_flops(shape, attended(context, self.window, masked=masked))


@dataclass(frozen=True)
class Modules:
    """The modules of a model, and its sizes as the cost model of recipes has them, a mixture's with
    the weights that a token meets. `longest`: positions it was made for, None where it is not said.
    """

    architecture: str
    modules: Sequence[Module]
    shape: Shape | None
    positions: int
    longest: int | None
    notes: Sequence[str] = ()

    @property
    def parameters(self) -> int:
        """All weights, shared ones once."""
        return sum(one.parameters for one in self.modules)

    @property
    def active(self) -> int:
        """The weights that a token meets."""
        return sum(one.active for one in self.modules)

    @property
    def embedding(self) -> int:
        """Weights of tables of tokens and positions, and of an output projection of its own."""
        names = {"embedding", "positions", "head"}
        return sum(one.parameters for one in self.modules if one.name in names)


def attended(context: int, window: int | None, *, masked: bool = False) -> float:
    """Positions that a token of a sequence of `context` tokens attends to on average, itself
    included: (context + 1) / 2 without a window.
    """
    if masked:
        return context
    reach = context if window is None else min(window, context)
    return (reach * (reach + 1) / 2 + (context - reach) * reach) / context
