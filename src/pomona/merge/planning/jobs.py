"""One job for every tensor of the result: where its inputs are, and the values that the recipe's
parameters take for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pomona.errors import PomonaError
from pomona.merge.plan import TensorInput, TensorJob, inputs_of
from pomona.merge.planning.checking import (
    Problems,
    check_inputs,
    check_values,
    same_bytes,
    vocabulary_remedy,
)
from pomona.merge.planning.models import ModelPart, Opened, parts_of
from pomona.merge.reading.parameters import (
    REQUIRED,
    Method,
    Parameter,
    Settings,
    method_of,
    resolve,
)
from pomona.merge.reading.recipe import MergeRecipe, MergeSource, RecipeModule, Slice
from pomona.models.tensors import (
    FLOATS,
    NewTensor,
    Stored,
    View,
    comes_after,
    content_of,
    is_buffer,
    is_computed,
    safetensors_of,
    stored_array,
)


@dataclass(frozen=True)
class SourceGroup:
    """The sources of some tensors, with the settings that hold for each, the strongest first, and
    for what they share. names: the models', with their layers where one is there twice; base is one
    of them.
    """

    sources: tuple[MergeSource, ...]
    names: tuple[str, ...]
    base: str | None
    scopes: tuple[tuple[Settings, ...], ...]
    shared: tuple[Settings, ...]


class Builder:
    """Makes the jobs of a recipe; afterwards `folders` are those that the jobs read."""

    def __init__(
        self, recipe: MergeRecipe, models: Mapping[str, Opened], frame: str, prepared: Any | None
    ) -> None:
        self.recipe, self.models, self.frame = recipe, models, models[frame]
        self.method = method_of(recipe.method)
        self.copied: frozenset[str] = prepared.copied if prepared else frozenset()
        self.rows: Mapping[str, int] = prepared.rows if prepared else {}
        self.kept: list[str] = []  # copied, since no module of the recipe covers them
        self.computed: list[str] = []
        self.taken: list[str] = []  # whole numbers that differ, as the base or first has them
        self.optional: dict[Disposition, list[str]] = {}
        self.problems = Problems()
        self.parts: tuple[ModelPart, ...] = ()
        self._folders: dict[Path, int] = {}
        for model in models.values():
            self._folder(model.folder)

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders that inputs refer to by number."""
        return tuple(self._folders)

    def _folder(self, folder: Path) -> int:
        return self._folders.setdefault(folder, len(self._folders))

    def jobs(self) -> tuple[TensorJob, ...]:
        """The jobs in the order of the result: what comes before the layers, the layers, what comes
        after. Raises PomonaError.
        """
        self.parts = parts_of(self.recipe, self.models, self.frame, self.copied)
        made: dict[str, TensorJob] = {}
        for part in self.parts:
            for job in self._part(part):
                made[job.name] = job
        for name in self.frame.tensors:
            if name not in made and (name in self.copied or self._left_out(name)):
                made[name] = self._copy(name, self.frame.tensors[name], self.frame)
        self.problems.raise_all()
        if not made:
            raise PomonaError(
                "has no tensors to merge",
                where=self.frame.folder,
                remedy="check the recipe's models and modules",
            )
        self.kept = [name for name in made if name not in self.copied and self._left_out(name)]
        return tuple(made.values())

    def _left_out(self, name: str) -> bool:
        """Whether no part of a recipe with modules covers a tensor: the result has it as the base
        or first model has it.
        """
        return bool(self.recipe.modules) and not any(part.owns(name) for part in self.parts)

    def _part(self, part: ModelPart) -> Iterator[TensorJob]:
        yield from self._loose(part, self._group(part.module, part.first), after=False)
        for stack in part.stacks:
            number = 0
            for piece in part.slices(stack):
                group = self._group(part.module, piece)
                first, end = piece.sources[0].layers or (0, 0)
                length = end - first
                for offset in range(length):
                    t = offset / (length - 1) if length > 1 else 1.0
                    yield from self._layer(stack, number, offset, group, t)
                    number += 1
        yield from self._loose(part, self._group(part.module, part.last), after=True)

    def _group(self, module: RecipeModule, piece: Slice) -> SourceGroup:
        base = piece.base or self.recipe.base
        models = [str(source.model) for source in piece.sources]
        names = [
            f"{model} {list(source.layers)}" if models.count(model) > 1 and source.layers else model
            for model, source in zip(models, piece.sources, strict=True)
        ]
        # Of two ranges of the base, the first is what the others are compared with.
        own = names[models.index(str(base))] if str(base) in models else str(base)
        check_inputs(self.method, names, own if base else None)
        outer = (piece.parameters, module.parameters, self.recipe.parameters)
        scopes = tuple((source.parameters, *outer) for source in piece.sources)
        apart = own if base and self.method.base != "ignored" else None
        return SourceGroup(piece.sources, tuple(names), apart, scopes, outer)

    def _loose(self, part: ModelPart, group: SourceGroup, *, after: bool) -> Iterator[TensorJob]:
        names = dict.fromkeys(
            name
            for source in group.sources
            for name in self._model(source).layout.loose
            if part.owns(name)
        )
        models = {source.model: self._model(source) for source in group.sources}
        folded = next(iter(models.values())) if len(models) < len(group.sources) else None
        folded = folded if len(models) == 1 else None
        for name in names:
            if comes_after(name) != after or name in self.copied:
                continue
            if folded is not None and not is_computed(name):
                # Layers of one model are folded: what stands outside them is what it was.
                yield self._copy(name, folded.tensors[name], folded)
            else:
                everyone = dict.fromkeys(range(len(group.sources)), name)
                yield from self._job(name, everyone, group, 0.0)

    def _layer(
        self, stack: str, number: int, offset: int, group: SourceGroup, t: float
    ) -> Iterator[TensorJob]:
        places = [source.layers[0] + offset for source in group.sources if source.layers]
        layers = [
            self._model(source).layout.stacks.get(stack, {}).get(place, {})
            for source, place in zip(group.sources, places, strict=True)
        ]
        for rest in dict.fromkeys(rest for layer in layers for rest in layer):
            name = f"{stack}.{number}.{rest}"
            if name not in self.copied:
                yield from self._job(
                    name,
                    {index: f"{stack}.{place}.{rest}" for index, place in enumerate(places)},
                    group,
                    t,
                )

    def _model(self, source: MergeSource) -> Opened:
        return self.models[str(source.model)]

    def _job(
        self, name: str, stored_as: Mapping[int, str], group: SourceGroup, t: float
    ) -> Iterator[TensorJob]:
        if is_computed(name):
            self.computed.append(name)
            return
        tensors = {
            index: self._model(group.sources[index]).find(own) for index, own in stored_as.items()
        }
        held = {index: tensor for index, tensor in tensors.items() if tensor is not None}
        outcome = self._disposition(name, held, len(tensors), group)
        if outcome == "refuse":
            holder = self._model(group.sources[next(iter(held))])
            for index, own in stored_as.items():
                if index not in held:
                    self.problems.lacking(self._model(group.sources[index]), own, holder)
        elif outcome == "pass":
            yield self._copy(name, *self._first(held, group))
        elif outcome == "merge" and self._alike(name, held, group):
            scales = any(
                stored_as[index] in self._model(group.sources[index]).scales for index in held
            )
            if not scales and all(tensor.dtype in FLOATS for tensor in held.values()):
                yield self._float_job(name, stored_as, held, group, t)
            else:
                yield from self._fixed(name, held, group)

    def _first(self, held: Mapping[int, Stored], group: SourceGroup) -> tuple[Stored, Opened]:
        """The base's tensor, or that of the first model that has it, and the model."""
        index = next(
            (
                index
                for index in held
                if group.names[index] == group.base
                or group.sources[index].model == self.recipe.base
            ),
            next(iter(held)),
        )
        return held[index], self._model(group.sources[index])

    def _disposition(
        self, name: str, held: Mapping[int, Stored], count: int, group: SourceGroup
    ) -> Disposition:
        """What becomes of a tensor that some of `count` models hold."""
        if is_buffer(name):
            return "pass"
        if len(held) == count:
            return "merge"
        if not is_optional(name, str(self.frame.config.get("model_type"))):
            return "refuse"
        names = {group.names[index] for index in held}
        base = group.base in names if group.base else None
        outcome = disposition(self.method, len(held), base)
        self.optional.setdefault(outcome, []).append(name)
        return outcome

    def _alike(self, name: str, held: Mapping[int, Stored], group: SourceGroup) -> bool:
        place, first = next(iter(held.items()))
        for index, tensor in held.items():
            if tensor.shape != first.shape:
                one, other = self._model(group.sources[place]), self._model(group.sources[index])
                remedy = vocabulary_remedy(name, first.shape, tensor.shape)
                self.problems.shapes(name, one, first.shape, other, tensor.shape, remedy)
                return False
        return True

    def _fixed(
        self, name: str, held: Mapping[int, Stored], group: SourceGroup
    ) -> Iterator[TensorJob]:
        """A tensor that is not of floats, or scales quantised weights: the result has it as all
        models have it.
        """
        tensor, model = self._first(held, group)
        unlike = [
            index
            for index, other in held.items()
            if other is not tensor and not same_bytes(tensor, other)
        ]
        counts = self.recipe.integers == "base" or name.endswith(_COUNTER)
        if unlike and counts and not any(one.packed for one in self.models.values()):
            self.taken.append(name)
        elif unlike:
            dtypes = tensor.dtype, held[unlike[0]].dtype
            self.problems.unlike(name, dtypes, model, self._model(group.sources[unlike[0]]))
            return
        yield self._copy(name, tensor, model)

    def module(self, file: str, seed: int) -> bytes | None:
        """The weights of a module beside the network (sentence-transformers' Dense), merged as what
        stands behind the layers is; None where not all models have such a module.
        """
        from pomona.merge.methods.kernels import run

        group = self._group(self.parts[0].module, self.parts[0].last)
        models = [self._model(source).folder for source in group.sources]
        folders = [(folder / file).parent for folder in models]
        if len(self.parts) > 1 or len(set(folders)) < 2 or not _alike_modules(folders):
            return None
        views = [View.of(folder) for folder in folders]
        infos = [{name: view.info(name) for name in view.names} for view in views]
        floats = all(dtype in FLOATS for info in infos for dtype, _ in info.values())
        if not floats or any(info != infos[0] for info in infos):
            return None
        stem, made = Path(file).parent.as_posix(), dict[str, NewTensor]()
        known = dict(self._folders)
        for name, (dtype, shape) in infos[0].items():
            held = {index: view.tensors[name] for index, view in enumerate(views)}
            own = dict.fromkeys(held, f"{stem}.{name}")
            job = self._float_job(f"{stem}.{name}", own, held, group, 0.0)
            job = replace(job, dtype=dtype, compute="F32")
            names = [group.names.index(item.identity) for item in inputs_of(job)]
            if job.method == "copy":
                values = stored_array(held[names[0]])
            else:
                values = run(job, [stored_array(held[index]) for index in names], seed)
            made[name] = NewTensor(dtype, shape, partial(iter, [values.tobytes()]))
        # They are read here and now: the engine reads none of these folders.
        self._folders = known
        self.problems.raise_all()
        return b"".join(safetensors_of(made))

    def _float_job(
        self,
        name: str,
        stored_as: Mapping[int, str],
        held: Mapping[int, Stored],
        group: SourceGroup,
        t: float,
    ) -> TensorJob:
        options = {
            p.name: self._value(p, name, group.shared, name, t)
            for p in self.method.parameters
            if p.per == "merge" and p.effect
        }
        inputs: dict[int, TensorInput] = {}
        for index, tensor in held.items():
            model, own = str(group.sources[index].model), group.names[index]
            values = {
                p.name: self._value(p, stored_as[index], group.scopes[index], name, t, model)
                for p in self.method.parameters
                if p.effect and (p.per == "model" or (p.per == "expert" and own != group.base))
            }
            inputs[index] = self._input(
                tensor, own, {key: value for key, value in values.items() if value is not None}
            )
        places = [i for i in inputs if group.names[i] == group.base]
        base = inputs.pop(places[0]) if places else None
        compute = self.recipe.dtype or promoted([tensor.dtype for tensor in held.values()])
        shape = next(iter(held.values())).shape
        job = TensorJob(
            name,
            shape,
            self.recipe.out_dtype or compute,
            self.method.name,
            tuple(inputs.values()),
            base,
            compute,
            {key: value for key, value in options.items() if value is not None},
        )
        if (wrong := check_values(job)) is not None:
            self.problems.value(name, wrong)
        return self._partly(_simplest(job), group)

    def _partly(self, job: TensorJob, group: SourceGroup) -> TensorJob:
        """With a key map, a tensor of which only the first rows are merged; -1 says that the base
        gives the other rows.
        """
        if job.name not in self.rows:
            return job
        models = [
            str(source.model)
            for source, name in zip(group.sources, group.names, strict=True)
            if name != group.base
        ]
        place = models.index(self.frame.name) if self.frame.name in models else -1
        return replace(
            job, options={**job.options, "rows": self.rows[job.name], "rows_from": place}
        )

    def _value(
        self,
        parameter: Parameter,
        own: str,
        scopes: tuple[Settings, ...],
        name: str,
        t: float,
        model: str | None = None,
    ) -> Any:
        value = resolve(parameter, scopes, own, t)
        if value is REQUIRED:
            listed = model is None or any(
                str(source.model) == model for source in self.recipe.sources
            )
            self.problems.missing_value(parameter.name, model, name, listed)
            return 1.0
        return value

    def _input(self, tensor: Stored, model: str, values: Mapping[str, Any]) -> TensorInput:
        return TensorInput(self._folder(tensor.folder), tensor.name, tensor.dtype, values, model)

    def _copy(self, name: str, tensor: Stored, model: Opened) -> TensorJob:
        dtype, compute = tensor.dtype, "F32"
        if dtype in FLOATS and tensor not in model.scaling:
            compute = self.recipe.dtype or dtype
            dtype = self.recipe.out_dtype or compute
        method = "copy" if dtype == tensor.dtype else "passthrough"
        return TensorJob(
            name, tensor.shape, dtype, method, (self._input(tensor, model.name, {}),), None, compute
        )


def _simplest(job: TensorJob) -> TensorJob:
    """A base with nothing added is passed on; passing one tensor on unscaled and in its own type is
    copying it.
    """
    if job.base is not None and not job.inputs:
        job = replace(job, method="passthrough", inputs=(job.base,), base=None, options={})
    only = job.inputs[0] if len(job.inputs) == 1 else None
    same = (
        only is not None
        and job.method == "passthrough"
        and not only.parameters
        and only.dtype == job.compute == job.dtype
    )
    return replace(job, method="copy") if same else job


def promoted(dtypes: list[str]) -> str:
    """The narrowest float type that holds all of `dtypes`, as PyTorch promotes: BF16 and F16
    together need F32.
    """
    kinds = set(dtypes)
    if len(kinds) == 1:
        return dtypes[0]
    return "F64" if "F64" in kinds else "F32"


def _alike_modules(folders: Sequence[Path]) -> bool:
    """Whether folders of modules hold weights under one configuration."""
    files = [folder / "config.json" for folder in folders]
    there = all(file.is_file() and (file.parent / "model.safetensors").is_file() for file in files)
    return there and len({content_of(file) for file in files}) == 1


_COUNTER = ".num_batches_tracked"  # how often a normalisation has seen a batch
_BIASES = r"\.self_attn\.[qkv]_proj\.bias$"
_OPTIONAL = {
    "bert": r"^bert\.pooler\.dense\.",
    "glm4": _BIASES,
    "glm4_moe": _BIASES + r"|\.self_attn\.[qk]_norm\.weight$",
    "granite": r"\.(?:self_attn|mlp)\.\w+_proj\.bias$",
    "llama": r"^score\.bias$",
    "stablelm": _BIASES,
}  # by model_type, from the architectures of mergekit 0.1.5
_EITHER = ("slerp", "nuslerp", "arcee_fusion")  # pass on the tensor of the only model that has it
Disposition = Literal["merge", "pass", "leave", "refuse"]


def is_optional(name: str, kind: str) -> bool:
    """Whether models of the `model_type` `kind` may lack a tensor."""
    return kind in _OPTIONAL and re.search(_OPTIONAL[kind], name) is not None


def disposition(method: Method, held: int, base: bool | None) -> Disposition:
    """What becomes of a tensor that `held` models have: they are merged, the only one is passed on,
    it is left out, or refused.

    base: whether the base is among them, None without one.
    """
    if method.name == "model_stock" and held < method.least:
        return "pass" if held == 1 and base else "leave"
    if held == 1 and (method.name in _EITHER or (method.name == "nearswap" and base)):
        return "pass"
    if method.base == "ignored":
        return "merge"
    experts = held - bool(base)
    return (
        "refuse" if base is False or held < method.least or experts < method.experts[0] else "merge"
    )
