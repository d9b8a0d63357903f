"""What a mix may say: its inputs, the schedule over them, and how much training sees."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from pomona.data.mixing.mixture import LEAST_TEMPERATURE, MOST_WEIGHT
from pomona.data.mixing.schedule import schedule_of
from pomona.documents import StrictModel, problems, read_model
from pomona.errors import PomonaError


def _paths(value: Any) -> Any:
    paths = value if isinstance(value, list) else [value]
    if not paths or not all(isinstance(path, str) and path for path in paths):
        raise PydanticCustomError("expected", "a path, a glob, or a list of them")
    return paths


Text = Annotated[str, Field(min_length=1)]
Paths = Annotated[list[str], BeforeValidator(_paths, json_schema_input_type=str | list[str])]
Weight = Annotated[float, Field(ge=0, le=MOST_WEIGHT)]
Datasets = Annotated[
    Annotated[list[Text], Field(min_length=1), Tag("names")]
    | Annotated[dict[Text, Weight | None], Field(min_length=1), Tag("weights")],
    Discriminator(lambda value: "names" if isinstance(value, list) else "weights"),
]


class OriginRecipe(StrictModel):
    """A source in two-level weighting."""

    weight: Weight | None = None
    """Weight among the sources; by size when left out."""
    datasets: Datasets = Field(default=[])
    """Its datasets, or the weight of each (null: by size); the one of its name when left out."""


class MixtureRecipe(StrictModel):
    """A mixture; shares are natural when nothing is given."""

    weights: dict[Text, Weight] = Field(default={})
    """Weight of each dataset, of any total; one left out is not shown."""
    temperature: Annotated[float, Field(ge=LEAST_TEMPERATURE, allow_inf_nan=True)] = 1.0
    """A dataset of natural share p is shown with share p^(1/temperature); .inf makes all alike."""
    sources: dict[Text, OriginRecipe] = Field(default={})
    """Weights on two levels: sources, and the datasets in each."""


class PhaseRecipe(MixtureRecipe):
    """A mixture that holds for a part of training."""

    start: Annotated[float, Field(ge=0, lt=1)] = Field(default=0.0, alias="from")
    """Share of training at which it begins; where the phase before ends when left out."""
    end: Annotated[float, Field(gt=0, le=1)] = Field(default=1.0, alias="to")
    """Share of training at which it ends; the last may leave it out."""


ScheduleRecipe = Annotated[
    Annotated[list[PhaseRecipe], Field(min_length=1), Tag("phases")]
    | Annotated[MixtureRecipe, Tag("mixture")],
    Discriminator(lambda value: "phases" if isinstance(value, list) else "mixture"),
]


class MixRecipe(StrictModel):
    """Tables, and the order in which a training sees their rows."""

    inputs: dict[Text, Paths] = Field(default={})
    """Name of each dataset and its files, relative to the recipe's folder."""
    schedule: ScheduleRecipe | None = None
    """One mixture, or phases; natural shares when left out."""
    total: Annotated[float, Field(gt=0)] | None = None
    """How much training sees, in units of `size`; as much as the inputs hold when left out."""
    size: Text = "rows"
    """"rows", "bytes" of the text, or a column of whole numbers."""
    column: Text = "dataset"
    """Column for the dataset's name."""
    seed: int = 0
    """Seed of the order."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.inputs:
            text = 'there are no inputs — write "inputs:" and under it NAME: PATH, one a line'
            raise problems([(("inputs",), text)])
        try:
            # What a schedule must be does not depend on sizes, so it is told before any is counted.
            schedule_of(self.phases(), dict.fromkeys(self.inputs, 1.0))
        except PomonaError as error:
            phase = re.match(r"phase (\d+)", str(error.where))
            place = ("schedule", int(phase[1]) - 1) if phase else ("schedule",)
            raise problems([(place, f"{error.where}: {error.message} — {error.remedy}")]) from None
        return self

    def phases(self) -> Any:
        """The schedule as `schedule_of` reads it."""
        return self.model_dump(by_alias=True, exclude_unset=True).get("schedule") or {}


def load_mix(path: str | Path) -> dict[str, Any]:
    """The keyword arguments of `mix` that a YAML file gives; paths in it are relative to its
    folder.

    Raises PomonaError naming file, line and key of everything that is missing, unknown or wrong.
    """
    folder = Path(path).parent
    mix = read_model(path, MixRecipe, kind="mix", example="docs/data.md for a mix")
    given = {key: getattr(mix, key) for key in mix.model_fields_set}
    inputs = {
        name: [place if "://" in place else str(folder / place) for place in places]
        for name, places in mix.inputs.items()
    }
    schedule = {"schedule": mix.phases()} if "schedule" in given else {}
    return given | schedule | {"inputs": inputs}
