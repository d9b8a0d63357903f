"""Mixtures out of dense models: real networks of a few thousand numbers, loaded by transformers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file, save_file

from pomona.errors import PomonaError
from pomona.merge import build_moe, merge
from pomona.models.torch import prompt_ids

TOKENIZER = Path(__file__).parents[3] / "src/pomona/assets/ui-tokenizer"
SIZE: dict[str, Any] = {
    "vocab_size": 6144,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "max_position_embeddings": 64,
}
# Prompts of an expert, and what mergekit 0.1.5 sets as its gates, with its network in float32.
OPEN = {"positive_prompts": ["Open the file", "Save"], "negative_prompts": ["Delete everything"]}
AIDE = {"positive_prompts": ["Aide"]}
_SAME = [0.2902712, 0.0385581, -0.0681962, 0.1641485, -0.2002707, 0.1245024]
_OTHER = [-0.3290336, -0.0902615, 0.1813367, -0.0206084, -0.1271592, -0.3769492]
GOLDEN: dict[tuple[str, str], list[float]] = {
    ("llama", "cheap_embed"): _SAME * 2,
    ("qwen3", "cheap_embed"): _OTHER * 2,
    ("llama", "hidden"): [
        *(0.5149603, 0.4558764, -0.3630735, 0.0027508, -0.3253629, -0.2397641),
        *(0.7045970, -0.0338110, -0.0611982, 0.1022929, -0.3551702, 0.0749887),
    ],
    ("qwen3", "hidden"): [
        *(0.0367664, -0.2472786, 0.0346876, 0.0017786, 0.1829764, -0.2721722),
        *(0.1279537, 0.0531960, -0.2970569, 0.3234335, -0.1289651, 0.0524493),
    ],
}
SETTINGS: dict[str, Any] = {"threads": 1, "device": "cpu"}


def dense(folder: Path, kind: str, seed: int, **more: Any) -> Path:
    """A dense model with normal numbers that depend on nothing but the seed."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(kind, **{**SIZE, **more})
    network = AutoModelForCausalLM.from_config(config)
    draw = np.random.default_rng(seed)
    for _, one in sorted(network.named_parameters()):
        values = draw.standard_normal(tuple(one.shape)) * 0.1 + (one.ndim == 1)
        one.data = torch.from_numpy(values.astype(np.float32))
    network.save_pretrained(folder)
    for file in TOKENIZER.iterdir():
        shutil.copy(file, folder)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("dense")
    kinds: dict[str, dict[str, Any]] = {
        "llama": {"rope_theta": 5e4, "tie_word_embeddings": True},
        "qwen2": {},
        "qwen3": {"head_dim": 12},
    }
    return {
        f"{kind}-{seed}": dense(root / f"{kind}-{seed}", kind, seed, **more)
        for kind, more in kinds.items()
        for seed in (1, 2)
    }


def written(tmp_path: Path, **told: Any) -> Path:
    file = tmp_path / "moe.yaml"
    file.write_text(yaml.safe_dump(json.loads(json.dumps(told))))
    return file


def built(tmp_path: Path, models: dict[str, Path], **told: Any) -> dict[str, np.ndarray]:
    build_moe(written(tmp_path, **told), tmp_path / "out", models=models, **SETTINGS)
    return load_file(tmp_path / "out" / "model.safetensors")


def two(kind: str, **more: Any) -> dict[str, Any]:
    experts = [{"source_model": f"{kind}-1", **OPEN}, {"source_model": f"{kind}-2", **AIDE}]
    return {"base_model": f"{kind}-1", "experts": experts, **more}


def logits(folder: Path) -> np.ndarray:
    import torch
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        return network(input_ids=torch.arange(8)[None] * 11).logits.numpy()


@pytest.mark.parametrize("mode", ["hidden", "cheap_embed"])
@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_gates_are_those_of_mergekit(
    models: dict[str, Path], tmp_path: Path, kind: str, mode: str
) -> None:
    out = built(tmp_path, models, **two(kind, gate_mode=mode))
    inner = "block_sparse_moe" if kind == "llama" else "mlp"
    gates = np.stack([out[f"model.layers.{layer}.{inner}.gate.weight"] for layer in (0, 1)])
    assert gates.shape == (2, 2, 16)
    np.testing.assert_allclose(gates[:, :, :3].ravel(), GOLDEN[kind, mode], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(gates, axis=-1), 1, rtol=1e-6)


def test_cheap_gates_are_sums_of_embeddings(models: dict[str, Path], tmp_path: Path) -> None:
    out = built(tmp_path, models, **two("llama", gate_mode="cheap_embed"))
    folder = models["llama-1"]
    table = load_file(folder / "model.safetensors")["model.embed_tokens.weight"]

    def state(prompts: list[str]) -> np.ndarray:
        total = np.sum([table[one] for ids in prompt_ids(folder, prompts) for one in ids], axis=0)
        return total / np.linalg.norm(total)

    first = state(OPEN["positive_prompts"]) - state(OPEN["negative_prompts"])
    for layer in (0, 1):
        gate = out[f"model.layers.{layer}.block_sparse_moe.gate.weight"]
        np.testing.assert_allclose(gate[0], first / np.linalg.norm(first), atol=1e-6)
        np.testing.assert_allclose(gate[1], state(AIDE["positive_prompts"]), atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "made"), [("llama", "MixtralForCausalLM"), ("qwen3", "Qwen3MoeForCausalLM")]
)
def test_experts_that_are_one_model_answer_as_that_does(
    models: dict[str, Path], tmp_path: Path, kind: str, made: str
) -> None:
    expert = {"source_model": f"{kind}-2"}
    file = written(tmp_path, base_model=f"{kind}-2", experts=[expert] * 4, gate_mode="random")
    build_moe(file, tmp_path / "out", models=models, allow_same=True, **SETTINGS)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["architectures"] == [made]
    np.testing.assert_allclose(logits(tmp_path / "out"), logits(models[f"{kind}-2"]), atol=2e-5)


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_a_shared_expert_makes_a_qwen2_moe(
    models: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    told = two(kind, experts_per_token=1, gate_mode="cheap_embed")
    told["shared_experts"] = [{"source_model": f"{kind}-2", **AIDE, "residual_scale": 0.5}]
    out = built(tmp_path, models, **told)
    source = load_file(models[f"{kind}-2"] / "model.safetensors")
    prefix = "model.layers.1"
    down = out[f"{prefix}.mlp.shared_expert.down_proj.weight"]
    np.testing.assert_allclose(down, 0.5 * source[f"{prefix}.mlp.down_proj.weight"])
    up = out[f"{prefix}.mlp.experts.1.up_proj.weight"]
    assert np.array_equal(up, source[f"{prefix}.mlp.up_proj.weight"])
    gate = out[f"{prefix}.mlp.gate.weight"], out[f"{prefix}.mlp.shared_expert_gate.weight"]
    assert [one.shape for one in gate] == [(2, 16), (1, 16)]
    assert np.array_equal(gate[0][1], gate[1][0])  # the same prompts
    bias = out[f"{prefix}.self_attn.q_proj.bias"]
    assert bias.any() == (kind == "qwen2")
    assert np.isfinite(logits(tmp_path / "out")).all()


def test_a_shared_expert_without_prompts_makes_a_deepseek(
    models: dict[str, Path], tmp_path: Path
) -> None:
    told = two("llama", gate_mode="cheap_embed")
    told["shared_experts"] = [{"source_model": "llama-2", "residual_scale": 0.5}]
    out = built(tmp_path, models, **told)
    gates = np.stack([out[f"model.layers.{layer}.mlp.gate.weight"] for layer in (0, 1)])
    np.testing.assert_allclose(gates[:, :, :3].ravel(), GOLDEN["llama", "cheap_embed"], atol=1e-6)
    sources = [load_file(models[f"llama-{n}"] / "model.safetensors") for n in (1, 2)]
    for layer in (0, 1):
        prefix = f"model.layers.{layer}.mlp"
        for part, scale in {"gate": 1, "up": 1, "down": 0.5}.items():
            name = f"{part}_proj.weight"
            for number in (0, 1):
                expert = out.pop(f"{prefix}.experts.{number}.{name}")
                assert np.array_equal(expert, sources[number][f"{prefix}.{name}"])
            shared = out.pop(f"{prefix}.shared_experts.{name}")
            np.testing.assert_array_equal(shared, scale * sources[1][f"{prefix}.{name}"])
        del out[f"{prefix}.gate.weight"]
    assert {*out} == {name for name in sources[0] if ".mlp." not in name}
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    # As mergekit 0.1.5 writes them, but for rope_theta, without which the hub's code takes 10,000.
    keys = ("model_type", "n_routed_experts", "n_shared_experts", "num_experts_per_tok")
    assert [config[key] for key in keys] == ["deepseek", 2, 1, 2]
    assert (config["moe_intermediate_size"], config["rope_theta"]) == (24, 5e4)


def in_eight_bits(folder: Path, out: Path) -> Path:
    """A model whose MLPs are stored as bitsandbytes stores them in 8 bits."""
    shutil.copytree(folder, out)
    tensors = load_file(out / "model.safetensors")
    for name in [name for name in tensors if ".mlp." in name]:
        largest = np.abs(tensors[name]).max(1)
        tensors[name.replace("weight", "SCB")] = largest
        tensors[name] = np.round(tensors[name] / largest[:, None] * 127).astype(np.int8)
    save_file(tensors, out / "model.safetensors")
    config = json.loads((out / "config.json").read_text())
    settings = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    (out / "config.json").write_text(json.dumps({**config, "quantization_config": settings}))
    return out


def test_quantised_models_become_numbers_but_for_states(
    models: dict[str, Path], tmp_path: Path
) -> None:
    both = {name: in_eight_bits(models[name], tmp_path / name) for name in ("llama-1", "llama-2")}
    said = refused(tmp_path, both, **two("llama", gate_mode="hidden"))
    assert said == (
        'llama-1: "llama-1" is quantised (model.layers.0.mlp.down_proj.weight), and its states '
        "would be the gates — make it numbers first: pomona merge with the recipe {merge_method: "
        "passthrough, models: [{model: llama-1}], parameters: {scale: 1.0}}"
    )
    out = built(tmp_path, both, **two("llama", gate_mode="random"))
    dense = load_file(models["llama-2"] / "model.safetensors")
    made = out["model.layers.1.block_sparse_moe.experts.1.w3.weight"]
    np.testing.assert_allclose(made, dense["model.layers.1.mlp.up_proj.weight"], atol=2e-3)
    assert "quantization_config" not in (tmp_path / "out" / "config.json").read_text()


def test_what_no_deepseek_can_be_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(models["llama-1"], other)
    config = json.loads((other / "config.json").read_text())
    told = two("llama", architecture="deepseek", gate_mode="random")
    for change, says in (
        ({"head_dim": 12}, "its heads are 12 wide, which no DeepSeek mixture can have"),
        (
            {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0}},
            'its "rope_type" is yarn, which no DeepSeek mixture knows',
        ),
    ):
        (other / "config.json").write_text(json.dumps(config | change))
        said = refused(tmp_path, models | {"llama-1": other}, **told)
        assert said == f"other/config.json: {says} — make a mixtral or a qwen"


def test_random_gates_and_noise_are_those_of_the_seed(
    models: dict[str, Path], tmp_path: Path
) -> None:
    told = two("llama", gate_mode="uniform_random", dtype="bfloat16")
    told["experts"][1]["noise_scale"] = 0.01
    file = written(tmp_path, **told)
    for name, seed in {"a": 3, "b": 3, "c": 4}.items():
        build_moe(file, tmp_path / name, models=models, seed=seed, **SETTINGS)
    a, b, c = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abc")
    assert a == b != c
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    assert (config["dtype"], config["num_local_experts"]) == ("bfloat16", 2)
    assert config["rope_parameters"]["rope_theta"] == 5e4


def test_a_dry_run_computes_and_writes_nothing(models: dict[str, Path], tmp_path: Path) -> None:
    file = written(tmp_path, **two("llama"))
    result = build_moe(file, tmp_path / "out", models=models, dry_run=True, **SETTINGS)
    assert (result.written, result.tensors) == (False, 2 + 2 * (6 + 3 * 2 + 1))
    assert [one.name for one in tmp_path.iterdir()] == ["moe.yaml"]


def refused(tmp_path: Path, models: dict[str, Path], **told: Any) -> str:
    with pytest.raises(PomonaError) as error:
        build_moe(written(tmp_path, **told), tmp_path / "out", models=models, **SETTINGS)
    assert not (tmp_path / "out").exists()
    return str(error.value).replace(f"{tmp_path}/", "")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {"experts_per_token": 3},
            'moe.yaml, line 12: "experts_per_token" is 3, and there are 2 experts',
        ),
        (
            {"experts": [{"source_model": "llama-1"}, {"source_model": "llama-2", **AIDE}]},
            'moe.yaml, line 3: "positive_prompts" is missing: gate_mode hidden needs them',
        ),
        (
            {"experts": [{"source_model": f"llama-{n}", **AIDE} for n in (1, 2)]},
            "moe.yaml, line 2: all experts have the same prompts, so that all gates would be the same",
        ),
        (
            {"experts": [{"source_model": "llama-1", **OPEN}, {"source_model": "llama-1", **AIDE}]},
            "moe.yaml: all experts are the same model, so the result would answer as that does — "
            "name others, or allow it (--allow-same) to train the result",
        ),
        (
            {"architecture": "dbrx"},
            'moe.yaml: makes no "dbrx" — known: deepseek, mixtral, qwen, qwen3',
        ),
        (
            {"architecture": "qwen"},
            'moe.yaml: "llama-1" is a llama, and a qwen2_moe is made from qwen2 or llama or mistral '
            "with one shared expert — change architecture, or shared_experts",
        ),
        (
            {"base_model": "qwen2-1"},
            'moe.yaml: "qwen2-1" is a qwen2, and a mixtral is made from llama or mistral with no '
            "shared experts — change architecture, or shared_experts",
        ),
        (
            {"architecture": "deepseek", "shared_experts": [{"source_model": "llama-2", **AIDE}]},
            "moe.yaml: the shared expert has prompts, and that of a DeepSeek mixture has no gate — "
            "leave its prompts out, or make a qwen",
        ),
        (
            {"architecture": "deepseek", "base_model": "qwen3-1"},
            'moe.yaml: "qwen3-1" is a qwen3, and a deepseek is made from llama or mistral — change',
        ),
        (
            {"base_model": "qwen2-1", "shared_experts": [{"source_model": "qwen2-2"}]},
            "moe.yaml: the shared expert has no prompts: gate_mode hidden needs them — give it ",
        ),
        (
            {"base_model": "a+b+c"},
            'moe.yaml, line 1: "a+b+c" has more than one "+"; write {model: {path: …}',
        ),
        (
            {"gate_mode": "last"},
            'moe.yaml, line 12: "gate_mode" must be "hidden" or "hidden_avg" or ',
        ),
        ({"dtype": "int8"}, 'moe.yaml, line 2: unknown dtype "int8": known: bfloat16, '),
    ],
)
def test_a_mistake_is_said(
    models: dict[str, Path], tmp_path: Path, change: dict[str, Any], expected: str
) -> None:
    assert refused(tmp_path, models, **two("llama") | change).startswith(expected)


def test_models_that_do_not_fit_are_named(models: dict[str, Path], tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(models["llama-2"], other)
    tensors = load_file(other / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    save_file(tensors | {name: tensors[name][:8]}, other / "model.safetensors")
    said = refused(tmp_path, models | {"llama-2": other}, **two("llama"))
    assert said == (
        f'other: tensor "{name}" of "llama-2" is [8, 16]; the base has [24, 16] — experts are '
        "dense models of one architecture and size"
    )
    biased = tensors | {"model.layers.0.self_attn.q_proj.bias": np.zeros(16, np.float32)}
    save_file(biased, other / "model.safetensors")
    said = refused(tmp_path, models | {"llama-1": other}, **two("llama"))
    assert said == (
        'other: tensor "model.layers.0.self_attn.q_proj.bias" of "llama-1" has no place in a '
        "mixtral — choose a model without it, or another architecture"
    )
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"hidden_size": 0}))
    assert 'other/config.json: "llama-1": no "hidden_size" above 0 — experts are' in refused(
        tmp_path, models | {"llama-1": other}, **two("llama", gate_mode="random")
    )
    told = two("llama") | {
        "experts": [{"source_model": "qwen3-1", **OPEN}, two("llama")["experts"][1]]
    }
    assert '"qwen3-1": "model_type" is qwen3, and llama in the base "llama-1"' in refused(
        tmp_path, models, **told
    )


def test_a_merge_tells_whose_configuration_it_is(tmp_path: Path) -> None:
    with pytest.raises(PomonaError, match=r"mixture of experts.* — pomona merge moe makes it"):
        merge(written(tmp_path, **two("llama")), tmp_path / "out")
