"""What a recipe may say of rewards, and the rewards that it names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from pomona.documents import StrictModel, model_of, problems
from pomona.errors import PomonaError, nearest
from pomona.synth.rewards.comparing import Agreement, Record, Reference
from pomona.synth.rewards.paid import Left, unlimited
from pomona.synth.rewards.reward import Reward
from pomona.synth.rewards.texts import (
    Function,
    KnownWords,
    LanguageMatch,
    LengthRatio,
    PlaceholdersKept,
)
from pomona.synth.rewards.weighted import Scale, Weighted
from pomona.synth.teachers import Teacher
from pomona.tasks import MetricOptions

Weight = Annotated[float, Field(gt=0)]
Price = Annotated[float, Field(ge=0)]
Text = Annotated[str, Field(min_length=1)]


class RewardSpec(StrictModel):
    """A reward that has no settings."""

    weight: Weight = 1.0
    """How much it counts beside the others."""


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


_Metric = Annotated[
    MetricOptions, BeforeValidator(_named, json_schema_input_type=str | MetricOptions)
]


class ComparedSpec(RewardSpec):
    """A reward that compares texts by a metric."""

    metric: _Metric = MetricOptions(name="chrf")
    """The metric, or its name and its options."""


class RoundTripSpec(ComparedSpec):
    """Translation back, compared with the source."""

    teacher: Text
    """Which of the recipe's teachers translates back."""


class LikelihoodSpec(RewardSpec):
    """The mean log-probability of an answer's tokens under a third model."""

    model: Text
    """The model, none of the teachers: a name, hf:PATH, or a folder."""
    prompt: Text
    """What it reads before the answer: a template with {text}, {source_lang} and {lang}."""
    against: Text | None = None
    """A prompt without the text, such as "<|{lang}|><|to|>", whose likelihood is subtracted."""
    raw: bool = False
    """Prompts without a chat template."""
    price: Price | None = None
    """Money for a million tokens that it reads; 0 where it costs none."""


class ServedSpec(RewardSpec):
    """A server's reward model."""

    url: Text
    """http(s)://HOST/PATH, or …#MODEL where the server wants a model's name. The end of the path
    says what is sent: /rerank, /score, /classify, /pooling, or anything else.
    """
    prompt: Text = "{text}"
    """What it is shown as the prompt: a template with {text}, {source_lang} and {lang}."""
    whole: Text | None = None
    """Template of prompt and answer in one text, with {prompt} and {answer}, for /classify and
    /pooling of servers that put no chat template to a conversation.
    """
    price: Price | None = None
    """Money for a million tokens that it reads; 0 where it costs none."""
    concurrency: Annotated[int, Field(ge=1)] = 4
    """Requests at once; a row with all its answers is one."""
    timeout: Weight = 120.0
    """Seconds without a sign of life."""


class FunctionSpec(RewardSpec):
    """A function of the user's."""

    name: Text
    """MODULE:FUNCTION; it takes a list of candidates and returns a number for each."""


def _weighed(value: Any) -> Any:
    """A number alone is a weight, `true` the weight 1."""
    if value is True:
        return {}
    return {"weight": value} if isinstance(value, int | float) and value is not False else value


_Plain = Annotated[
    RewardSpec | None,
    BeforeValidator(_weighed, json_schema_input_type=float | bool | RewardSpec | None),
]
_Compared = Annotated[
    ComparedSpec | None,
    BeforeValidator(_weighed, json_schema_input_type=float | bool | ComparedSpec | None),
]


class RewardsSpec(StrictModel):
    """Rewards by their names, each with its weight or its settings; `true` is the weight 1."""

    agreement: _Compared = None
    """How much an answer is like the others of its row; from three answers on."""
    reference: _Compared = None
    """The metric with what a human answered, for validation."""
    record: _Compared = None
    """The mean of the metric that a teacher had in the language on validation rows."""
    language: _Plain = None
    """The probability that an answer is in its language."""
    placeholders: _Plain = None
    """The share of placeholders that are kept."""
    length_ratio: _Plain = None
    """How usual the length is, as learned from validation rows."""
    known_words: _Plain = None
    """The share of words that a program knew."""
    round_trip: RoundTripSpec | None = None
    """Translation back, compared with the source."""
    likelihood: LikelihoodSpec | None = None
    """The likelihood under a third model."""
    http: ServedSpec | None = None
    """A server's reward model."""
    function: FunctionSpec | None = None
    """A function of the user's."""
    scale: Scale = "rank"
    """How rewards of different units are made one: by ranks within a row, or by distances in
    standard deviations that are learned from validation rows.
    """

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.chosen:
            names = ", ".join(name for name in type(self).model_fields if name != "scale")
            raise problems([((), f"there is no reward — name one of {names}")])
        return self

    @property
    def paid(self) -> dict[str, LikelihoodSpec | ServedSpec]:
        """Those that cost something, by name."""
        each = {"likelihood": self.likelihood, "http": self.http}
        return {name: spec for name, spec in each.items() if spec is not None}

    @property
    def chosen(self) -> dict[str, RewardSpec]:
        """Those that are given, by name."""
        each = ((name, getattr(self, name)) for name in type(self).model_fields)
        return {name: spec for name, spec in each if isinstance(spec, RewardSpec)}


def reward_from(
    given: RewardsSpec | Mapping[str, Any] | str,
    *,
    teachers: Mapping[str, Teacher] | None = None,
    store: Path | None = None,
    left: Left = unlimited,
) -> Reward:
    """The reward that a recipe's part names: one alone as it is, several as `Weighted`. A text
    names one without settings, or MODULE:FUNCTION.

    teachers: those of the recipe, by name, for `round_trip`. store: the file that keeps what was
    paid for. left: what is left of a budget, see `PaidReward`. What learns from validation rows
    still has to (`fit`).
    Raises PomonaError for unknown names and settings, with the nearest right ones.
    """
    if isinstance(given, str):
        given = {"function": {"name": given}} if ":" in given else {given: True}
    if not isinstance(given, RewardsSpec):
        given = model_of(given, RewardsSpec, kind="rewards")
    parts = [
        (_made(name, spec, teachers or {}, {"store": store, "left": left}), spec.weight)
        for name, spec in given.chosen.items()
    ]
    return parts[0][0] if len(parts) == 1 else Weighted(parts, given.scale)


def _made(
    name: str, spec: RewardSpec, teachers: Mapping[str, Teacher], paid: Mapping[str, Any]
) -> Reward:
    if isinstance(spec, RoundTripSpec):
        from pomona.synth.rewards.round_trip import RoundTrip

        return RoundTrip(_teacher(spec.teacher, teachers), spec.metric.given)
    if isinstance(spec, LikelihoodSpec):
        from pomona.synth.rewards.likelihood import Likelihood

        price = None if spec.price is None else {"price": (spec.price, spec.price)}
        return Likelihood(
            spec.model, spec.prompt, raw=spec.raw, against=spec.against, settings=price, **paid
        )
    if isinstance(spec, ServedSpec):
        from pomona.synth.rewards.served import HttpReward

        return HttpReward(
            spec.url,
            spec.prompt,
            whole=spec.whole,
            price=spec.price,
            concurrency=spec.concurrency,
            timeout=spec.timeout,
            **paid,
        )
    if isinstance(spec, FunctionSpec):
        return Function(spec.name)
    if isinstance(spec, ComparedSpec):
        kind = {"agreement": Agreement, "reference": Reference, "record": Record}[name]
        return kind(spec.metric.given)
    plain = {
        "language": LanguageMatch,
        "placeholders": PlaceholdersKept,
        "length_ratio": LengthRatio,
        "known_words": KnownWords,
    }
    return plain[name]()


def _teacher(name: str, teachers: Mapping[str, Teacher]) -> Teacher:
    if name not in teachers:
        remedy = nearest(name, teachers) if teachers else "name it under teachers"
        raise PomonaError(f'there is no teacher "{name}"', where="round_trip", remedy=remedy)
    return teachers[name]
