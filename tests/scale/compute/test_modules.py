"""Modules from a configuration alone are those of the network that it describes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings, strategies as st
from torch.utils.flop_counter import FlopCounterMode

from pomona.errors import PomonaError
from pomona.models import forward_flops, gguf_shape, read_config
from pomona.models.checkpoint import count_parameters
from pomona.models.locating import folder_of
from pomona.scale.compute.configuration import count_modules
from pomona.scale.compute.modules import Module, attended
from pomona.scale.compute.tensors import count_tensors

SIZES: dict[str, Any] = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
    "num_attention_heads": 4, "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2,
    "pad_token_id": 0,
}  # fmt: skip
GROUPED = {**SIZES, "num_key_value_heads": 2}
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 24}
LATENT = {
    **SIZES, **EXPERTS, "num_key_value_heads": 4, "q_lora_rank": 12, "kv_lora_rank": 16,
    "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 6, "n_routed_experts": 4,
    "n_shared_experts": 2, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1,
}  # fmt: skip
NETWORKS = {
    "LlamaForCausalLM": GROUPED,
    "MixtralForCausalLM": {**GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2},
    "MistralForCausalLM": {**GROUPED, "sliding_window": 8},
    "Qwen2ForCausalLM": {
        **GROUPED, "use_sliding_window": True, "max_window_layers": 1, "sliding_window": 8
    },
    "Qwen2MoeForCausalLM": {
        **GROUPED, **EXPERTS, "num_experts": 4, "shared_expert_intermediate_size": 20,
        "mlp_only_layers": [1],
    },
    "Qwen3MoeForCausalLM": {**GROUPED, **EXPERTS, "num_experts": 4, "decoder_sparse_step": 2},
    "Gemma3ForCausalLM": {**GROUPED, "head_dim": 12, "sliding_window": 8},
    "GPT2LMHeadModel": {
        "vocab_size": 96, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64,
        "bos_token_id": 1, "eos_token_id": 2,
    },
    "DeepseekV3ForCausalLM": LATENT,
}  # fmt: skip
OTHERS = {
    "DeepseekV2ForCausalLM": {**LATENT, "q_lora_rank": None, "topk_method": "greedy"},
    "Gemma2ForCausalLM": {**GROUPED, "head_dim": 8},
    "GemmaForCausalLM": {**GROUPED, "head_dim": 8},
    "GPTNeoXForCausalLM": SIZES,
    "GptOssForCausalLM": {
        **GROUPED, "head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2
    },
    "GraniteForCausalLM": {**GROUPED, "attention_bias": True, "mlp_bias": True},
    "Olmo2ForCausalLM": {**GROUPED, "tie_word_embeddings": True},
    "Phi3ForCausalLM": GROUPED,
    "Qwen3ForCausalLM": {**GROUPED, "head_dim": 8, "attention_bias": True},
    "SmolLM3ForCausalLM": GROUPED,
}  # fmt: skip
POSITIONS = 8  # of the sliding window too: the counter counts what a mask throws away


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NETWORKS)
def test_weights_and_flops_are_those_of_the_network(name: str) -> None:
    kind = getattr(transformers, name)
    config = kind.config_class(**NETWORKS[name])
    # The counter does not know the fused attention and grouped experts of a CPU.
    config._attn_implementation, config._experts_implementation = "eager", "eager"
    built = kind(config).eval()
    counted = count_modules(config.to_diff_dict())
    assert counted.parameters == built.num_parameters()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        built(input_ids=torch.arange(POSITIONS)[None], use_cache=False)
    forward = sum(one.forward(POSITIONS, masked=True) for one in counted.modules)
    assert POSITIONS * forward == counter.get_total_flops()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", OTHERS)
def test_weights_of_other_architectures(name: str) -> None:
    kind = getattr(transformers, name)
    config = kind.config_class(**OTHERS[name])
    with torch.device("meta"):
        assert count_modules(config.to_diff_dict()).parameters == kind(config).num_parameters()


@pytest.mark.parametrize("name", ["ui-xs", "ui-s", "ui-m", "ui-l"])
def test_weights_are_those_of_the_checkpoint(name: str) -> None:
    folder = folder_of(name)
    assert count_modules(read_config(folder)).parameters == count_parameters(folder)


KINDS = "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads"


@pytest.mark.parametrize(
    ("kind", "sizes", "more", "weights", "active"),
    [
        ("llama", (128256, 4096, 14336, 32, 32), {"num_key_value_heads": 8}, 8030261248, None),
        ("mixtral", (32000, 4096, 14336, 32, 32),
         {"num_key_value_heads": 8, "num_local_experts": 8, "num_experts_per_tok": 2},
         46702792704, 12879925248),
        ("gpt2", (50257, 768, 3072, 12, 12), {"n_positions": 1024}, 124439808, None),
        ("gpt_neox", (50304, 512, 2048, 6, 8), {}, 70426624, None),
        ("qwen2", (151936, 896, 4864, 24, 14),
         {"num_key_value_heads": 2, "tie_word_embeddings": True}, 494032768, None),
        ("gemma2", (256000, 2304, 9216, 26, 8), {"num_key_value_heads": 4}, 2614341888, None),
        ("qwen3_moe", (151936, 2048, 6144, 48, 32),
         {"head_dim": 128, "num_experts": 128, "num_experts_per_tok": 8,
          "moe_intermediate_size": 768}, 30532122624, 3353032704),
    ],
)  # fmt: skip
def test_published_models_have_their_published_numbers(
    kind: str, sizes: tuple[int, ...], more: dict[str, Any], weights: int, active: int | None
) -> None:
    said = dict(zip(KINDS.split(), sizes, strict=True)) | more
    counted = count_modules({"model_type": kind, **said})
    assert (counted.parameters, counted.active) == (weights, active or weights)


def test_a_mixture_with_latent_attention_has_its_published_numbers() -> None:
    # DeepSeek-V3's report: 671B parameters, 37B for a token, without the layer for further tokens
    counted = count_modules(
        {
            "model_type": "deepseek_v3", "vocab_size": 129280, "hidden_size": 7168,
            "intermediate_size": 18432, "moe_intermediate_size": 2048, "num_hidden_layers": 61,
            "num_attention_heads": 128, "num_key_value_heads": 128, "n_shared_experts": 1,
            "n_routed_experts": 256, "num_experts_per_tok": 8, "first_k_dense_replace": 3,
            "q_lora_rank": 1536, "kv_lora_rank": 512, "qk_rope_head_dim": 64, "v_head_dim": 128,
            "qk_nope_head_dim": 128, "tie_word_embeddings": False, "num_nextn_predict_layers": 1,
        }
    )  # fmt: skip
    assert round(counted.parameters / 1e9) == 671
    assert round(counted.active / 1e9, 1) == 37.6
    assert counted.notes == ["Layers that predict further tokens are not counted."]


def test_a_model_in_a_larger_one_is_counted_alone_and_told() -> None:
    text = {
        "model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240,
        "num_hidden_layers": 34, "sliding_window": 1024,
    }  # fmt: skip
    counted = count_modules({"model_type": "gemma3", "text_config": text, "vision_config": {}})
    assert counted.parameters == 3_880_263_168  # of gemma-3-4b, without its eyes
    assert counted.notes == [
        "Only the language model is counted, not what reads pictures or sound.",
        "vocab_size is not said: 262,208, as in transformers.",
        "num_attention_heads is not said: 8, as in transformers.",
    ]
    reach = {one.name: (one.layers, one.window) for one in counted.modules if one.attention}
    assert reach == {"scores": (5, None), "scores within 1024": (29, 1024)}


@given(st.integers(1, 50), st.one_of(st.none(), st.integers(1, 60)))
@settings(max_examples=40, deadline=None)
def test_positions_attended_to_are_counted_one_by_one(context: int, window: int | None) -> None:
    reach = [min(t, window or context) for t in range(1, context + 1)]
    assert attended(context, window) == pytest.approx(sum(reach) / context)
    assert attended(context, window, masked=True) == context


def test_the_models_own_formula_is_the_sum_of_the_modules() -> None:
    counted = count_modules(read_config(folder_of("ui-s")))
    assert counted.shape is not None
    norms = next(one for one in counted.modules if one.name == "norms")
    apart = sum(one.forward(101) for one in counted.modules)
    assert forward_flops(counted.shape, 51) == apart + 2 * norms.parameters


PLAIN = {**SIZES, "model_type": "llama"}


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({}, "has no model_type, whose modules are not known — known: "),
        ({"model_type": "mambaa"}, "has the model_type 'mambaa'"),
        ({"model_type": "lama"}, 'did you mean "llama"?'),
        ({"model_type": "llama"}, "does not say vocab_size, hidden_size, num_hidden_layers, "),
        ({"model_type": "mixtral", **SIZES}, "does not say num_experts, num_experts_per_tok — "),
        ({**PLAIN, "hidden_size": 0}, '"hidden_size" is 0, and must be a whole number from 1'),
        ({**PLAIN, "hidden_size": 1 << 50}, "whole number from 1 to 1,099,511,627,776"),
        ({**PLAIN, "hidden_size": 3.5}, '"hidden_size" is 3.5'),
        ({**PLAIN, "num_hidden_layers": True}, '"num_hidden_layers" is True'),
        ({**PLAIN, "num_hidden_layers": 100_001}, "a whole number from 1 to 100,000"),
        ({**PLAIN, "num_attention_heads": 33}, "has 33 heads in a width of 32"),
        ({**PLAIN, "mlp_bias": "yes"}, '"mlp_bias" is yes, and must be true or false'),
        ({**PLAIN, "layer_types": ["full_attention"] * 4}, "must be a list for 3 layers"),
        ({**PLAIN, "layer_types": ["linear_attention"] * 3}, "of the type 'linear_attention'"),
        ({**PLAIN, "model_type": "mixtral", "num_local_experts": 2, "num_experts_per_tok": 3},
         "chooses 3 of 2 experts"),
        ({**PLAIN, "model_type": "deepseek_v3", "num_experts": 2, **EXPERTS},
         "does not say kv_lora_rank, qk_nope_head_dim, qk_rope_head_dim, v_head_dim"),
    ],
)  # fmt: skip
def test_a_configuration_that_is_none_is_refused(said: dict[str, Any], message: str) -> None:
    with pytest.raises(PomonaError, match=r"config\.json: ") as raised:
        count_modules(said)
    assert message in str(raised.value)


ENTRY = st.one_of(
    st.integers(-2, 1 << 60),
    st.lists(st.integers(0, 3), max_size=4),
    st.sampled_from([None, True, 1.5, float("nan"), "", "all", {}, {"model_type": "llama"}]),
)


@given(st.sampled_from(["llama", "qwen2_moe", "gemma3_text", "deepseek_v3", "gpt2"]), st.data())
@settings(max_examples=50, deadline=None)
def test_any_entry_is_counted_or_refused(kind: str, data: st.DataObject) -> None:
    keys = [*LATENT, "num_experts", "layer_types", "sliding_window", "head_dim", "text_config"]
    said = {**LATENT, "num_experts": 4, "shared_expert_intermediate_size": 8, "model_type": kind}
    for key in data.draw(st.lists(st.sampled_from(keys), max_size=2)):
        said[key] = data.draw(ENTRY)
    try:
        counted = count_modules(said)
    except PomonaError as error:
        assert error.where == "config.json"
        return
    assert 0 < counted.active <= counted.parameters


GGUF = {
    "general.architecture": "qwen2moe", "qwen2moe.block_count": 2,
    "qwen2moe.embedding_length": 8, "qwen2moe.attention.head_count": 2,
    "qwen2moe.expert_count": 4, "qwen2moe.expert_used_count": 1, "qwen2moe.context_length": 32,
}  # fmt: skip
TENSORS = {
    "token_embd.weight": 80, "blk.0.attn_q.weight": 64, "blk.0.attn_q.bias": 8,
    "blk.0.attn_norm.weight": 8, "blk.0.ffn_gate_exps.weight": 512,
    "blk.0.ffn_gate_inp.weight": 32, "blk.0.ffn_up_shexp.weight": 96, "blk.1.ffn_up.weight": 128,
}  # fmt: skip


def test_a_gguf_file_is_counted_by_its_tensors() -> None:
    counted = count_tensors(GGUF, TENSORS, gguf_shape(GGUF, TENSORS), "file.gguf")
    found = {one.name: (one.parameters, one.active, one.multiplied) for one in counted.modules}
    assert found == {
        "embedding": (80, 80, 0), "attention": (72, 72, 64), "norms": (8, 8, 0),
        "experts": (512, 128, 128), "router": (32, 32, 32), "shared experts": (96, 96, 96),
        "mlp": (128, 128, 128), "head": (0, 0, 80), "scores": (0, 0, 0),
    }  # fmt: skip
    assert counted.parameters == sum(TENSORS.values()) and counted.longest == 32


def test_what_a_gguf_file_does_not_say_is_unknown() -> None:
    said = {"general.architecture": "new"}
    assert gguf_shape({**GGUF, "qwen2moe.attention.head_count": 0}, TENSORS) is None
    counted = count_tensors(said, {"token_embd.weight": 8}, None, "file.gguf")
    assert counted.shape is None and "how wide its attention is" in counted.notes[-1]
    with pytest.raises(PomonaError, match="how many a token meets"):
        count_tensors(said, TENSORS, None, "file.gguf")
    with pytest.raises(PomonaError, match=r"no tensor token_embd\.weight"):
        count_tensors(said, {}, None, "file.gguf")


def test_a_module_costs_by_its_products_and_its_window() -> None:
    module = Module("scores within 4", 2, 0, 0, 0, attention=16, window=4)
    assert module.forward(4) == 4 * 16 * 2.5
    assert module.forward(6) == 4 * 16 * (1 + 2 + 3 + 4 + 4 + 4) / 6
