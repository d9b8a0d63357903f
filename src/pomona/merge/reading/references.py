"""Names of models in merge recipes: a folder or hub id, a revision, and an adapter laid on it."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pomona.errors import nearest


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
