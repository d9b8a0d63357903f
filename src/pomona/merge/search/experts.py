"""The experts of a merge recipe, and the recipes made from it: one expert alone, all but one, all
with equal weights.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import PurePath
from typing import Any

from pomona.errors import PomonaError
from pomona.merge.reading.recipe import ModelRef, parse_model

KEPT = (
    "dtype",
    "out_dtype",
    "tokenizer_source",
    "tokenizer",
    "chat_template",
    "integers",
    "key_map",
    "base_model",
    "seed",
)
# these methods treat the base as one model among the others
FREE_OF_BASE = ("linear", "slerp", "passthrough")


@dataclass(frozen=True)
class Expert:
    """A model that is merged: a short name, unique in the recipe, and how the recipe writes it."""

    name: str
    written: Any

    @property
    def reference(self) -> ModelRef:
        """The model itself."""
        return parse_model(self.written)


def experts_of(recipe: Mapping[str, Any]) -> list[Expert]:
    """The models of `models`, `slices` or `modules`, each once and in their order; without the
    base, where a method has one.

    Raises PomonaError when a model cannot be read.
    """
    base = base_of(recipe)
    written_as: dict[ModelRef, Any] = {}
    for source in chain.from_iterable(map(_mappings, _lists(recipe))):
        reference = _parsed(source.get("model"))
        if base is None or reference != _parsed(base):
            written_as.setdefault(reference, source["model"])
    names = _short([str(reference) for reference in written_as])
    return [Expert(name, written) for name, written in zip(names, written_as.values(), strict=True)]


def base_of(recipe: Mapping[str, Any]) -> Any | None:
    """The model that the experts were made from, as the recipe writes it; None for methods that do
    not treat their base apart.
    """
    return None if recipe.get("merge_method") in FREE_OF_BASE else recipe.get("base_model")


def alone(written: Any) -> dict[str, Any]:
    """The recipe whose result is one model as it is, with its own tokenizer and configuration."""
    return {"merge_method": "linear", "models": [{"model": written, "parameters": {"weight": 1.0}}]}


def uniform(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The plain mean of all experts: the uniform soup of Wortsman et al. (2022), whatever the
    recipe's own method is.

    A base that is no expert has the weight 0: it only gives tokenizer and configuration.
    """
    models = [
        {"model": expert.written, "parameters": {"weight": 1.0}} for expert in experts_of(recipe)
    ]
    base = base_of(recipe)
    if base is not None:
        models.append({"model": base, "parameters": {"weight": 0.0}})
    return {
        **{key: recipe[key] for key in KEPT if key in recipe},
        "merge_method": "linear",
        "models": models,
    }


def without(recipe: Mapping[str, Any], left_out: Sequence[Expert]) -> dict[str, Any]:
    """The same recipe without some experts. The weights of the others stay as written; methods that
    normalise do so over what is left.

    Raises PomonaError when no model is left in a part of the recipe, or no expert at all.
    """
    gone = {expert.reference for expert in left_out}
    reduced = copy.deepcopy(dict(recipe))
    names = ", ".join(expert.name for expert in left_out)
    for sources in _lists(reduced):
        sources[:] = [source for source in sources if _parsed(source.get("model")) not in gone]
        if not sources:
            raise PomonaError(
                f"without {names} nothing is left to merge",
                remedy="use a recipe with more experts in every part",
            )
    if not experts_of(reduced):
        raise PomonaError(f"without {names} no expert is left", remedy="keep at least one")
    return reduced


def _lists(recipe: Mapping[str, Any]) -> Iterator[list[Any]]:
    """Every list of sources in a recipe."""
    modules = recipe.get("modules")
    for part in (recipe, *_mappings(modules.values() if isinstance(modules, Mapping) else ())):
        if isinstance(part.get("models"), list):
            yield part["models"]
        for piece in _mappings(part.get("slices") or ()):
            if isinstance(piece.get("sources"), list):
                yield piece["sources"]


def _mappings(values: Any) -> list[Mapping[str, Any]]:
    return [value for value in values if isinstance(value, Mapping)]


def _parsed(written: Any) -> ModelRef:
    try:
        return parse_model(written)
    except ValueError as error:
        raise PomonaError(
            str(error),
            where="model",
            remedy="write a folder, a name of the catalogue or a Hugging Face id",
        ) from None


def _short(references: Sequence[str]) -> list[str]:
    """The last part of each path, or as many parts as tell them apart."""
    parts = [PurePath(reference).parts for reference in references]
    for depth in range(1, max(map(len, parts), default=0) + 1):
        names = ["-".join(part[-depth:]).replace("/", "") for part in parts]
        if len(set(names)) == len(names):
            return names
    return [f"model-{index + 1}" for index in range(len(references))]
