"""What stands beside the tensors goes along, and what is odd about copied tensors is told."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from pomona.errors import PomonaError
from pomona.merge import merge

from .conftest import bf16

Make = Callable[..., Path]
MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"},
]


def mean(*folders: Path) -> dict[str, Any]:
    models = [{"model": str(folder), "parameters": {"weight": 1}} for folder in folders]
    return {"merge_method": "linear", "models": models}


def sentences(folder: Path, modules: Any = MODULES) -> Path:
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "config_sentence_transformers.json").write_text("{}")
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 8}')
    for name, files in (
        ("1_Pooling", ["config.json"]),
        ("2_Dense", ["config.json", "model.safetensors", "pytorch_model.bin"]),
        ("onnx", ["model.onnx"]),
    ):
        (folder / name).mkdir()
        for file in files:
            (folder / name / file).write_text("{}")
    return folder


def test_weights_of_modules_that_all_models_have_are_merged(make: Make, tmp_path: Path) -> None:
    folders = [sentences(make(name, seed)) for seed, name in enumerate(("one", "two"), 1)]
    values = [np.array([[1.0, 2.0]], np.float32), np.array([[5.0, -2.0]], np.float32)]
    for folder, value in zip(folders, values, strict=True):
        save_file({"linear.weight": value}, folder / "2_Dense/model.safetensors")
    recipe = mean(*folders)
    recipe["models"][1]["parameters"]["weight"] = 3
    result = merge({**recipe, "dtype": "bfloat16"}, tmp_path / "out", report=False)
    out = load_file(tmp_path / "out/2_Dense/model.safetensors")["linear.weight"]
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, [[4.0, -1.0]])
    assert "2_Dense/model.safetensors: merged as what stands behind the layers" in result.notes
    for change in ({"linear.weight": np.ones((2, 2), np.float32)}, {"linear.bias": values[0]}):
        save_file(change, folders[1] / "2_Dense/model.safetensors")
        merge(recipe, tmp_path / "out", report=False, overwrite=True)
        out = load_file(tmp_path / "out/2_Dense/model.safetensors")["linear.weight"]
        np.testing.assert_array_equal(out, values[0])


def test_the_modules_of_sentence_transformers_go_along(make: Make, tmp_path: Path) -> None:
    one, two = sentences(make("one", 1)), make("two", 2)
    result = merge(mean(one, two), tmp_path / "out", report=False)
    for name in (
        *("modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"),
        *("1_Pooling/config.json", "2_Dense/config.json", "2_Dense/model.safetensors"),
    ):
        assert (tmp_path / "out" / name).read_bytes() == (one / name).read_bytes()
        assert name in result.files
    assert not (tmp_path / "out" / "2_Dense" / "pytorch_model.bin").exists()
    assert f"2_Dense/model.safetensors: not merged, but as in {one}" in result.notes
    assert f"folders of {one} that do not go along: onnx" in result.notes


@pytest.mark.parametrize(
    ("modules", "says"),
    [
        ({}, "is not a list"),
        ([5], "names a module at None"),
        ([{"path": "../x"}], r"names a module at '\.\./x'"),
        ([{"path": "/etc"}], "names a module at '/etc'"),
    ],
)
def test_modules_elsewhere_are_refused(make: Make, tmp_path: Path, modules: Any, says: str) -> None:
    one, two = sentences(make("one", 1), modules), make("two", 2)
    with pytest.raises(PomonaError, match=rf"one/modules\.json: {says}"):
        merge(mean(one, two), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_further_chat_templates_and_markers_go_along(make: Make, tmp_path: Path) -> None:
    one = make("one", 1)
    (one / "additional_chat_templates").mkdir()
    (one / "additional_chat_templates" / "tool_use.jinja").write_text("{{ 1 }}")
    two = make("two", 2)
    (two / "markers.json").write_text("{}")  # also of what is merged into the donor
    merge(mean(one, two), tmp_path / "out", report=False)
    made = tmp_path / "out" / "additional_chat_templates" / "tool_use.jinja"
    assert made.read_text() == "{{ 1 }}"
    assert (tmp_path / "out" / "markers.json").read_text() == "{}"
    (one / "markers.json").write_text("[]")  # other lists: neither is the result's
    merge(mean(one, two), tmp_path / "other", report=False)
    assert not (tmp_path / "other" / "markers.json").exists()


@pytest.mark.parametrize("odd", [np.nan, -np.inf])
def test_copied_tensors_with_nan_or_infinity_are_told(
    make: Make, tmp_path: Path, odd: float
) -> None:
    values = np.full((48, 32), 0.5, np.float32)
    values[-1, -1] = odd
    name = "model.layers.1.mlp.up_proj.weight"
    one = make("one", 1, changed={name: ("BF16", bf16(values))})
    sliced = {
        "merge_method": "passthrough",
        "slices": [{"sources": [{"model": str(one), "layer_range": [0, 2]}]}],
    }
    note = (
        f"1 tensor is copied and holds NaN or infinity, the first is {name}: is its model damaged?"
    )
    result = merge(sliced, tmp_path / "out", report=False)
    assert note in result.notes
    assert note in (tmp_path / "out" / "README.md").read_text().replace("\\", "")
    with pytest.raises(PomonaError, match="holds NaN or infinity"):
        merge(mean(one, make("two", 2)), tmp_path / "other")
    with pytest.raises(PomonaError, match="holds NaN or infinity"):
        merge({**sliced, "dtype": "float32"}, tmp_path / "other")


@pytest.mark.parametrize("name", ["tokenizer_config.json", "generation_config.json", "config.json"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "[]", "{", "null", "[" * 100_000])
def test_a_file_that_is_something_else_is_refused_by_name(
    make: Make, tmp_path: Path, name: str, kind: str
) -> None:
    one, two = make("one", 1), make("two", 2)
    (one / name).unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(one / name)
    elif kind == "folder":
        (one / name).mkdir()
    else:
        (one / name).write_text(kind)
    with pytest.raises(PomonaError, match=f"one/{name}: "):
        merge({**mean(one, two), "tokenizer_source": "union"}, tmp_path / "out")
    assert sorted(each.name for each in tmp_path.iterdir() if each.name[0] != ".") == ["one", "two"]


@pytest.mark.parametrize("out", ["/", ".."])
def test_a_folder_that_has_no_name_is_no_result(make: Make, out: str) -> None:
    models = mean(make("one", 1), make("two", 2))
    for overwrite in (False, True):
        with pytest.raises(PomonaError, match="is no name for a result"):
            merge(models, out, overwrite=overwrite)
