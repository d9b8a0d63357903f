"""The types of a recipe's fields."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from pomona.documents import StrictModel, problems

Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Rate = Annotated[float, Field(gt=0)]
Part = Annotated[float, Field(ge=0, lt=1)]
Text = Annotated[str, Field(min_length=1)]
Texts = Annotated[list[Text], Field(min_length=1)]
Schedule = Literal["cosine", "linear", "constant"]
Optimizer = Literal["adamw", "muon"]


def _listed(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


Names = Annotated[Texts, BeforeValidator(_listed, json_schema_input_type=str | list[str])]
Shares = Annotated[
    list[Share],
    Field(min_length=1),
    BeforeValidator(_listed, json_schema_input_type=Share | list[Share]),
]
Counts = Annotated[
    list[Positive],
    Field(min_length=1),
    BeforeValidator(_listed, json_schema_input_type=Positive | list[Positive]),
]
Where = dict[Text, Names]
RateOrRates = Annotated[
    Annotated[Rate, Tag("one")] | Annotated[dict[str, Rate], Tag("each")],
    Discriminator(lambda value: "each" if isinstance(value, dict) else "one"),
]


Mistakes = Iterator[tuple[tuple[str | int, ...], str]]
T = TypeVar("T")


def checked(value: T, mistakes: Mistakes) -> T:
    """The value, when nothing is wrong with it; all mistakes at once otherwise."""
    if several := list(mistakes):
        raise problems(several)
    return value


class Pruning(StrictModel):
    """Weights become zero while a model is trained, the smallest first and ever more of them (Zhu
    and Gupta 2017).
    """

    level: Share
    """Share of the weights of each matrix inside the blocks that are zero at the end."""
    initial: Part = 0.0
    """Share at the beginning."""
    begin: Part = 0.0
    """Share of the steps after which pruning begins."""
    end: Share = 0.75
    """Share of the steps after which all are pruned."""
    every: Positive = 10
    """Steps between two prunings."""
    embeddings: bool = False
    """Prune the embeddings and the output head too."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.begin < self.end or self.level >= 1 or self.initial > self.level:
            text = '"begin" must be before "end", and "initial" at most "level", which is below 1'
            raise problems([((), text)])
        return self


class WinRate(StrictModel):
    """How often an item is answered better than by the base, a tie being half a win: as a judge
    says, or people who voted.
    """

    judge: Text | None = None
    """The model that is asked, about both orders of the two answers; one that chose none of them.
    """
    template: Text | None = None
    """What it is asked, with {prompt}, {first} and {second}; ours when left out."""
    free: bool = False
    """Do not hold the judge to A, B and C but read what it says: for servers that take no notice of
    being held to answers.
    """
    flips: Literal["tie", "skip", "half"] = "tie"
    """What an item is worth whose verdicts in the two orders differ: a tie, nothing, or the mean of
    both, and of one where the other cannot be read.
    """
    per_group: Positive | None = None
    """At most this many items per group, the same for all systems; all when left out."""
    votes: Names | None = None
    """Tables of votes on pairs of the run's systems, as `pomona arena pairs RUN#SYSTEM RUN#base`
    makes them, in place of a judge.
    """
    variants: Texts | None = None
    """Systems that are judged, by their names in the ledger; all but bounds when left out."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        return checked(self, self._mistakes())

    def _mistakes(self) -> Mistakes:
        if (self.judge is None) == (self.votes is None):
            yield (), 'who says what is better is "judge" or "votes", one of them'
        for name in ("template", "free", "flips", "per_group"):
            if self.votes and name in self.model_fields_set:
                yield (name,), f'"{name}" is of a judge'


def _harness(value: Any) -> Any:
    if not isinstance(value, str | dict):
        raise PydanticCustomError("expected", "a name, a file or a mapping")
    return {"task": value} if isinstance(value, str) else value


class HarnessPart(StrictModel):
    """A task of lm-evaluation-harness: its documents, prompts, filters and metrics. A task file is
    code, which is run while the recipe is read.
    """

    task: Text
    """Its name, or the path of its YAML file; paths of data in that are relative to the working
    directory.
    """
    metrics: Texts | None = None
    """Those of the task that count, the first of which leads; all that can be resampled when left
    out.
    """
    shots: Annotated[int, Field(ge=0)] | None = None
    """Examples in the prompt; the task's own number when left out."""
    limit: Positive | None = None
    """The first so many documents."""
    group: Text | None = None
    """Column of the documents by which results are broken down."""
    unsafe: Annotated[bool, Field(strict=True)] = False
    """Also a task that executes what a model writes."""


HarnessOrName = Annotated[
    HarnessPart, BeforeValidator(_harness, json_schema_input_type=str | HarnessPart)
]
