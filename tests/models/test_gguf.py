from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pomona.errors import PomonaError
from pomona.models import load, locate
from pomona.models.torch.model import TorchModel

from .conftest import VOCABULARY, some_prompts

NAMES = {
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


def _gguf_name(name: str) -> str:
    if "layers." not in name:
        return {
            "model.embed_tokens.weight": "token_embd.weight",
            "model.norm.weight": "output_norm.weight",
        }[name]
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{NAMES[rest.removesuffix('.weight')]}.weight"


def _rotated(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """GGUF keeps the halves of a rotated pair side by side."""
    return weight.view(heads, 2, -1, weight.shape[1]).transpose(1, 2).reshape(weight.shape)


@pytest.fixture
def file(checkpoints: dict[str, Path], tmp_path: Path) -> Path:
    """The tiny Llama as a GGUF file in float32."""
    source, path = checkpoints["llama"], tmp_path / "tiny.gguf"
    model = json.loads((source / "tokenizer.json").read_text())["model"]
    tokens = [*sorted(model["vocab"], key=model["vocab"].__getitem__)]
    tokens += [f"<|unused {index}|>" for index in range(VOCABULARY - len(tokens))]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(32)
    writer.add_block_count(2)
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(4)
    writer.add_rope_dimension_count(8)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(VOCABULARY)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token.startswith("<|") else 1 for token in tokens])
    writer.add_token_merges([" ".join(merge) for merge in model["merges"]])
    writer.add_eos_token_id(0)
    for name, weight in load_file(source / "model.safetensors").items():
        turned = _rotated(weight, 4) if "q_proj" in name or "k_proj" in name else weight
        writer.add_tensor(_gguf_name(name), turned.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_gguf_file_is_the_same_model(
    file: Path, cache: Path, model: TorchModel, capfd: pytest.CaptureFixture[str]
) -> None:
    converted = load(f"gguf:{file}", need={"states"})
    assert isinstance(converted, TorchModel)
    assert converted.shape == model.shape
    folder = locate(f"gguf:{file}")
    assert folder.parent == cache / "gguf"
    before = folder.stat().st_mtime_ns
    assert locate(f"gguf:{file.rename(file.with_name('renamed.gguf'))}") == folder
    assert folder.stat().st_mtime_ns == before
    prompts = some_prompts(10)
    ours, theirs = (
        converted.score(prompts, ["the page"] * 10),
        model.score(prompts, ["the page"] * 10),
    )
    assert (
        np.abs(np.concatenate(ours) - np.concatenate(theirs)).max() < 0.1
    )  # the cache keeps bfloat16
    assert capfd.readouterr().out == ""


def test_files_that_are_not_gguf(tmp_path: Path, file: Path, cache: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"GGML")
    with pytest.raises(
        PomonaError, match=r"a\.gguf: is not a GGUF file — it must begin with the letters GGUF"
    ):
        load(f"gguf:{tmp_path / 'a.gguf'}", need={"states"})
    for size in (4, 300, -500):
        (tmp_path / "cut.gguf").write_bytes(file.read_bytes()[:size])
        with pytest.raises(
            PomonaError, match=r"cut\.gguf: cannot be converted: .* — is the file whole"
        ):
            load(f"gguf:{tmp_path / 'cut.gguf'}", need={"train"})
    assert [path for path in cache.rglob("*") if path.is_file()] == []
