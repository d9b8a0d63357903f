"""The types of a recipe's fields."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Rate = Annotated[float, Field(gt=0)]
Text = Annotated[str, Field(min_length=1)]
Schedule = Literal["cosine", "linear", "constant"]
Optimizer = Literal["adamw", "muon"]


def _listed(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


def _one_or_each(value: Any) -> str:
    return "each" if isinstance(value, dict) else "one"


Names = Annotated[
    list[Text],
    Field(min_length=1),
    BeforeValidator(_listed, json_schema_input_type=str | list[str]),
]
Shares = Annotated[
    list[Share],
    Field(min_length=1),
    BeforeValidator(_listed, json_schema_input_type=Share | list[Share]),
]
Where = dict[Text, Names]
RateOrRates = Annotated[
    Annotated[Rate, Tag("one")] | Annotated[dict[str, Rate], Tag("each")],
    Discriminator(_one_or_each),
]


def problems(found: list[tuple[tuple[str | int, ...], str]]) -> PydanticCustomError:
    """One error that carries several: where each is, from the model that raises it, and what is
    wrong.
    """
    return PydanticCustomError(
        "problems", "{text}", {"text": "; ".join(text for _, text in found), "found": found}
    )


class Strict(BaseModel):
    """A section of a recipe: unknown keys and values of another type are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
