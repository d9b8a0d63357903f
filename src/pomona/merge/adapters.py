"""One adapter out of several, without their model: a folder that PEFT loads."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pomona.errors import PomonaError, nearest, quantity
from pomona.merge.adapter_methods import (
    METHODS,
    AdapterMethod,
    Array,
    CombiningRule,
    LoraMatrices,
    MajoritySign,
    distance,
)
from pomona.merge.extract import KIND, AdapterModule, adapter_settings, as_stored, in_memory
from pomona.merge.planning.checking import same_bytes
from pomona.merge.planning.models import locate_model
from pomona.merge.preparing.adapter_files import (
    ADAPTER_FILE,
    ADAPTER_ROOT,
    Adapter,
    read_adapter,
)
from pomona.models.tensors import (
    NewTensor,
    Stored,
    check_free,
    stored_array,
    to_float32,
    write_made,
)
from pomona.places import check_outputs
from pomona.workspace import refuse_changed, stamp

_PAIRS = (("lora_A", "lora_B"), ("lora_embedding_A", "lora_embedding_B"))
_SUMMED = {part for pair in _PAIRS for part in pair}
_REFUSED = {
    "lora_magnitude_vector": "lengths of weights (DoRA) have no sum",
    "lora_B.bias": "a bias beside B has no place in the result",
}
_LARGEST = 1e30
_MODELS = "merge the models: a recipe with MODEL+ADAPTER for each"


@dataclass(frozen=True)
class CombinedAdapter:
    """An adapter made of several. The `error` of a module is how far it is from the weighted sum of
    the adapters' changes. whole: tensors that only one of them has, or all alike, as they are.
    """

    method: str
    weights: Mapping[str, float]
    modules: tuple[AdapterModule, ...]
    whole: tuple[str, ...]
    size: int  # bytes of the adapter's tensors
    notes: tuple[str, ...]


def combine_adapters(
    adapters: Sequence[str | Path],
    *,
    out: str | Path,
    weights: Sequence[float],
    method: AdapterMethod = "svd",
    rank: int | None = None,
    density: float | None = None,
    majority_sign: MajoritySign = "total",
    seed: int = 0,
    dtype: Literal["F32", "BF16", "F16"] = "F32",
    overwrite: bool = False,
    dry_run: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> CombinedAdapter:
    """Make one LoRA adapter out of several of the same model, by the methods of PEFT.

    What is meant is the sum of the adapters' changes by their weights. `cat` is that sum, its rank
    the sum of the ranks; `svd` the nearest to it of a given rank. The others combine A and B apart,
    for which the ranks must be equal, or, where their name ends in _svd, the changes: `linear`;
    `ties`, `magnitude_prune` and DARE keep a share `density` of the elements first. Told of every
    module is how far it is from the sum. Raises PomonaError for adapters that have no sum (DoRA,
    PiSSA, stacked experts), and for tensors saved whole that differ.

    Args:
        adapters: Folders that PEFT has saved, or Hugging Face ids.
        out: Folder of the result.
        weights: A weight for each adapter, in their order; below 0 takes it away.
        method: How the matrices are combined.
        rank: Largest rank of a module, for svd and the methods that end in it; without it the
            largest of the adapters'.
        density: Share of the elements that is kept, above 0 and at most 1.
        majority_sign: What ties elects signs by: the sum of the elements, or their number.
        seed: Seed of what DARE draws.
        dtype: Type of the matrices.
        overwrite: Replace an adapter that is there and that Pomona wrote.
        dry_run: Compute ranks and errors, and write nothing.
    """
    rule = CombiningRule(method, rank, density, majority_sign, seed)
    _check(rule, adapters, weights)
    folders, out = [locate_model(str(adapter)) for adapter in adapters], Path(out)
    check_outputs({"the adapter": out}, folders, folders=["the adapter"])
    check_free(out, KIND, overwrite)
    before = stamp(folders)
    sources = [
        _Source(str(name), read_adapter(folder), float(weight))
        for name, folder, weight in zip(adapters, folders, weights, strict=True)
    ]
    notes = tuple(_check_sources(sources))
    combined = _Combined(sources, rule, dtype)
    modules = sorted({module for source in sources for module in source.modules})
    for done, module in enumerate(modules, 1):
        combined.add(module)
        if progress:
            progress(done, len(modules))
    combined.take_whole()
    if not dry_run:
        refuse_changed(before, stamp(folders), out)
        settings = json.dumps(combined.settings(), indent=1).encode()
        files = {"adapter_config.json": settings}
        write_made(out, combined.made, files, name=ADAPTER_FILE, kind=KIND)
    return CombinedAdapter(
        method,
        {source.name: source.weight for source in sources},
        tuple(combined.modules),
        tuple(combined.whole),
        sum(tensor.size for tensor in combined.made.values()),
        notes,
    )


def _check(rule: CombiningRule, adapters: Sequence[object], weights: Sequence[float]) -> None:
    density, rank, names = rule.density, rule.rank, [str(adapter) for adapter in adapters]
    twice = next((name for name in names if names.count(name) > 1), None)
    wrong = {
        f'unknown method "{rule.method}"': (
            rule.method not in METHODS,
            nearest(str(rule.method), METHODS),
        ),
        f"{quantity(len(names), 'adapter')} and {quantity(len(weights), 'weight')}": (
            len(names) != len(weights) or not names,
            "give one weight for each adapter, such as --weights 0.5 0.5",
        ),
        f'"{twice}" is given twice': (
            twice is not None,
            "give it once, with the sum of the weights",
        ),
        f"the weights are {', '.join(map(str, weights))}": (
            not all(abs(weight) <= _LARGEST for weight in weights),
            "give numbers that are weights",
        ),
        f"{rule.method} needs a density": (
            rule.prunes and density is None,
            "give the share of the elements that it keeps, such as --density 0.5",
        ),
        f"density is {density}": (
            density is not None and not 0 < density <= 1,
            "give a share above 0 and at most 1",
        ),
        f"{rule.method} has no density": (
            not rule.prunes and density is not None,
            "leave it out, or take ties, magnitude_prune or a method of DARE",
        ),
        f"rank is {rank}": (rank is not None and rank < 1, "give a rank of at least 1"),
        f"{rule.method} has the rank of its adapters": (
            rank is not None and not rule.whole,
            "leave rank out, or take svd or a method that ends in it",
        ),
    }
    for message, (found, remedy) in wrong.items():
        if found:
            raise PomonaError(message, where="adapters", remedy=remedy)


@dataclass(frozen=True)
class _Source:
    name: str
    adapter: Adapter
    weight: float

    @property
    def modules(self) -> list[str]:
        """Modules with matrices."""
        parts = self.adapter.parts
        return [module for module in parts if _SUMMED & set(parts[module])]

    def matrices(self, module: str, pair: tuple[str, str]) -> LoraMatrices:
        """A and B of a module. Raises PomonaError where they are none."""
        found = [self.adapter.parts[module].get(part) for part in pair]
        if any(stored is None or len(stored.shape) != 2 for stored in found):
            raise self.adapter.wrong(
                f'"{module}" has no two matrices {" and ".join(pair)}', "save the adapter again"
            )
        a, b = (_floats(stored) for stored in found if stored is not None)
        if len(a) != b.shape[1]:
            raise self.adapter.wrong(
                f'"{module}" has an A of {list(a.shape)} and a B of {list(b.shape)}',
                "copy the adapter again",
            )
        return LoraMatrices(a, b, self.adapter.scale(module, len(a)), self.weight, self.name)


def _floats(stored: Stored) -> Array:
    values = to_float32(stored_array(stored), stored.dtype).astype(np.float64)
    if not np.isfinite(values).all():
        raise PomonaError(
            f'tensor "{stored.name}" holds NaN or infinity',
            where=stored.folder,
            remedy="get an undamaged copy",
        )
    return values


def _check_sources(sources: Sequence[_Source]) -> list[str]:
    """Notes. Raises PomonaError for adapters that have no sum."""
    first, notes = sources[0], []
    for source in sources:
        adapter = source.adapter
        config = adapter.folder / "adapter_config.json"
        if adapter.start:
            raise PomonaError(
                f"was started by {adapter.start}, so that it holds more than it changed",
                where=config,
                remedy="save it with path_initial_model_for_weight_conversion; or " + _MODELS,
            )
        if adapter.parameters:
            message = f"changes parameters beside modules: {', '.join(adapter.parameters)[:80]}"
            raise PomonaError(message, where=config, remedy=_MODELS)
        for module, parts in adapter.parts.items():
            for part in sorted(_REFUSED.keys() & parts.keys()):
                raise adapter.wrong(f'"{module}" has {part}: {_REFUSED[part]}', _MODELS)
        flipped = [bool(one.adapter.config.get("fan_in_fan_out")) for one in (first, source)]
        if flipped[0] != flipped[1]:
            message = f'"fan_in_fan_out" is {flipped[1]}, and {flipped[0]} in {first.name}'
            raise PomonaError(message.lower(), where=config, remedy="they are of different models")
        bases = [one.adapter.config.get("base_model_name_or_path") for one in (first, source)]
        if bases[0] != bases[1]:
            notes.append(
                f"{first.name} was trained on {bases[0]} and {source.name} on {bases[1]}: taken to "
                "be one model"
            )
    return notes


@dataclass
class _Combined:
    """The adapter as it grows."""

    sources: Sequence[_Source]
    rule: CombiningRule
    dtype: str
    made: dict[str, NewTensor] = field(default_factory=dict)
    modules: list[AdapterModule] = field(default_factory=list)
    whole: list[str] = field(default_factory=list)

    def add(self, module: str) -> None:
        """Combine the matrices of a module; adapters that have none leave it to the others."""
        holders = [source for source in self.sources if module in source.modules]
        held = set(holders[0].adapter.parts[module])
        pair = next(pair for pair in _PAIRS if set(pair) & held)
        parts = [source.matrices(module, pair) for source in holders]
        for source, part in zip(holders, parts, strict=True):
            made_for = [(len(one.b), one.a.shape[1]) for one in (part, parts[0])]
            if made_for[0] != made_for[1]:
                raise source.adapter.wrong(
                    f'"{module}" is made for {list(made_for[0])}, in {holders[0].name} for '
                    f"{list(made_for[1])}",
                    "combine adapters of one model",
                )
        try:
            a, b = self.rule.combined(module, parts)
        except ValueError as error:
            raise PomonaError(
                f'"{module}": {error}, and {self.rule.method} needs equal ranks',
                where="adapters",
                remedy="use cat or svd",
            ) from None
        if not len(a):  # nothing is left of it
            a, b = np.zeros((1, a.shape[1])), np.zeros((len(b), 1))
        self.modules.append(AdapterModule(module, len(a), distance(parts, a, b)))
        where = ", ".join(source.name for source in holders)
        for part, values in zip(pair, (a, b), strict=True):
            key = f"{ADAPTER_ROOT}{module}.{part}" + ".weight" * (pair == _PAIRS[0])
            self.made[key] = in_memory(values, self.dtype, key, where)

    def take_whole(self) -> None:
        """What is no matrix of low rank goes along where one adapter has it, or all alike."""
        owners: dict[str, tuple[_Source, Stored]] = {}
        for source in self.sources:
            for stored in _others(source.adapter):
                name = stored.name.removeprefix(ADAPTER_ROOT)
                name = name.replace(".modules_to_save.", ".").replace(".default.", ".")
                if name not in owners:
                    owners[name] = source, stored
                elif not same_bytes(owners[name][1], stored):
                    raise source.adapter.wrong(
                        f'holds "{name}" whole, and so does {owners[name][0].name}, with other '
                        "values",
                        _MODELS,
                    )
        self.whole = sorted(owners)
        for name in self.whole:
            self.made[ADAPTER_ROOT + name] = as_stored(owners[name][1])

    def settings(self) -> dict[str, Any]:
        """adapter_config.json."""
        configs = [source.adapter.config for source in self.sources]
        first = configs[0]
        saved = {name for config in configs for name in config.get("modules_to_save") or ()}
        biases = [config["bias"] for config in configs if config.get("bias") not in (None, "none")]
        tokens = [
            config["trainable_token_indices"]
            for config in configs
            if config.get("trainable_token_indices")
        ]
        if any(each != tokens[0] for each in tokens):
            raise PomonaError('"trainable_token_indices" differ', where="adapters", remedy=_MODELS)
        kept = ("task_type", "base_model_name_or_path", "auto_mapping", "revision")
        return adapter_settings(self.modules) | {
            **{key: first[key] for key in kept if key in first},
            "fan_in_fan_out": bool(first.get("fan_in_fan_out")),
            "modules_to_save": sorted(saved) or None,
            "bias": biases[0] if biases else "none",
            **({"trainable_token_indices": tokens[0]} if tokens else {}),
            **(
                {"ensure_weight_tying": True}
                if any(config.get("ensure_weight_tying") for config in configs)
                else {}
            ),
        }


def _others(adapter: Adapter) -> list[Stored]:
    """The tensors of an adapter that are no matrices of low rank."""
    return [
        *adapter.whole.values(),
        *(
            stored
            for parts in adapter.parts.values()
            for part, stored in parts.items()
            if part not in _SUMMED
        ),
    ]
