"""The synthesis lever: teachers write answers for the empty cells of some groups, and the model
learns from them.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property, partial
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from pomona.documents import StrictModel, problems
from pomona.errors import PomonaError
from pomona.recipe.asking import draw_pools, is_asked
from pomona.recipe.fields import Mistakes, Names, Positive, Text, Texts, Where, checked
from pomona.recipe.graph import Estimate, Node, RunInput, Step
from pomona.recipe.inputs import record_sources
from pomona.recipe.lever import ALL, Make, TrainingLever
from pomona.recipe.plan import GREEDY, RunPlan
from pomona.recipe.schema import Recipe
from pomona.recipe.steps.lessons import (
    find_empty,
    hold_out,
    hold_out_task,
    take_answers,
    take_put_together,
    take_written,
    teacher_of,
    write_by_programs,
)
from pomona.recipe.steps.sampling import draw
from pomona.recipe.steps.selecting import learn_phrases, put_together
from pomona.recipe.steps.synthesis import TAUGHT_BY, add_rows, finetune_raised, route
from pomona.recipe.steps.tables import rarest, subset
from pomona.recipe.system import System
from pomona.sample import Strategy
from pomona.synth.checks import ChecksSpec
from pomona.synth.rewards import RewardsSpec
from pomona.tasks import source_of

REAL = "synthesis/real rows"
POLICIES = ("single", "random", "fixed", "reward", "learned", "all")
MEASURED = ("fixed", "learned")  # on the validation items
PUT_TOGETHER = {"edited": 4, "composed": 4}


class Programmed(StrictModel):
    """A program that writes the answers of one group."""

    group: Text
    """The group that it answers in."""
    apertium: Text | None = None
    """Apertium's direction, such as "nld-afr"."""
    package: Text | None = None
    """Debian's package of that direction."""
    command: Texts | None = None
    """Another program, with its arguments: a line in, a line out."""
    pivot: Text | None = None
    """The group whose rows it translates, in place of the source; it need not be one of `data`."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        return checked(self, self._mistakes())

    def _mistakes(self) -> Mistakes:
        if (self.apertium is None) == (self.command is None):
            yield (), 'the program is "apertium" or "command", one of them'
        if self.apertium and not self.package:
            yield ("apertium",), 'name the "package" of this direction, such as apertium-afr-nld'


class Answered(StrictModel):
    """Answers that a table has already."""

    records: Names
    """Tables with the group's column."""
    where: Where = Field(default={})
    """Conditions of these rows."""
    source: Text | None = None
    """Template of the source; that of `data` when left out."""
    completion: Text | None = None
    """Template of the answer; that of `data` when left out."""
    spent: dict[Literal["flops", "tokens", "money", "seconds"], Text] = Field(default={})
    """Columns of what an answer cost to make; nothing when left out."""


KINDS = ("model", "expert", "programs", "phrases", "table")


class TeacherPart(StrictModel):
    """Who writes answers: one of a model, an expert of the merging part, programs, the memory, or a
    table.
    """

    model: Text | None = None
    """A model by its URI or its name under `models`."""
    prompt: Text | None = None
    """What that model is asked, with the columns of `data`; its prompt when left out."""
    chat: Annotated[bool, Field(strict=True)] | None = None
    """Whether that model is asked as in a chat; as the recipe says when left out."""
    samples: Positive = 1
    """Answers of a model or an expert to each cell, each of which counts: the first is its surest,
    the others are drawn, and the best by `reward` is kept.
    """
    temperature: Annotated[float, Field(gt=0, le=5)] = 0.7
    """Temperature of the answers that are drawn."""
    expert: Text | None = None
    """An expert of `levers.merging.experts`, as the base becomes one with the recipe's seed."""
    programs: Annotated[list[Programmed], Field(min_length=1)] | None = None
    """Programs, each for a group; of several for one group the first that has an answer."""
    phrases: Annotated[bool, Field(strict=True)] = False
    """What is put together from the group's own training rows; no model is asked."""
    table: Answered | None = None
    """A table."""
    licence: Text | None = None
    """Licence of what it writes."""

    @property
    def pool(self) -> Strategy:
        """What is drawn for each cell."""
        k = self.samples
        return Strategy("hedged", k, "first", self.temperature) if k > 1 else GREEDY

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = [name for name in KINDS if getattr(self, name)]
        if len(given) != 1:
            raise problems([((), f"a teacher is one of {', '.join(KINDS)}")])
        if self.model is None and (self.prompt or self.chat is not None):
            raise problems([((), '"prompt" and "chat" are of a model')])
        if self.samples > 1 and self.model is None and self.expert is None:
            raise problems([(("samples",), '"samples" are of a model or an expert')])
        return self


def _teacher(value: Any) -> Any:
    return {"model": value} if isinstance(value, str) else value


Teachers = dict[
    Text,
    Annotated[TeacherPart, BeforeValidator(_teacher, json_schema_input_type=str | TeacherPart)],
]


class Synthesised(StrictModel):
    """Let teachers write answers for the empty cells of some groups (the sources that rows of other
    groups have), and fine-tune on them too: which teacher is asked about which cell is a policy.
    All policies buy the same number of answers, and train on the same number of tokens.
    """

    teachers: Annotated[Teachers, Field(min_length=1)]
    """Who writes: a name and a model, or what else it is."""
    policies: Texts = Field(default=["single", "random", "reward", "all"])
    """Which teacher writes to which cell: "single NAME", or "single" for each of them by itself;
    "random"; "fixed", the best of the group on the validation items; "learned", the best by a
    router of prompts that learned on these; "reward", all of them, and the best answer by `reward`
    is kept; "all", all of them, and all is kept.
    """
    groups: Texts | None = None
    """The groups whose cells are filled; those in the tail when left out."""
    prompts: Names | None = None
    """Tables of the rows whose sources are cells, in place of those of `train`, with the columns
    of `data`.
    """
    where: Where = Field(default={})
    """Conditions of these rows."""
    generations: Positive = 4000
    """Answers that each policy may ask for."""
    share: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of the training tokens that the filled groups get, real and written rows together; as
    many as there are when left out. With it, real rows alone with the same share are measured too.
    """
    reward: RewardsSpec = Field(default=RewardsSpec.model_validate({"agreement": True}))
    """What "reward" chooses by."""
    checks: ChecksSpec = ChecksSpec()
    """What an answer must pass to be kept."""
    unknown: Annotated[float, Field(ge=0, le=1)] = 0.0
    """The largest share of words that a program did not know in an answer that is kept."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        return checked(self, self._mistakes())

    def _mistakes(self) -> Mistakes:
        for place, policy in enumerate(self.policies):
            how, _, name = policy.partition(" ")
            if how not in POLICIES or (name and how != "single"):
                text = f'"{policy}" is no policy: choose of {", ".join(POLICIES)}'
                yield ("policies", place), text
            elif name and name not in self.teachers:
                yield ("policies", place), f'"{name}" is no teacher of this part'
        several = len(self.teachers) > 1
        for place, policy in enumerate(self.policies):
            if policy in POLICIES[1:] and not several:
                yield ("policies", place), f'"{policy}" needs two teachers or more'
        if self.reward.round_trip or self.reward.reference:
            yield ("reward",), '"round_trip" and "reference" cannot choose here'


class SynthesisLever(TrainingLever):
    """Measure what students learn from teachers, by every policy."""

    name, Spec = "synthesis", Synthesised
    spec: Synthesised

    def __init__(self, spec: Synthesised, plan: RunPlan) -> None:
        super().__init__(spec, plan)
        plan.require_groups(spec.groups or (), "levers.synthesis.groups")
        self._programs = {
            name: self._present(name, part.programs)
            for name, part in spec.teachers.items()
            if part.programs
        }

    @classmethod
    def mistakes(cls, spec: Synthesised, recipe: Recipe) -> Mistakes:
        """What teachers and policies need of the rest of the recipe."""
        if recipe.data.group is None:
            yield (), '"synthesis" fills cells of groups: name the column "group" of "data"'
        for place, group in enumerate(spec.groups or ()):
            if recipe.data.groups is not None and group not in recipe.data.groups:
                yield ("groups", place), f'group "{group}" is not in data.groups'
        if spec.groups is None and not recipe.task.tail:
            yield ("groups",), '"synthesis" fills the tail, and task.tail is 0: name its "groups"'
        for place, policy in enumerate(spec.policies):
            if policy in MEASURED and recipe.validation is None:
                text = f'"{policy}" is measured on "validation", which is missing'
                yield ("policies", place), text
        merging: Any = getattr(recipe.levers, "merging", None)
        known = merging.experts if merging else {}
        for name, part in spec.teachers.items():
            if part.expert and part.expert not in known:
                text = f'"{part.expert}" is no expert of levers.merging'
                yield ("teachers", name, "expert"), text
            if part.model and recipe.unpriced(part.model):
                text = f'a budget of money needs the price of "{part.model}"'
                yield ("teachers", name, "model"), f'{text}: give it under "models"'

    def _present(self, name: str, programs: list[Programmed] | None) -> list[dict[str, Any]]:
        """The programs that are installed, each with what tells its version; the others are
        named.
        """
        there = []
        for one in programs or ():
            program = teacher_of(one.model_dump(), None).program
            if (missing := program.missing) is None:
                there.append(one.model_dump() | {"identity": program.identity})
            else:
                told = f'levers.synthesis.teachers.{name}, group "{one.group}"'
                self.plan.notes.append(f"Left out: {told}: {missing}.")
        return there

    @cached_property
    def teachers(self) -> dict[str, TeacherPart]:
        """Those that are there."""
        absent = {name for name, there in self._programs.items() if not there}
        return {name: part for name, part in self.spec.teachers.items() if name not in absent}

    @cached_property
    def groups(self) -> list[str]:
        """The groups whose cells are filled."""
        if self.spec.groups is not None:
            return self.spec.groups
        plan = self.plan
        counts = plan.group_counts("training items", plan.recipe.train)
        if counts is None:
            message, remedy = "the tail is not known before the run", "name its `groups`"
            raise PomonaError(message, where="levers.synthesis", remedy=remedy)
        mine = plan.recipe.data.groups or list(counts)
        return rarest({group: counts[group] for group in mine}, plan.recipe.task.tail)

    @cached_property
    def variants(self) -> dict[str, tuple[Make, tuple[str, ...]]]:
        """How each is trained, and what it is compared with."""
        variants: dict[str, tuple[Make, tuple[str, ...]]] = {ALL: (self._on_all, ())}
        controls = (ALL,)
        if self.spec.share:
            variants[REAL] = (self._on_real, (ALL,))
            controls = (REAL, ALL)
        for policy in self._policies():
            variants[f"synthesis/{policy}"] = (partial(self._taught, policy), controls)
        return variants

    def _policies(self) -> Iterator[str]:
        for policy in self.spec.policies:
            how, _, name = policy.partition(" ")
            if how != "single":
                if len(self.teachers) > 1:
                    yield policy
            else:
                yield from (f"single {one}" for one in self.teachers if name in ("", one))

    def _on_all(self, system: System, seed: int) -> Step:
        return self.plan.finetune(ALL, self.plan.training, seed, system)

    def _on_real(self, system: System, seed: int) -> Step:
        return self._trained("real rows", self.plan.training, seed, system)

    def _taught(self, policy: str, system: System, seed: int) -> Step:
        inputs: dict[str, Node] = {"items": self.plan.training, "written": self._bought(policy)}
        items = self.plan.step(f"add what {policy} bought", add_rows, {}, inputs)
        return self._trained(policy, items, seed, system)

    def _trained(self, variant: str, items: Step, seed: int, system: System) -> Step:
        name = f"student of {variant}"
        if self.spec.share is None:
            return self.plan.finetune(name, items, seed, system)
        more = {"groups": self.groups, "raised": self.spec.share}
        return self.plan.finetune(name, items, seed, system, work=finetune_raised, **more)

    def _bought(self, policy: str) -> Step:
        """The rows that a policy buys."""
        plan, spec, names = self.plan, self.spec, self._names(policy)
        inputs: dict[str, Node] = {"items": self._cells, **self._held}
        inputs |= {f"lessons-{name}": self._lessons(name, self._cells) for name in names}
        for name in names:
            inputs |= {f"{TAUGHT_BY}{name}": node for node in self._made_of(name)}
        if policy in MEASURED:
            wanted = {"groups": sorted(self.groups)}
            held = plan.step("items to judge by", subset, wanted, {"items": plan.validation})
            inputs["validation"] = held
            inputs |= {f"judged-{name}": self._lessons(name, held, judged=True) for name in names}
        params = {
            "policy": policy,
            "teachers": names,
            "programs": [name for name in names if name in self._programs],
            "licences": {name: self.teachers[name].licence for name in names},
            "samples": {name: self.teachers[name].samples for name in names},
            "generations": spec.generations,
            "reward": spec.reward.model_dump(exclude_none=True),
            "checks": spec.checks.model_dump(),
            "unknown": spec.unknown,
            "metric": plan.metrics[0],
            "seed": plan.recipe.seed,
        }
        billed = frozenset(f"lessons-{name}" for name in names)
        return plan.step(f"buy by {policy}", route, params, inputs, billed=billed)

    def _made_of(self, name: str) -> list[Node]:
        """What had to be made before a teacher could write."""
        part = self.teachers[name]
        if part.phrases:
            return [self._phrases]
        return [self._model(part)] if part.model or part.expert else []

    def _model(self, part: TeacherPart) -> Node:
        plan = self.plan
        if part.expert:
            return plan.experts[part.expert](plan.base, plan.recipe.seed)
        return plan.model(part.model or "")

    @cached_property
    def _phrases(self) -> Step:
        plan = self.plan
        assert plan.memory is not None
        learning = Estimate("table", 1e9 * plan.memory_count / 10_000)
        return plan.step("learn phrases", learn_phrases, {}, {"memory": plan.memory}, learning)

    @cached_property
    def _count(self) -> float:
        """Cells, for estimates."""
        return float(min(self._most, self.plan.memory_count * len(self.groups)))

    def _names(self, policy: str) -> list[str]:
        """The teachers that a policy may ask."""
        one = policy.partition(" ")[2]
        return [one] if one else list(self.teachers)

    @cached_property
    def _most(self) -> int:
        """The cells that policies can have answered: more need not be written to."""
        return max(1, self.spec.generations // min(map(self._least, self._policies())))

    def _least(self, policy: str) -> int:
        """How many answers a policy pays for at least, of a cell that somebody answers."""
        parts = [self.teachers[name] for name in self._names(policy)]
        drawn = [part.samples for part in parts if part.model or part.expert]
        return max(1, sum(drawn)) if policy in ("reward", "all") else min(p.samples for p in parts)

    @cached_property
    def _cells(self) -> Step:
        return self._empty(None)

    def _empty(self, prompt: str | None) -> Step:
        """The cells, asked about with a prompt."""
        plan, data, spec = self.plan, self.plan.recipe.data, self.spec
        train = plan.recipe.train
        assert train is not None
        named = spec.prompts or train.records or data.records
        where = spec.where if spec.prompts else {**data.where, **train.where}
        params = {
            "prompt": prompt or data.prompt,
            "source": self._source,
            "cluster": plan.recipe.task.cluster,
            "group": data.group,
            "groups": None if spec.prompts else data.groups,
            "where": where,
            "fill": self.groups,
            "limit": self._most,
            "seed": plan.recipe.seed,
        }
        inputs = {**self._records(named), "known": self._all_rows, **self._held}
        return plan.step("empty cells", find_empty, params, inputs)

    @property
    def _source(self) -> str:
        data = self.plan.recipe.data
        return data.source or source_of(data.prompt, data.group)

    def _records(self, names: list[str]) -> dict[str, Node]:
        sources = record_sources(names, self.plan.folder)
        return {f"records-{i:04d}": RunInput(path.name, path) for i, path in enumerate(sources)}

    @cached_property
    def _all_rows(self) -> Step:
        plan, train = self.plan, self.plan.recipe.train
        name = "all training items" if train and train.per_group else "training items"
        return plan.table(name, train)

    @cached_property
    def _held(self) -> dict[str, Node]:
        """What nothing that is written may be a near copy of."""
        plan, recipe = self.plan, self.plan.recipe
        if plan.harness:
            part = {"task": plan.harness.signature}
            return {"held-test": plan.step("held out: test items", hold_out_task, part, {})}
        parts = {"test": recipe.task, "validation": recipe.validation}
        return {
            f"held-{name}": plan.table(f"held out: {name} items", part, work=hold_out)
            for name, part in parts.items()
            if part is not None
        }

    def _lessons(self, name: str, items: Step, *, judged: bool = False) -> Step:
        """What a teacher writes to some items: the cells, or those that it is judged by."""
        plan, part = self.plan, self.teachers[name]
        of = "validation items" if judged else "cells"
        label = f"{name} writes to {of}"
        if part.programs:
            return self._programmed(label, name, items, judged)
        if part.table:
            data = plan.recipe.data
            params = {
                "group": data.group,
                "source": part.table.source or self._source,
                "completion": part.table.completion or data.completion,
                "where": part.table.where,
                "spent": part.table.spent,
            }
            inputs = {"items": items, **self._records(part.table.records)}
            return plan.step(label, take_answers, params, inputs)
        if part.phrases:
            return self._put_together(label, items)
        if part.prompt and not judged:
            items = self._empty(part.prompt)
        # On validation items a teacher is judged by its surest answer.
        return self._asked(label, part, items, GREEDY if judged else part.pool)

    def _asked(self, label: str, part: TeacherPart, items: Step, pool: Strategy) -> Step:
        plan, model = self.plan, self._model(part)
        who = System(label, self.name, lambda _: model)
        if is_asked(who, model):
            pools = draw_pools(plan, who, items, model, pool, items, self._count)
        else:
            longest = plan.recipe.task.max_new_tokens
            params = {**plan.answering(), "pool": pool.name, "max_new_tokens": longest}
            params |= {"chat": part.chat} if part.chat is not None else {}
            cost = plan.estimate("generate", model, self._count, pool.n)
            pools = plan.step(label, draw, params, {"items": items, "model": model}, cost)
        taken = {"max_new_tokens": plan.recipe.task.max_new_tokens, "samples": pool.n}
        inputs = {"items": items, "pools": pools}
        return plan.step(f"take what {label}", take_written, taken, inputs)

    def _programmed(self, label: str, name: str, items: Step, judged: bool) -> Step:
        plan, data = self.plan, self.plan.recipe.data
        spec = plan.recipe.validation if judged else plan.recipe.train
        assert spec is not None
        params = {
            "programs": self._programs[name],
            "prompt": data.prompt,
            "completion": data.completion,
            "source": self._source,
            "group": data.group,
            "where": {**data.where, **spec.where},
        }
        inputs = {"items": items, **self._records(spec.records or data.records)}
        return plan.step(label, write_by_programs, params, inputs)

    def _put_together(self, label: str, items: Step) -> Step:
        plan = self.plan
        assert plan.memory is not None
        near = plan.neighbours(items)
        inputs = {"items": items, "phrases": self._phrases, "memory": plan.memory}
        cost = Estimate("table", 1e9 * self._count / 50)
        name = plan.on("put answers together", items)
        made = plan.step(name, put_together, PUT_TOGETHER, {**inputs, "neighbours": near}, cost)
        told = f"take what {label}"
        return plan.step(told, take_put_together, {}, {"made": made, "neighbours": near})
