"""The types of a recipe's fields."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

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
