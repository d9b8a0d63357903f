"""Weights predicted from a part of them: the formula, what stands beside it, a rebuilt model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from transformers import AutoModelForCausalLM

from pomona.errors import PomonaError
from pomona.forget import redundancy, with_dictionaries, without_dictionaries
from pomona.forget.parameters.kernels import chosen_inputs, predicted
from pomona.models import present

RANDOM = np.random.default_rng(5)
WEIGHTS = RANDOM.normal(size=(7, 30))


def test_a_matrix_that_follows_its_inputs_is_predicted_from_a_few_of_them() -> None:
    basis = RANDOM.normal(size=(4, 30))
    weights, moments = RANDOM.normal(size=(7, 4)) @ basis, basis.T @ basis
    made = predicted("covariance", "w", weights, 0.2, moments=moments, ridge=1e-10)
    assert np.allclose(made, weights, atol=1e-4)


def test_the_prediction_is_that_of_kernel_ridge() -> None:
    moments = np.cov(RANDOM.normal(size=(200, 30)) @ RANDOM.normal(size=(30, 30)), rowvar=False)
    made = predicted("covariance", "w", WEIGHTS, 0.5, moments=moments, ridge=0.01, seed=3)
    known = chosen_inputs("w", 30, 15, 3)
    penalty = 0.01 * np.mean(np.diag(moments))
    for row in range(7):  # one output at a time, as in the paper
        inverse = np.linalg.inv(moments[known][:, known] + penalty * np.eye(15))
        expected = moments[:, known] @ inverse @ WEIGHTS[row, known]
        expected[known] = WEIGHTS[row, known]
        assert np.allclose(made[row], expected)


def test_a_squared_exponential_is_over_places() -> None:
    smooth = np.sin(np.arange(60) / 9)[None] * RANDOM.normal(size=(5, 1))
    made = predicted("squared_exponential", "w", smooth, 0.5, ridge=1e-6)
    assert np.linalg.norm(made - smooth) < 0.02 * np.linalg.norm(smooth)
    from pomona.forget.parameters.kernels import squared_exponential

    places = np.arange(9.0)[:, None]
    reference = np.exp(-cdist(places, places, "sqeuclidean") / 8)
    assert np.allclose(squared_exponential(9, 2.0), reference)


def test_what_a_prediction_is_compared_with() -> None:
    made = predicted("random", "w", WEIGHTS, 0.3, seed=1)
    known = chosen_inputs("w", 30, 9, 1)
    assert np.array_equal(made[:, known], WEIGHTS[:, known])
    assert not np.delete(made, known, axis=1).any()
    assert set(known) <= set(chosen_inputs("w", 30, 15, 1))
    near = predicted("svd", "w", WEIGHTS, 0.5)
    # 0.5 · 7 · 30 parameters are those of rank 3: 3 · (7 + 30) = 111
    assert np.linalg.matrix_rank(near) == 3
    rest = np.linalg.svd(WEIGHTS, compute_uv=False)[3:]
    assert np.linalg.norm(WEIGHTS - near) == pytest.approx(np.sqrt(np.square(rest).sum()))


def test_only_the_small_part_is_trained() -> None:
    network: Any = AutoModelForCausalLM.from_pretrained(present("ui-xs"), dtype=torch.float32)
    ids = torch.arange(30)[None]
    with torch.no_grad():
        whole = network(ids).logits
    trained = with_dictionaries(network, 0.5, kind="random")
    assert trained == sum(w.numel() for w in network.parameters() if w.requires_grad)
    assert trained == 2 * (4 * 64 * 32 + 2 * 176 * 32 + 64 * 88)
    without_dictionaries(network)
    with torch.no_grad():
        half = network(ids).logits
    assert not torch.allclose(half, whole, atol=0.1)
    again: Any = AutoModelForCausalLM.from_pretrained(present("ui-xs"), dtype=torch.float32)
    with_dictionaries(again, 0.999, kind="squared_exponential", ridge=1e-9)
    without_dictionaries(again)
    with torch.no_grad():
        assert torch.allclose(again(ids).logits, whole, atol=1e-2)
    assert again.state_dict().keys() == network.state_dict().keys()
    with pytest.raises(PomonaError, match="svd has no dictionary of its own"):
        with_dictionaries(again, 0.5, kind="svd")


@pytest.fixture
def items(tmp_path: Path) -> Path:
    rows = [
        {"prompt": f"<|de|>{english}<|to|>", "completion": german}
        for english, german in {"Save": "Speichern", "Delete": "Löschen", "Pages": "Seiten"}.items()
    ]
    path = tmp_path / "items.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_model_is_rebuilt_and_measured(items: Path, tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("<|de|>Close the window<|to|>")
    asked: dict[str, Any] = {"texts": texts, "max_new_tokens": 6}
    result = redundancy("ui-xs", items, fractions=(0.5, 0.999), **asked)
    assert [(p.kind, p.fraction) for p in result.points[:3]] == [
        ("covariance", 0.5), ("covariance", 0.999), ("squared_exponential", 0.5),
    ]  # fmt: skip
    whole = {p.kind: p for p in result.points if p.fraction == 0.999}
    assert whole["random"].error == 0 and whole["random"].value == result.value
    assert whole["random"].ci_low == whole["random"].ci_high == 0
    assert result.predictable["random"]["1 %"] in (0.001, 0.5)
    assert result.weights == 2 * (4 * 64 * 64 + 3 * 64 * 176)
    assert "texts:1-" in result.signature and "chrf" in result.signature
    assert "|cluster:no|" in result.signature


def test_items_of_one_cluster_are_resampled_together(items: Path) -> None:
    asked: dict[str, Any] = {"fractions": (0.5,), "max_new_tokens": 6}
    rows = [json.loads(line) | {"cluster": "one"} for line in items.read_text().splitlines()]
    items.write_text("".join(json.dumps(row) + "\n" for row in rows))
    together = redundancy("ui-xs", items, **asked)
    apart = redundancy("ui-xs", items, cluster="completion", **asked)
    assert "|cluster:cluster|" in together.signature
    assert all(p.ci_low is None and p.ci_high is None for p in together.points)
    assert any(p.ci_low is not None and p.ci_low < (p.ci_high or 0) for p in apart.points)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"fractions": ()}, "fractions are none — give shares between 0 and 1"),
        ({"fractions": (0.5, 1.0)}, "fractions are 0.5, 1.0"),
        ({"ridge": 0.0}, "ridge is 0.0 — give a small number above 0"),
        ({"texts": "items.jsonl"}, "text 1 overlaps the items"),
    ],
)
def test_what_does_not_fit(
    items: Path, asked: dict[str, Any], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(items.parent)
    with pytest.raises(PomonaError) as caught:
        redundancy("ui-xs", items, **asked)
    assert says in str(caught.value)


def test_of_a_score_of_nothing_nothing_is_lost(items: Path) -> None:
    """And a share that is asked for twice is measured once."""
    asked: dict[str, Any] = {"metric": "exact_match", "max_new_tokens": 1}
    result = redundancy("ui-xs", items, fractions=(0.5, 0.5), **asked)
    assert result.value == 0 and len(result.points) == 3
    assert result.predictable["svd"] == {"1 %": 0.5, "5 %": 0.5}
