"""The sections `search` and `evaluate` of a merge recipe: what candidates are judged by, how they
are found, and how a point becomes a recipe.
"""

from __future__ import annotations

import glob
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pomona.errors import PomonaError, nearest
from pomona.merge.search.experts import experts_of, without
from pomona.merge.search.propose import METHODS
from pomona.merge.search.space import Space, fill, has_free, space_of
from pomona.records import TABLES

METRICS = ("loss", "chrf", "chrf++", "exact_match")
DTYPES = ("float32", "bfloat16", "float16", "mixed")


@dataclass(frozen=True)
class ItemSelection:
    """Which rows of the records: `where` maps columns to the values wanted; at most `per_group`
    items of each group.
    """

    where: Mapping[str, Any] = field(default_factory=dict)
    per_group: int | None = None


@dataclass(frozen=True)
class MergeTask:
    """What a merge is judged by: records filled into a prompt and a completion, a metric, and a
    column to break the result down by.
    """

    records: tuple[str, ...]
    test: ItemSelection
    prompt: str = "{prompt}"
    completion: str = "{completion}"
    group: str | None = None
    metric: str = "loss"
    max_new_tokens: int = 64
    chat: bool = False
    dtype: str | None = None


@dataclass(frozen=True)
class SearchSettings:
    """How to search: the task, its validation items, the method and the number of trials.

    `base` is the model that the result is compared with, where that is not the recipe's base_model.
    """

    task: MergeTask
    valid: ItemSelection
    method: str = "cma"
    trials: int = 40
    base: Any = None


_TASK = (
    "records",
    "prompt",
    "completion",
    "group",
    "metric",
    "max_new_tokens",
    "chat",
    "dtype",
    "test",
)
_SEARCH = (*_TASK, "valid", "method", "trials", "base")


def read_search(recipe: Mapping[str, Any]) -> SearchSettings:
    """The section `search` of a recipe. Raises PomonaError naming the key that is missing, unknown
    or wrong.
    """
    section = _section(recipe, "search", _SEARCH)
    method = _one_of(section, "search", "method", tuple(METHODS), "cma")
    trials = _count(section, "search", "trials", 40)
    return SearchSettings(
        _task(section, "search"),
        _part(section, "search", "valid"),
        method,
        trials,
        section.get("base"),
    )


def read_task(recipe: Mapping[str, Any]) -> MergeTask | None:
    """What the section `evaluate` says, or else `search`; None when the recipe has neither."""
    if "evaluate" in recipe:
        return _task(_section(recipe, "evaluate", _TASK), "evaluate")
    return _task(_section(recipe, "search", _SEARCH), "search") if "search" in recipe else None


def files_of(task: MergeTask, folder: Path) -> list[str]:
    """The files of the records: a table of the catalogue, or paths and globs relative to `folder`.
    Raises PomonaError for none.
    """
    found: list[str] = []
    for name in task.records:
        if name in TABLES:
            found.append(str(TABLES[name]))
        elif "://" in name:
            found.append(name)
        else:
            matches = sorted(glob.glob(str(folder / name), recursive=True))  # noqa: PTH207, an absolute pattern is allowed
            if not matches:
                raise PomonaError(
                    f'"{name}" is no table of the catalogue and no file',
                    where=folder,
                    remedy=nearest(name, TABLES),
                )
            found.extend(matches)
    return found


def _section(recipe: Mapping[str, Any], name: str, known: tuple[str, ...]) -> Mapping[str, Any]:
    section = recipe.get(name)
    if not isinstance(section, Mapping):
        problem = "is not a mapping of keys and values" if name in recipe else "is missing"
        raise PomonaError(
            problem,
            where=name,
            remedy=f"write {name}: {{records: …, prompt: …, completion: …, test: …}}",
        )
    for key in section:
        if key not in known:
            raise PomonaError(f'unknown key "{key}"', where=name, remedy=nearest(str(key), known))
    return section


def _task(section: Mapping[str, Any], name: str) -> MergeTask:
    records = section.get("records")
    listed = [records] if isinstance(records, str) else records
    if (
        not isinstance(listed, list)
        or not listed
        or not all(isinstance(one, str) for one in listed)
    ):
        raise PomonaError(
            "names no table", where=f"{name}.records", remedy="name a file, a list of files, or ui"
        )
    dtype = _one_of(section, name, "dtype", DTYPES, None)
    return MergeTask(
        tuple(listed),
        _part(section, name, "test"),
        _text(section, name, "prompt", "{prompt}"),
        _text(section, name, "completion", "{completion}"),
        _text(section, name, "group", None),
        _one_of(section, name, "metric", METRICS, "loss"),
        _count(section, name, "max_new_tokens", 64),
        _flag(section, name, "chat"),
        dtype,
    )


def _part(section: Mapping[str, Any], name: str, key: str) -> ItemSelection:
    where = f"{name}.{key}"
    value = section.get(key)
    if not isinstance(value, Mapping):
        raise PomonaError(
            "does not say which rows",
            where=where,
            remedy=f"write {key}: {{where: {{split: {key}}}, per_group: 20}}",
        )
    for inner in value:
        if inner not in ("where", "per_group"):
            raise PomonaError(
                f'unknown key "{inner}"',
                where=where,
                remedy=nearest(str(inner), ("where", "per_group")),
            )
    rows = value.get("where", {})
    if not isinstance(rows, Mapping):
        raise PomonaError(
            "is not a mapping from columns to values",
            where=f"{where}.where",
            remedy="write {split: test}",
        )
    return ItemSelection(rows, _count(value, where, "per_group", None))


def _count(section: Mapping[str, Any], name: str, key: str, default: Any) -> Any:
    value = section.get(key, default)
    if value is not default and (
        isinstance(value, bool) or not isinstance(value, int) or value < 1
    ):
        raise PomonaError(
            f"{value!r} is not a whole number of at least 1",
            where=f"{name}.{key}",
            remedy="write 20, for example",
        )
    return value


def _text(section: Mapping[str, Any], name: str, key: str, default: Any) -> Any:
    value = section.get(key, default)
    if value is not default and (not isinstance(value, str) or not value):
        raise PomonaError(
            f"{value!r} is not text", where=f"{name}.{key}", remedy="put it in quotes"
        )
    return value


def _flag(section: Mapping[str, Any], name: str, key: str) -> bool:
    value = section.get(key, False)
    if not isinstance(value, bool):
        raise PomonaError(
            f"{value!r} is not true or false", where=f"{name}.{key}", remedy="write true or false"
        )
    return value


def _one_of(
    section: Mapping[str, Any], name: str, key: str, known: tuple[str, ...], default: Any
) -> Any:
    value = section.get(key, default)
    if value is not default and value not in known:
        raise PomonaError(
            f'"{value}" is none of {", ".join(known)}',
            where=f"{name}.{key}",
            remedy=nearest(str(value), known),
        )
    return value


class Problem:
    """The settings, experts and free parameters of a recipe; for greedy soups the experts
    themselves are what is free.

    Raises PomonaError for a section that cannot be read, without free parameters, and for greedy
    with some.
    """

    def __init__(self, document: Mapping[str, Any], trials: int | None = None) -> None:
        settings = read_search(document)
        self.document = document
        self.settings = replace(settings, trials=trials) if trials is not None else settings
        self.experts = experts_of(document)
        self.greedy = self.settings.method == "greedy"
        if self.greedy and has_free(document):
            message = (
                "greedy chooses among the experts of a recipe, and this one also has free "
                "parameters"
            )
            raise PomonaError(
                message,
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
