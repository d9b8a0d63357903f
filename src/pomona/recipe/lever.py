"""What a lever is to a recipe: a part that says what it wants, and what it makes of a system."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

from pomona.documents import StrictModel
from pomona.recipe.asked import Needs
from pomona.recipe.fields import Mistakes
from pomona.recipe.graph import RunFolder, Step
from pomona.recipe.plan import RunPlan
from pomona.recipe.schema import Recipe
from pomona.recipe.system import System


@dataclass(frozen=True)
class Beside:
    """What a lever says of a finished run beside its entries: files in the run's folder, by name,
    and notes on its ledger.
    """

    files: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()


class Lever(ABC):
    """One way to do better without a bigger model.

    `Spec` is what may stand under the lever's name in a recipe; it has been read when a lever is
    made. `names` are the systems that the lever makes of the base, controls among them, in the
    order of the ledger; `apply` makes one of them out of any system, so that levers stack.
    """

    name: ClassVar[str]
    Spec: ClassVar[type[StrictModel]]
    trains: ClassVar[bool] = False
    """Whether the recipe must say under `train` how."""

    def __init__(self, spec: Any, plan: RunPlan) -> None:
        self.spec, self.plan = spec, plan

    @abstractmethod
    def names(self) -> Iterable[str]:
        """The systems it makes of the base."""

    @abstractmethod
    def apply(self, name: str, system: System) -> System:
        """`system` changed into what stands under `name`, with `against` for the lever's own
        controls; name, lever and the other baselines are set by who asks.
        """

    def knows(self, name: str) -> bool:
        """Whether `apply` takes this name; a lever may take more than it measures by itself."""
        return name in self.names()

    def beside(self, folder: RunFolder) -> Beside:
        """What it says of a finished run beside its entries."""
        return Beside()

    @classmethod
    def needs(cls, spec: Any, recipe: Recipe) -> Needs:  # noqa: ARG003 - for those with more
        """What it asks of models beside answers: place in its part, model, ability."""
        if cls.trains:
            yield (), recipe.base, "train"

    @classmethod
    def mistakes(cls, spec: Any, recipe: Recipe) -> Mistakes:  # noqa: ARG003 - for those with any
        """What is wrong with its part of a recipe that its `Spec` cannot see: places and texts."""
        yield from ()


ALL = "all data"  # what every choice of training rows is compared with

Make = Callable[[System, int], Step]
"""From a system and a seed to other weights of it."""


class TrainingLever(Lever):
    """A lever that changes weights: `variants` says how each is made, and what it is compared with
    beside the base.
    """

    trains = True

    @cached_property
    def variants(self) -> dict[str, tuple[Make, tuple[str, ...]]]:
        """The way to make each, and its controls; every such lever has its own."""
        raise NotImplementedError

    def names(self) -> Iterable[str]:
        """Every variant, its controls before it."""
        return self.variants

    def apply(self, name: str, system: System) -> System:
        """The system with the weights that `name` makes, once for each seed of the recipe."""
        make, against = self.variants[name]
        trained = system.trained(lambda seed: make(system, seed), tuple(self.plan.seeds))
        return replace(trained, against=against)
