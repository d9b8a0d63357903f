"""Slices give layers other numbers: what config.json says of a layer goes with it, or the merge is
refused by the key.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pomona.errors import PomonaError
from pomona.merge.planning.planner import plan_merge

from .conftest import llama, refusal

Slices = list[tuple[str, int, int]]


def config(here: Path, slices: Slices, **settings: Any) -> dict[str, Any]:
    """config.json of a result; `settings` are those of model a, `b_…` those of b."""
    own = {key.removeprefix("b_"): value for key, value in settings.items() if key[:2] == "b_"}
    mine = {key: value for key, value in settings.items() if key[:2] != "b_"}
    llama(here / "a", 4, **mine)
    llama(here / "b", 4, **{**mine, **own})
    recipe = {
        "merge_method": "passthrough",
        "slices": [
            {"sources": [{"model": model, "layer_range": [first, end]}]}
            for model, first, end in slices
        ],
    }
    models = {"a": here / "a", "b": here / "b"}
    return dict(plan_merge(recipe, models=models).config)


TWICE: Slices = [("a", 0, 3), ("a", 1, 4)]  # 0 1 2 1 2 3
LATER: Slices = [("a", 1, 4)]


@pytest.mark.parametrize(
    ("slices", "key", "value", "wanted"),
    [
        (TWICE, "mlp_only_layers", [1], [1, 3]),
        (TWICE, "mlp_only_layers", [0, 3], [0, 5]),
        (TWICE, "mlp_only_layers", [], []),
        (LATER, "mlp_only_layers", [0], []),
        (TWICE, "moe_layers_enum", "1,3", "1,3,5"),
        (TWICE, "cross_attention_layers", [2], [2, 4]),
        (TWICE, "attn_layer_indices", [0, 1, 2, 3], [0, 1, 2, 3, 4, 5]),
        (TWICE, "layer_types", ["f", "s", "f", "g"], ["f", "s", "f", "s", "f", "g"]),
        (TWICE, "no_rope_layers", [1, 1, 1, 0], [1, 1, 1, 1, 1, 0]),
        (TWICE, "intermediate_size", [5, 6, 7, 8], [5, 6, 7, 6, 7, 8]),
        (TWICE, "hybrid_override_pattern", "M*-E", "M*-*-E"),
        (TWICE, "attention_types", [[["g", "l"], 2]], [[["g", "l", "g", "l", "g", "l"], 1]]),
        (LATER, "attention_types", [[["g", "l"], 10**18]], [[["l", "g", "l"], 1]]),
        (TWICE, "first_k_dense_replace", 1, 1),
        ([("a", 0, 2), ("a", 0, 4)], "first_k_dense_replace", 4, 6),
        (LATER, "first_k_dense_replace", 1, 0),
        (LATER, "first_k_dense_replace", 2, 1),
        (TWICE, "max_window_layers", 4, 6),
        (TWICE, "max_window_layers", 28, 28),
        (TWICE, "decoder_sparse_step", 1, 1),
        ([("a", 0, 4), ("a", 2, 4)], "full_attention_interval", 2, 2),
        ([("a", 2, 4)], "attn_layer_period", 2, 2),
        (TWICE, "num_kv_shared_layers", 0, 0),
        (TWICE, "eos_token_id", [1, 2, 3, 4], [1, 2, 3, 4]),
        (TWICE, "layer_norm_eps", 1e-5, 1e-5),
    ],
)
def test_what_is_said_of_a_layer_goes_with_it(
    tmp_path: Path, slices: Slices, key: str, value: Any, wanted: Any
) -> None:
    found = config(tmp_path, slices, **{key: value})
    assert found[key] == wanted
    assert found["num_hidden_layers"] == sum(end - first for _, first, end in slices)


@pytest.mark.parametrize(
    ("slices", "key", "value"),
    [
        ([("a", 0, 2), ("a", 0, 2)], "first_k_dense_replace", 1),
        ([("a", 0, 2), ("a", 0, 2)], "moe_layer_start_index", 1),
        (LATER, "full_attention_interval", 2),
        (LATER, "decoder_sparse_step", 2),
        (TWICE, "no_rope_layer_interval", 4),
        (LATER, "interleave_moe_layer_step", 2),
        (LATER, "attn_layer_period", 2),
        (LATER, "block_types", ["recurrent", "attention"]),
        (TWICE, "num_kv_shared_layers", 1),
        (TWICE, "kv_source_layers", [0, 1, 1, 3]),
        (TWICE, "deepstack_visual_indexes", [1]),
        (TWICE, "scale_attn_by_inverse_layer_idx", True),
        (TWICE, "num_nextn_predict_layers", 1),
        (TWICE, "some_layer_idxs", [1, 2]),
        (TWICE, "mlp_only_layers", ["1"]),
        (TWICE, "moe_layers_enum", "1,²"),
        (TWICE, "moe_layers_enum", "9" * 5000),
        (TWICE, "attention_types", [[["global"], 2]]),
        (TWICE, "attention_types", [[[], 10**18]]),
    ],
)
def test_a_key_without_a_value_for_the_layers_is_an_error(
    tmp_path: Path, slices: Slices, key: str, value: Any
) -> None:
    with pytest.raises(PomonaError, match=rf'a/config\.json: "{key}" .* by their number'):
        config(tmp_path, slices, **{key: value})


def test_a_list_that_says_the_same_makes_a_period_needless(tmp_path: Path) -> None:
    kinds = ["f", "s", "f", "s"]
    found = config(tmp_path, TWICE, full_attention_interval=2, layer_types=kinds)
    assert found["layer_types"] == ["f", "s", "f", "s", "f", "s"]
    found = config(
        tmp_path, [("a", 0, 2), ("a", 0, 2)], first_k_dense_replace=1, mlp_layer_types=kinds
    )
    assert found["mlp_layer_types"] == ["f", "s", "f", "s"]


def test_windows_that_are_not_used_need_no_layers(tmp_path: Path) -> None:
    twice = [("a", 0, 2), ("a", 0, 2)]
    found = config(tmp_path, twice, max_window_layers=1, use_sliding_window=False)
    assert found["max_window_layers"] == 1
    with pytest.raises(PomonaError, match='"max_window_layers"'):
        config(tmp_path, twice, max_window_layers=1, use_sliding_window=True, sliding_window=8)


def test_layers_of_another_model_are_as_that_says(tmp_path: Path) -> None:
    both: Slices = [("a", 0, 2), ("b", 2, 4)]
    assert config(tmp_path, both, mlp_only_layers=[0, 1, 2, 3], b_mlp_only_layers=[3])[
        "mlp_only_layers"
    ] == [0, 1, 3]
    assert config(tmp_path, both, b_mlp_only_layers=[2])["mlp_only_layers"] == [2]
    with pytest.raises(PomonaError, match='"decoder_sparse_step"'):
        config(tmp_path, both, decoder_sparse_step=1, b_decoder_sparse_step=2)


def test_a_model_whose_layers_take_turns_without_saying_so(tmp_path: Path) -> None:
    with pytest.raises(PomonaError, match='"layer_types"'):
        config(tmp_path, LATER, model_type="gemma2")
    assert config(tmp_path, [("a", 2, 4)], model_type="gemma2")["num_hidden_layers"] == 2


def test_all_layers_at_their_places_change_nothing(tmp_path: Path) -> None:
    odd = {"num_kv_shared_layers": 2, "first_k_dense_replace": 1, "decoder_sparse_step": 3}
    found = config(tmp_path, [("a", 0, 2), ("a", 2, 4)], **odd)
    assert odd.items() <= found.items()


def test_slices_without_layers_are_no_model(here: Path) -> None:
    empty = "merge_method: passthrough\nslices: [{sources: [{model: a, layer_range: [0, 0]}]}]\n"
    assert refusal(empty) == (
        "recipe.yml, line 2: slices: hold no layers: the end of a layer_range is not included"
    )


@pytest.mark.parametrize("number", ["50000000", "9" * 5000])
def test_a_layer_that_no_model_has_is_refused_at_once(here: Path, number: str) -> None:
    text = json.dumps(
        {f"model.layers.{number}.w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    ).encode()
    (here / "b" / "model.safetensors").write_bytes(
        len(text).to_bytes(8, "little") + text + b"\0" * 4
    )
    said = refusal("merge_method: linear\nmodels: [{model: b, parameters: {weight: 1}}]\n")
    assert said.startswith(f'b: tensor "model.layers.{number}'[:60])
    assert "is of a layer that no model has" in said
