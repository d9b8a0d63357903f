"""What a recipe may say of a metric: its name alone, or a mapping of its name and its options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from pomona.documents import StrictModel, model_of, problems
from pomona.errors import PomonaError, nearest
from pomona.tasks._metrics import METRICS, extractor
from pomona.tasks.rules import JsonValid, Step

_OWNERS = {
    "beta": ("chrf", "chrf++"),
    "tokenize": ("bleu",),
    "effective_order": ("bleu",),
    "extract": ("exact_match",),
    "match": ("exact_match",),
    "normalise": ("exact_match",),
    "equal": ("exact_match",),
    "json_schema": ("json_valid",),
}


class MetricOptions(StrictModel):
    """How an answer is compared with its reference: a metric and its options."""

    name: Annotated[str, Field(min_length=1)]
    """chrf, chrf++, bleu, ter, exact_match, json_valid, bits_per_byte, acc, acc_norm, acc_bytes, or
    MODULE:FUNCTION.
    """
    beta: Annotated[int, Field(ge=1)] | None = None
    """Of chrf and chrf++: how many times recall weighs; 2 when left out."""
    tokenize: Literal["13a", "char", "none"] | None = None
    """Of bleu: how texts are cut into words; 13a when left out."""
    effective_order: bool | None = None
    """Of bleu: leave out the orders that the answers are too short for."""
    extract: Annotated[str, Field(min_length=1)] | None = None
    """Of exact_match: what is compared: number, boxed, text, answer, regex:PATTERN or
    MODULE:FUNCTION; the whole answer when left out.
    """
    match: Literal["first", "last"] | None = None
    """Of exact_match: which of several is extracted; the last when left out."""
    normalise: Annotated[list[Step], Field(min_length=1)] | None = None
    """Of exact_match: what does not count: unicode, lower, punctuation, articles."""
    equal: Literal["text", "number"] | None = None
    """Of exact_match: number compares by value where both are numbers."""
    json_schema: dict[str, Any] | None = Field(default=None, alias="schema")
    """Of json_valid: a JSON Schema that the answer must fulfil."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if several := list(self._mistakes()):
            raise problems(several)
        return self

    @property
    def given(self) -> str | dict[str, Any]:
        """As `metric` takes it, and as JSON holds it: the name alone where there are no options."""
        said = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        return self.name if len(said) == 1 else said

    def _mistakes(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        if self.name not in METRICS and ":" not in self.name:
            remedy = nearest(self.name, [*METRICS, "MODULE:FUNCTION"])
            yield ("name",), f'there is no metric "{self.name}" — {remedy}'
            return
        for field, owners in _OWNERS.items():
            if getattr(self, field) is not None and self.name not in owners:
                key = "schema" if field == "json_schema" else field
                text = f'"{key}" belongs to {" and ".join(owners)}, not to {self.name}'
                yield (key,), text
        if self.match and not self.extract:
            yield ("match",), '"match" belongs to "extract", which is not given'
        code = self.extract and ":" in self.extract and not self.extract.startswith("regex:")
        try:
            if self.extract and not code:  # code is imported when it is used
                extractor(self.extract)
        except PomonaError as error:
            yield ("extract",), f'"extract": {error}'
        try:
            JsonValid(self.json_schema)
        except PomonaError as error:
            yield ("schema",), f'"schema": {error}'


def chosen(given: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The name and the options of a metric given as a mapping. Raises PomonaError that tells all
    mistakes, with the nearest right names.
    """
    read = model_of(given, MetricOptions, kind="metric")
    options = read.model_dump(exclude_none=True, exclude={"name"})
    if "json_schema" in options:
        options["schema"] = options.pop("json_schema")
    if "normalise" in options:
        options["normalise"] = tuple(options["normalise"])
    return read.name, options


def _listed(value: Any) -> Any:
    several = value if isinstance(value, list) else [value]
    return [{"name": one} if isinstance(one, str) else one for one in several]


OneOrMore = Annotated[
    list[MetricOptions],
    Field(min_length=1),
    BeforeValidator(
        _listed,
        json_schema_input_type=str | MetricOptions | list[str | MetricOptions],
    ),
]
