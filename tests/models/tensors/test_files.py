from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from safetensors.torch import load_file, save_file

from pomona.errors import PomonaError
from pomona.merge import merge
from pomona.models.tensors import Tensors, encode


def write(folder: Path, tensors: dict[str, torch.Tensor], shards: int = 1) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(
        '{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}'
    )
    names = sorted(tensors)
    for i in range(shards):
        save_file({n: tensors[n] for n in names[i::shards]}, folder / f"model-{i}.safetensors")
    return folder


def mean(folders: list[Path]) -> dict[str, Any]:
    return {
        "merge_method": "linear",
        "models": [{"model": str(folder), "parameters": {"weight": 1}} for folder in folders],
    }


def model(seed: int, dtype: torch.dtype = torch.bfloat16) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    floats = {n: torch.randn(4, 8, generator=generator).to(dtype) for n in ("a", "b", "c")}
    return {**floats, "positions": torch.arange(5)}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("shards", [1, 3])
def test_a_merge_is_what_torch_computes(tmp_path: Path, dtype: torch.dtype, shards: int) -> None:
    models = [model(seed, dtype) for seed in range(3)]
    folders = [write(tmp_path / str(i), m, shards) for i, m in enumerate(models)]
    merge(
        {**mean(folders), "dtype": "float32", "out_dtype": str(dtype).removeprefix("torch.")},
        tmp_path / "out",
    )
    merged = load_file(tmp_path / "out" / "model.safetensors")
    for name in "abc":
        wanted = sum(m[name].double() for m in models) / 3
        assert torch.allclose(merged[name].double(), wanted, rtol=torch.finfo(dtype).eps, atol=1e-7)
    assert torch.equal(merged["positions"], torch.arange(5))
    assert (tmp_path / "out" / "config.json").exists()


@given(
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=50)
)
def test_bfloat16_is_rounded_as_torch_rounds(values: list[float]) -> None:
    array = np.array(values, np.float32)
    assert (
        encode(array, "BF16")
        == torch.from_numpy(array).bfloat16().view(torch.int16).numpy().tobytes()
    )


def test_refusals_name_the_tensor_and_leave_nothing(tmp_path: Path) -> None:
    first = write(tmp_path / "first", model(0))
    other_shape = write(
        tmp_path / "shape", {**model(1), "b": torch.zeros(2, 2, dtype=torch.bfloat16)}
    )
    missing = write(tmp_path / "missing", {k: v for k, v in model(1).items() if k != "b"})
    broken = write(
        tmp_path / "nan", {**model(1), "b": torch.full((4, 8), float("nan"), dtype=torch.bfloat16)}
    )
    for folder, text in (
        (other_shape, 'tensor "b" is'),
        (missing, 'has no tensor "b"'),
        (broken, 'tensor "b" holds NaN'),
    ):
        with pytest.raises(PomonaError, match=text):
            merge(mean([first, folder]), tmp_path / "out")
        assert {p.name for p in tmp_path.iterdir()} == {"first", "shape", "missing", "nan"}


def test_a_file_cut_short_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "m", model(0))
    file = folder / "model-0.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(
        PomonaError, match=r"model-0.safetensors: is cut short.*copy or download it again"
    ):
        Tensors(folder)
