"""GGUF files at other types: llama.cpp's rounding, its mixtures, and everything else as it was."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gguf
import numpy as np
import pytest
from gguf.quants import dequantize, quantize

from pomona.errors import PomonaError
from pomona.forget import compress
from pomona.forget.compression.ggml import tensor_types

NAMES = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of one layer in F16, with rows of 256 and of 64 weights."""
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    writer, random = gguf.GGUFWriter(path, "llama"), np.random.default_rng(1)
    writer.add_head_count(4)
    writer.add_token_list(["<s>", "å", "b"])
    writer.add_file_type(1)
    for name in NAMES:
        columns = 64 if name == "attn_k" else 256
        values = random.normal(size=(8, columns)).astype(np.float16)
        writer.add_tensor(f"blk.0.{name}.weight", values)
    writer.add_tensor("token_embd.weight", random.normal(size=(3, 256)).astype(np.float16))
    writer.add_tensor("output_norm.weight", np.ones(256, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def tensors(path: Path) -> dict[str, Any]:
    return {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0"])
def test_bytes_are_those_of_another_implementation(file: Path, tmp_path: Path, kind: Any) -> None:
    compress(f"gguf:{file}", tmp_path / "out.gguf", method=kind)
    before, after = tensors(file), tensors(tmp_path / "out.gguf")
    for name in NAMES:
        was, now = before[f"blk.0.{name}.weight"], after[f"blk.0.{name}.weight"]
        assert now.tensor_type.name == kind
        assert np.array_equal(now.data, quantize(was.data.astype(np.float32), now.tensor_type))
    assert np.array_equal(after["output_norm.weight"].data, before["output_norm.weight"].data)


def test_a_mixture_is_llama_cpps(file: Path, tmp_path: Path) -> None:
    result = compress(f"gguf:{file}", tmp_path / "out.gguf", method="Q4_K_M")
    after = tensors(tmp_path / "out.gguf")
    kinds = {name.split(".")[-2]: tensor.tensor_type.name for name, tensor in after.items()}
    # one layer is at the end of the model, and 64 is no multiple of 256
    assert kinds == {
        **dict.fromkeys(NAMES, "Q4_K"), "attn_k": "Q5_0", "attn_v": "Q6_K", "ffn_down": "Q6_K",
        "token_embd": "Q6_K", "output_norm": "F32",
    }  # fmt: skip
    for module in result.modules:
        was = tensors(file)[module.name].data.astype(np.float32)
        now = dequantize(after[module.name].data, after[module.name].tensor_type)
        error = np.linalg.norm(was - now) / np.linalg.norm(was)
        assert module.error == pytest.approx(error, rel=1e-4) and error < 0.1
    fields = gguf.GGUFReader(tmp_path / "out.gguf").fields
    assert fields["tokenizer.ggml.tokens"].contents() == ["<s>", "å", "b"]
    assert fields["general.file_type"].contents() == gguf.LlamaFileType.MOSTLY_Q4_K_M
    assert fields["pomona.signature"].contents() == result.signature
    again = compress(f"gguf:{tmp_path}/out.gguf", tmp_path / "b.gguf", method="Q2_K", dry_run=True)
    assert "rounded a second time: 4 of Q4_K, 1 of Q5_0, 2 of Q6_K" in again.notes[0]
    assert not (tmp_path / "b.gguf").exists()


@pytest.mark.parametrize(
    ("method", "mixture"),
    [  # of Llama 2 7B, as llama.cpp prints them when it loads its files
        ("Q4_K_M", {"Q4_K": 193, "Q6_K": 33, "F32": 65}),
        ("Q4_K_S", {"Q4_K": 217, "Q5_K": 8, "Q6_K": 1, "F32": 65}),
        ("Q3_K_M", {"Q3_K": 129, "Q4_K": 92, "Q5_K": 4, "Q6_K": 1, "F32": 65}),
        ("Q5_K_M", {"Q5_K": 193, "Q6_K": 33, "F32": 65}),
        ("Q8_0", {"Q8_0": 226, "F32": 65}),
    ],
)
def test_mixtures_of_a_large_model(method: str, mixture: dict[str, int]) -> None:
    def tensor(name: str, *shape: int, kind: str = "F16") -> Any:
        return SimpleNamespace(name=name, shape=shape, tensor_type=SimpleNamespace(name=kind))

    held = [tensor("token_embd.weight", 4096, 32000), tensor("output.weight", 4096, 32000)]
    held.append(tensor("output_norm.weight", 4096, kind="F32"))
    for layer in range(32):
        held += [tensor(f"blk.{layer}.{name}.weight", 4096, 4096) for name in NAMES]
        held += [tensor(f"blk.{layer}.{n}_norm.weight", 4096, kind="F32") for n in ("attn", "ffn")]
    types = tensor_types(SimpleNamespace(tensors=held, fields={}), method)
    assert Counter(types.values()) == mixture


def test_files_that_are_none(file: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(3))
    for model, says in {
        "gguf:missing.gguf": "missing.gguf: no such file — give the path of a .gguf file",
        f"gguf:{broken}": "broken.gguf",
        "ui-xs": "is no GGUF file, and GGUF types are made of one",
    }.items():
        with pytest.raises(PomonaError) as caught:
            compress(model, tmp_path / "out.gguf", method="Q8_0")
        assert says in str(caught.value)
    mine = tmp_path / "mine.gguf"
    mine.write_bytes(file.read_bytes())
    for overwrite in (False, True):
        with pytest.raises(PomonaError, match="is not what Pomona wrote there"):
            compress(f"gguf:{file}", mine, method="Q8_0", overwrite=overwrite)
    compress(f"gguf:{file}", tmp_path / "ours.gguf", method="Q8_0")
    with pytest.raises(PomonaError, match="is there already"):
        compress(f"gguf:{file}", tmp_path / "ours.gguf", method="Q4_0")
    compress(f"gguf:{file}", tmp_path / "ours.gguf", method="Q4_0", overwrite=True)
