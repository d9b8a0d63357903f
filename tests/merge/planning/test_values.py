from __future__ import annotations

from pathlib import Path
from typing import Any

from pomona.merge.report.values import values_of

from .conftest import plan

GRADIENT = """merge_method: slerp
base_model: a
models: [{model: a}, {model: b}]
parameters:
  t:
  - {filter: self_attn, value: [0, 0.5, 1]}
  - {filter: model.norm, value: 0.25}
  - {value: 0.5}
"""


def row(layers: str, tensors: str, **values: Any) -> dict[str, Any]:
    return {"layers": layers, "tensors": tensors, **values}


def test_gradients_and_filters_are_told_for_every_layer(here: Path) -> None:
    assert values_of(plan(GRADIENT)) == (
        row("outside", "model.embed_tokens.weight, lm_head.weight", t=0.5),
        row("outside", "model.norm.weight", t=0.25),
        row("0–3", "mlp", t=0.5),
        row("0", "self_attn", t=0.0),
        row("1", "self_attn", t=0.333333),
        row("2", "self_attn", t=0.666667),
        row("3", "self_attn", t=1.0),
    )


def test_values_of_models_and_slices(here: Path) -> None:
    text = (
        "merge_method: linear\nslices:\n"
        "- sources: [{model: a, layer_range: [0, 2], parameters: {weight: 1}}, "
        "{model: b, layer_range: [0, 2], parameters: {weight: 3}}]\n"
        "- sources: [{model: c, layer_range: [2, 4], parameters: {weight: 0.5}}]\n"
    )
    found = values_of(plan(text))
    assert found[2:4] == (
        row(
            "0–1", "all", **{"normalize": True, "weight a": 1.0, "weight b": 3.0, "weight c": None}
        ),
        row(
            "2–3", "all", **{"normalize": True, "weight a": None, "weight b": None, "weight c": 0.5}
        ),
    )
    assert values_of(plan("merge_method: passthrough\nmodels: [{model: a}]\n")) == ()
