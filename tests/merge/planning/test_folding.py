"""Layers of one model, merged with each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from pomona.merge import merge

from .conftest import jobs, llama, plan, refusal

FOLDED = """slices:
- sources: [{{model: {0}, layer_range: [0, 1]}}]
- sources:
  - {{model: {0}, layer_range: [1, 2], parameters: {{weight: 1}}}}
  - {{model: {0}, layer_range: [2, 3], parameters: {{weight: 3}}}}
parameters: {{weight: 1}}
"""
UP = "model.layers.{}.mlp.up_proj.weight"


def test_two_ranges_of_one_model_are_merged(here: Path, tmp_path: Path) -> None:
    folder = llama(tmp_path / "m", 4, dtype="F32")
    tensors = load_file(folder / "model.safetensors")
    draw = np.random.default_rng(0)
    tensors = {name: draw.normal(size=v.shape).astype(v.dtype) for name, v in tensors.items()}
    save_file(tensors, folder / "model.safetensors")
    (tmp_path / "r.yml").write_text("merge_method: linear\n" + FOLDED.format(folder))
    merge(tmp_path / "r.yml", tmp_path / "out")
    out = load_file(tmp_path / "out/model.safetensors")
    np.testing.assert_array_equal(out[UP.format(0)], tensors[UP.format(0)])
    wanted = (tensors[UP.format(1)] + 3 * tensors[UP.format(2)]) / 4
    np.testing.assert_allclose(out[UP.format(1)], wanted, rtol=1e-6)
    assert UP.format(2) not in out
    for name in ("model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"):
        np.testing.assert_array_equal(out[name], tensors[name])


@pytest.mark.parametrize("method", ["task_arithmetic", "dare_linear", "slerp"])
def test_the_first_range_of_the_base_is_the_base(here: Path, method: str) -> None:
    text = (
        f"merge_method: {method}\nbase_model: a\nslices:\n- sources:\n"
        "  - {model: a, layer_range: [0, 2]}\n  - {model: a, layer_range: [2, 4]}\n"
        "parameters: {weight: 0.5, density: 0.5, t: 0.5}\n"
    )
    made = jobs(plan(text))
    job = made[UP.format(1)]
    assert job.base is not None
    assert (job.base.tensor, job.base.identity) == (UP.format(1), "a [0, 2]")
    assert [(one.tensor, one.identity) for one in job.inputs] == [(UP.format(3), "a [2, 4]")]
    assert made["model.norm.weight"].method == "copy"
    assert plan(text).config["num_hidden_layers"] == 2


def test_layers_beside_those_of_another_model(here: Path) -> None:
    text = (
        "merge_method: linear\nslices:\n- sources:\n"
        "  - {model: a, layer_range: [0, 2], parameters: {weight: 1}}\n"
        "  - {model: a, layer_range: [2, 4], parameters: {weight: 2}}\n"
        "  - {model: b, layer_range: [0, 2], parameters: {weight: 3}}\n"
    )
    made = jobs(plan(text))
    names = [one.identity for one in made["model.norm.weight"].inputs]
    assert names == ["a [0, 2]", "a [2, 4]", "b"]
    again = text.replace("[2, 4], parameters: {weight: 2}", "[0, 2], parameters: {weight: 2}")
    assert (
        'merge_method linear: "a [0, 2]" is given twice for the same layers — give it once, with '
        "the sum of the weights" in refusal(again)
    )
