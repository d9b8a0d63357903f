"""The modules of a GGUF file, by the names of its tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pomona.errors import PomonaError
from pomona.models import Shape
from pomona.scale.compute.modules import Module, Modules

_LAYERS, _MOST = 100_000, 1 << 40
_PARTS = {  # of the names of GGUF tensors, the first that is found
    "experts": r"_exps\.",
    "shared experts": r"_shexp\.",
    "router": r"ffn_gate_inp\.",
    "norms": r"norm|ln_",
    "attention": r"\.(attn|ssm)_",
    "mlp": r"\.ffn_",
    "embedding": r"^token_embd\.",
    "positions": r"^position_embd\.",
    "head": r"^output\.",
}


def count_tensors(
    metadata: Mapping[str, Any], tensors: Mapping[str, int], shape: Shape | None, where: object
) -> Modules:
    """The modules of a GGUF file by the names of its tensors; None for what attention costs where
    the file does not say how wide it is.

    Raises PomonaError where it has no table of tokens.
    """
    kind = str(metadata.get("general.architecture"))
    if not tensors.get("token_embd.weight"):
        message = "has no tensor token_embd.weight, as a language model has"
        raise PomonaError(message, where=where, remedy="give the whole file of a model")
    experts, chosen = (
        metadata.get(f"{kind}.{name}") for name in ("expert_count", "expert_used_count")
    )
    sums: dict[str, tuple[int, int]] = {}
    for name, size in tensors.items():
        part = next((part for part, how in _PARTS.items() if re.search(how, name)), "other")
        every, products = sums.get(part, (0, 0))
        sums[part] = every + size, products + size * (not name.endswith(".bias"))
    layers = metadata.get(f"{kind}.block_count")
    layers = layers if type(layers) is int and 0 < layers <= _LAYERS else 1
    share = _share_of_experts(experts, chosen, where) if "experts" in sums else (1, 1)
    modules = [_of_tensors(name, *both, layers, share) for name, both in sums.items()]
    table = sums["embedding"][0]
    if "head" not in sums:
        modules.append(Module("head", 1, 0, 0, table))
    notes = ["Modules are told by the names of the file's tensors."]
    if shape is None:
        notes.append("The file does not say how wide its attention is: its scores are not counted.")
    else:
        window = metadata.get(f"{kind}.attention.sliding_window")
        if window:
            told = "Attention is counted without the window that some layers of the file have."
            notes.append(told)
        modules.append(Module("scores", layers, 0, 0, 0, shape.layers * shape.attention))
        head = sum(one.parameters for one in modules if one.name == "head")
        active = sum(one.active for one in modules) - table - head
        shape = Shape(
            shape.layers, shape.hidden, shape.attention, shape.vocabulary, active, table, head
        )
    longest = metadata.get(f"{kind}.context_length")
    longest = longest if type(longest) is int and 0 < longest <= _MOST else None
    return Modules(kind, modules, shape, sums.get("positions", (0, 0))[0], longest, notes)


def _share_of_experts(experts: Any, chosen: Any, where: object) -> tuple[int, int]:
    if type(experts) is not int or type(chosen) is not int or not 0 < chosen <= experts:
        message = "has tensors of experts and does not say how many a token meets"
        raise PomonaError(message, where=where, remedy="give the whole file of a model")
    return chosen, experts


def _of_tensors(name: str, size: int, products: int, layers: int, share: tuple[int, int]) -> Module:
    chosen, experts = share if name == "experts" else (1, 1)
    multiplied = 0 if name in {"norms", "embedding", "positions"} else products
    layers = 1 if name in {"embedding", "positions", "head", "other"} else layers
    return Module(name, layers, size, size * chosen // experts, multiplied * chosen // experts)
