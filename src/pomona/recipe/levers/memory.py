"""The memory lever: what was learned from stands beside the weights, and is asked when needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cached_property, partial
from typing import Annotated, Any, Literal

from pydantic import Field

from pomona.documents import StrictModel
from pomona.memory import ABOVE, COMPOSED, EDITED, PENALTY, SHORTLIST, STRENGTH
from pomona.recipe.asked import Needs
from pomona.recipe.fields import Mistakes, Positive, Rate, Share, Text
from pomona.recipe.graph import Estimate, Node, Step
from pomona.recipe.lever import Lever
from pomona.recipe.rows import NEIGHBOURS
from pomona.recipe.schema import Recipe
from pomona.recipe.steps.memory import (
    choose_candidate,
    choose_threshold,
    look_up_or_answer,
    remember_states,
    show_in_training,
    show_neighbours,
)
from pomona.recipe.steps.selecting import (
    answer_put_together,
    gather_candidates,
    learn_phrases,
    learn_selector,
    put_together,
    score_shortlist,
    take_best,
)
from pomona.recipe.system import States, System
from pomona.sample import parse_strategy

BLIND = "memory/selector without a model"

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
    temperature: Rate = 0.04
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
    far: Share | None = None
    """Similarity of the nearest below which the source is the answer; never when left out."""


class Phrases(StrictModel):
    """Answer with what is put together from the memory alone: its phrases, and its answers with
    what their sources have otherwise replaced. No model is asked.
    """

    edited: Few = EDITED
    """How many of the nearest training items are edited."""
    composed: Positive = COMPOSED
    """How many answers are put together phrase by phrase."""


class Selected(StrictModel):
    """Choose among what is put together, the neighbours' answers, what a model drew and the source
    by a selector that learned on the validation items.
    """

    neighbours: Annotated[int, Field(ge=0, le=NEIGHBOURS)] = 0
    """How many answers of the memory as they are: on items of a project that is not in it, they are
    more often a trap than a help.
    """
    shortlist: Positive = SHORTLIST
    """The model gives its log-probability to so many that a selector without it puts first."""
    penalty: Rate = PENALTY
    """Of the squared weights of features of unit variance."""
    folds: Annotated[int, Field(ge=2)] = 5
    """By which the choice for a validation item has not seen its cluster."""


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
    phrases: Phrases | None = None
    """Put together from the memory alone."""
    selector: Selected | None = None
    """A learned choice among all candidates; puts answers together as `phrases` says."""


class MemoryLever(Lever):
    """Measure every use of the memory."""

    name, Spec = "memory", Remembers
    spec: Remembers

    @classmethod
    def needs(cls, spec: Remembers, recipe: Recipe) -> Needs:
        """States, a training to read what is shown, or log-probabilities of candidates, where these
        are used.
        """
        if spec.selector:
            yield ("selector",), recipe.base, "score"
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
        if spec.selector and recipe.validation is None:
            text = 'a selector learns on other items than those of the task: name "validation"'
            yield ("selector",), text
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
        if spec.phrases:
            uses["memory/phrases"] = self._phrased
        if spec.selector:
            uses[BLIND] = partial(self._selected, spec.selector, False)
            uses["memory/selector"] = partial(self._selected, spec.selector, True)
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

    def _phrased(self, system: System) -> System:
        plan = self.plan

        def answer(items: Step, _: int) -> Step:
            inputs = {"items": items, "made": self._made(items)}
            name = plan.on("answer with what is put together", items)
            return plan.step(name, answer_put_together, plan.compared, inputs)

        return replace(system, weights=None, seeds=system.seeds[:1], answers=answer)

    def _made(self, items: Step) -> Step:
        spec = self.spec.phrases or Phrases()
        # Comparing words costs no FLOPs in the ledger, and time all the same.
        learning = Estimate("table", 1e9 * self.plan.memory_count / 10_000)
        memory = {"memory": self._memory}
        learned = self.plan.step("learn phrases", learn_phrases, {}, memory, learning)
        inputs = {"items": items, "phrases": learned, **memory}
        inputs["neighbours"] = self.plan.neighbours(items)
        name = self.plan.on("put answers together", items)
        cost = Estimate("table", 1e9 * self.plan.item_count / 50)
        return self.plan.step(name, put_together, spec.model_dump(), inputs, cost)

    def _selected(self, spec: Selected, asks: bool, system: System) -> System:
        """Choose by features alone or, if it `asks`, among the first by the model's word too. What
        a system with more than weights draws is among the candidates.
        """
        plan, draws = self.plan, not system.is_plain
        label = plan.seeded(system, system.seeds[0]) if asks or draws else "no model"
        learning = {"metrics": plan.metrics, "penalty": spec.penalty, "seed": plan.recipe.seed}

        def gathered(items: Step, seed: int) -> Step:
            inputs = {"items": items, "memory": self._memory, "made": self._made(items)}
            inputs["neighbours"] = plan.neighbours(items)
            params: dict[str, Any] = {"neighbours": spec.neighbours}
            if draws:
                strategy, inputs["pools"] = plan.pools(system, items, seed)
                params["n"] = strategy.n
            name = plan.on(f"gather candidates for {label if draws else 'all'}", items)
            return plan.step(name, gather_candidates, params, inputs)

        def learned(candidates: Step, name: str) -> Step:
            inputs = {"items": plan.validation, "candidates": candidates}
            return plan.step(f"learn the {name}", learn_selector, learning, inputs)

        def shortlist(items: Step, seed: int) -> Step:
            first = learned(gathered(plan.validation, seed), "first selector")
            model = plan.weights(system, seed)
            inputs = {"items": items, "candidates": gathered(items, seed)}
            inputs |= {"selector": first, "model": model}
            params = {**plan.answering(), "shortlist": spec.shortlist}
            cost = plan.estimate("score", model, plan.item_count, spec.shortlist)
            name = plan.on(f"score the shortlist of {label}", items)
            return plan.step(name, score_shortlist, params, inputs, cost)

        def answer(items: Step, seed: int) -> Step:
            found = shortlist if asks else gathered
            inputs = {"items": items, "candidates": found(items, seed)}
            held = items is plan.validation
            params = {**plan.compared, "folds": spec.folds if held else 0}
            params |= {"penalty": spec.penalty, "seed": plan.recipe.seed} if held else {}
            if not held:
                inputs["selector"] = learned(found(plan.validation, seed), f"selector of {label}")
            return plan.step(plan.on(f"select for {label}", items), take_best, params, inputs)

        seeds = system.seeds if asks or draws else system.seeds[:1]
        against = (BLIND,) if asks else ()
        changed = replace(system, seeds=seeds, answers=answer, judge=plan.metrics[0])
        return (
            replace(changed, against=against)
            if asks or draws
            else replace(changed, weights=None, against=against)
        )
