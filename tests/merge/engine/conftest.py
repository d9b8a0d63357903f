from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pomona.merge.report import card

TOKENIZER = Path(__file__).parents[3] / "src/pomona/assets/ui-tokenizer"
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 6000,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
}
Tensors = dict[str, tuple[str, np.ndarray]]
Maker = Callable[..., Path]


def bf16(values: np.ndarray) -> np.ndarray:
    """Rounded to nearest, ties to even, as uint16."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def shapes() -> dict[str, tuple[int, ...]]:
    """The tensors of a Llama with a tied head."""
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (6000, 32)}
    for layer in range(2):
        names = {f"self_attn.{part}_proj": (32, 32) for part in "qkvo"}
        names |= {"mlp.gate_proj": (48, 32), "mlp.up_proj": (48, 32), "mlp.down_proj": (32, 48)}
        names |= {"input_layernorm": (32,), "post_attention_layernorm": (32,)}
        found |= {f"model.layers.{layer}.{name}.weight": shape for name, shape in names.items()}
    return found | {"model.norm.weight": (32,)}


def llama(seed: int) -> Tensors:
    """Weights near a base that all seeds share; seed 0 is the base."""
    base, draw = np.random.default_rng(0), np.random.default_rng(seed)
    found: Tensors = {}
    for name, shape in shapes().items():
        values = base.standard_normal(shape) * 0.05
        found[name] = ("BF16", bf16(values + (draw.standard_normal(shape) * 0.01 if seed else 0)))
    return found


def write_tensors(file: Path, tensors: Tensors) -> None:
    """One safetensors file."""
    header: dict[str, Any] = {}
    offset = 0
    for name, (dtype, values) in tensors.items():
        header[name] = {
            "dtype": dtype,
            "shape": list(values.shape),
            "data_offsets": [offset, offset + values.nbytes],
        }
        offset += values.nbytes
    encoded = json.dumps(header).encode()
    file.write_bytes(
        len(encoded).to_bytes(8, "little")
        + encoded
        + b"".join(values.tobytes() for _, values in tensors.values())
    )


def read_tensors(folder: Path) -> dict[str, tuple[str, list[int], bytes]]:
    """Type, shape and bytes of every tensor of a folder."""
    found = {}
    for file in sorted(folder.glob("*.safetensors")):
        content = file.read_bytes()
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        for name, info in header.items():
            if name != "__metadata__":
                first, last = info["data_offsets"]
                found[name] = (
                    info["dtype"],
                    info["shape"],
                    content[8 + length + first : 8 + length + last],
                )
    return found


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card, "_cache_file", lambda: tmp_path / "cache" / "hashes.json")


@pytest.fixture
def make(tmp_path: Path) -> Maker:
    """`make(name, seed, shards=1, **changed)`: a checkpoint folder; `changed` are tensors (type,
    values) or None to leave one out.
    """

    def build(name: str, seed: int, shards: int = 1, changed: dict[str, Any] | None = None) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(CONFIG))
        (folder / "generation_config.json").write_text('{"do_sample": false}')
        for file in TOKENIZER.iterdir():
            shutil.copyfile(file, folder / file.name)
        tensors = {
            key: value
            for key, value in {**llama(seed), **(changed or {})}.items()
            if value is not None
        }
        names = list(tensors)
        files = (
            ["model.safetensors"]
            if shards == 1
            else [f"model-{i + 1:05}-of-{shards:05}.safetensors" for i in range(shards)]
        )
        for place, file in enumerate(files):
            write_tensors(folder / file, {key: tensors[key] for key in names[place::shards]})
        if shards > 1:
            weight_map = {key: files[place % shards] for place, key in enumerate(names)}
            (folder / "model.safetensors.index.json").write_text(
                json.dumps({"weight_map": weight_map})
            )
        return folder

    return build


@pytest.fixture
def recipe(make: Maker) -> dict[str, Any]:
    """A ties merge of two models, one of them in shards, on a base."""
    base, one, two = make("base", 0), make("one", 1, 3), make("two", 2)
    models = [
        {"model": str(folder), "parameters": {"weight": 0.5, "density": 0.6}}
        for folder in (one, two)
    ]
    return {"merge_method": "ties", "base_model": str(base), "models": models, "dtype": "bfloat16"}
