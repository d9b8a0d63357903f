"""The levers of a recipe, one file each: every `Lever` in this folder is one, and a user's own is
named by `module:Class`. What their steps do is in `pomona.recipe.steps`.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import Field, create_model

from pomona._lazy import function_named
from pomona.documents import StrictModel, read_model, read_yaml
from pomona.errors import PomonaError
from pomona.recipe.asked import OF_TORCH, lacking
from pomona.recipe.fields import Mistakes
from pomona.recipe.lever import Lever
from pomona.recipe.levers.controls import add_controls
from pomona.recipe.levers.scale import add_scale
from pomona.recipe.plan import RunPlan
from pomona.recipe.schema import Recipe
from pomona.recipe.stacks import add_stacks

Kinds = Mapping[str, type[Lever]]


@cache
def known_levers() -> dict[str, type[Lever]]:
    """The levers of this folder by their names."""
    kinds = {}
    for found in pkgutil.iter_modules(__path__, f"{__name__}."):
        module = importlib.import_module(found.name)
        for kind in vars(module).values():
            if _is_lever(kind) and kind.__module__ == found.name:
                kinds[kind.name] = kind
    return kinds


def _is_lever(value: object) -> bool:
    return inspect.isclass(value) and issubclass(value, Lever) and not inspect.isabstract(value)


def _users(path: str | Path) -> dict[str, type[Lever]]:
    """The levers that a recipe names by `module:Class`. Raises PomonaError."""
    written = read_yaml(path, "recipe", "examples/quickstart.yaml for a recipe").value
    levers = written.get("levers") if isinstance(written, dict) else None
    names = [str(name) for name in levers if ":" in str(name)] if isinstance(levers, dict) else []
    return {name: _users_lever(name, Path(path)) for name in names}


def _users_lever(name: str, path: Path) -> type[Lever]:
    kind: Any = function_named(name, beside=path.parent)
    if not _is_lever(kind):
        remedy = "derive it from pomona.recipe.Lever, with a `name`, a `Spec`, `names` and `apply`"
        raise PomonaError(f'"{name}" is no lever', where=path, remedy=remedy)
    return kind


def recipe_model(users: Kinds, folder: Path = Path()) -> type[Recipe]:
    """What a recipe in a folder, with these levers beside our own, may say."""
    kinds = {**known_levers(), **users}
    fields: dict[str, Any] = {}
    for name, kind in kinds.items():
        said = inspect.getdoc(kind.Spec) or inspect.getdoc(kind) or ""
        fields[name] = (
            kind.Spec | None,
            Field(default=None, description=said.partition("\n\n")[0]),
        )
    levers: Any = create_model(
        "Levers", __base__=StrictModel, __doc__="The levers to measure against the base.", **fields
    )

    class Checked(Recipe):
        beside = folder

        def _mistakes(self) -> Mistakes:
            yield from super()._mistakes()
            for name, spec in asked(self):
                if kinds[name].trains and self.train is None:
                    text = f'the lever "{name}" fine-tunes models and needs "train"'
                    yield ("levers", name), text
                for place, uri, ability in kinds[name].needs(spec, self):
                    if text := lacking(f'the lever "{name}"', self.uri(uri), ability):
                        yield ("levers", name, *place), text
                for place, text in kinds[name].mistakes(spec, self):
                    yield ("levers", name, *place), text

    told = Field(default=levers(), description="The levers to measure.")
    return create_model("Recipe", __base__=Checked, __doc__=Recipe.__doc__, levers=(levers, told))


def asked(recipe: Recipe) -> Iterator[tuple[str, Any]]:
    """The name and the part of every lever that a recipe asks for."""
    for name in type(recipe.levers).model_fields:
        if (spec := getattr(recipe.levers, name)) is not None:
            yield name, spec


def load_recipe(path: str | Path) -> Recipe:
    """Read and check a recipe. Raises PomonaError with a line for each mistake: file, line, what is
    wrong, and the nearest right name.
    """
    model = recipe_model(_users(path), Path(path).parent)
    return read_model(path, model, kind="recipe", example="examples/quickstart.yaml for a recipe")


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a recipe, for editors and other programs."""
    schema = recipe_model({}).model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Recipe"}


def add_levers(plan: RunPlan, folder: Path) -> list[Lever]:
    """Let every lever that the recipe names add its systems, then stack them."""
    kinds = known_levers()
    for name, spec in asked(plan.recipe):
        kind = kinds.get(name) or _users_lever(name, folder / "recipe.yaml")
        needed = kind.needs(spec, plan.recipe)
        plan.of_torch |= {uri for _, uri, ability in needed if ability in OF_TORCH}
    if not plan.reads_texts:  # torch tells how probable texts are
        recipe = plan.recipe
        plan.of_torch |= {recipe.base, *(rung.model for rung in recipe.ladder or ())}
    levers = [
        (kinds.get(name) or _users_lever(name, folder / "recipe.yaml"))(spec, plan)
        for name, spec in asked(plan.recipe)
    ]
    add_scale(plan)
    add_controls(plan)
    for lever in levers:
        for name in lever.names():
            made = lever.apply(name, plan.base)
            plan.measure(replace(made, name=name, lever=lever.name))
    add_stacks(plan, levers)
    return levers
