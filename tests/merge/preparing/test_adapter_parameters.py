"""Adapters of stacked experts, against PEFT's own sums: `o r e, e r i -> e o i`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pomona.errors import PomonaError
from pomona.merge.preparing.adapter_files import read_adapter
from pomona.merge.preparing.adapters import adapted
from pomona.models.tensors import View, keep, stored_array

from .test_adapters import adapter, checkpoint, draw

E, R, WIDE, DEEP = 3, 2, 6, 4  # experts, rank, their inner width, the model's
X = "model.layers.0.mlp.experts"
BOTH = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
A1, B1 = draw(R * E, DEEP, seed=1), draw(2 * WIDE, R * E, seed=2)
A2, B2 = draw(R * E, WIDE, seed=3), draw(DEEP, R * E, seed=4)
# PEFT nests the two, that which the model defines first inside, and saves no names.
PARTS = {
    f"{X}.base_layer.lora_A.weight": A1,
    f"{X}.base_layer.lora_B.weight": B1,
    f"{X}.lora_A.weight": A2,
    f"{X}.lora_B.weight": B2,
}


def change(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    experts = a.reshape(E, R, -1).astype(np.float64), b.reshape(len(b), R, E).astype(np.float64)
    return 2 * np.einsum("ore,eri->eoi", experts[1], experts[0])


def merged(view: View, folder: Path, work: Path) -> dict[str, np.ndarray]:
    laid = adapted(view, read_adapter(folder))
    result = view.with_tensors(keep(work / "made", laid.made, dry_run=False))
    return {name: stored_array(result.tensors[name]) for name in result.names}


def lora(folder: Path, parts: dict[str, np.ndarray], **config: Any) -> Path:
    settings = {"r": R, "lora_alpha": 2 * R, "target_parameters": BOTH, "peft_version": "0.19.0"}
    return adapter(folder, parts, **{**settings, **config})


@pytest.mark.parametrize(
    ("stem", "names"),
    [
        ("mlp.experts", ("gate_proj", "up_proj", "down_proj")),
        ("block_sparse_moe.experts", ("w1", "w3", "w2")),
    ],
)
def test_experts_that_are_stored_one_by_one(
    tmp_path: Path, stem: str, names: tuple[str, str, str]
) -> None:
    gate, up, down = names
    base = f"model.layers.0.{stem}"
    tensors = {}
    for e in range(E):
        for seed, (name, shape) in enumerate(
            {gate: (WIDE, DEEP), up: (WIDE, DEEP), down: (DEEP, WIDE)}.items()
        ):
            tensors[f"{base}.{e}.{name}.weight"] = draw(*shape, seed=10 * e + seed)
    view = checkpoint(tmp_path / "base", tensors)
    out = merged(view, lora(tmp_path / "lora", PARTS), tmp_path)
    first, second = change(A1, B1), change(A2, B2)
    for e in range(E):
        wanted = {gate: first[e, :WIDE], up: first[e, WIDE:], down: second[e]}
        for name, delta in wanted.items():
            key = f"{base}.{e}.{name}.weight"
            np.testing.assert_allclose(out[key], tensors[key] + delta, rtol=1e-5, atol=1e-5)


def test_experts_that_are_stored_as_one(tmp_path: Path) -> None:
    first, second = draw(E, 2 * WIDE, DEEP), draw(E, DEEP, WIDE)
    tensors = {f"{X}.gate_up_proj": first, f"{X}.down_proj": second}
    view = checkpoint(tmp_path / "base", tensors)
    out = merged(view, lora(tmp_path / "lora", PARTS), tmp_path)
    np.testing.assert_allclose(
        out[f"{X}.gate_up_proj"], first + change(A1, B1), rtol=1e-5, atol=1e-5
    )
    np.testing.assert_allclose(out[f"{X}.down_proj"], second + change(A2, B2), rtol=1e-5, atol=1e-5)
    # Those of older versions are made for inputs × outputs: the same numbers, turned.
    turned = {f"{X}.gate_up_proj": np.ascontiguousarray(first.transpose(0, 2, 1))}
    view = checkpoint(tmp_path / "turned", turned)
    parts = {f"{X}.lora_A.weight": A1, f"{X}.lora_B.weight": B1}
    folder = lora(tmp_path / "one", parts, target_parameters=["experts.gate_up_proj"])
    (tmp_path / "second").mkdir()
    out = merged(view, folder, tmp_path / "second")
    wanted = (first + change(A1, B1)).transpose(0, 2, 1)
    np.testing.assert_allclose(out[f"{X}.gate_up_proj"], wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "version", "turned"),
    [
        ("qwen3_moe", "0.19.1", False),
        ("qwen3_moe", "0.18.1.dev0", True),
        ("qwen3_moe", None, True),
        ("gpt_oss", "0.21.2", True),
    ],
)
def test_square_experts_lie_as_the_version_of_peft_took_them(
    tmp_path: Path, kind: str, version: str | None, turned: bool
) -> None:
    w, a, b = draw(E, DEEP, DEEP), draw(R * E, DEEP, seed=1), draw(DEEP, R * E, seed=2)
    view = checkpoint(tmp_path / "base", {f"{X}.down_proj": w}, model_type=kind)
    parts = {f"{X}.lora_A.weight": a, f"{X}.lora_B.weight": b}
    folder = lora(tmp_path / "lora", parts, target_parameters=["down_proj"], peft_version=version)
    delta = change(a, b)
    wanted = w + (delta.transpose(0, 2, 1) if turned else delta)
    out = merged(view, folder, tmp_path)
    np.testing.assert_allclose(out[f"{X}.down_proj"], wanted, rtol=1e-5, atol=1e-5)


def test_experts_of_another_model_are_refused(tmp_path: Path) -> None:
    view = checkpoint(tmp_path / "base", {f"{X}.down_proj": draw(E, DEEP, WIDE + 1)})
    parts = {f"{X}.lora_A.weight": A2, f"{X}.lora_B.weight": B2}
    with pytest.raises(PomonaError) as error:
        adapted(view, read_adapter(lora(tmp_path / "lora", parts)))
    assert (
        f'"{X}" has matrices of [6, 6] and [4, 6], which fit none of {X}.down_proj [3, 4, 7] — '
        "name the model this adapter was trained on"
    ) in str(error.value)
