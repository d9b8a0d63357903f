"""Models of a few numbers, and recipes planned on them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pomona.errors import PomonaError
from pomona.merge.plan import MergePlan, TensorJob
from pomona.merge.planning.planner import plan_merge

SIZES = {"BF16": 2, "F16": 2, "F32": 4, "I64": 8, "U8": 1}
LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "tie_word_embeddings": False}


def write(
    folder: Path,
    tensors: Mapping[str, tuple[str, list[int]]],
    config: Mapping[str, Any],
    fill: int = 0,
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    header, offset = {}, 0
    for name, (dtype, shape) in tensors.items():
        size = math.prod(shape) * SIZES[dtype]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(
        len(text).to_bytes(8, "little") + text + bytes([fill]) * offset
    )
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def llama(
    folder: Path,
    layers: int = 4,
    *,
    dtype: str = "BF16",
    rows: int = 10,
    tied: bool = False,
    **more: Any,
) -> Path:
    tensors: dict[str, tuple[str, list[int]]] = {
        "model.embed_tokens.weight": (dtype, [rows, 4]),
        "model.norm.weight": (dtype, [4]),
    }
    if not tied:
        tensors["lm_head.weight"] = (dtype, [rows, 4])
    for layer in range(layers):
        for part in ("self_attn.q_proj", "mlp.up_proj"):
            tensors[f"model.layers.{layer}.{part}.weight"] = (dtype, [4, 4])
    config = {
        **LLAMA,
        "num_hidden_layers": layers,
        "vocab_size": rows,
        "dtype": "float32",
        "tie_word_embeddings": tied,
        **more,
    }
    return write(folder, tensors, config)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in "abc":
        llama(tmp_path / name)
    llama(tmp_path / "six", 6)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plan(text: str, **options: Any) -> MergePlan:
    Path("recipe.yml").write_text(text)
    return plan_merge("recipe.yml", **options)


def refusal(text: str, **options: Any) -> str:
    with pytest.raises(PomonaError) as caught:
        plan(text, **options)
    return str(caught.value)


def jobs(found: MergePlan) -> dict[str, TensorJob]:
    return {job.name: job for job in found.jobs}
