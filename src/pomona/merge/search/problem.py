"""The sections `search` and `evaluate` of a merge recipe: what candidates are judged by, how they
are found, and how a point becomes a recipe.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, ValidationError

from pomona.documents import StrictModel
from pomona.errors import PomonaError, nearest
from pomona.merge.search.experts import experts_of, without
from pomona.merge.search.space import Space, fill, has_free, space_of
from pomona.records import TABLES

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Section = TypeVar("Section", bound="MergeTask")
Count = Annotated[int, Field(ge=1)]
Text = Annotated[str, Field(min_length=1)]


class ItemSelection(StrictModel):
    """Which rows of the records: `where` maps columns to the values wanted; at most `per_group`
    items of each group.
    """

    where: dict[Any, Any] = Field(default_factory=dict)
    per_group: Count | None = None


class MergeTask(StrictModel):
    """What a merge is judged by: records filled into a prompt and a completion, a metric, and a
    column to break the result down by.
    """

    records: Annotated[
        list[str],
        Field(min_length=1),
        BeforeValidator(lambda given: [given] if isinstance(given, str) else given),
    ]
    prompt: Text = "{prompt}"
    completion: Text = "{completion}"
    group: Text | None = None
    metric: Literal["loss", "chrf", "chrf++", "exact_match"] = "loss"
    max_new_tokens: Count = 64
    chat: bool = False
    dtype: Literal["float32", "bfloat16", "float16", "mixed"] | None = None
    test: ItemSelection


class SearchSettings(MergeTask):
    """How to search: the task, its validation items, the method and the number of trials.

    `base` is the model that the result is compared with, where that is not the recipe's base_model.
    """

    valid: ItemSelection
    method: Literal["cma", "optuna", "grid", "random", "greedy"] = "cma"
    trials: Count = 40
    base: Any = None


def read_search(recipe: Mapping[str, Any]) -> SearchSettings:
    """The section `search` of a recipe. Raises PomonaError naming the key that is missing, unknown
    or wrong.
    """
    return _section(recipe, "search", SearchSettings)


def read_task(recipe: Mapping[str, Any]) -> MergeTask | None:
    """What the section `evaluate` says, or else `search`; None when the recipe has neither."""
    if "evaluate" in recipe:
        return _section(recipe, "evaluate", MergeTask)
    return read_search(recipe) if "search" in recipe else None


def files_of(task: MergeTask, folder: Path) -> list[str]:
    """The files of the records: a table of the catalogue, or paths and globs relative to `folder`.
    Raises PomonaError for none.
    """
    files: list[str] = []
    for name in task.records:
        if name in TABLES:
            files.append(str(TABLES[name]))
        elif "://" in name:
            files.append(name)
        else:
            matches = sorted(glob.glob(str(folder / name), recursive=True))  # noqa: PTH207, an absolute pattern is allowed
            if not matches:
                raise PomonaError(
                    f'"{name}" is no table of the catalogue and no file',
                    where=folder,
                    remedy=nearest(name, TABLES),
                )
            files.extend(matches)
    return files


def _section(recipe: Mapping[str, Any], name: str, model: type[Section]) -> Section:
    section = recipe.get(name)
    if not isinstance(section, Mapping):
        raise PomonaError(
            "is not a mapping of keys and values" if name in recipe else "is missing",
            where=name,
            remedy=f"write {name}: {{records: …, prompt: …, completion: …, test: …}}",
        )
    try:
        return model.model_validate(dict(section))
    except ValidationError as error:
        mistakes = error.errors()
    # A key misspelt is also one missing: the misspelling is what the user has to see.
    first = next((one for one in mistakes if one["type"] in _UNKNOWN), mistakes[0])
    raise _mistake(first, name, model)


_UNKNOWN = ("extra_forbidden", "invalid_key")
_REMEDIES = {  # by the start of pydantic's name for the mistake
    "bool": ("true or false", "write true or false"),
    "int": ("a whole number of at least 1", "write 20, for example"),
    "greater": ("a whole number of at least 1", "write 20, for example"),
    "string": ("text", "put it in quotes"),
}


def _mistake(details: ErrorDetails, name: str, model: type[MergeTask]) -> PomonaError:
    """What pydantic found first, in the words of recipes."""
    *outer, key = [str(part) for part in details["loc"]]
    kind, value = details["type"], details["input"]
    where = ".".join((name, *outer, key))
    if kind in _UNKNOWN:
        known = (ItemSelection if outer else model).model_fields
        where = ".".join((name, *outer))
        return PomonaError(f'unknown key "{key}"', where=where, remedy=nearest(key, known))
    if "records" in (key, *outer):
        remedy = "name a file, a list of files, or ui"
        return PomonaError("names no table", where=f"{name}.records", remedy=remedy)
    if key in ("test", "valid"):
        remedy = f"write {key}: {{where: {{split: {key}}}, per_group: 20}}"
        return PomonaError("does not say which rows", where=where, remedy=remedy)
    if key == "where":
        message = "is not a mapping from columns to values"
        return PomonaError(message, where=where, remedy="write {split: test}")
    if kind == "literal_error":
        known = re.findall(r"'([^']*)'", details.get("ctx", {})["expected"])
        message = f'"{value}" is none of {", ".join(known)}'
        return PomonaError(message, where=where, remedy=nearest(str(value), known))
    expected, remedy = _REMEDIES[kind.partition("_")[0]]
    return PomonaError(f"{value!r} is not {expected}", where=where, remedy=remedy)


class Problem:
    """The settings, experts and free parameters of a recipe; for greedy soups the experts
    themselves are what is free.

    Raises PomonaError for a section that cannot be read, without free parameters, and for greedy
    with some.
    """

    def __init__(self, document: Mapping[str, Any], trials: int | None = None) -> None:
        settings = read_search(document)
        self.document = document
        self.settings = (
            settings if trials is None else settings.model_copy(update={"trials": trials})
        )
        self.experts = experts_of(document)
        self.greedy = self.settings.method == "greedy"
        if self.greedy and has_free(document):
            raise PomonaError(
                "greedy chooses among the experts of a recipe, and this one also has free "
                "parameters",
                where="search.method",
                remedy="write numbers in their place, or search by cma, optuna, random or grid",
            )
        self.space = (
            Space.of({expert.name: [0.0, 1.0] for expert in self.experts})
            if self.greedy
            else space_of(document)
        )

    def recipe(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The recipe at a point: its parameters filled in, or with the chosen experts only."""
        if not self.greedy:
            return fill(self.document, values)
        out = [expert for expert in self.experts if not values[expert.name]]
        return fill(without(self.document, out) if out else self.document, {})

    def first(self) -> dict[str, Any]:
        """The recipe that is planned before all others, to see whether it can be: the middle, or
        all experts.
        """
        return self.recipe(
            dict.fromkeys(self.space.names, 1.0) if self.greedy else self.space.middle()
        )
