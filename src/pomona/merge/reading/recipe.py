"""What a merge recipe says, read and checked: models, slices, modules, the tokenizer's rule; and
how recipes name models.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pomona.errors import nearest
from pomona.merge.reading.parameters import Settings


@dataclass(frozen=True)
class ModelRef:
    """A model: folder, catalogue name or Hugging Face id, with the LoRA adapter (folder or id) that
    is laid on it.
    """

    path: str
    revision: str | None = None
    lora: str | None = None
    lora_revision: str | None = None
    architecture: str | None = None  # mergekit's override_architecture

    def __str__(self) -> str:
        lora = f"+{_joined(self.lora, self.lora_revision)}" if self.lora else ""
        return _joined(self.path, self.revision) + lora

    @property
    def plain(self) -> ModelRef:
        """The model without its adapter."""
        return ModelRef(self.path, self.revision, architecture=self.architecture)


def _joined(path: str, revision: str | None) -> str:
    return f"{path}@{revision}" if revision else path


def meant(key: str, known: Iterable[str]) -> bool:
    """Whether an unknown key is a known one misspelt, such as "wieght", and not simply something
    else.
    """
    return bool(difflib.get_close_matches(key.lower(), list(known), n=1, cutoff=0.8))


def parse_model(value: Any, note: Callable[[str], None] = lambda _: None) -> ModelRef:
    """A model as mergekit's recipes write it: "path", "path@revision", "path+adapter", or mappings
    of these parts.

    Raises ValueError with what is wrong; `note` is told of keys without effect. A path that itself
    holds "@" or "+" is written {model: {path: …}}.
    """
    if isinstance(value, str):
        parts = value.split("+")
        if len(parts) > 2:
            raise ValueError(
                f'"{value}" has more than one "+"; write {{model: {{path: …}}, lora: {{path: …}}}}'
            )
        return ModelRef(*_path(parts[0]), *(_path(parts[1]) if len(parts) == 2 else (None, None)))
    if not isinstance(value, Mapping):
        raise ValueError("expected the name of a model or a mapping with its parts")
    _keys(value, ("model", "lora", "override_architecture"), note)
    if "model" not in value:
        raise ValueError('"model" is missing')
    lora, architecture = value.get("lora"), value.get("override_architecture")
    if architecture is not None and not isinstance(architecture, str):
        raise ValueError('"override_architecture" is the name of a class, as in config.json')
    return ModelRef(
        *_path(value["model"], note),
        *(_path(lora, note) if lora is not None else (None, None)),
        architecture,
    )


def _path(value: Any, note: Callable[[str], None] = lambda _: None) -> tuple[str, str | None]:
    if isinstance(value, Mapping):
        _keys(value, ("path", "revision"), note)
        path, revision = value.get("path"), value.get("revision")
        if (
            not isinstance(path, str)
            or not path
            or (revision is not None and not isinstance(revision, str))
        ):
            raise ValueError(
                'expected {path: …, revision: …}, both text, "revision" may be left out'
            )
        return path, revision
    if not isinstance(value, str) or not value:
        raise ValueError(f"expected the path or id of a model, found {value!r}")
    path, *revisions = value.split("@")
    if len(revisions) > 1 or not path:
        raise ValueError(
            f'"{value}" is not a path, or a path and a revision joined by one "@"; write '
            f"{{path: …, revision: …}}"
        )
    return path, revisions[0] if revisions else None


def _keys(value: Mapping[Any, Any], known: tuple[str, ...], note: Callable[[str], None]) -> None:
    for key in map(str, value):
        if key not in known and meant(key, known):
            raise ValueError(f'unknown key "{key}": {nearest(key, known)}')
        if key not in known:
            note(f'"{key}" has no effect')


@dataclass(frozen=True)
class MergeSource:
    """A model of the merge, or some of its layers: `layers` is (first, one past the last); None for
    all of them.
    """

    model: ModelRef
    layers: tuple[int, int] | None = None
    parameters: Settings = field(default_factory=dict)


@dataclass(frozen=True)
class Slice:
    """Consecutive layers of the result, and where they come from."""

    sources: tuple[MergeSource, ...]
    base: ModelRef | None = None
    parameters: Settings = field(default_factory=dict)


@dataclass(frozen=True)
class RecipeModule:
    """A part of the result, e.g. the text decoder of a model that also sees: whole models, or
    slices, one of them.
    """

    models: tuple[MergeSource, ...] = ()
    slices: tuple[Slice, ...] = ()
    parameters: Settings = field(default_factory=dict)

    @property
    def sources(self) -> Iterator[MergeSource]:
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

    `integers`: whether tensors of whole numbers must be equal in all models, or are those of the
    base or first. `key_map` maps the name of a model to {prefix in that model: prefix in the
    result} or "auto"; "auto" alone stands for all models. `notes` tell what has no effect. `raw` is
    the recipe as it was read.
    """

    method: str
    models: tuple[MergeSource, ...] = ()
    slices: tuple[Slice, ...] = ()
    modules: Mapping[str, RecipeModule] = field(default_factory=dict)
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
    integers: Literal["equal", "base"] = "equal"
    notes: tuple[str, ...] = ()
    raw: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sources(self) -> Iterator[MergeSource]:
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
        models = dict.fromkeys(source.model for source in self.sources)
        pieces = [
            *self.slices,
            *(piece for module in self.modules.values() for piece in module.slices),
        ]
        models |= dict.fromkeys(
            base for base in (*(piece.base for piece in pieces), self.base) if base is not None
        )
        return tuple(models)

    @property
    def named(self) -> tuple[ModelRef, ...]:
        """`references`, and then the models of which only tokens are asked for."""
        rule = self.tokenizer
        asked = (rule.source, *(token.source for token in rule.tokens.values())) if rule else ()
        others = (source for source in asked if isinstance(source, ModelRef))
        return tuple(dict.fromkeys((*self.references, *others)))

    @property
    def donor(self) -> ModelRef:
        """The model that gives config and tokenizer: the base, or the first in the recipe."""
        return self.base or next(iter(self.sources)).model
