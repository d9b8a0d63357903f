"""What a recipe may say of the levers, and the types of its fields."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator

from pomona.documents import StrictModel, problems
from pomona.errors import PomonaError

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


def _banded(value: Any) -> Any:
    names = [value] if isinstance(value, str) else value
    return {name: list(BANDS) for name in names} if isinstance(names, list) else value


Band = Literal["bottom", "middle", "top"]
Score = Literal[
    "perplexity", "el2n", "memorization", "vog", "cat_var", "cat_diff", "length", "mtld"
]
BANDS: tuple[Band, ...] = get_args(Band)
Bands = Annotated[
    dict[Score, Annotated[list[Band], Field(min_length=1)]],
    Field(min_length=1),
    BeforeValidator(_banded, json_schema_input_type=Score | list[Score] | dict[Score, list[Band]]),
]
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


class Dedup(StrictModel):
    """Leave out near-duplicates: rows whose prompt and completion share most of their character
    n-grams with a row before them.
    """

    threshold: Share = 0.8
    """Jaccard similarity from which a row is a duplicate."""


class Upsample(StrictModel):
    """Show some groups more often at the end of training (Blakeney et al. 2024)."""

    groups: list[Text] | None = None
    """The groups to raise; those in the tail when left out."""
    share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Their share of the last part, in tokens."""
    last: Annotated[Shares, Field(min_length=1)] = Field(default=[0.2])
    """Length of the last part as a share of training, or several."""


class DataLever(StrictModel):
    """Fine-tune on chosen data. All data as they come, and a random part of the same size, are
    always measured beside it.
    """

    by: Bands = Field(
        default={"perplexity": list(BANDS)},
        validate_default=True,
        description=(
            "Score that orders the examples, several of them, or the bands of each: "
            "{perplexity: [middle], el2n: [bottom, top]}."
        ),
    )
    keep: Shares
    """Share of the training text kept, in bytes, or several shares to try."""
    checkpoints: Texts | None = Field(
        default=None,
        description=(
            "Models that el2n, vog, cat_var and cat_diff are computed over, from early "
            "to late; the base if left out."
        ),
    )
    memorize: Positive = 32
    """Tokens of each completion that memorization asks for."""
    dedup: Dedup | None = None
    """Leave out near-duplicates."""
    upsample: Upsample | None = None
    """Raise the share of some groups at the end."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        over = [name for name in ("vog", "cat_var", "cat_diff") if name in self.by]
        if over and len(self.checkpoints or []) < 2:
            text = f'"{over[0]}" compares checkpoints: name two or more, from early to late'
            raise problems([(("checkpoints",), text)])
        return self


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


class MergingLever(StrictModel):
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
        for place, merge in enumerate(self.methods):
            if merge.method in ("slerp", "nuslerp") and number != 2:
                text = f'"{merge.method}" merges two experts, not {number}: use multislerp'
                yield ("methods", place), text
        owner: dict[str, str] = {}
        for name, groups in self.groups.items():
            for place, group in enumerate(groups):
                if group in owner:
                    same = owner[group] == name
                    whose = "the same expert" if same else f'expert "{owner[group]}"'
                    yield ("experts", name, place), f'group "{group}" already belongs to {whose}'
                owner.setdefault(group, name)


def _strategies(names: list[str]) -> list[str]:
    mistakes = ((place, _mistake(names, place)) for place in range(len(names)))
    return checked(names, (((place,), text) for place, text in mistakes if text))


def _mistake(names: list[str], place: int) -> str:
    """What is wrong with one of several strategies, if anything."""
    from pomona.sample import REWARDS, parse_strategy

    name = names[place]
    try:
        strategy = parse_strategy(name)
    except PomonaError as error:
        return f"{error.message}: {error.remedy}"
    if strategy.n < 2:
        return f'"{name}" has one answer: give a pool of at least 2, such as hedged5-mbr'
    if (
        strategy.select in {"xmbr", "chops"}
        or strategy.utility in {"embedding", "judge"}
        or strategy.reward not in REWARDS
    ):
        return f'"{name}" asks a judge, and a recipe has none: measure it with `pomona sample`'
    if strategy.stop is not None:
        return (
            f'"{name}" draws until answers agree, and a recipe draws all: measure it with '
            "`pomona sample`"
        )
    for other in names[:place]:
        # A name before it may be wrong, which is said at its own place.
        with suppress(PomonaError):
            if parse_strategy(other) == strategy:
                return f'"{name}" is there twice'
    return ""


class SamplingLever(StrictModel):
    """Answer with a pool of samples and a choice among them."""

    strategies: Annotated[Texts, AfterValidator(_strategies)] = Field(
        description=(
            "How many answers are drawn and which is taken, by name: hedged5-mbr, "
            "sample16-best, hedged8-mbr-t1-minp0.1, …"
        )
    )


class Levers(StrictModel):
    """The levers to measure against the base model."""

    data: DataLever | None = None
    """Prune the data."""
    merging: MergingLever | None = None
    """Merge the weights."""
    sampling: SamplingLever | None = None
    """Pick the samples."""
