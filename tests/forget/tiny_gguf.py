"""GGUF files of `ui-xs`, whole or quantised: small enough for tests that run llama.cpp."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from safetensors.torch import load_file

from pomona.models import locate

_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def write_gguf(
    path: Path, kind: str = "F32", *, tokens: int | None = None, seed: int | None = None
) -> Path:
    """`ui-xs` at `path`: matrices whose rows fit its blocks as `kind`, all else in float32; with
    `tokens` that many more that nothing spells. With a `seed` its weights are random, and the same
    whenever it is trained anew.
    """
    folder = locate("ui-xs")
    config = json.loads((folder / "config.json").read_text())
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    more = tokens or 0
    writer.add_vocab_size(config["vocab_size"] + more)
    _add_tokenizer(writer, folder, config, more)
    rng = np.random.default_rng(seed)
    for name, tensor in sorted(load_file(folder / "model.safetensors").items()):
        values = tensor.float()
        if seed is not None and tensor.ndim == 2:
            values = torch.from_numpy(rng.normal(0, 0.3, tensor.shape).astype(np.float32))
        elif seed is not None:
            values = torch.ones(tensor.shape)
        _add(writer, name, values, kind, config, more)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tokenizer(writer: Any, folder: Path, config: dict[str, Any], more: int) -> None:
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    tokens += [f"<|more {index}|>" for index in range(config["vocab_size"] - len(tokens) + more)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token.startswith("<|") else 1 for token in tokens])
    writer.add_token_merges([" ".join(merge) for merge in model["merges"]])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_bos_token_id(config["eos_token_id"])
    writer.add_add_bos_token(False)


def _add(
    writer: Any, name: str, tensor: torch.Tensor, kind: str, config: dict[str, Any], more: int
) -> None:
    own = name.removesuffix(".weight")
    if own.startswith("model.layers."):
        _, _, layer, own = own.split(".", 3)
        own = f"blk.{layer}.{_NAMES[own]}"
    else:
        own = _NAMES[own]
    if "attn_q." in own + "." or "attn_k." in own + ".":
        heads = config["num_attention_heads"]
        # GGUF keeps the halves of a rotated pair side by side
        turned = tensor.view(heads, 2, -1, tensor.shape[1]).transpose(1, 2)
        tensor = turned.reshape(tensor.shape)
    values = tensor.contiguous().numpy()
    if own == "token_embd" and more:
        values = np.concatenate([values, np.zeros((more, values.shape[1]), np.float32)])
    if kind == "F32" or values.ndim < 2 or values.shape[1] % 32:
        writer.add_tensor(f"{own}.weight", values)
        return
    quantised = gguf.GGMLQuantizationType[kind]
    packed = gguf.quantize(values, quantised)
    writer.add_tensor(f"{own}.weight", packed, raw_dtype=quantised)
