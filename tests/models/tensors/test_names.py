from __future__ import annotations

import pytest

from pomona.models.tensors import (
    LayerLayout,
    LayerPlace,
    canonical,
    comes_after,
    is_buffer,
    is_computed,
    is_embedding,
    is_head,
    place_of,
    role_of,
)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        (
            "model.layers.12.mlp.experts.3.w1.weight",
            LayerPlace("model.layers", 12, "mlp.experts.3.w1.weight"),
        ),
        ("h.0.attn.bias", LayerPlace("h", 0, "attn.bias")),
        (
            "encoder.block.1.layer.0.SelfAttention.q.weight",
            LayerPlace("encoder.block", 1, "layer.0.SelfAttention.q.weight"),
        ),
        (
            "bert.encoder.layer.2.output.dense.weight",
            LayerPlace("bert.encoder.layer", 2, "output.dense.weight"),
        ),
        ("visual.merger.mlp.0.weight", None),
        ("model.embed_tokens.weight", None),
    ],
)
def test_layers(name: str, place: LayerPlace | None) -> None:
    assert place_of(name) == place


def test_what_stands_behind_the_layers() -> None:
    behind = [
        "model.norm.weight",
        "transformer.ln_f.bias",
        "lm_head.weight",
        "score.weight",
        "model.final_layernorm.weight",
        "output.weight",
    ]
    before = [
        "model.embed_tokens.weight",
        "bert.embeddings.LayerNorm.weight",
        "multi_modal_projector.norm.weight",
        "model.embedding_norm.weight",
    ]
    assert all(comes_after(name) for name in behind)
    assert not any(comes_after(name) for name in before)


def test_heads_embeddings_and_buffers() -> None:
    assert is_head("language_model.lm_head.weight")
    assert is_head("embed_out.weight")
    assert not is_head("bert.encoder.layer.0.output.dense.weight")
    assert is_embedding("transformer.wte.weight")
    assert not is_embedding("transformer.wpe.weight")
    assert is_computed("transformer.h.0.attn.masked_bias")
    assert is_buffer("gpt_neox.layers.0.attention.masked_bias")
    assert not is_computed("gpt_neox.layers.0.attention.masked_bias")
    assert is_computed("model.layers.0.self_attn.rotary_emb.inv_freq")
    assert not is_computed("model.layers.0.self_attn.q_proj.bias")
    assert is_buffer("bert.embeddings.position_ids")


def test_old_gpt2_names_are_todays() -> None:
    config = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}
    assert canonical("h.0.ln_1.weight", config) == "transformer.h.0.ln_1.weight"
    assert canonical("lm_head.weight", config) == "lm_head.weight"
    assert (
        canonical("h.0.ln_1.weight", {**config, "architectures": ["GPT2Model"]})
        == "h.0.ln_1.weight"
    )


def test_parts_of_models_that_see() -> None:
    stacks = ["language_model.model.layers", "vision_tower.vision_model.encoder.layers"]
    assert role_of("vision_tower.vision_model.encoder.layers.0.mlp.fc1.weight", stacks) == "vision"
    assert role_of("model.visual.merger.norm.weight", stacks) == "projector"
    assert role_of("language_model.lm_head.weight", stacks) == "text"
    assert role_of("shared.weight", ["encoder.block", "decoder.block"]) == "shared"
    assert (
        role_of("decoder.final_layer_norm.weight", ["encoder.block", "decoder.block"]) == "decoder"
    )


def test_depth_is_the_highest_layer_plus_one() -> None:
    layout = LayerLayout(["model.layers.0.a", "model.layers.11.a", "model.norm.weight"])
    assert (layout.depth("model.layers"), layout.depth("other"), layout.loose) == (
        12,
        0,
        ["model.norm.weight"],
    )
