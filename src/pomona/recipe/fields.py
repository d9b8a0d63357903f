"""The types of a recipe's fields."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

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
