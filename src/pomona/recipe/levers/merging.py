"""The merging lever: experts on parts of the data, merged by fixed methods or by a search."""

from __future__ import annotations

from functools import cached_property, partial
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from pomona.documents import StrictModel
from pomona.recipe.fields import Mistakes, Positive, Text, Texts, Where, checked
from pomona.recipe.graph import Node, Step
from pomona.recipe.lever import Make, TrainingLever
from pomona.recipe.plan import RunPlan
from pomona.recipe.schema import Recipe
from pomona.recipe.steps.merging import BASE, merge, search
from pomona.recipe.steps.tables import subset, together
from pomona.recipe.system import System

MIXED = "mixed"


Method = Literal[
    "linear",
    "task_arithmetic",
    "slerp",
    "nuslerp",
    "multislerp",
    "ties",
    "dare_linear",
    "dare_ties",
    "della",
    "della_linear",
    "breadcrumbs",
    "breadcrumbs_ties",
    "model_stock",
]


def _method(value: Any) -> Any:
    return {"method": value} if isinstance(value, str) else value


Expert = Annotated[
    Annotated[Texts, Tag("groups")] | Annotated[Where, Field(min_length=1), Tag("rows")],
    Discriminator(lambda value: "rows" if isinstance(value, dict) else "groups"),
]


class Merge(StrictModel):
    """One way of merging the experts."""

    method: Method
    """Method, as mergekit names it."""
    parameters: dict[Text, float | bool] = Field(default={})
    """Its parameters, the same for every expert: density, lambda, …"""


class MergeSearch(StrictModel):
    """Search the weight of every expert, without writing a candidate (Khalifa et al. 2024, arXiv
    2412.04144).
    """

    merge: Literal["linear", "task_arithmetic", "ties", "dare_ties"] = "linear"
    """Method whose weights are searched."""
    method: Literal["cma", "optuna", "random"] = "cma"
    """How they are searched."""
    trials: Positive = 30
    """Candidates to try."""
    metric: Literal["loss", "chrf", "chrf++", "exact_match"] = "loss"
    """What a candidate is judged by: the loss of the completions is quick, the others answer."""
    where: Where
    """Rows it is judged on, with the conditions of `data`; none of the test rows."""
    per_group: Positive = 20
    """At most this many of them per group."""


class Merges(StrictModel):
    """Fine-tune experts on parts of the data and merge their weights."""

    experts: dict[Text, Expert]
    """Name of each expert and the groups it learns, or the rows: {kind: short}."""
    methods: Annotated[
        list[Annotated[Merge, BeforeValidator(_method, json_schema_input_type=Method | Merge)]],
        Field(min_length=1),
    ] = Field(default=[Merge(method="linear"), Merge(method="ties")])
    """Ways of merging the experts."""
    search: MergeSearch | None = None
    """Search the weights."""
    leave_one_out: bool = False
    """Also merge without each expert, by the first method: who is hurt by whom?"""

    @property
    def groups(self) -> dict[str, list[str]]:
        """The groups of the experts that are given by groups."""
        return {name: part for name, part in self.experts.items() if isinstance(part, list)}

    @model_validator(mode="after")
    def _check(self) -> Self:
        return checked(self, self._mistakes())

    def _mistakes(self) -> Mistakes:
        number = len(self.experts)
        if number < 2:
            yield ("experts",), f"merging needs at least two experts, not {number}"
        if "base" in self.experts:
            text = '"base" is the name of the model that the experts come from: choose another'
            yield ("experts", "base"), text
        if self.leave_one_out and number < 3:
            text = f"without one of {number} experts nothing is left to merge"
            yield ("leave_one_out",), text
        for place, how in enumerate(self.methods):
            if how.method in ("slerp", "nuslerp") and number != 2:
                text = f'"{how.method}" merges two experts, not {number}: use multislerp'
                yield ("methods", place), text
        owner: dict[str, str] = {}
        for name, groups in self.groups.items():
            for place, group in enumerate(groups):
                if group in owner:
                    same = owner[group] == name
                    whose = "the same expert" if same else f'expert "{owner[group]}"'
                    yield ("experts", name, place), f'group "{group}" already belongs to {whose}'
                owner.setdefault(group, name)


class MergingLever(TrainingLever):
    """Measure the mixed model, and every merge against the base and against mixing."""

    name, Spec = "merging", Merges
    spec: Merges

    def __init__(self, spec: Merges, plan: RunPlan) -> None:
        super().__init__(spec, plan)
        for name, groups in spec.groups.items():
            plan.require_groups(groups, f"levers.merging.experts.{name}")
        plan.experts |= {name: partial(self._expert, name) for name in spec.experts}

    @classmethod
    def mistakes(cls, spec: Merges, recipe: Recipe) -> Mistakes:
        """Experts learn groups that there are."""
        groups = recipe.data.groups
        for name, part in spec.groups.items():
            for place, group in enumerate(part):
                if groups is not None and group not in groups:
                    text = f'group "{group}" of expert "{name}" is not in data.groups'
                    yield ("experts", name, place), text

    @cached_property
    def variants(self) -> dict[str, tuple[Make, tuple[str, ...]]]:
        """How each is made, and what it is compared with."""
        spec, variants = self.spec, dict[str, tuple[Make, tuple[str, ...]]]()
        # On all training items it is what the data lever calls "all data": one result, under that
        # name.
        variants[MIXED] = (self._mixed, ())
        for how in spec.methods:
            variants[_label(how)] = (partial(self._merged, how, ""), (MIXED,))
        if spec.search is not None:
            name = f"merge/{spec.search.merge} by {spec.search.method}"
            variants[name] = (partial(self._best, spec.search), (MIXED,))
        if spec.leave_one_out:
            first = spec.methods[0]
            for expert in spec.experts:
                fewer = partial(self._merged, first, expert)
                variants[f"{_label(first)} without {expert}"] = (fewer, (_label(first),))
        return variants

    def _mixed(self, system: System, seed: int) -> Step:
        return self.plan.finetune(MIXED, self._mixture, seed, system)

    def _merged(self, how: Merge, without: str, system: System, seed: int) -> Step:
        inputs = self._experts(system, seed)
        inputs.pop(f"model-{without}", None)
        variant = _label(how).removeprefix("merge/") + (f" without {without}" if without else "")
        params = {"method": how.method, "parameters": how.parameters, "seed": seed}
        inputs[BASE] = self.plan.weights(system, seed)
        name = self.plan.made_from(f"merge {self.plan.named(variant, seed)}", system)
        return self.plan.step(name, merge, params, inputs)

    def _best(self, how: MergeSearch, system: System, seed: int) -> Step:
        plan = self.plan
        judged = plan.recipe.task.model_copy(update={"where": how.where})
        items = plan.table("items of the search", judged, how.per_group)
        params = {
            **plan.answering(),
            "merge": how.merge,
            "method": how.method,
            "trials": how.trials,
            "metric": how.metric,
            "max_new_tokens": plan.recipe.task.max_new_tokens,
            "seed": seed,
        }
        count = plan.count("items of the search", judged, how.per_group) * how.trials
        base = plan.weights(system, seed)
        inputs = {**self._experts(system, seed), BASE: base, "items": items}
        cost = plan.estimate("score" if how.metric == "loss" else "generate", base, count)
        name = plan.made_from(f"search {plan.named(how.merge, seed)}", system)
        return plan.step(name, search, params, inputs, cost)

    def _experts(self, system: System, seed: int) -> dict[str, Node]:
        return {f"model-{name}": self._expert(name, system, seed) for name in self.spec.experts}

    def _expert(self, name: str, system: System, seed: int) -> Step:
        share = 1 / len(self.spec.experts)
        return self.plan.finetune(f"expert {name}", self._part(name), seed, system, share)

    @cached_property
    def _mixture(self) -> Step:
        plan, spec = self.plan, self.spec
        every = sorted(group for groups in spec.groups.values() for group in groups)
        if len(spec.groups) < len(spec.experts):
            parts = {name: self._part(name) for name in spec.experts}
            return plan.step("items of all", together, {}, parts)
        whole = set(every) == set(plan.recipe.data.groups or [])
        return plan.training if whole else self._subset(MIXED, every)

    def _part(self, name: str) -> Step:
        part = self.spec.experts[name]
        if isinstance(part, list):
            return self._subset(name, part)
        train = self.plan.recipe.train
        assert train is not None
        narrowed = train.model_copy(update={"where": {**train.where, **part}})
        return self.plan.table(f"items of {name}", narrowed, train.per_group)

    def _subset(self, name: str, groups: list[str]) -> Step:
        chosen, items = {"groups": sorted(groups)}, self.plan.training
        return self.plan.step(f"items of {name}", subset, chosen, {"items": items})


def _label(how: Merge) -> str:
    said = [f"{name}={value:g}" for name, value in how.parameters.items()]
    return " ".join([f"merge/{how.method}", *said])
