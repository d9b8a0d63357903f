"""Adapters made of adapters. The values are those that PEFT 0.21.2 gives for the same matrices."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from pomona.errors import PomonaError
from pomona.merge import CombinedAdapter, combine_adapters

Q = "model.layers.0.self_attn.q_proj"
FIRST = ([[1.0, -2.0, 0.5], [0.25, 3.0, -1.0]], [[0.5, -1.0], [2.0, 0.75]])
SECOND = ([[-1.5, 0.5, 2.0], [1.0, -0.75, 0.1]], [[-0.3, 1.2], [0.8, -2.5]])
GOLDEN = {
    ("cat", "total"): [[-0.4425, -4.3275, 1.716], [4.29, -3.12375, -0.3075]],
    ("svd", "total"): [[1.901205, -3.065828, 0.472811], [2.525999, -4.073353, 0.628192]],
    ("linear", "total"): [[0.843482, -1.97599, 0.062594], [6.072004, -10.132353, -1.170945]],
    ("ties", "total"): [[-0.54, 2.645449, 0.0], [3.329541, -10.311353, -2.939388]],
    ("ties", "frequency"): [[-0.54, 2.645449, 0.0], [3.525, -10.311353, -2.939388]],
    ("magnitude_prune", "total"): [[0.194847, -0.954551, 0.0], [5.729541, -10.311353, -2.939388]],
    ("ties_svd", "total"): [[0.451982, -4.684759, 0.0], [0.224947, -2.331556, 0.0]],
    ("ties_svd", "frequency"): [[-0.25344, -4.825686, 0.0], [-0.046398, -0.883451, 0.0]],
    ("magnitude_prune_svd", "total"): [[1.805214, -3.477419, 0.0], [2.188068, -4.214916, 0.0]],
}


def adapter(
    folder: Path,
    pair: tuple[Any, Any] = FIRST,
    *,
    more: dict[str, np.ndarray] | None = None,
    module: str = Q,
    **config: Any,
) -> str:
    folder.mkdir()
    a, b = (np.array(values, np.float32) for values in pair)
    tensors = {f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b, **(more or {})}
    named = {f"base_model.model.{name}": value for name, value in tensors.items()}
    save_file(named, folder / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": len(a), "lora_alpha": 4, **config}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return str(folder)


def two(tmp_path: Path) -> list[str]:
    return [adapter(tmp_path / "a"), adapter(tmp_path / "b", SECOND, lora_alpha=1)]


def change(folder: Path, module: str = Q) -> np.ndarray:
    """What PEFT would add to the weight."""
    tensors = load_file(folder / "adapter_model.safetensors")
    config = json.loads((folder / "adapter_config.json").read_text())
    a, b = (tensors[f"base_model.model.{module}.lora_{part}.weight"] for part in "AB")
    rank = config["rank_pattern"].get(module, config["r"])
    assert len(a) == b.shape[1] == rank
    return config["alpha_pattern"].get(module, config["lora_alpha"]) / rank * b @ a


def combined(tmp_path: Path, adapters: list[str], **options: Any) -> CombinedAdapter:
    return combine_adapters(adapters, out=tmp_path / "out", **options)


@pytest.mark.parametrize(("method", "sign"), GOLDEN)
def test_methods_give_what_peft_gives(tmp_path: Path, method: Any, sign: Any) -> None:
    density = 0.5 if "ties" in method or "prune" in method else None
    rank = 1 if "svd" in method else None
    options = {"method": method, "density": density, "rank": rank, "majority_sign": sign}
    out = combined(tmp_path, two(tmp_path), weights=[0.6, -0.9], **options)
    np.testing.assert_allclose(change(tmp_path / "out"), GOLDEN[method, sign], atol=2e-6)
    exact = np.array(GOLDEN["cat", "total"])
    wanted = np.linalg.norm(exact - GOLDEN[method, sign]) / np.linalg.norm(exact)
    assert out.modules[0].error == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("method", ["dare_linear", "dare_ties", "dare_linear_svd", "dare_ties_svd"])
def test_what_is_drawn_does_not_depend_on_the_order(tmp_path: Path, method: Any) -> None:
    adapters, options = two(tmp_path), {"method": method, "density": 0.5}
    one = combined(tmp_path, adapters, weights=[0.6, -0.9], **options)
    first = change(tmp_path / "out")
    combine_adapters(adapters[::-1], out=tmp_path / "o", weights=[-0.9, 0.6], **options)
    np.testing.assert_allclose(change(tmp_path / "o"), first, atol=1e-6)
    combine_adapters(adapters, out=tmp_path / "p", weights=[0.6, -0.9], seed=1, **options)
    assert not np.allclose(change(tmp_path / "p"), first)
    assert one.weights == {adapters[0]: 0.6, adapters[1]: -0.9}


def test_dare_keeps_a_share_and_scales_it(tmp_path: Path) -> None:
    pair = np.ones((4, 500)), np.ones((300, 4))
    combined(
        tmp_path,
        [adapter(tmp_path / "a", pair, lora_alpha=4)],
        weights=[1],
        method="dare_linear",
        density=0.25,
    )
    a = load_file(tmp_path / "out/adapter_model.safetensors")[f"base_model.model.{Q}.lora_A.weight"]
    assert set(np.unique(a)) == {0, 4}
    assert (a > 0).mean() == pytest.approx(0.25, abs=0.03)


def test_modules_that_only_one_has_and_other_ranks(tmp_path: Path) -> None:
    other = "model.layers.0.mlp.up_proj"
    adapters = [
        *two(tmp_path),
        adapter(tmp_path / "c", ([[1.0, 2.0]], [[3.0], [4.0]]), module=other, use_rslora=True),
    ]
    combined(tmp_path, adapters, weights=[0.6, -0.9, 0.5], method="cat")
    np.testing.assert_allclose(change(tmp_path / "out"), GOLDEN["cat", "total"], atol=2e-6)
    np.testing.assert_allclose(change(tmp_path / "out", other), [[6, 12], [8, 16]], rtol=1e-6)


def test_what_is_saved_whole_goes_along_where_it_is_alike(tmp_path: Path) -> None:
    norm = {"model.norm.weight": np.ones(3, np.float32)}
    adapters = [
        adapter(tmp_path / "a", more=norm, modules_to_save=["norm"]),
        adapter(tmp_path / "b", SECOND, more=norm),
    ]
    out = combined(tmp_path, adapters, weights=[1, 1])
    assert out.whole == ("model.norm.weight",)
    assert "base_model.model.model.norm.weight" in load_file(
        tmp_path / "out/adapter_model.safetensors"
    )
    assert json.loads((tmp_path / "out/adapter_config.json").read_text())["modules_to_save"] == [
        "norm"
    ]
    adapters[1] = adapter(tmp_path / "c", more={"model.norm.weight": np.zeros(3, np.float32)})
    with pytest.raises(
        PomonaError, match=r'holds "model.norm.weight" whole, and so does .*a, with'
    ):
        combine_adapters(adapters, out=tmp_path / "o", weights=[1, 1])
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"weights": [1]}, "2 adapters and 1 weight — give one weight for each adapter"),
        ({"weights": [1, float("nan")]}, "the weights are 1, nan — give numbers that are weights"),
        ({"weights": [1, 1e300]}, "the weights are 1, 1e+300 — give numbers that are weights"),
        ({"method": "ties"}, "ties needs a density — give the share"),
        ({"method": "ties", "density": 1.5}, "density is 1.5 — give a share above 0"),
        ({"density": 0.5}, "svd has no density — leave it out"),
        ({"method": "cat", "rank": 3}, "cat has the rank of its adapters — leave rank out"),
        ({"rank": 0}, "rank is 0 — give a rank of at least 1"),
        ({"method": "tie"}, 'unknown method "tie" — did you mean "ties"?'),
    ],
)
def test_settings_without_a_meaning(tmp_path: Path, options: dict[str, Any], says: str) -> None:
    with pytest.raises(PomonaError) as error:
        combined(tmp_path, two(tmp_path), **{"weights": [1, 1], **options})
    assert f"adapters: {says}" in str(error.value)


LENGTHS = {f"{Q}.lora_magnitude_vector": np.ones(2, np.float32)}


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"more": LENGTHS}, "lengths of weights (DoRA) have no sum — merge the models: a recipe"),
        ({"init_lora_weights": "pissa"}, "was started by pissa, so that it holds more than it"),
        ({"target_parameters": ["mlp.experts.up"]}, "changes parameters beside modules: mlp.exp"),
        ({"fan_in_fan_out": True}, '"fan_in_fan_out" is true, and false in'),
        ({"pair": ([[1.0, 2.0]], [[3.0], [4.0]])}, "is made for [2, 2], in "),
        ({"pair": ([[1.0, 2.0, 3.0]], [[3.0], [4.0]])}, "a has rank 2, "),
        ({"pair": ([[1.0, 2.0, 3.0]], [[3.0, 2.0]])}, "has an A of [1, 3] and a B of [1, 2]"),
        ({"pair": ([[np.inf, 1.0, 1.0]], [[3.0], [4.0]])}, "holds NaN or infinity"),
    ],
)
def test_adapters_that_have_no_sum(tmp_path: Path, other: dict[str, Any], says: str) -> None:
    adapters = [adapter(tmp_path / "a"), adapter(tmp_path / "b", **other)]
    with pytest.raises(PomonaError) as error:
        combined(tmp_path, adapters, weights=[1, 1], method="linear")
    assert says in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_change_that_is_gone_is_zero(tmp_path: Path) -> None:
    adapters = [adapter(tmp_path / "a"), adapter(tmp_path / "b")]
    out = combined(tmp_path, adapters, weights=[1, -1], method="svd")
    assert not change(tmp_path / "out").any()
    assert out.modules[0].error < 1e-6
