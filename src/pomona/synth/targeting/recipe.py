"""What a recipe of `pomona synth targets` may say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from pomona.documents import StrictModel, problems, read_model
from pomona.records import NamedRows, Names
from pomona.tasks import MetricOptions

LENGTH, DISTANCE = "length", "distance"  # what is made of the texts, where no column says it
MADE = (LENGTH, DISTANCE)
Text = Annotated[str, Field(min_length=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]


class Test(NamedRows):
    """Rows of a test: no prompt is a near copy of one of their texts."""

    text: Text = "text"
    """Column of the texts."""


class Answers(NamedRows):
    """Answers of the model to what it was asked, beside references."""

    text: Text | None = None
    """Column of what was asked; that of the recipe when left out."""
    answer: Text = "answer"
    """Column of its answers."""
    reference: Text = "reference"
    """Column of the right answers."""
    metric: MetricOptions | Text = "chrf"
    """How an answer is compared with its reference."""
    cluster: Text | None = None
    """Column of what is resampled together for intervals."""


class Pool(NamedRows):
    """Prompts to choose from."""

    text: Text | None = None
    """Column of the texts; that of the recipe when left out."""
    id: Text | None = None
    """Column of ids, which differ; the number of the row when left out."""
    cross: bool = False
    """Offer each text in every group where the training data has it not, and not in its own group
    alone: the empty cells of a table of translations.
    """
    columns: Names = Field(default=[])
    """Further columns that go along."""


class Tempered(StrictModel):
    """Groups by their shares p of the training data, as p^(1/temperature)."""

    temperature: Annotated[float, Field(ge=1)]
    """1 leaves shares as they are; the higher, the more alike they become."""


class TargetsRecipe(StrictModel):
    """Where training data or a model are thin or weak, and what to ask for there."""

    training: NamedRows
    """What there is."""
    text: Text = "text"
    """Column of the texts."""
    by: Names = Field(default=["lang"])
    """Columns whose values make the cells, the first of which are the groups. `length` and
    `distance` are made of the texts where no column has the name: how many characters, and how near
    the nearest text of the training data in the same group is.
    """
    only: dict[Text, Names] = Field(default={})
    """Only cells with one of these values."""
    lengths: Annotated[list[Positive], Field(min_length=1)] = Field(default=[20, 60])
    """Where lengths are cut, in characters."""
    far: Share = 0.4
    """A text is far where the similarity of the nearest one is below this."""
    near: Share = 0.65
    """A text is near where that similarity is at least this."""
    demand: NamedRows | None = None
    """What is asked for in use, such as validation rows: how much of it is in each cell, and how
    much of that is far from the training data.
    """
    answers: Answers | None = None
    """Answers of a model with references: where it is weak."""
    target: Literal["uniform", "demand"] | Tempered = "uniform"
    """What shares there should be: of groups all alike, tempered, or those of the demand. Within a
    group cells have the shares that they have in the demand of all groups, whether or not `only`
    names them; without a demand they are alike, or as in the training data where groups are
    tempered.
    """
    rows: Positive
    """How many rows to ask for."""
    weakness: Share = 0.5
    """How much of them goes to where answers are weak; the rest goes to where data is thin."""
    pool: Pool | None = None
    """Where prompts for these rows come from."""
    test: list[Test] = Field(default=[])
    """Tests, of whose texts no prompt is a near copy."""
    near_duplicates: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Jaccard index of shingles from which texts are near copies: of a test's, or of each other
    within a group.
    """
    seed: Annotated[int, Field(ge=0)] = 0
    """Which of the prompts of a cell are taken."""

    @property
    def group(self) -> str:
        """The column of groups."""
        return self.by[0]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if wrong := list(self._mistakes()):
            raise problems(wrong)
        return self

    def _mistakes(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        if self.far > self.near:
            yield ("far",), f'"far" must be at most "near", which is {self.near}'
        if self.lengths != sorted(set(self.lengths)):
            yield ("lengths",), '"lengths" must rise'
        if len(set(self.by)) < len(self.by):
            yield ("by",), '"by" names a column twice'
        if self.group in MADE:
            yield ("by", 0), f'"by" begins with "{self.group}": name the column of groups first'
        if self.target == "demand" and self.demand is None:
            yield ("target",), '"target" is demand, which is not given'
        for name in self.only:
            if name not in self.by:
                yield ("only", name), f'"only" names "{name}", which is not in "by"'
        if self.test and self.pool is None:
            yield ("test",), '"test" is for prompts, and there is no pool'


def load_targets(path: str | Path) -> TargetsRecipe:
    """The recipe in a YAML file. Raises PomonaError with every mistake and its line."""
    return read_model(path, TargetsRecipe, kind="recipe of targets", example="docs/synthesis.md")


def targets_schema() -> dict[str, Any]:
    """The JSON Schema of such recipes."""
    return TargetsRecipe.model_json_schema()
