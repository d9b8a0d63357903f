"""Merge recipes: mergekit's YAML becomes a `MergeRecipe`; whatever is wrong with it is said with
its line, all of it at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pomona.merge.reading.parameters import Settings
from pomona.merge.reading.references import ModelRef


@dataclass(frozen=True)
class Source:
    """A model of the merge, or some of its layers: `layers` is (first, one past the last); None for
    all of them.
    """

    model: ModelRef
    layers: tuple[int, int] | None = None
    parameters: Settings = field(default_factory=dict)


@dataclass(frozen=True)
class Slice:
    """Consecutive layers of the result, and where they come from."""

    sources: tuple[Source, ...]
    base: ModelRef | None = None
    parameters: Settings = field(default_factory=dict)


@dataclass(frozen=True)
class Module:
    """A part of the result, e.g. the text decoder of a model that also sees: whole models, or
    slices, one of them.
    """

    models: tuple[Source, ...] = ()
    slices: tuple[Slice, ...] = ()
    parameters: Settings = field(default_factory=dict)

    @property
    def sources(self) -> Iterator[Source]:
        """All sources, in the recipe's order."""
        yield from self.models
        for piece in self.slices:
            yield from piece.sources


@dataclass(frozen=True)
class TokenRule:
    """Where the embedding of a token comes from: zero, a model, or a token of a model by its id or
    text. None: mergekit's rule.

    `force` takes this row even for models that have the token themselves.
    """

    source: Literal["zero"] | ModelRef | None = None
    token_id: int | None = None
    token: str | None = None
    force: bool = False


@dataclass(frozen=True)
class TokenizerRule:
    """The tokenizer of the result: the union of all, the base's, or one model's; rules for tokens;
    rows padded to a multiple.
    """

    source: Literal["union", "base"] | ModelRef = "union"
    tokens: Mapping[str, TokenRule] = field(default_factory=dict)
    pad_to_multiple_of: int | None = None


@dataclass(frozen=True)
class MergeRecipe:
    """A checked recipe. One of `models`, `slices` and `modules` is given, the other two are empty.

    `key_map` maps the name of a model to {prefix in that model: prefix in the result} or "auto";
    "auto" alone stands for all models. `notes` tell what has no effect. `raw` is the recipe as it
    was read.
    """

    method: str
    models: tuple[Source, ...] = ()
    slices: tuple[Slice, ...] = ()
    modules: Mapping[str, Module] = field(default_factory=dict)
    base: ModelRef | None = None
    dtype: str | None = None  # as safetensors names it
    out_dtype: str | None = None
    tokenizer: TokenizerRule | None = None
    chat_template: str | None = None
    parameters: Settings = field(default_factory=dict)
    seed: int | None = None
    key_map: Mapping[str, Mapping[str, str] | Literal["auto"]] | Literal["auto"] = field(
        default_factory=dict
    )
    notes: tuple[str, ...] = ()
    raw: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sources(self) -> Iterator[Source]:
        """All sources of models, slices and modules, in the recipe's order."""
        yield from self.models
        for piece in self.slices:
            yield from piece.sources
        for module in self.modules.values():
            yield from module.sources

    @property
    def references(self) -> tuple[ModelRef, ...]:
        """Every model whose tensors go into the merge, each once: in the recipe's order, then bases
        that are not among them.
        """
        found = dict.fromkeys(source.model for source in self.sources)
        pieces = [
            *self.slices,
            *(piece for module in self.modules.values() for piece in module.slices),
        ]
        found |= dict.fromkeys(
            base for base in (*(piece.base for piece in pieces), self.base) if base is not None
        )
        return tuple(found)

    @property
    def donor(self) -> ModelRef:
        """The model that gives config and tokenizer: the base, or the first in the recipe."""
        return self.base or next(iter(self.sources)).model


def read_recipe(recipe: str | Path | Mapping[str, Any]) -> MergeRecipe:
    """Read and check a recipe: a YAML file, or the mapping that is in one.

    Raises PomonaError with a line for each mistake: file, line, what is wrong, and the nearest
    right name.
    """
    from pomona.merge.reading.recipe import read

    return read(recipe)
