"""The same tensors under the names of several versions of transformers: adapters on vision-language
models, and checkpoints beside each other. The networks are real ones, of a few thousand numbers.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from pomona.errors import PomonaError
from pomona.merge import merge

SIZE: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2}
TEXT: dict[str, Any] = {
    **SIZE,
    "vocab_size": 48,
    "num_hidden_layers": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "max_position_embeddings": 32,
}
EYES: dict[str, Any] = {**SIZE, "num_hidden_layers": 1, "image_size": 8, "patch_size": 4}
# The stack of the language model as a checkpoint of today has it, and as the network has it.
STACKS = {
    "llava": ("language_model.model.", "model.language_model."),
    "gemma": ("language_model.model.", "model.language_model."),
    "qwen": ("model.", "model.language_model."),
}


def network(kind: str) -> Any:
    import transformers as hf

    if kind == "llava":
        vision = hf.CLIPVisionConfig(**EYES, projection_dim=16)
        text: Any = hf.LlamaConfig(**TEXT)
        return hf.LlavaForConditionalGeneration(
            hf.LlavaConfig(text_config=text, vision_config=vision, image_token_index=5)
        )
    if kind == "gemma":
        return hf.Gemma3ForConditionalGeneration(
            hf.Gemma3Config(text_config=TEXT, vision_config=EYES, mm_tokens_per_image=4)
        )
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}
    sizes = {"depth": 1, "embed_dim": 16, "hidden_size": 16, "num_heads": 2, "mlp_ratio": 1}
    return hf.Qwen2VLForConditionalGeneration(
        hf.Qwen2VLConfig(text_config={**TEXT, "rope_parameters": rope}, vision_config=sizes)
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    import torch

    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("vlm")
    for kind in STACKS:
        network(kind).save_pretrained(root / kind)
    return {kind: root / kind for kind in STACKS}


def tensors(folder: Path) -> dict[str, np.ndarray]:
    return load_file(folder / "model.safetensors")


def renamed(source: Path, folder: Path, *pairs: tuple[str, str], scale: float = 1) -> Path:
    """A copy of a checkpoint, its numbers scaled, with the beginnings of names exchanged."""
    shutil.copytree(source, folder)
    new: dict[str, np.ndarray] = {}
    for name, value in tensors(source).items():
        old, other = next((pair for pair in pairs if name.startswith(pair[0])), ("", ""))
        new[other + name.removeprefix(old)] = value * np.float32(scale)
    save_file(new, folder / "model.safetensors")
    return folder


def adapter(folder: Path, stack: str, outputs: int, *more: str) -> Path:
    """An adapter in PEFT's layout on a projection of both layers: A and B are ranges of numbers."""
    folder.mkdir()
    a = np.linspace(-1, 1, 32, dtype=np.float32).reshape(2, 16)
    b = np.linspace(0, 1, 2 * outputs, dtype=np.float32).reshape(outputs, 2)
    modules = [f"{stack}layers.{layer}.self_attn.q_proj" for layer in (0, 1)]
    parts = {
        f"base_model.model.{module}.lora_{part}.weight": value
        for module in (*modules, *more)
        for part, value in (("A", a), ("B", b))
    }
    save_file(parts, folder / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 8, "target_modules": ["q_proj"]}
    settings["alpha_pattern"] = {f"{stack}layers.1.self_attn.q_proj": 2}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder


def through(source: Path, lora: Path, out: Path) -> dict[str, np.ndarray]:
    recipe = {"merge_method": "passthrough", "models": [{"model": f"{source}+{lora}"}]}
    merge(recipe, out, threads=1, report=False)
    return tensors(out)


@pytest.mark.parametrize("stored", ["as saved", "as the network"])
@pytest.mark.parametrize("trained", ["language_model.model.", "model.language_model.", "model."])
@pytest.mark.parametrize("kind", STACKS)
def test_an_adapter_meets_its_layers_under_any_name_of_transformers(
    saved: dict[str, Path], tmp_path: Path, kind: str, trained: str, stored: str
) -> None:
    source, (stack, inner) = saved[kind], STACKS[kind]
    if kind == "qwen" and trained == "language_model.model.":
        trained = "model.language_model."
    if stored == "as the network":
        source, stack = renamed(source, tmp_path / "new", (stack, inner)), inner
    before = tensors(source)
    out = through(source, adapter(tmp_path / "lora", trained, 16), tmp_path / "out")
    a = np.linspace(-1, 1, 32).reshape(2, 16)
    b = np.linspace(0, 1, 32).reshape(16, 2)
    changed = {f"{stack}layers.{n}.self_attn.q_proj.weight": s for n, s in ((0, 4), (1, 1))}
    assert out.keys() == before.keys()
    for name, value in before.items():
        if name in changed:
            np.testing.assert_allclose(out[name], value + changed[name] * b @ a, atol=1e-6)
        else:
            assert np.array_equal(out[name], value), name


def test_an_adapter_on_the_tower_too(saved: dict[str, Path], tmp_path: Path) -> None:
    """PEFT's `target_modules: [q_proj]` takes the vision tower's as well; this checkpoint has the
    tower under the name that transformers gave it before version 5.
    """
    tower = "model.vision_tower.encoder.layers.0.self_attn.q_proj"
    old = renamed(saved["llava"], tmp_path / "old", ("vision_tower.", "vision_tower.vision_model."))
    lora = adapter(tmp_path / "lora", "model.language_model.", 16, tower)
    out, before = through(old, lora, tmp_path / "out"), tensors(old)
    unlike = sorted(name for name in before if not np.array_equal(out[name], before[name]))
    assert unlike == [
        "language_model.model.layers.0.self_attn.q_proj.weight",
        "language_model.model.layers.1.self_attn.q_proj.weight",
        "vision_tower.vision_model.encoder.layers.0.self_attn.q_proj.weight",
    ]


def test_an_adapter_of_another_model_is_refused_by_its_own_names(
    saved: dict[str, Path], tmp_path: Path
) -> None:
    lora = adapter(tmp_path / "lora", "model.language_model.", 16, "model.audio.layers.0.q_proj")
    with pytest.raises(PomonaError) as error:
        through(saved["llava"], lora, tmp_path / "out")
    assert str(error.value) == (
        f'{lora}/adapter_model.safetensors: changes "model.audio.layers.0.q_proj.weight", which '
        f"{saved['llava']} does not have — name the model this adapter was trained on"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", STACKS)
def test_checkpoints_under_other_names_are_merged_under_those_of_the_first(
    saved: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    stack, inner = STACKS[kind]
    pairs = {
        "llava": (("vision_tower.", "vision_tower.vision_model."), (stack, inner)),
        "gemma": ((stack, inner), ("vision_tower.", "model.vision_tower.vision_model.")),
        "qwen": ((stack, inner), ("visual.", "model.visual.")),
    }[kind]
    other = renamed(saved[kind], tmp_path / "b", *pairs, scale=3)
    recipe = {
        "merge_method": "linear",
        "models": [
            {"model": str(model), "parameters": {"weight": 1}} for model in (saved[kind], other)
        ],
    }
    result = merge(recipe, tmp_path / "out", threads=1, report=False)
    out = tensors(tmp_path / "out")
    assert out.keys() == tensors(saved[kind]).keys()
    for name, value in tensors(saved[kind]).items():
        np.testing.assert_allclose(out[name], 2 * value, rtol=1e-6)
    note = next(note for note in result.notes if "other names of transformers" in note)
    assert f'"{inner}layers.*' in note or f'"{inner[:-1]}" → "{stack[:-1]}"' in note


def test_gamma_and_beta_are_weight_and_bias(tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    config = BertConfig(**SIZE, vocab_size=20, num_hidden_layers=1, max_position_embeddings=8)
    BertModel(config).save_pretrained(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): value
        for name, value in tensors(tmp_path / "a").items()
    }
    save_file(old, tmp_path / "b" / "model.safetensors")
    listed = [{"model": str(tmp_path / each), "parameters": {"weight": 0.5}} for each in ("a", "b")]
    recipe = {"merge_method": "linear", "models": listed}
    result = merge(recipe, tmp_path / "out", threads=1, report=False)
    assert result.tensors == len(old)
    for name, value in tensors(tmp_path / "out").items():
        assert np.array_equal(value, tensors(tmp_path / "a")[name.removeprefix("bert.")]), name
