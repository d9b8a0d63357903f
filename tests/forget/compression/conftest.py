"""A small checkpoint of a Llama's names, in NumPy alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from pomona.models.tensors import Tensors

MATRICES = [
    f"model.layers.{layer}.{part}.weight"
    for layer in range(2)
    for part in ("mlp.down_proj", "self_attn.q_proj")
]


def weights(folder: Path) -> dict[str, NDArray[np.float32]]:
    opened = Tensors(folder)
    return {name: opened.floats(name) for name in opened.names}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    random = np.random.default_rng(3)
    tensors = {
        name: random.normal(scale=1 + place, size=(6, 24)).astype(np.float32)
        for place, name in enumerate(MATRICES)
    }
    tensors |= {
        "model.embed_tokens.weight": random.normal(size=(40, 24)).astype(np.float32),
        "model.norm.weight": np.ones(24, np.float32),
        "model.layers.0.self_attn.q_proj.bias": np.full(6, 0.5, np.float32),
    }
    save_file(tensors, folder / "model.safetensors")
    config = {"model_type": "llama", "dtype": "float32", "tie_word_embeddings": True}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "old.bin").write_bytes(b"a pickle")
    return folder


@pytest.fixture
def sharded(model: Path) -> Path:
    """The same, in two files and an index."""
    tensors = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    names = sorted(tensors)
    shards = {
        "model-00001-of-00002.safetensors": names[::2],
        "model-00002-of-00002.safetensors": names[1::2],
    }
    for file, held in shards.items():
        save_file({name: tensors[name] for name in held}, model / file)
    index = {"weight_map": {name: file for file, held in shards.items() for name in held}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    return model
