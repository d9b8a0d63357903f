"""The memory lever: what was learned from stands beside the weights, and is asked when needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cached_property, partial
from typing import Annotated, Literal

from pydantic import Field

from pomona.documents import StrictModel
from pomona.memory import ABOVE, STRENGTH
from pomona.recipe.asked import Needs
from pomona.recipe.fields import Mistakes, Positive, Rate, Share, Text
from pomona.recipe.graph import Node, Step
from pomona.recipe.lever import Lever
from pomona.recipe.plan import NEIGHBOURS
from pomona.recipe.schema import Recipe
from pomona.recipe.steps.memory import (
    choose_candidate,
    choose_threshold,
    look_up_or_answer,
    remember_states,
    show_in_training,
    show_neighbours,
)
from pomona.recipe.system import States, System
from pomona.sample import parse_strategy

Few = Annotated[int, Field(ge=1, le=NEIGHBOURS)]


class LookUp(StrictModel):
    """Answer as the nearest training item was answered where that is near, and elsewhere ask."""

    least: Share | None = None
    """Similarity from which it is near; the best on the validation items when left out."""


class Shown(StrictModel):
    """Show the nearest training items, with their answers, before every prompt, to a model that is
    fine-tuned to read them (neural fuzzy repair: Bulté & Tezcan 2019).
    """

    shown: Few = 1
    """How many."""
    least: Annotated[float, Field(ge=0, le=1)] = 0.3
    """Similarity below which none is shown."""
    form: Text = "{prompt}{completion}"
    """How an example is written, with its {prompt} and its {completion}."""
    train: bool = True
    """Fine-tune under `train`; a model that follows examples without that needs none."""


class Remembered(StrictModel):
    """Look up, at every token, the states that the model had in training, within the group (kNN-LM:
    Khandelwal et al. 2020, arXiv 1911.00172).
    """

    weight: Share = 0.5
    """Part of the neighbours in the next token."""
    k: Positive = 16
    """Nearest states."""
    temperature: Rate = 0.1
    """Temperature of their distances, as a part of the mean squared distance of neighbours."""
    keys: Literal["float32", "float16"] = "float32"
    """Number type in which the states are kept."""


class Candidates(StrictModel):
    """Put the answers of the nearest training items among those that are drawn, as candidates and
    as evidence of the minimum-Bayes-risk choice.
    """

    strategy: Text = "hedged5-mbr"
    """How answers are drawn, where the system below draws none."""
    neighbours: Few = 5
    """How many answers of the memory."""
    strength: Rate = STRENGTH
    """What a neighbour weighs, beside 1 of an answer that is drawn: this times its similarity above
    `above`.
    """
    above: Annotated[float, Field(ge=0, lt=1)] = ABOVE
    """Similarity from which a neighbour weighs anything."""
    far: Share | None = 0.4
    """Similarity of the nearest below which the source is the answer; null for never."""


class Remembers(StrictModel):
    """Move the tail out of the weights into a memory of what was learned from, which is the rows of
    `controls`.
    """

    lookup: LookUp | None = None
    """The nearest one's answer where it is near."""
    neighbours: Shown | None = None
    """The nearest ones in the prompt."""
    states: Remembered | None = None
    """The nearest states at every token."""
    candidates: Candidates | None = None
    """The nearest ones' answers among the candidates."""


class MemoryLever(Lever):
    """Measure every use of the memory."""

    name, Spec = "memory", Remembers
    spec: Remembers

    @classmethod
    def needs(cls, spec: Remembers, recipe: Recipe) -> Needs:
        """States, or a training to read what is shown, where these are used."""
        if spec.states:
            yield ("states",), recipe.base, "states"
        if spec.neighbours and spec.neighbours.train:
            yield ("neighbours",), recipe.base, "train"

    @classmethod
    def mistakes(cls, spec: Remembers, recipe: Recipe) -> Mistakes:
        """Something must have been learned from, and choices need a validation."""
        asked, learned = recipe.controls, recipe.train or recipe.pretrain
        if not (learned or asked.records or asked.where is not None):
            yield (), '"memory" needs rows to remember: name them under "controls"'
        if spec.lookup and spec.lookup.least is None and recipe.validation is None:
            text = '"least" is chosen on other items than those of the task: name "validation"'
            yield ("lookup",), text
        if spec.neighbours and spec.neighbours.train and recipe.train is None:
            yield ("neighbours",), 'showing neighbours fine-tunes the model and needs "train"'

    def names(self) -> Iterable[str]:
        """One for each use."""
        return self._uses

    def apply(self, name: str, system: System) -> System:
        """The system with this use of the memory."""
        return self._uses[name](system)

    @cached_property
    def _uses(self) -> dict[str, Callable[[System], System]]:
        spec, uses = self.spec, dict[str, Callable[[System], System]]()
        if spec.lookup:
            uses["memory/lookup"] = partial(self._looked_up, spec.lookup)
        if spec.neighbours:
            uses["memory/neighbours"] = partial(self._shown, spec.neighbours)
        if spec.states:
            uses["memory/states"] = partial(self._remembered, spec.states)
        if spec.candidates:
            uses["memory/candidates"] = partial(self._among, spec.candidates)
        return uses

    @property
    def _memory(self) -> Step:
        assert self.plan.memory is not None  # `mistakes` asks for it
        return self.plan.memory

    def _looked_up(self, spec: LookUp, system: System) -> System:
        plan = self.plan

        def given(items: Step, answers: Step, seed: int) -> Step:
            inputs = {"items": items, "answers": answers, "neighbours": plan.neighbours(items)}
            if spec.least is None:
                inputs["threshold"] = threshold(seed)
            params = {**plan.compared, "least": spec.least}
            name = plan.on(f"look up or take {plan.seeded(system, seed)}", items)
            return plan.step(name, look_up_or_answer, params, inputs)

        def threshold(seed: int) -> Step:
            items = plan.validation
            inputs = {
                "items": items,
                "answers": plan.answers(system, items, seed),
                "neighbours": plan.neighbours(items),
            }
            name = f"choose the threshold of {plan.seeded(system, seed)}"
            return plan.step(name, choose_threshold, plan.compared, inputs)

        return replace(system, then=(*system.then, given))

    def _shown(self, spec: Shown, system: System) -> System:
        plan = self.plan
        params = spec.model_dump(include={"shown", "least", "form"})

        def see(items: Step) -> Step:
            inputs = {"items": items, "memory": self._memory}
            inputs["neighbours"] = plan.neighbours(items)
            return plan.step(plan.on("show neighbours", items), show_neighbours, params, inputs)

        def weights(seed: int) -> Node:
            shown = plan.step(
                "show neighbours in training",
                show_in_training,
                params | {"seed": plan.recipe.seed},
                {"items": plan.training},
            )
            return plan.finetune("memory/neighbours", shown, seed, system)

        changed = replace(system, sees=(*system.sees, see))
        return changed.trained(weights, tuple(plan.seeds)) if spec.train else changed

    def _remembered(self, spec: Remembered, system: System) -> System:
        plan = self.plan

        def store(model: Node) -> Step:
            params = {**plan.answering(), "keys": spec.keys, "k": spec.k}
            inputs = {"memory": self._memory, "model": model}
            cost = plan.estimate("score", model, plan.memory_count)
            return plan.step(
                f"remember the states of {model.name}", remember_states, params, inputs, cost
            )

        settings = spec.model_dump(include={"weight", "k", "temperature"})
        return replace(system, states=States(store, settings))

    def _among(self, spec: Candidates, system: System) -> System:
        plan = self.plan
        strategy = system.strategy or parse_strategy(spec.strategy)
        chosen = replace(system, strategy=strategy, judge=plan.metrics[0])

        def take(n: int, items: Step, pools: Step) -> Step:
            params = {**spec.model_dump(exclude={"strategy"}), "n": n}
            params |= plan.compared
            inputs = {"items": items, "pools": pools, "neighbours": plan.neighbours(items)}
            name = plan.on(f"choose among {n} answers and {spec.neighbours} neighbours", items)
            return plan.step(name, choose_candidate, params, inputs)

        return replace(chosen, take=take)
