"""The models of a recipe, found and opened; and their parts that it merges: all of it, or
mergekit's modules, with the slices of each stack of layers.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pomona.errors import PomonaError, nearest
from pomona.merge.reading.recipe import MergeRecipe, MergeSource, ModelRef, RecipeModule, Slice
from pomona.models import read_config
from pomona.models.tensors import (
    FLOATS,
    ROLES,
    LayerLayout,
    Stored,
    View,
    canonical,
    far,
    is_embedding,
    is_head,
    is_read,
    packed_names,
    place_of,
    role_of,
    settings_of,
    ties,
)

Resolve = Callable[[str, str | None], Path]
_SCALE = re.compile(r"(?:[._]scales?|_scale_inv|absmax|quant_map|zero_point|zeros|_amax)$")
# What else says how tensors are quantised, beside config.json: of ModelOpt, and of older GPTQ and
# AWQ. It belongs to a result whose tensors still are.
PACKED_FILES = ("hf_quant_config.json", "quantize_config.json", "quant_config.json")
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_HUB_FILES = ["*.safetensors", "*.json", "*.model", "*.txt", "*.jinja"]


@dataclass(frozen=True)
class Opened:
    """A model: its name in the recipe, its folder, its config.json, and its tensors by canonical
    name.
    """

    name: str
    folder: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, Stored]

    @cached_property
    def layout(self) -> LayerLayout:
        """Its layers."""
        return LayerLayout(self.tensors)

    @cached_property
    def packed(self) -> tuple[str, ...]:
        """Its quantised weights: tensors that are no floats and stand for some."""
        return packed_names(self.tensors, self.config)

    @cached_property
    def scales(self) -> frozenset[str]:
        """Its float tensors that say what quantised weights stand for: they are no weights, and
        mean nothing without these very bytes.
        """
        owners = {*self.packed, *(name.rpartition(".")[0] for name in self.packed)}
        return frozenset(
            name
            for name, stored in self.tensors.items()
            if self.packed
            and stored.dtype in FLOATS
            and (name.rpartition(".")[0] in owners or _SCALE.search(name))
        )

    @cached_property
    def scaling(self) -> frozenset[Stored]:
        """`scales`, as they are stored."""
        return frozenset(self.tensors[name] for name in self.scales)

    def find(self, name: str) -> Stored | None:
        """A tensor; for a head or an embedding that is tied and so stored once, the one it is tied
        to.

        A head that is not tied and still missing is the embedding too, as in mergekit: see
        `stand_ins`.
        """
        if name in self.tensors:
            return self.tensors[name]
        if not (is_head(name) or (self.ties and is_embedding(name))) or not name.endswith("weight"):
            return None
        partners = [other for other in self.tensors if is_embedding(other)] or [
            other for other in self.tensors if is_head(other)
        ]
        shared = [other for other in partners if other.endswith("shared.weight")]
        return self.tensors[(shared or partners)[0]] if len(partners) == 1 or shared else None

    def stand_ins(self, names: Iterable[str]) -> list[str]:
        """Those of `names` that are heads of their own by config.json, missing, and made up for by
        the embedding.
        """
        if self.ties:
            return []
        return [
            name for name in names if name not in self.tensors and is_head(name) and self.find(name)
        ]

    @property
    def text(self) -> Mapping[str, Any]:
        """The part of its config.json that speaks of its language model."""
        inner = self.config.get("text_config")
        return inner if isinstance(inner, dict) else self.config

    @property
    def ties(self) -> bool:
        """Whether its head is its embedding."""
        return ties(self.config)


def open_model(ref: ModelRef, view: View, changes: Mapping[str, Any] | None = None) -> Opened:
    """Read config.json, with `changes` by dotted key, and name the tensors. Raises PomonaError when
    there is no config.
    """
    path = view.folder / "config.json"
    if not path.is_file():
        raise PomonaError(
            "is missing",
            where=path,
            remedy="a checkpoint folder has config.json beside its tensors",
        )
    for name in filter(far, view.tensors):
        message = f'tensor "{name[:80]}" is of a layer that no model has'
        remedy = "layers have numbers below 100,000; copy or download it again"
        raise PomonaError(message, where=view.folder, remedy=remedy)
    config = read_config(view.folder)
    if ref.architecture:
        config["architectures"] = [ref.architecture]
    for key, value in (changes or {}).items():
        set_entry(config, key, value)
    names = {canonical(name, config): stored for name, stored in view.tensors.items()}
    return Opened(str(ref), view.folder, config, names)


def packed_settings(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """What a quantised model's files say of that, by file; who wrote them left out."""
    said = {
        name: read_config(folder, name) for name in PACKED_FILES if os.path.lexists(folder / name)
    }
    told = {name: {**text, "producer": None} for name, text in said.items()}
    return {"config.json": settings_of(config), **told}


def numbers_first(folder: Path, name: str) -> str:
    """The remedy where a model in `folder` is quantised and its weights are needed as numbers."""
    if not is_read(View.of(folder), read_config(folder)):
        return "save it in bfloat16 first"
    return (
        "make it numbers first: pomona merge with the recipe {merge_method: passthrough, models: "
        f"[{{model: {name}}}], parameters: {{scale: 1.0}}}}"
    )


def set_entry(config: dict[str, Any], key: str, value: Any) -> None:
    """Enter what a config.json says at a dotted key; None takes the entry out."""
    *path, last = key.split(".")
    for step in path:
        config = config.setdefault(step, {})
    if value is None:
        config.pop(last, None)
    else:
        config[last] = value


def locate_model(path: str, revision: str | None = None) -> Path:
    """The folder of a model: a local folder, a name of the catalogue, or a Hugging Face id, which
    is fetched when it is not here.
    """
    # os.path takes any text for a name: one too long, or of no user, is not there.
    folder = Path(os.path.expanduser(path.removeprefix("hf:")))  # noqa: PTH111
    there = os.path.isdir(folder)  # noqa: PTH112
    catalogued = f"{path}@{revision}" if revision else path  # such as ui-s@20
    if revision and os.path.isdir(f"{folder}@{revision}"):  # noqa: PTH112
        return Path(f"{folder}@{revision}")
    if revision or not there:
        from pomona.models import folder_of, names

        if catalogued in names():
            return folder_of(catalogued)
    if there and revision:
        raise PomonaError(
            f'is a folder, which has no revision "{revision}"',
            where=path,
            remedy="leave it out, or name a model of Hugging Face",
        )
    if there:
        return folder
    if not _HUB_ID.fullmatch(str(folder)):
        raise PomonaError(
            "no such folder",
            where=path,
            remedy="give a checkpoint folder, a name of the catalogue or a Hugging Face id",
        )
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError
    except ModuleNotFoundError:
        raise PomonaError(
            "no such folder",
            where=path,
            remedy="to fetch it from Hugging Face: pip install 'pomona[torch]'",
        ) from None
    try:
        return Path(snapshot_download(str(folder), revision=revision, allow_patterns=_HUB_FILES))
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise PomonaError(
            f"not a local folder, and fetching it failed: {reason}",
            where=path,
            remedy="check the name",
        ) from error


def folders_of(
    refs: tuple[ModelRef, ...], given: Mapping[str, Path], resolve: Resolve
) -> dict[str, Path]:
    """The folder of every model and adapter of a recipe, by path (and revision). `given` folders
    are taken before any other.
    """
    folders: dict[str, Path] = {}
    for ref in refs:
        parts = ((ref.path, ref.revision), (ref.lora, ref.lora_revision))
        whole = "+".join(f"{path}@{its}" if its else f"{path}" for path, its in parts)
        if ref.lora and ref.path not in given and os.path.isdir(whole):  # noqa: PTH112
            raise PomonaError(
                'is a folder, but a "+" in the name of a model parts it from its adapter',
                where=whole,
                remedy=f'write {{model: {{path: "{whole}"}}}}',
            )
        for path, revision in parts:
            if path is None:
                continue
            key = f"{path}@{revision}" if revision else path
            if key not in folders:
                folders[key] = Path(given[key] if key in given else resolve(path, revision))
    return folders


@dataclass(frozen=True)
class ModelPart:
    """A module of the recipe: the tensors it owns, its stacks of layers, and where their layers
    come from.
    """

    name: str
    module: RecipeModule
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
) -> tuple[ModelPart, ...]:
    """The parts in the recipe's order, tensors that are `copied` left aside.

    Raises PomonaError for modules that no tensor belongs to and layers that a model has not.
    """
    names = dict.fromkeys(
        [*frame.tensors, *(name for model in models.values() for name in model.tensors)]
    )
    names = [name for name in names if name not in copied]
    stacks = list(dict.fromkeys(place.stack for name in names if (place := place_of(name))))
    if not recipe.modules:
        whole = RecipeModule(recipe.models, recipe.slices)
        return (_part("", whole, stacks, None, recipe, models),)
    owners = {name: _owner(name, list(recipe.modules), stacks) for name in names}
    parts = []
    for key, module in recipe.modules.items():
        members = frozenset(name for name, owner in owners.items() if owner == key)
        if not members:
            known = {role_of(name, stacks) for name in names}
            said = [name for name, role in ROLES.items() if role in known and len(stacks) > 1]
            said = said if len(stacks) > 1 else ["default"]
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
    module: RecipeModule,
    stacks: list[str],
    members: frozenset[str] | None,
    recipe: MergeRecipe,
    models: Mapping[str, Opened],
) -> ModelPart:
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
        return ModelPart(
            name, module, tuple(stacks), pieces, module.slices[0], module.slices[-1], members
        )
    sources = module.models
    if recipe.base is not None and all(source.model != recipe.base for source in sources):
        sources = (*sources, MergeSource(recipe.base))
    whole = Slice(sources)
    pieces = {stack: (_whole(whole, stack, models),) for stack in stacks}
    return ModelPart(name, module, tuple(stacks), pieces, whole, whole, members)


def _whole(piece: Slice, stack: str, models: Mapping[str, Opened]) -> Slice:
    """All layers of every source; models that lack the stack are found out tensor by tensor."""
    depths = {
        str(source.model): models[str(source.model)].layout.depth(stack) for source in piece.sources
    }
    model_of = {depth: model for model, depth in depths.items() if depth}
    if len(model_of) > 1:
        (less, small), (more, large), *_ = sorted(model_of.items())
        raise PomonaError(
            f'"{small}" has {less} layers in {stack} and "{large}" has {more}',
            where=models[small].folder,
            remedy='say which layers go together under "slices"',
        )
    depth = next(iter(model_of), 0)
    return replace(
        piece, sources=tuple(replace(source, layers=(0, depth)) for source in piece.sources)
    )


def _within(piece: Slice, stack: str, models: Mapping[str, Opened]) -> Slice:
    for source in piece.sources:
        depth = models[str(source.model)].layout.depth(stack)
        if source.layers is not None and source.layers[1] > depth:
            raise PomonaError(
                f'layer_range {list(source.layers)} of "{source.model}" goes beyond its '
                f"{depth} layers",
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
