"""Quantised checkpoints: which of their tensors are weights and what belongs to each, by the
method that config.json names; and the weights as numbers again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pomona.errors import PomonaError, quantity
from pomona.models.tensors.files import FLOATS, NewTensor, Stored, View
from pomona.models.tensors.layouts import READERS
from pomona.models.tensors.names import is_buffer, is_computed, linear_shapes, place_of
from pomona.models.tensors.packed import PackedWeight, Quantised

QUANTISATION = ("quantization_config", "compression_config")  # entries of config.json
_TYPES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}
# What layers multiply their inputs and caches by, which a merge of weights has no use for.
_RUNTIME = re.compile(
    r"\.(?:input_scale|input_zero_point|input_global_scale|output_scale|[qkv]_scale|prob_scale)$"
)
_STATE = re.compile(r"\.quant_state\.bitsandbytes__\w+$")


@dataclass(frozen=True)
class Dequantised:
    """The weights of a quantised model as numbers, to be written; the names of the tensors that
    they stand for; and the method and the type, to be told.
    """

    made: Mapping[str, NewTensor]
    gone: frozenset[str]
    method: str
    dtype: str

    def note(self, name: str) -> str:
        """What is told of a model whose weights these are."""
        return (
            f'"{name}" is quantised ({self.method}): '
            f"{quantity(len(self.made), 'weight is', 'weights are')} numbers again, "
            f"in {self.dtype}; what rounding has lost stays lost"
        )


def settings_of(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a config.json says of quantisation; empty where it says nothing."""
    for holder in (config, config.get("text_config")):
        for key in QUANTISATION:
            if isinstance(holder, Mapping) and isinstance(found := holder.get(key), Mapping):
                return found
    return {}


def is_read(view: View, config: Mapping[str, Any]) -> bool:
    """Whether a model is quantised by a method whose weights are read."""
    return bool(packed_names(view.tensors, config)) and method_of(view, config) in READERS


def packed_names(tensors: Mapping[str, Stored], config: Mapping[str, Any]) -> tuple[str, ...]:
    """The tensors that hold quantised weights: no floats that stand for some, or, of bitsandbytes,
    whatever type its bytes are stored as.
    """
    settings = bool(settings_of(config))
    states = {_STATE.sub("", name) for name in tensors if _STATE.search(name)}
    return tuple(
        name
        for name, stored in tensors.items()
        if name in states
        or (
            stored.dtype not in FLOATS
            and (settings or stored.dtype[:2] in ("F4", "F6", "F8") or name.endswith("weight"))
            and not (is_buffer(name) or is_computed(name))
        )
    )


def dequantised(view: View, config: Mapping[str, Any], name: str) -> Dequantised:
    """The quantised weights of a model as numbers, in the type that its config.json names.

    name: what the model is called. Computed in float32 and rounded once. Raises PomonaError for
    methods, versions and tensors that are not known, by their names.
    """
    method = method_of(view, config)
    if method not in READERS:
        raise PomonaError(
            f'"{name}" is quantised by {method}, whose weights are not read',
            where=view.folder,
            remedy=f"save it in bfloat16 first; known are {', '.join(sorted(READERS))}",
        )
    model = Quantised(view, settings_of(config), name)
    weights = list(READERS[method](model))
    for weight in weights:
        _check_shape(model, weight, config)
    gone = {part for weight in weights for part in weight.parts}
    gone |= {other for other in view.tensors if _RUNTIME.search(other)}
    for left in packed_names({k: v for k, v in view.tensors.items() if k not in gone}, config):
        raise model.wrong(left, f"is {view.info(left)[0]} and no part of a weight of {method}")
    dtype = _TYPES.get(str(config.get("dtype") or config.get("torch_dtype")), "BF16")
    made = {weight.name: weight.tensor(dtype, view) for weight in weights}
    return Dequantised(made, frozenset(gone), method, dtype)


def _check_shape(model: Quantised, weight: PackedWeight, config: Mapping[str, Any]) -> None:
    """Raise PomonaError where a weight has not the shape that config.json asks for: where a scale
    stands for many numbers, nothing else tells that some are missing.
    """
    place = place_of(weight.name)
    wanted = place and linear_shapes(config).get(place.rest)
    if wanted and wanted != weight.shape:
        message = f"stands for {list(weight.shape)}, where config.json asks for {list(wanted)}"
        raise model.wrong(weight.parts[0], message, "copy it again")


def method_of(view: View, config: Mapping[str, Any]) -> str:
    """The method of a quantised model, as its config.json names it, or its tensors show it."""
    said = settings_of(config).get("quant_method")
    if said:
        return str(said).replace("_", "-")
    if any(_STATE.search(name) for name in view.tensors):
        return "bitsandbytes"
    if any(name.endswith("weight_scale_2") for name in view.tensors):
        return "modelopt"
    scaled = any(re.search(r"weight_scale(?:_inv)?$", name) for name in view.tensors)
    return "fp8" if scaled else "a method that its config.json does not name"
