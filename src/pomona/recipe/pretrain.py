"""Train the rungs of a ladder from scratch: one recipe, several sizes, the same data in the same
order.
"""

from __future__ import annotations

from typing import Any

from pomona.recipe.graph import Cost, Desk
from pomona.recipe.work import train_and_save


def pretrain(desk: Desk) -> Cost:
    """A Llama-architecture model of the size in the desk's parameters, from random weights."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from pomona.models import Codec

    tokenizer = AutoTokenizer.from_pretrained(desk.inputs["tokenizer"], local_files_only=True)
    size = desk.params["size"]
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=size["hidden"],
        intermediate_size=size["intermediate"],
        num_hidden_layers=size["layers"],
        num_attention_heads=size["heads"],
        max_position_embeddings=desk.params["context"],
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(desk.params["settings"]["seed"])
    model: Any = LlamaForCausalLM._from_config(config, attn_implementation="eager")
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    device = torch.device(desk.runtime.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    codec = Codec(desk.inputs["tokenizer"], model, chat=False)
    return train_and_save(
        desk,
        model.to(device),
        codec,
        marks=tuple(desk.params["marks"]),
        temperature=desk.params["temperature"],
    )
