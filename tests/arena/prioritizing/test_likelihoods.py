"""Measures that models make: divergences both ways, cross-entropies, and that none is made twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pomona.arena.prioritizing import likelihoods as module
from pomona.arena.prioritizing.likelihoods import ScoreStore, forecast, likelihoods, systems_of
from pomona.arena.prioritizing.pairs import Pairs, read_pairs
from pomona.errors import PomonaError
from pomona.models import load

SYSTEMS = {"small": "ui-xs", "large": "ui-s"}


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    rows = [
        ("<de> Save", "small", "large", "Speichern", "Sichern"),
        ("<fr> Open file", "large", "small", "Ouvrir le fichier", ""),
        ("<de> Close", "small", "other", "Schließen", "Zu"),
    ]
    names = ("prompt", "model_a", "model_b", "completion_a", "completion_b")
    return read_pairs(pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows]))


def test_divergences_and_cross_entropies(
    pairs: Pairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ScoreStore(tmp_path / "scores.db")
    values, answers = likelihoods(pairs, "ui-xs", SYSTEMS, store)
    small, large = load("ui-xs", need=["score"]), load("ui-s", need=["score"])

    def bits(model, prompt: str, answer: str) -> float:
        nats = -float(model.score([prompt], [answer])[0].sum(dtype=np.float64))
        return nats / np.log(2) / len(answer.encode())

    # Of the first pair the other model's bits a byte, each of the other's answer.
    cross = [bits(large, "<de> Save", "Speichern"), bits(small, "<de> Save", "Sichern")]
    np.testing.assert_allclose([values["cross_ab"][0], values["cross_ba"][0]], cross, rtol=1e-4)
    assert values["kl_ab"][0] > 0 and values["kl_ba"][0] > 0
    assert values["kl"][0] == (values["kl_ab"][0] + values["kl_ba"][0]) / 2
    # Of the second the larger model stands first, and the other said nothing.
    assert values["kl_ab"][1] > 0 and np.isnan(values["kl_ba"][1])
    assert np.isnan(values["kl"][2])  # a model that cannot be asked
    own = [bits(small, "<de> Close", text) for text in ("Schließen", "Zu")]
    assert values["cross_entropy"][2] == pytest.approx(np.mean(own), rel=1e-4)
    assert np.isnan(answers["cross_entropy"]).sum() == 1
    _check_kl(small, large, values["kl_ab"][0])
    # All is kept: nothing goes through a network again.
    monkeypatch.setattr(module._Probe, "bits", None)
    monkeypatch.setattr(module._Probe, "divergences", None)
    again, _ = likelihoods(pairs, "ui-xs", SYSTEMS, ScoreStore(tmp_path / "scores.db"))
    for name, of in values.items():
        np.testing.assert_array_equal(again[name], of)
    store.close()


def _check_kl(small, large, found: float) -> None:
    """Against the definition, from whole distributions."""
    import torch

    ids = small.codec.prompts(["<de> Save"])[0]
    answer = small.codec.encode(["Speichern"], special=False)[0]
    whole = torch.tensor([[*ids, *answer]])
    with torch.inference_mode():
        p, q = (
            model.network(whole).logits[0, len(ids) - 1 : -1].double().log_softmax(-1)
            for model in (small, large)
        )
    expected = float((p.exp() * (p - q)).sum(-1).mean())
    assert found == pytest.approx(expected, rel=1e-3)


def test_a_forecast_asks_nobody(pairs: Pairs) -> None:
    spent = forecast(pairs, None, SYSTEMS)
    assert spent.estimated and spent.flops > 0 and spent.completion_tokens > 0
    assert forecast(pairs, None, {}).flops == 0


def test_names_of_systems() -> None:
    assert systems_of(["a=ui-xs", "ui-s"], ["a", "ui-s"]) == {"a": "ui-xs", "ui-s": "ui-s"}
    with pytest.raises(PomonaError, match='"a" stands twice'):
        systems_of(["a=ui-xs", "a"], ["a"])
