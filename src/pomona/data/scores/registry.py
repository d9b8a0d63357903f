"""The scores there are: what each needs to be computed, and users' own by the entry-point group
`pomona.scores`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from pomona.data.quality import QUALITY, columns_of
from pomona.errors import PomonaError, nearest
from pomona.models import Model

GROUP = "pomona.scores"
PER_MODEL = ("perplexity", "memorization")  # one column a model where several are given
OVER_MODELS = {
    "el2n": 1,
    "vog": 2,
    "cat_var": 2,
    "cat_diff": 2,
}  # one column; the fewest models it takes
OF_TEXT = ("length", "mtld", "language", *QUALITY)


@dataclass(frozen=True)
class ScoreContext:
    """What a user's score is given beside the texts: `langs` and `groups` of the same rows (or
    None), the models' names and a loader.

    A score is an object that an entry point of the group `pomona.scores` names: called as
    `score(texts, context)` with a chunk of texts, or of (prompt, completion) pairs, it returns
    float64 `[n]`, all finite. A row's value must depend on that row alone, for chunks are cut as
    memory and resuming ask. `context.load(uri)` gives a `pomona.models.Model`, loaded once.
    """

    models: tuple[str, ...]
    langs: Sequence[str] | None
    groups: Sequence[str] | None
    seed: int
    load: Callable[[str], Model]


UserScore = Callable[[Sequence[str] | Sequence[tuple[str, str]], ScoreContext], NDArray[np.float64]]


@dataclass(frozen=True)
class Chosen:
    """The scores of one call. `of_models` are the built-in ones that run models, `of_text` the
    others, `users` by name.
    """

    names: tuple[str, ...]
    of_models: frozenset[str]
    of_text: frozenset[str]
    users: dict[str, UserScore]

    def columns(self, labels: Sequence[str]) -> list[str]:
        """Names of the columns that are added, in order: `perplexity`, or `perplexity@MODEL` for
        each of several models; of rules of quality all that they add.
        """
        several = len(labels) > 1
        columns: list[str] = []
        for name in self.names:
            if several and name in PER_MODEL:
                columns += [f"{name}@{label}" for label in labels]
            else:
                columns += columns_of(name) if name in QUALITY else [name]
        return columns

    @property
    def of_quality(self) -> list[str]:
        """The rules of quality among them."""
        return [name for name in self.names if name in QUALITY]


def score_names() -> list[str]:
    """Every score that can be asked for: the built-in ones, then those that installed packages
    add.
    """
    return [*PER_MODEL, *OVER_MODELS, *OF_TEXT, *sorted(_registered())]


def choose(scores: Sequence[str], models: Sequence[str]) -> Chosen:
    """Check the scores of a call and load the users' ones. Raises PomonaError for an unknown score
    and for too few models.
    """
    registered = _registered()
    builtin = {*PER_MODEL, *OVER_MODELS, *OF_TEXT}
    if not scores:
        raise PomonaError(
            "no score is asked for", remedy=f"choose from: {', '.join(score_names())}"
        )
    for name in scores:
        if name not in builtin and name not in registered:
            raise PomonaError(f'unknown score "{name}"', remedy=nearest(name, score_names()))
        if name in builtin and name in registered:
            raise PomonaError(
                f'the score "{name}" is built in',
                where=registered[name].value,
                remedy="give the entry point another name",
            )
        least = OVER_MODELS.get(name, 1 if name in PER_MODEL else 0)
        if len(models) < least:
            remedy = "give that many, from early to late" if least > 1 else "name a model"
            raise PomonaError(
                f'the score "{name}" needs {least} or more models, and {len(models)} are given',
                remedy=remedy,
            )
    of_models = {
        name
        for name in scores
        if name in PER_MODEL or name in OVER_MODELS or (name == "length" and models)
    }
    users = {name: _load(registered[name]) for name in scores if name not in builtin}
    of_text = {name for name in scores if name in OF_TEXT} - of_models
    return Chosen(tuple(dict.fromkeys(scores)), frozenset(of_models), frozenset(of_text), users)


def _registered() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def _load(point: EntryPoint) -> UserScore:
    try:
        function: Any = point.load()
    except (ImportError, AttributeError) as error:
        message = f'the score "{point.name}" cannot be loaded: {error}'
        raise PomonaError(
            message, where=point.value, remedy="reinstall the package that adds it"
        ) from error
    if not callable(function):
        raise PomonaError(
            f'the score "{point.name}" is not callable',
            where=point.value,
            remedy="name a function (texts, context)",
        )
    return cast("UserScore", function)
