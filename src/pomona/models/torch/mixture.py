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


def mixture_config(folder: Path, kind: str, experts: int, per_token: int) -> dict[str, Any]:
    """config.json of a mixture whose experts are as large as the dense model in `folder`; every
    value that the dense model leaves to its own defaults is written out. `kind`: mixtral,
    qwen2_moe or qwen3_moe.
    """
    made = _KINDS[kind][0]
    try:
        with quiet():
            dense = AutoConfig.from_pretrained(folder, trust_remote_code=False).to_dict()
            known = {*made().to_dict(), "head_dim"}
            kept = {key: value for key, value in dense.items() if key in known}
            about = {"architectures", "model_type", "transformers_version", "dtype", "torch_dtype"}
            config = made(**{key: value for key, value in kept.items() if key not in about})
            for key, value in _settings(kind, dense, experts, per_token).items():
                setattr(config, key, value)
            return json.loads(config.to_json_string(use_diff=False))
    except Exception as error:  # transformers raises anything for a config.json that is odd
        raise PomonaError(
            f"is no configuration of a dense model: {reason_of(error)}",
            where=folder / "config.json",
            remedy="name a Llama, Mistral or Qwen",
        ) from error


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
