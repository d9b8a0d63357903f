"""What a system cost: it falls out of the graph of steps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

from pomona.ledger import Axis, Teaching
from pomona.models import Shape, training_flops
from pomona.recipe.graph import Node, RunFolder, RunInput, Step, ancestors
from pomona.recipe.inputs import trained
from pomona.recipe.plan import TOKENS_PER_ITEM, RunPlan
from pomona.recipe.steps import Cost, Served, checkpoint
from pomona.recipe.steps.answering import About
from pomona.recipe.steps.results import Serving, read_result, read_serving
from pomona.recipe.steps.synthesis import CARD, TAUGHT_BY, Card
from pomona.recipe.steps.tables import read_items
from pomona.recipe.system import Measurement


@dataclass(frozen=True)
class Made:
    """What making a variant cost beyond the base, what answering one item costs, the seconds of
    answering all of them, and the bytes of its weights and stores.
    """

    once: Cost
    serving: Serving
    answering_seconds: float | None
    bytes: int | None


class Costs:
    """The costs of systems whose answers to `items` are finished."""

    def __init__(self, plan: RunPlan, folder: RunFolder, items: Step) -> None:
        self.plan, self.folder, self.items = plan, folder, items
        self._serving: dict[Step, bool] = {}

    def shape(self, m: Measurement) -> Shape | None:
        """The sizes of a measurement's model; None where a server keeps them."""
        return self._about(m).shape

    def _about(self, m: Measurement) -> About:
        return read_result(self.folder.result(m.answers[0]) / "answers.json", About)

    def extra(self, m: Measurement, axis: Axis = "flops") -> float | None:
        """FLOPs beyond the base, in making and in answering as many items as are served; by another
        axis money, tokens or seconds.
        """
        made, base = self.made(m), self.made(self.plan.measured(self.plan.base, self.items))
        each = less(*(getattr(one.serving, f"{axis}_per_item") for one in (made, base)))
        serving = None if each is None else each * self.plan.recipe.serve_items
        once = made.once.cpu_seconds if axis == "seconds" else getattr(made.once, axis)
        return total([once, serving])

    def made(self, m: Measurement) -> Made:
        """Costs of one measurement, from the steps it needed and the base did not."""
        base = self.plan.recipe.base
        steps = list(ancestors([m.answers[0]], paid=True))
        serving = [step for step in steps if self._serves(step)]
        if m.variant == base:
            costs = []
        elif m.system.lever == "scale" and not isinstance(m.model, Step):
            costs = [self._training_of(m.variant)]
        else:
            # A rung is paid for in full: the base is one of its rivals, not its beginning.
            there = set() if m.system.lever == "scale" else set(ancestors([self._base]))
            costs = [self._cost(s) for s in steps if s not in there and s not in serving]
            costs += [self._training_of(uri) for uri in self._rungs_in(steps)]
            costs += [self._before(node) for node in self._others_in(steps)]
        tokens = total(cost.tokens for cost in costs)
        told = [self._told(step) for step in serving]
        once = Cost(
            total([*(each.flops_once for each in told), *(cost.flops for cost in costs)]),
            None if tokens is None else int(tokens),
            total(cost.cpu_seconds for cost in costs),
            money=total(_paid(cost.money, cost.tokens) for cost in costs),
        )
        stores = total(each.bytes for each in told)
        weights = self._weights(m)
        return Made(
            once,
            Serving(
                total(each.flops_per_item for each in told),
                tokens_per_item=total(each.tokens_per_item for each in told),
                money_per_item=total(_paid(e.money_per_item, e.tokens_per_item) for e in told),
                seconds_per_item=total(each.seconds_per_item for each in told),
            ),
            total(self._cost(step).cpu_seconds for step in serving),
            None if stores is None or weights is None else int(stores) + weights,
        )

    def teaching(self, m: Measurement) -> Teaching | None:
        """What the teachers of a measurement cost; None where it had none."""
        steps = list(ancestors([m.answers[0]], paid=True))
        bought = [step for step in steps if step.billed]
        if not bought:
            return None
        cards = [read_result(self.folder.result(step) / CARD, Card) for step in bought]
        base = set(ancestors([self._base]))
        made = set(ancestors(_teachers_in(steps))) - base
        wrote = set(ancestors(bought, paid=True)) - made - base
        before = [self._training_of(uri) for uri in self._rungs_in(steps)]
        before += [self._before(node) for node in self._others_in(steps)]
        marginal = total(self._cost(step).flops for step in wrote)
        trained = [*map(self._cost, made), *before]
        return Teaching(
            m.variant,
            sum(card.generations for card in cards),
            sum(card.rows for card in cards),
            marginal,
            total([marginal, *(cost.flops for cost in trained)]),
            sum(card.program_seconds for card in cards),
            total(card.money for card in cards),
        )

    def _told(self, step: Step) -> Serving:
        """What a step says of answering with it."""
        told = read_serving(self.folder.result(step))
        if told.seconds_per_item is not None:
            return told
        seconds = self._cost(step).cpu_seconds
        return replace(told, seconds_per_item=None if seconds is None else seconds / self._count)

    @cached_property
    def _count(self) -> int:
        return len(read_items(self.folder.result(self.items)))

    def _weights(self, m: Measurement) -> int | None:
        """Bytes of the files that hold a model's weights; None where they are elsewhere."""
        if m.model is None:
            return 0
        if isinstance(m.model, Served):
            return None
        if isinstance(m.model, RunInput) and m.model.path.is_file():
            return m.model.path.stat().st_size
        files = list(checkpoint(self.folder.result(m.model)).glob("*.safetensors"))
        return sum(file.stat().st_size for file in files) if files else None

    @cached_property
    def _base(self) -> Node:
        return self.plan.model(self.plan.recipe.base)

    def _rungs_in(self, steps: Iterable[Step]) -> list[str]:
        """Other sizes than the base that were there before the run and that steps use."""
        nodes = [node for step in steps for node in step.inputs.values()]
        there = {node.name for node in nodes if isinstance(node, RunInput)}
        rungs = [rung.model for rung in self.plan.recipe.ladder or []]
        return [uri for uri in rungs if uri in there and uri != self.plan.recipe.base]

    def _others_in(self, steps: Iterable[Step]) -> list[RunInput | Served]:
        """Teachers that were there before the run and are no sizes of the ladder."""
        rungs = {self.plan.recipe.base, *(rung.model for rung in self.plan.recipe.ladder or [])}
        there = [node for node in _teachers_in(steps) if not isinstance(node, Step)]
        return [node for node in dict.fromkeys(there) if node.name not in rungs]

    def _before(self, teacher: RunInput | Served) -> Cost:
        """The training of a teacher, as far as its checkpoint tells."""
        if isinstance(teacher, Served):  # who made it was not paid by this recipe's user
            return Cost(None, None, None, None, 0.0)
        return trained(teacher.path)

    def _serves(self, step: Step) -> bool:
        """Whether a step works on the items that are answered: what it does, each answer needs."""
        if step not in self._serving:
            inputs = [node for node in step.inputs.values() if isinstance(node, Step)]
            on_items = step is self.items or any(self._serves(node) for node in inputs)
            self._serving[step] = on_items
        return self._serving[step]

    def _cost(self, step: Step) -> Cost:
        return read_result(self.folder.result(step) / "cost.json", Cost)

    def _training_of(self, uri: str) -> Cost:
        """What the recipe says of the training of a checkpoint that was there before the run, or
        what the checkpoint itself says.
        """
        model, rungs = self.plan.model(uri), self.plan.recipe.ladder or []
        if not isinstance(model, RunInput):  # who made it was not paid by this recipe's user
            return Cost(None, None, None, None, 0.0)
        told = next((rung.tokens for rung in rungs if rung.model == uri), None)
        shape = self.shape(self.plan.measured(self.plan.rung(uri), self.items))
        if told is None or shape is None:
            return trained(model.path)
        flops = training_flops(shape, told, TOKENS_PER_ITEM / 2)
        return Cost(flops, told, cpu_seconds=None, wall_seconds=None)


def _teachers_in(steps: Iterable[Step]) -> list[Node]:
    """What wrote answers to learn from."""
    inputs = (each for step in steps if step.billed for each in step.inputs.items())
    return [node for name, node in inputs if name.startswith(TAUGHT_BY)]


def _paid(money: float | None, tokens: float | None) -> float | None:
    return 0.0 if money is None and tokens == 0 else money


def total(numbers: Iterable[float | None]) -> float | None:
    """Their sum; None where one of them is not known."""
    known = list(numbers)
    return None if None in known else float(sum(number or 0 for number in known))


Number = TypeVar("Number", int, float)


def less(number: Number | None, other: Number | None) -> Number | None:
    """The difference of two numbers; None where one of them is not known."""
    return None if number is None or other is None else number - other
