"""A recipe file becomes a `Recipe`; whatever is wrong with it is said with its line, all of it at
once.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pomona.documents import read_model
from pomona.recipe.schema import Recipe


def load_recipe(path: str | Path) -> Recipe:
    """Read and check a recipe. Raises PomonaError with a line for each mistake: file, line, what is
    wrong, and the nearest right name.
    """
    return read_model(path, Recipe, kind="recipe", example="examples/quickstart.yaml for a recipe")


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a recipe, for editors and other programs."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Recipe.model_json_schema()}


def resolve(folder: str | Path, value: str) -> str:
    """`value` with a path relative to the recipe's `folder` made absolute, also after `hf:` and
    `gguf:` and with wildcards.

    Catalogue names, addresses with `://`, absolute paths and whatever does not exist in `folder`
    stay as they are.
    """
    scheme, _, rest = (
        value.rpartition(":") if value.startswith(("hf:", "gguf:")) else ("", "", value)
    )
    path = Path(os.path.abspath(folder), rest)  # noqa: PTH100
    if not rest or "://" in value or Path(rest).is_absolute() or not _exists(Path(folder), rest):
        return value
    if not scheme and value in _catalogue():
        return value
    return f"{scheme}:{path}" if scheme else str(path)


def _exists(folder: Path, rest: str) -> bool:
    if (folder / rest).exists():
        return True
    return any(sign in rest for sign in "*?[") and bool(list(folder.glob(rest)))


def _catalogue() -> set[str]:
    from pomona import models

    return {"ui", *(entry.name for entry in models.catalogue())}
