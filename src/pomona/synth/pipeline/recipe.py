"""What a recipe of `pomona synth run` may say. The field descriptions are its reference: they
become the JSON Schema.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from pomona.documents import StrictModel, problems, read_model
from pomona.errors import PomonaError
from pomona.models import resolve
from pomona.records import Names
from pomona.synth.checks import ChecksSpec
from pomona.synth.pipeline.sections import (
    Above,
    AnyTeacher,
    ApertiumTeacher,
    Count,
    Data,
    Mistakes,
    ModelTeacher,
    Positive,
    Program,
    Share,
    Teacher,
    Test,
    Text,
    named_kind,
)
from pomona.synth.rewards import RewardsSpec
from pomona.synth.steering import SteeringSpec, objectives_from
from pomona.synth.teachers import check_prompt


class Route(StrictModel):
    """Who answers a row. What cannot answer it is passed over, and where an answer does not stand
    the next teacher is asked.
    """

    by: Literal["single", "random", "reward", "all", "fixed", "learned"] = "reward"
    """single: one teacher. random: one by lot. reward: every one, and the best answer is kept. all:
    every one, and all answers are kept. fixed: the teachers of a row's language. learned: those
    that a router finds best from the text alone.
    """
    teachers: Names | None = None
    """Those that are asked, in this order; when left out all that neither rephrase nor translate
    back for a reward.
    """
    table: dict[Text, Names] | None = None
    """For `fixed`, by language its teachers, the preferred one first; measured on `validation` when
    left out.
    """
    router: Text | None = None
    """For `learned`, the file of a router; one is learned on `validation` when left out."""
    rewards: RewardsSpec | None = None
    """What `fixed` and `learned` are measured by on `validation`; the recipe's rewards when left
    out.
    """


class Budget(StrictModel):
    """Limits of what all answers and rewards cost, those of earlier starts counted: rows beyond are
    rejects.
    """

    tokens: Positive | None = None
    """Tokens of prompts and answers."""
    money: Above | None = None
    """Money, by the prices of teachers and rewards, of whom each needs one."""
    seconds: Above | None = None
    """Seconds of this start."""
    flops: Above | None = None
    """Floating-point operations."""


class Stop(StrictModel):
    """When a teacher is asked no more."""

    window: Annotated[int, Field(ge=10, le=10_000)] = 100
    """Rows in a row that it was asked."""
    failures: Share = 0.5
    """Share of them that failed, or that a check refused."""


class Rephrase(StrictModel):
    """A second model writes each answer anew. Where it fails, or a check refuses what it wrote, the
    answer stays as it was.
    """

    teacher: Text
    """One of the teachers, a model."""
    prompt: Text
    """Its template, with {answer}, {text}, {source_lang} and {lang}."""


class RephraseStep(StrictModel):
    """The second step of Aya Vision's recipe."""

    rephrase: Rephrase


class FilterStep(StrictModel):
    """Answers below these are not taken."""

    filter: Annotated[dict[Text, float], Field(min_length=1)]
    """By reward, in its own unit, the least that is taken."""


class LimitStep(StrictModel):
    """Rows beyond these are not asked about."""

    limit: Positive
    """Rows out of each language."""


_STEPS: dict[str, type[StrictModel]] = {
    "rephrase": RephraseStep,
    "filter": FilterStep,
    "limit": LimitStep,
}


def _step(value: Any) -> str | None:
    if isinstance(value, StrictModel):
        return next(name for name, kind in _STEPS.items() if isinstance(value, kind))
    if isinstance(value, str):
        return "translate"
    return named_kind(value, _STEPS)


Step = Annotated[
    Annotated[Literal["translate"], Tag("translate")]
    | Annotated[RephraseStep, Tag("rephrase")]
    | Annotated[FilterStep, Tag("filter")]
    | Annotated[LimitStep, Tag("limit")],
    Discriminator(
        _step,
        custom_error_type="expected",
        custom_error_message=f"translate, or a mapping with one of {', '.join(_STEPS)}",
    ),
]


class Preferences(StrictModel):
    """Pairs of a better and a worse answer."""

    prompt: Text = "{text}"
    """Template of their prompt, with {text}, {source_lang} and {lang}."""


class SynthRecipe(StrictModel):
    """A recipe: what is answered, by whom, and what of it is kept."""

    seed: Count = 0
    """Seed of all that is drawn."""
    data: Data
    test: list[Test] = Field(default=[])
    """Tests whose items nothing may come near."""
    validation: Data | None = None
    """Rows on which is learned what rewards and routes learn, with a `reference`."""
    teachers: Annotated[dict[Text, AnyTeacher], Field(min_length=1)]
    """Who answers, by the names that rows and cards call them."""
    route: Route = Field(default=Route())
    rewards: RewardsSpec | None = None
    """How good answers are: of several to a row the best is kept; the first one when left out."""
    steer: SteeringSpec = Field(default=SteeringSpec())
    """What answers should have more of or less of, which then chooses among them; and how many of
    each language.
    """
    checks: ChecksSpec = Field(default=ChecksSpec())
    """What is wrong with an answer, so that it is not taken."""
    steps: list[Step] = Field(default=["translate"])
    """What is done with a row, in this order: translate, rephrase, filter, limit."""
    refill: Count = 2
    """Further draws of a row's teachers where nothing that they wrote passes the checks."""
    budget: Budget = Field(default=Budget())
    stop: Stop = Field(default=Stop())
    alternatives: bool = False
    """Keep all answers of each row beside the one that is chosen."""
    preferences: Preferences | None = None
    """Write preferences.jsonl in TRL's format: of each row the best answer and the worst."""

    @property
    def rephrase(self) -> Rephrase | None:
        """The second model, where there is one."""
        return next((one.rephrase for one in self.steps if isinstance(one, RephraseStep)), None)

    @property
    def filters(self) -> dict[str, float]:
        """By reward the least that is taken."""
        return next((one.filter for one in self.steps if isinstance(one, FilterStep)), {})

    @property
    def limit(self) -> int | None:
        """Rows out of each language."""
        return next((one.limit for one in self.steps if isinstance(one, LimitStep)), None)

    @property
    def helpers(self) -> set[str]:
        """Teachers that rephrase, or translate back."""
        named = [self.rephrase.teacher] if self.rephrase else []
        each = [one for one in (self.rewards, self.route.rewards) if one is not None]
        return {*named, *(one.round_trip.teacher for one in each if one.round_trip)}

    @property
    def routed(self) -> list[str]:
        """The teachers that are asked for answers, in order."""
        return self.route.teachers or [name for name in self.teachers if name not in self.helpers]

    @model_validator(mode="after")
    def _check(self) -> Self:
        parts = (self._mistakes(), self._of_teachers(), self._of_prices(), self._of_steps())
        if several := [one for part in parts for one in part]:
            raise problems(several)
        return self

    def _mistakes(self) -> Mistakes:
        route = self.route
        named = [("teachers", name) for name in route.teachers or ()]
        named += [("table", name) for names in (route.table or {}).values() for name in names]
        for key, name in named:
            if name not in self.teachers:
                yield ("route", key), f'there is no teacher "{name}"'
        if not self.routed:
            yield ("teachers",), "there is nobody who answers: all teachers have other work"
        for key, by in (("table", "fixed"), ("router", "learned")):
            if getattr(route, key) is not None and route.by != by:
                yield ("route", key), f'"{key}" goes with "by: {by}"'
            if getattr(route, key) is None and route.by == by and self.validation is None:
                yield ("route", "by"), f'"{by}" needs a "{key}", or rows of "validation"'
        if self.validation is not None and self.validation.reference is None:
            yield ("validation",), '"reference" is missing in validation: a column'
        if route.by == "reward" and self.rewards is None and self.preferences is not None:
            yield ("preferences",), '"preferences" needs "rewards"'
        learned = self.rewards and (self.rewards.length_ratio or self.rewards.scale == "deviation")
        if learned and self.validation is None:
            yield ("rewards",), 'these rewards learn on rows of "validation"'
        try:
            objectives_from(self.steer.objectives)
        except PomonaError as error:
            yield ("steer", "objectives"), str(error)

    def _of_teachers(self) -> Mistakes:
        for name, teacher in self.teachers.items():
            where = ("teachers", name)
            if isinstance(teacher, ModelTeacher):
                yield from _wrong_prompt((*where, "prompt"), teacher.prompt)
            if isinstance(teacher, ApertiumTeacher) and teacher.languages is None:
                yield where, f'"languages" is missing in teachers.{name}: such as {{nl: [af]}}'
            pivot = teacher.pivot if isinstance(teacher, Program) else None
            if pivot and teacher.languages and pivot.sister not in teacher.languages:
                message = f'its pivot is in {pivot.sister}, which is none of its "languages"'
                yield (*where, "pivot"), message
        for name in self.helpers - {self.rephrase.teacher if self.rephrase else ""}:
            if name not in self.teachers:
                yield ("rewards", "round_trip"), f'there is no teacher "{name}"'

    def _of_prices(self) -> Mistakes:
        if self.budget.money is None:
            return
        for name, teacher in self.teachers.items():
            if not _priced(teacher):
                price = "price" if isinstance(teacher, ModelTeacher) else "cpu_price"
                message = f'a budget of money needs a {price} of the teacher "{name}"'
                yield ("teachers", name), message
        judges = {("rewards",): self.rewards, ("route", "rewards"): self.route.rewards}
        for where, spec in judges.items():
            for name, one in spec.paid.items() if spec is not None else ():
                if one.price is None:
                    yield (*where, name), f'a budget of money needs a price of the reward "{name}"'

    def _of_steps(self) -> Mistakes:
        kinds = [_step(one) or "" for one in self.steps]
        order = ["translate", *_STEPS]
        if kinds[:1] != ["translate"] or [one for one in order if one in kinds] != kinds:
            yield ("steps",), f"the steps are {', '.join(order)}, in this order, each once"
        if (second := self.rephrase) is not None:
            where = ("steps", kinds.index("rephrase"), "rephrase")
            if not isinstance(self.teachers.get(second.teacher), ModelTeacher):
                yield (*where, "teacher"), f'"{second.teacher}" is no model under teachers'
            if "{answer}" not in second.prompt:
                yield (*where, "prompt"), "the prompt template has no {answer}"
            yield from _wrong_prompt(
                (*where, "prompt"), second.prompt.replace("{answer}", "{text}")
            )
        known = self.rewards.chosen if self.rewards else {}
        for name in self.filters:
            if name not in known:
                message = f'"{name}" is none of the recipe\'s rewards'
                yield ("steps", kinds.index("filter"), "filter"), message
        if self.preferences is not None:
            yield from _wrong_prompt(("preferences", "prompt"), self.preferences.prompt)


def _wrong_prompt(where: tuple[str | int, ...], template: str) -> Mistakes:
    try:
        check_prompt(template, "")
    except PomonaError as error:
        yield where, error.message


def _priced(teacher: Teacher) -> bool:
    if isinstance(teacher, ModelTeacher):
        return teacher.price is not None
    return not isinstance(teacher, Program) or teacher.cpu_price is not None


def load_synth(path: str | Path) -> SynthRecipe:
    """Read and check a recipe; files that it names are relative to its folder.

    Raises PomonaError with a line for each mistake: file, line, what is wrong, and the nearest
    right name.
    """
    example = "examples/synthesis.yaml for a recipe"
    recipe = read_model(path, SynthRecipe, kind="recipe", example=example)
    return _placed(recipe, Path(path).parent)


def _placed(value: Any, folder: Path, key: str = "") -> Any:
    """A section with its paths made absolute."""
    if isinstance(value, StrictModel):
        fields = type(value).model_fields
        changed = {name: _placed(getattr(value, name), folder, name) for name in fields}
        return value.model_copy(update=changed)
    if isinstance(value, dict):
        return {name: _placed(one, folder) for name, one in value.items()}
    if isinstance(value, list):
        return [_placed(one, folder, key) for one in value]
    named = key in ("rows", "model", "tokenizer", "router") and isinstance(value, str)
    return resolve(folder, value) if named else value


def synth_schema() -> dict[str, Any]:
    """The JSON Schema of a recipe, for editors and other programs."""
    schema = SynthRecipe.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Recipe"}
