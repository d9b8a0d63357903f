"""Models that do not go together although their tensors fit: quantised ones, other heads, other
settings.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pomona.errors import PomonaError
from pomona.merge.planning.planner import plan_merge

from .conftest import LLAMA, SIZES, jobs, plan, refusal, write

LINEAR = (
    "merge_method: linear\nmodels:\n- {model: a, parameters: {weight: 1}}\n- {model: b, "
    "parameters: {weight: 3}}\n"
)
SLICED = "merge_method: passthrough\nslices: [{sources: [{model: a, layer_range: [0, 1]}]}]\n"
Q = "model.layers.0.self_attn.q_proj"
PLAIN = {f"{Q}.weight": ("BF16", [4, 4]), "model.norm.weight": ("BF16", [4])}
NORM = {"model.norm.weight": ("BF16", [4])}
QUANTISED: dict[str, dict[str, tuple[str, list[int]]]] = {
    "fp8": {**NORM, f"{Q}.weight": ("F8_E4M3", [4, 4]), f"{Q}.weight_scale_inv": ("F32", [1])},
    "fp8 kv": {**NORM, f"{Q}.weight": ("F8_E4M3", [4, 4]), "model.layers.0.k_scale": ("F32", [1])},
    "bnb": {
        **NORM,
        f"{Q}.weight": ("U8", [8, 1]),
        f"{Q}.weight.absmax": ("F32", [1]),
        f"{Q}.weight.quant_map": ("F32", [16]),
        f"{Q}.weight.quant_state.bitsandbytes__nf4": ("U8", [5]),
    },
    "gptq": {**NORM, f"{Q}.qweight": ("I32", [2, 4]), f"{Q}.scales": ("F16", [1, 4])},
    "mxfp4": {
        **NORM,
        "model.layers.0.mlp.experts.up_proj_blocks": ("U8", [4, 4]),
        "model.layers.0.mlp.experts.up_proj_scales": ("F32", [4]),
    },
}
SIZES |= {"F8_E4M3": 1, "I32": 4}
CONFIG = {**LLAMA, "num_hidden_layers": 1}


def quantised(folder: Path, kind: str, fill: int = 0) -> Path:
    config = {**CONFIG, "quantization_config": {"quant_method": "quark"}}
    return write(folder, QUANTISED[kind], config, fill)


@pytest.mark.parametrize("kind", QUANTISED)
def test_scales_of_quantised_weights_are_no_weights(here: Path, kind: str) -> None:
    quantised(here / "a", kind)
    quantised(here / "b", kind)
    for text in (SLICED, LINEAR):
        found = jobs(plan(text + "dtype: float32\n"))
        for name, (dtype, _) in QUANTISED[kind].items():
            wanted = (dtype, "copy") if name != "model.norm.weight" else ("F32", None)
            assert (found[name].dtype, wanted[1] and found[name].method) == wanted


@pytest.mark.parametrize("kind", QUANTISED)
def test_other_quantised_weights_are_refused(here: Path, kind: str) -> None:
    quantised(here / "a", kind)
    quantised(here / "b", kind, fill=1)
    said = refusal(LINEAR)
    assert 'differs between "b" and "a"' in said
    assert "save the models in bfloat16 first" in said


@pytest.mark.parametrize("kind", QUANTISED)
def test_a_quantised_model_beside_one_that_is_not_is_named(here: Path, kind: str) -> None:
    write(here / "a", PLAIN, CONFIG)
    quantised(here / "b", kind)
    said = refusal(LINEAR)
    assert said.startswith('b: "b" is quantised (model.layers.0.')
    assert ' and "a" is not — save "b" in bfloat16 first: this kind is not read' in said
    quantised(here / "a", kind)
    write(here / "b", PLAIN, CONFIG)
    assert refusal(LINEAR).startswith('a: "a" is quantised (')


FP8 = {
    f"{Q}.weight": ("F8_E4M3", [4, 4]),
    f"{Q}.weight_scale_inv": ("F32", [1, 1]),
    f"{Q}.input_scale": ("F32", []),
    "model.norm.weight": ("BF16", [4]),
}
BLOCKS = {"quant_method": "fp8", "weight_block_size": [128, 128]}


def test_quantised_weights_that_are_read_are_merged(here: Path, tmp_path: Path) -> None:
    write(here / "a", PLAIN, CONFIG)
    write(here / "b", FP8, {**CONFIG, "quantization_config": BLOCKS})
    found = plan(LINEAR, work=tmp_path / "work")
    assert {name: job.method for name, job in jobs(found).items()} == {
        f"{Q}.weight": "linear",
        "model.norm.weight": "linear",
    }
    assert '"b" is quantised (fp8): 1 weight is numbers again, in BF16' in "\n".join(found.notes)
    swapped = LINEAR.replace("model: a", "model: c").replace("model: b", "model: a")
    swapped = swapped.replace("model: c", "model: b")
    assert "quantization_config" not in plan(swapped, work=tmp_path / "work").config


@pytest.mark.parametrize("more", ["", "parameters: {scale: 0.5}\n", "tokenizer_source: base\n"])
def test_layers_that_are_put_together_stay_quantised(here: Path, more: str) -> None:
    write(here / "a", FP8, {**CONFIG, "quantization_config": BLOCKS})
    if "tokenizer" in more:
        assert "finds no embedding" in refusal(SLICED + more, dry_run=True)
        return
    found = plan(SLICED + more, dry_run=True)
    copied = jobs(found)[f"{Q}.weight"].dtype == "F8_E4M3"
    assert copied == ("quantization_config" in found.config) == (not more)


def test_what_says_how_tensors_are_quantised_goes_with_them_alone(here: Path) -> None:
    said = {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8"}}
    for name in "ab":
        write(here / name, FP8, {**CONFIG, "quantization_config": BLOCKS})
        (here / name / "hf_quant_config.json").write_text(json.dumps(said))
    for more, kept in (("", True), ("parameters: {scale: 1.0}\n", False)):
        found = plan(SLICED + more, dry_run=True)
        assert ("hf_quant_config.json" in found.extra) == kept
    both = SLICED[:-2] + ", {sources: [{model: b, layer_range: [0, 1]}]}]\n"
    assert "hf_quant_config.json" in plan(both, dry_run=True).extra
    said["quantization"]["exclude_modules"] = ["lm_head", "model.layers.0.mlp*"]
    (here / "b" / "hf_quant_config.json").write_text(json.dumps(said))
    assert "hf_quant_config.json" not in plan(both, dry_run=True).extra
    (here / "a" / "hf_quant_config.json").write_text(json.dumps(said))
    assert refusal(both, dry_run=True) == (
        "a/hf_quant_config.json: says of layers by their number how they are quantised "
        '("layers.0.mlp*"), and they have other numbers in the result — make them numbers first: '
        "add parameters: {scale: 1.0} to the recipe"
    )
    assert not plan(both + "parameters: {scale: 1.0}\n", dry_run=True).extra


def test_counters_and_masks_do_not_make_a_model_quantised(here: Path) -> None:
    tensors = {**PLAIN, "model.bn.num_batches_tracked": ("I64", [1]), "model.bn.w": ("BF16", [4])}
    for name in "ab":
        write(here / name, tensors, CONFIG)
    assert jobs(plan(LINEAR))["model.bn.w"].method == "linear"


@pytest.mark.parametrize(
    ("mine", "theirs", "says"),
    [
        ({"num_attention_heads": 2}, {"num_attention_heads": 4}, '"num_attention_heads" is 4 in "b"'),
        (
            {"num_attention_heads": 4, "num_key_value_heads": 2},
            {"num_attention_heads": 4},
            '"num_key_value_heads" is 4 in "b" and 2 in "a"',
        ),
        (
            {"num_attention_heads": 4, "hidden_size": 8},
            {"num_attention_heads": 4, "hidden_size": 8, "head_dim": 4},
            '"head_dim" is 4 in "b" and 2 in "a"',
        ),
        ({"n_head": 2}, {"n_head": 4}, '"num_attention_heads" is 4 in "b"'),
    ],
)  # fmt: skip
def test_other_heads_are_refused(
    here: Path, mine: dict[str, Any], theirs: dict[str, Any], says: str
) -> None:
    write(here / "a", PLAIN, {**CONFIG, **mine})
    write(here / "b", PLAIN, {**CONFIG, **theirs})
    said = refusal(LINEAR)
    assert said.startswith("b/config.json: " + says)
    assert "merge models of one kind, or allow it (--allow-mixed)" in said
    assert plan(LINEAR, allow_mixed=True).jobs


@pytest.mark.parametrize(
    ("mine", "theirs", "says"),
    [
        ({"rope_theta": 1e4}, {"rope_theta": 5e5}, "rope_theta 500000.0 and 10000.0"),
        ({"rope_theta": 1e4}, {}, "rope_theta (not given) and 10000.0"),
        (
            {"rope_theta": 1e4},
            {"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}},
            "rope_theta 500000.0 and 10000.0",
        ),
        (
            {},
            {"rope_scaling": {"type": "linear", "factor": 2}},
            "rope_scaling {'rope_type': 'linear', 'factor': 2} and (not given)",
        ),
        ({"max_position_embeddings": 8}, {"max_position_embeddings": 16}, "embeddings 16 and 8"),
        ({"rms_norm_eps": 1e-5}, {"rms_norm_eps": 1e-6}, "rms_norm_eps 1e-06 and 1e-05"),
        ({"hidden_act": "silu"}, {"hidden_act": "gelu"}, "hidden_act gelu and silu"),
        ({"sliding_window": 8}, {}, "sliding_window (not given) and 8"),
        ({"num_experts_per_tok": 2}, {"num_experts_per_tok": 4}, "num_experts_per_tok 4 and 2"),
        ({"logit_scale": 1.0}, {"logit_scale": 2.0}, "logit_scale 2.0 and 1.0"),
        ({"text_config": {"rope_theta": 1}}, {"text_config": {"rope_theta": 2}}, "rope_theta 2 and"),
    ],
)  # fmt: skip
def test_models_that_compute_otherwise_are_noted(
    here: Path, mine: dict[str, Any], theirs: dict[str, Any], says: str
) -> None:
    write(here / "a", PLAIN, {**CONFIG, **mine})
    write(here / "b", PLAIN, {**CONFIG, **theirs})
    (note,) = plan(LINEAR).notes
    assert note.startswith('"b" and "a", whose config.json the result has, do not compute alike: ')
    assert says in note


def test_what_does_not_matter_is_not_noted(here: Path) -> None:
    write(here / "a", PLAIN, {**CONFIG, "rope_theta": 1e4, "use_cache": True, "_name": "x"})
    same = {"rope_parameters": {"rope_theta": 1e4, "rope_type": "default"}, "pad_token_id": 5}
    more = {"transformers_version": "5", "attention_dropout": 0.1, "attention_bias": False}
    write(here / "b", PLAIN, {**CONFIG, **same, **more})
    assert plan(LINEAR).notes == ()


@pytest.mark.parametrize("text", ["{", "[]", '{"num_hidden_layers": "16"}', '{"architectures": 5}'])
def test_a_config_that_is_none_is_named(here: Path, text: str) -> None:
    (here / "b" / "config.json").write_text(text)
    assert refusal(LINEAR).startswith("b/config.json: ")


@pytest.mark.parametrize(
    "value", [None, True, 5, 1.5, "x", [], ["x"], {}, {"x": {}}, [[]], -1, 1e300]
)
def test_whatever_a_config_says_is_no_traceback(here: Path, value: Any) -> None:
    config = json.loads((here / "b" / "config.json").read_text())
    keys = (
        "architectures model_type num_hidden_layers text_config rope_scaling rope_parameters "
        "tie_word_embeddings vocab_size num_attention_heads hidden_size layer_types dtype "
        "mlp_only_layers first_k_dense_replace attention_types block_types quantization_config"
    )
    sliced = SLICED.replace("[0, 1]", "[1, 3]").replace("model: a", "model: b")
    for key in keys.split():
        (here / "b" / "config.json").write_text(json.dumps({**config, key: value}))
        for text in (LINEAR, sliced):
            try:
                plan(text)
            except PomonaError as error:
                assert "config.json" in str(error) or "tie" in str(error)


@pytest.mark.parametrize("name", ["x" * 5000, "~nobody-here/model", "a\0b", "", "/"])
def test_what_is_no_folder_is_none(here: Path, name: str) -> None:
    recipe = {"merge_method": "linear", "models": [{"model": name, "parameters": {"weight": 1}}]}
    with pytest.raises(PomonaError):
        plan_merge(recipe)
