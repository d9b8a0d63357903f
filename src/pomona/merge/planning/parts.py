"""The parts of a model that a recipe merges: all of it, or mergekit's modules, with the slices of
each stack of layers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from pomona.errors import PomonaError, nearest
from pomona.merge.checkpoints.names import ROLES, place_of, role_of
from pomona.merge.planning.opened import Opened
from pomona.merge.reading.document import MergeRecipe, Module, Slice, Source


@dataclass(frozen=True)
class Part:
    """A module of the recipe: the tensors it owns, its stacks of layers, and where their layers
    come from.
    """

    name: str
    module: Module
    stacks: tuple[str, ...]
    pieces: Mapping[str, tuple[Slice, ...]]  # by stack
    first: Slice
    last: Slice
    members: frozenset[str] | None  # None: every tensor

    def owns(self, tensor: str) -> bool:
        """Whether a tensor outside the layers, or a tensor of the base or first model, belongs to
        this part.
        """
        return self.members is None or tensor in self.members

    def slices(self, stack: str) -> tuple[Slice, ...]:
        """The slices that make up a stack, every source with its layers."""
        return self.pieces[stack]


def parts_of(
    recipe: MergeRecipe, models: Mapping[str, Opened], frame: Opened, copied: frozenset[str]
) -> tuple[Part, ...]:
    """The parts in the recipe's order, tensors that are `copied` left aside.

    Raises PomonaError for modules that no tensor belongs to and layers that a model has not.
    """
    names = dict.fromkeys(
        [*frame.tensors, *(name for model in models.values() for name in model.tensors)]
    )
    names = [name for name in names if name not in copied]
    stacks = list(dict.fromkeys(place.stack for name in names if (place := place_of(name))))
    if not recipe.modules:
        return (_part("", Module(recipe.models, recipe.slices), stacks, None, recipe, models),)
    owners = {name: _owner(name, list(recipe.modules), stacks) for name in names}
    parts = []
    for key, module in recipe.modules.items():
        members = frozenset(name for name, owner in owners.items() if owner == key)
        if not members:
            known = {role_of(name, stacks) for name in names}
            said = (
                [name for name, role in ROLES.items() if role in known]
                if len(stacks) > 1
                else ["default"]
            )
            raise PomonaError(
                f'no tensor belongs to module "{key}"',
                where=frame.folder,
                remedy=nearest(key, said),
            )
        own = [stack for stack in stacks if any(name.startswith(stack + ".") for name in members)]
        parts.append(_part(key, module, own, members, recipe, models))
    return tuple(parts)


def _owner(name: str, keys: list[str], stacks: list[str]) -> str | None:
    role = role_of(name, stacks)
    for key in keys:
        if key not in ROLES and key != "default" and name.startswith(key):
            return key
    for key in keys:
        if ROLES.get(key) == role:
            return key
    return (
        "default" if "default" in keys and (len(stacks) < 2 or role in ("text", "shared")) else None
    )


def _part(
    name: str,
    module: Module,
    stacks: list[str],
    members: frozenset[str] | None,
    recipe: MergeRecipe,
    models: Mapping[str, Opened],
) -> Part:
    if module.slices:
        if len(stacks) > 1:
            text = (
                f"slices need one stack of layers, and the models have {len(stacks)}: "
                f"{', '.join(stacks)}"
            )
            raise PomonaError(text, where=name or "slices", remedy='put each under "modules"')
        pieces = {
            stack: tuple(_within(piece, stack, models) for piece in module.slices)
            for stack in stacks
        }
        return Part(
            name, module, tuple(stacks), pieces, module.slices[0], module.slices[-1], members
        )
    sources = module.models
    if recipe.base is not None and all(source.model != recipe.base for source in sources):
        sources = (*sources, Source(recipe.base))
    whole = Slice(sources)
    return Part(
        name,
        module,
        tuple(stacks),
        {stack: (_whole(whole, stack, models),) for stack in stacks},
        whole,
        whole,
        members,
    )


def _whole(piece: Slice, stack: str, models: Mapping[str, Opened]) -> Slice:
    """All layers of every source; models that lack the stack are found out tensor by tensor."""
    depths = {
        str(source.model): models[str(source.model)].layout.depth(stack) for source in piece.sources
    }
    found = {depth: model for model, depth in depths.items() if depth}
    if len(found) > 1:
        (less, small), (more, large), *_ = sorted(found.items())
        text = f'"{small}" has {less} layers in {stack} and "{large}" has {more}'
        raise PomonaError(
            text, where=models[small].folder, remedy='say which layers go together under "slices"'
        )
    depth = next(iter(found), 0)
    return replace(
        piece, sources=tuple(replace(source, layers=(0, depth)) for source in piece.sources)
    )


def _within(piece: Slice, stack: str, models: Mapping[str, Opened]) -> Slice:
    for source in piece.sources:
        depth = models[str(source.model)].layout.depth(stack)
        if source.layers is not None and source.layers[1] > depth:
            text = (
                f'layer_range {list(source.layers)} of "{source.model}" goes beyond its '
                f"{depth} layers"
            )
            raise PomonaError(
                text,
                where=models[str(source.model)].folder,
                remedy=f"the end is not included: at most [0, {depth}]",
            )
    return piece


def layer_sources(pieces: Iterable[Slice]) -> list[tuple[str, int]]:
    """For every layer of the result, the model of its first source and the number the layer has
    there.
    """
    return [
        (str(piece.sources[0].model), layer)
        for piece in pieces
        for layer in range(*(piece.sources[0].layers or (0, 0)))
    ]
