"""What the code of an architecture fixes where its configuration says nothing of it: the defaults
and the modules of transformers 5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """The modules of an architecture."""

    tied: bool = False
    gated: bool = True
    norm: int = 1  # weights of a norm by its width: a bias makes two
    norms: int = 2  # of a layer
    bias: bool | None = None  # of q, k, v; None where `attention_bias` says it
    output_bias: bool | None = None  # of o; None for the same
    mlp_bias: bool | None = None  # None where `mlp_bias` says it
    qk_norm: str = ""  # one for each "head", or one for all of the "width"
    head_dim: int | None = None
    key_values: int | None = None
    windows: str = "none"  # "all" layers, by "types" in this period, by "qwen"'s rule
    period: int = 2
    window: int | None = None
    experts: str = ""  # the key that says how wide one is
    latent: bool = False
    sinks: bool = False
    positions: bool = False
    sizes: tuple[tuple[str, int], ...] = ()  # that published configurations leave out


_LLAMA = Family()
_GEMMA = Family(tied=True, head_dim=256)
FAMILIES: Mapping[str, Family] = {
    "llama": _LLAMA,
    "granite": _LLAMA,
    "smollm3": Family(tied=True, key_values=4, windows="types", period=0),
    "mistral": Family(
        bias=False, output_bias=False, mlp_bias=False, key_values=8, windows="all", window=4096
    ),
    "mixtral": Family(
        bias=False, output_bias=False, key_values=8, windows="all", experts="intermediate_size"
    ),
    "qwen2": Family(bias=True, output_bias=False, mlp_bias=False, windows="qwen"),
    "qwen2_moe": Family(
        bias=True, output_bias=False, windows="qwen", experts="moe_intermediate_size"
    ),
    "qwen3": Family(qk_norm="head", head_dim=128, mlp_bias=False, windows="qwen"),
    "qwen3_moe": Family(
        qk_norm="head", key_values=4, windows="all", experts="moe_intermediate_size"
    ),
    "gemma": _GEMMA,
    "gemma2": Family(tied=True, head_dim=256, key_values=4, norms=4, windows="types", window=4096),
    "gemma3_text": Family(
        tied=True, head_dim=256, key_values=4, norms=4, qk_norm="head", windows="types", period=6,
        window=4096, sizes=(("vocab_size", 262208), ("num_attention_heads", 8)),
    ),
    "phi3": Family(bias=False, output_bias=False, mlp_bias=False, windows="all"),
    "olmo2": Family(qk_norm="width", mlp_bias=False),
    "gpt2": Family(
        tied=True, gated=False, norm=2, bias=True, output_bias=True, mlp_bias=True, positions=True
    ),
    "gpt_neox": Family(gated=False, norm=2, mlp_bias=True),
    "deepseek_v2": Family(latent=True, experts="moe_intermediate_size"),
    "deepseek_v3": Family(latent=True, experts="moe_intermediate_size"),
    "gpt_oss": Family(
        bias=True, output_bias=True, mlp_bias=True, head_dim=64, key_values=8, windows="types",
        window=128, experts="intermediate_size", sinks=True,
    ),
}  # fmt: skip
NAMES = {
    "n_embd": "hidden_size", "n_layer": "num_hidden_layers", "n_head": "num_attention_heads",
    "n_positions": "max_position_embeddings", "n_inner": "intermediate_size",
    "num_local_experts": "num_experts", "n_routed_experts": "num_experts",
}  # fmt: skip
ATTENTION_BIAS = {"gpt_neox": True}  # where nothing is said
