"""Tensors that an architecture leaves optional: what the result has where only some models of a
merge hold one, by mergekit's rule.
"""

from __future__ import annotations

import re
from typing import Literal

from pomona.merge.reading.spec import Method

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
Fate = Literal["merge", "pass", "leave", "refuse"]


def is_optional(name: str, kind: str) -> bool:
    """Whether models of the `model_type` `kind` may lack a tensor."""
    return kind in _OPTIONAL and re.search(_OPTIONAL[kind], name) is not None


def fate(method: Method, held: int, base: bool | None) -> Fate:
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
