"""What a mixture of experts needs of a dense model: a configuration with its own defaults written
out, and the states of prompts at each layer, by which gates can be set.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    AutoConfig,
    AutoTokenizer,
    MixtralConfig,
    Qwen2MoeConfig,
    Qwen3MoeConfig,
)

from pomona.errors import PomonaError, reason_of
from pomona.models.torch.network import open_network, pick_device, pick_dtype, quiet

_KINDS: dict[str, Any] = {
    "mixtral": (MixtralConfig, "MixtralForCausalLM", "num_local_experts"),
    "qwen2_moe": (Qwen2MoeConfig, "Qwen2MoeForCausalLM", "num_experts"),
    "qwen3_moe": (Qwen3MoeConfig, "Qwen3MoeForCausalLM", "num_experts"),
}


def mixture_config(
    folder: Path, kind: str, experts: int, per_token: int, shared: int = 0
) -> dict[str, Any]:
    """config.json of a mixture whose experts are as large as the dense model in `folder`; every
    value that the dense model leaves to its own defaults is written out. `kind`: mixtral,
    qwen2_moe, qwen3_moe or deepseek; shared: experts of a DeepSeek mixture that all tokens go to.
    """
    about = {"architectures", "model_type", "transformers_version", "dtype", "torch_dtype"}
    try:
        with quiet():
            dense = AutoConfig.from_pretrained(folder, trust_remote_code=False).to_dict()
            if kind == "deepseek":
                kept = {key: value for key, value in dense.items() if key not in about}
                return {**kept, **_deepseek(dense, experts, per_token, shared)}
            made = _KINDS[kind][0]
            known = {*made().to_dict(), "head_dim"}
            kept = {key: value for key, value in dense.items() if key in known}
            config = made(**{key: value for key, value in kept.items() if key not in about})
            for key, value in _settings(kind, dense, experts, per_token).items():
                setattr(config, key, value)
            return json.loads(config.to_json_string(use_diff=False))
    except PomonaError as error:
        error.where = folder / "config.json"
        raise
    except Exception as error:  # transformers raises anything for a config.json that is odd
        raise PomonaError(
            f"is no configuration of a dense model: {reason_of(error)}",
            where=folder / "config.json",
            remedy="name a Llama, Mistral or Qwen",
        ) from error


def _deepseek(dense: dict[str, Any], experts: int, per_token: int, shared: int) -> dict[str, Any]:
    """What DeepSeekMoE's own code reads (Dai et al. 2024, arXiv 2401.06066): transformers has it
    under the name of a repository on the hub, and rotary settings have their older names there.
    """
    heads, width = dense["num_attention_heads"], dense["hidden_size"]
    if (dense.get("head_dim") or width // heads) * heads != width:
        message = f"its heads are {dense['head_dim']} wide, which no DeepSeek mixture can have"
        raise PomonaError(message, remedy="make a mixtral or a qwen")
    rope = dense.get("rope_parameters") or {}
    form = rope.get("rope_type", "default")
    if form not in ("default", "linear", "dynamic"):
        message = f'its "rope_type" is {form}, which no DeepSeek mixture knows'
        raise PomonaError(message, remedy="make a mixtral or a qwen")
    code, size = "deepseek-ai/deepseek-moe-16b-base--modeling_deepseek", dense["intermediate_size"]
    return {
        "architectures": ["DeepseekForCausalLM"],
        "model_type": "deepseek",
        "auto_map": {
            "AutoConfig": code.replace("modeling", "configuration") + ".DeepseekConfig",
            "AutoModel": f"{code}.DeepseekModel",
            "AutoModelForCausalLM": f"{code}.DeepseekForCausalLM",
        },
        "n_routed_experts": experts,
        "n_shared_experts": shared or None,
        "num_experts_per_tok": per_token,
        "first_k_dense_replace": 0,
        "moe_layer_freq": 1,
        "moe_intermediate_size": size,
        "scoring_func": "softmax",
        "norm_topk_prob": True,
        "rope_theta": rope.get("rope_theta", 10000.0),
        "rope_scaling": None if form == "default" else {"type": form, "factor": rope["factor"]},
    }


def _settings(kind: str, dense: dict[str, Any], experts: int, per_token: int) -> dict[str, Any]:
    _, architecture, count = _KINDS[kind]
    size = dense["intermediate_size"]
    told = {"architectures": [architecture], count: experts, "num_experts_per_tok": per_token}
    if kind != "qwen3_moe":
        told["sliding_window"] = None
    if kind != "mixtral":
        told |= {"decoder_sparse_step": 1, "norm_topk_prob": True, "mlp_only_layers": []}
        told["moe_intermediate_size"] = size
    if kind == "qwen2_moe":
        told |= {"shared_expert_intermediate_size": size, "use_sliding_window": False}
    return told


def prompt_ids(folder: Path, prompts: Sequence[str]) -> list[list[int]]:
    """Token ids of prompts with the model's start token before each, where it has one. Raises
    PomonaError for a prompt without tokens.
    """
    try:
        with quiet():
            tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
            texts = [(tokenizer.bos_token or "") + prompt for prompt in prompts]
            ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
    except Exception as error:  # whatever the tokenizer's file makes its library raise
        remedy = "copy its tokenizer.json into its folder"
        message = f"its tokenizer cannot be loaded: {reason_of(error)}"
        raise PomonaError(message, where=folder, remedy=remedy) from error
    for prompt, found in zip(prompts, ids, strict=True):
        if not found:
            raise PomonaError(f"{prompt[:60]!r} has no tokens", where="a prompt", remedy="write it")
    return ids


class LayerStates:
    """A network that tells what goes into each of its layers."""

    def __init__(self, folder: Path, device: str | None = None) -> None:
        self._device = pick_device(device)
        self._network = open_network(folder, self._device, pick_dtype(None, self._device))

    @torch.no_grad()
    def mean(self, prompts: Sequence[Sequence[int]], *, whole: bool) -> NDArray[np.float32]:
        """The states before each layer, [layers, width], of the last token of each prompt (of all
        its tokens where `whole`), averaged over the prompts.
        """
        sums: Any = 0
        for ids in prompts:
            ran: Any = self._network(
                input_ids=torch.tensor([list(ids)], device=self._device), output_hidden_states=True
            )
            states = torch.stack(ran.hidden_states[:-1])[:, 0].float()
            sums = sums + (states.mean(1) if whole else states[:, -1])
        return (sums / len(prompts)).cpu().numpy()
