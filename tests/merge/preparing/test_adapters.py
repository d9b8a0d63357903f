from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from pomona.errors import PomonaError
from pomona.merge.preparing.adapter_files import read_adapter
from pomona.merge.preparing.adapters import adapted
from pomona.models.tensors import View, keep, stored_array

Q = "model.layers.0.self_attn.q_proj"
E = "model.embed_tokens"


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return rng(seed).standard_normal(shape).astype(np.float32)


def checkpoint(folder: Path, tensors: dict[str, np.ndarray], **config: Any) -> View:
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return View.of(folder)


def adapter(folder: Path, tensors: dict[str, np.ndarray], **config: Any) -> Path:
    folder.mkdir()
    save_file(
        {f"base_model.model.{name}": value for name, value in tensors.items()},
        folder / "adapter_model.safetensors",
    )
    settings = {"peft_type": "LORA", "r": 3, "lora_alpha": 6, "init_lora_weights": True, **config}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder


def merged(
    view: View, folder: Path, tmp_path: Path, *, tied: bool = False
) -> dict[str, np.ndarray]:
    laid = adapted(view, read_adapter(folder), tied=tied)
    result = view.with_tensors({**laid.taken, **keep(tmp_path / "made", laid.made, dry_run=False)})
    return {name: stored_array(result.tensors[name]) for name in result.names}


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        ({}, 2.0),
        ({"use_rslora": True}, 6 / 3**0.5),
        ({"alpha_pattern": {"layers.0.self_attn.q_proj": 12}}, 4.0),
        ({"alpha_pattern": {"layers.1.self_attn.q_proj": 12}}, 2.0),
        ({"alpha_pattern": {".*q_proj": 3, "q_proj": 9}}, 1.0),
    ],
)
def test_a_weight_is_w_plus_s_b_a(tmp_path: Path, config: dict[str, Any], scale: float) -> None:
    w, a, b = draw(5, 4), draw(3, 4, seed=1), draw(5, 3, seed=2)
    view = checkpoint(tmp_path / "base", {f"{Q}.weight": w, "other": w})
    out = merged(
        view,
        adapter(tmp_path / "lora", {f"{Q}.lora_A.weight": a, f"{Q}.lora_B.weight": b}, **config),
        tmp_path,
    )
    np.testing.assert_allclose(
        out[f"{Q}.weight"],
        w.astype(np.float64) + scale * b.astype(np.float64) @ a,
        rtol=1e-5,
        atol=1e-6,
    )
    assert np.array_equal(out["other"], w)


@pytest.mark.parametrize("square", [True, False])
def test_gpt2_weights_lie_the_other_way_round(tmp_path: Path, square: bool) -> None:
    outputs = 4 if square else 5
    w, a, b = draw(4, outputs), draw(3, 4, seed=1), draw(outputs, 3, seed=2)
    view = checkpoint(tmp_path / "base", {"h.0.attn.c_attn.weight": w})
    name = "transformer.h.0.attn.c_attn"
    folder = adapter(
        tmp_path / "lora",
        {f"{name}.lora_A.weight": a, f"{name}.lora_B.weight": b},
        fan_in_fan_out=True,
    )
    np.testing.assert_allclose(
        merged(view, folder, tmp_path)["h.0.attn.c_attn.weight"], w + 2 * (b @ a).T, rtol=1e-5
    )


def test_an_embedding_has_its_own_names(tmp_path: Path) -> None:
    w, a, b = draw(7, 4), draw(3, 7, seed=1), draw(4, 3, seed=2)
    view = checkpoint(tmp_path / "base", {f"{E}.weight": w})
    trained = {f"{E}.lora_embedding_A": a, f"{E}.lora_embedding_B": b, f"{E}.base_layer.weight": w}
    out = merged(view, adapter(tmp_path / "lora", trained), tmp_path)
    np.testing.assert_allclose(out[f"{E}.weight"], w + 2 * (b @ a).T, rtol=1e-5)


@pytest.mark.parametrize("flipped", [False, True])
def test_dora_gives_every_output_its_length(tmp_path: Path, flipped: bool) -> None:
    w, a, b, lengths = (
        draw(5, 4),
        draw(3, 4, seed=1),
        draw(5, 3, seed=2),
        np.arange(1, 6, dtype=np.float32),
    )
    view = checkpoint(
        tmp_path / "base", {f"{Q}.weight": np.ascontiguousarray(w.T) if flipped else w}
    )
    parts = {
        f"{Q}.lora_A.weight": a,
        f"{Q}.lora_B.weight": b,
        f"{Q}.lora_magnitude_vector": lengths,
    }
    out = merged(
        view, adapter(tmp_path / "lora", parts, use_dora=True, fan_in_fan_out=flipped), tmp_path
    )[f"{Q}.weight"]
    whole = w.astype(np.float64) + 2 * b @ a
    expected = whole / np.linalg.norm(whole, axis=1, keepdims=True) * lengths[:, None]
    np.testing.assert_allclose(out.T if flipped else out, expected, rtol=1e-5)


def test_many_row_blocks_give_what_one_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = checkpoint(tmp_path / "base", {f"{Q}.weight": draw(8, 64)})
    parts = {
        f"{Q}.lora_A.weight": draw(3, 8),
        f"{Q}.lora_B.weight": draw(64, 3, seed=2),
        f"{Q}.lora_magnitude_vector": draw(64),
    }
    folder = adapter(tmp_path / "lora", parts, fan_in_fan_out=True)
    whole = merged(view, folder, tmp_path)
    monkeypatch.setattr("pomona.models.tensors.files.BLOCK", 64)
    (tmp_path / "again").mkdir()
    np.testing.assert_allclose(
        merged(view, folder, tmp_path / "again")[f"{Q}.weight"], whole[f"{Q}.weight"], rtol=1e-5
    )


def test_saved_modules_replace_the_models_and_take_its_type(tmp_path: Path) -> None:
    view = checkpoint(
        tmp_path / "base",
        {"model.norm.weight": draw(4), "lm_head.weight": draw(7, 4).astype(np.float16)},
    )
    norm, head = draw(4, seed=5), draw(7, 4, seed=6)
    folder = adapter(
        tmp_path / "lora",
        {"model.norm.weight": norm, "lm_head.modules_to_save.default.weight": head},
    )
    out = merged(view, folder, tmp_path)
    assert np.array_equal(out["model.norm.weight"], norm)
    assert out["lm_head.weight"].dtype == np.float16
    assert np.array_equal(out["lm_head.weight"], head.astype(np.float16))


def test_a_saved_head_that_is_the_embedding_is_no_error_in_a_tied_model(tmp_path: Path) -> None:
    view, new = checkpoint(tmp_path / "base", {f"{E}.weight": draw(7, 4)}), draw(7, 4, seed=1)
    folder = adapter(tmp_path / "lora", {f"{E}.weight": new, "lm_head.weight": new})
    assert np.array_equal(merged(view, folder, tmp_path, tied=True)[f"{E}.weight"], new)


def test_biases_are_replaced_or_added_to(tmp_path: Path) -> None:
    view = checkpoint(
        tmp_path / "base", {f"{Q}.weight": draw(5, 4), f"{Q}.bias": draw(5), "k.bias": draw(5)}
    )
    parts = {f"{Q}.lora_A.weight": draw(3, 4), f"{Q}.lora_B.weight": draw(5, 3)}
    replaced = adapter(
        tmp_path / "all",
        {**parts, f"{Q}.base_layer.bias": draw(5, seed=8), "k.bias": draw(5, seed=9)},
        bias="all",
    )
    out = merged(view, replaced, tmp_path)
    assert np.array_equal(out[f"{Q}.bias"], draw(5, seed=8))
    assert np.array_equal(out["k.bias"], draw(5, seed=9))
    (tmp_path / "b").mkdir()
    added = merged(
        view,
        adapter(tmp_path / "added", {**parts, f"{Q}.lora_B.bias": draw(5, seed=8)}, lora_bias=True),
        tmp_path / "b",
    )
    np.testing.assert_allclose(added[f"{Q}.bias"], draw(5) + 2 * draw(5, seed=8), rtol=1e-6)


def test_trained_tokens_replace_their_rows(tmp_path: Path) -> None:
    w, new = draw(7, 4), draw(2, 4, seed=1)
    view = checkpoint(tmp_path / "base", {f"{E}.weight": w})
    folder = adapter(
        tmp_path / "lora",
        {f"{E}.token_adapter.trainable_tokens_delta": new},
        trainable_token_indices={"embed_tokens": [6, 2]},
    )
    expected = w.copy()
    expected[[6, 2]] = new
    assert np.array_equal(merged(view, folder, tmp_path)[f"{E}.weight"], expected)


def test_a_dry_run_knows_shapes_and_writes_nothing(tmp_path: Path) -> None:
    view = checkpoint(tmp_path / "base", {f"{Q}.weight": draw(5, 4)})
    folder = adapter(
        tmp_path / "lora", {f"{Q}.lora_A.weight": draw(3, 4), f"{Q}.lora_B.weight": draw(5, 3)}
    )
    made = adapted(view, read_adapter(folder)).made
    assert view.with_tensors(keep(tmp_path / "made", made, dry_run=True)).info(f"{Q}.weight") == (
        "F32",
        (5, 4),
    )
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"peft_type": "LOHA"}, "is an adapter of type LOHA — only LORA is supported"),
        (
            {"layer_replication": [[0, 2]]},
            (
                'uses "layer_replication", which is not supported — merge it with PEFT and name '
                "the merged folder"
            ),
        ),
        (
            {"alora_invocation_tokens": [5]},
            "no weights are equal to it, since it acts on some tokens only: serve it as an adapter",
        ),
        (
            {"init_lora_weights": "pissa_niter_4"},
            (
                "was started by pissa_niter_4, which takes a part out of the base that is drawn at "
                "random — save it with path_initial_model_for_weight_conversion; or name the "
                "changed base that it was trained on, and set init_lora_weights to true"
            ),
        ),
        ({"init_lora_weights": "corda"}, "takes a part out of the base that depends on data"),
        ({"init_lora_weights": "loftq"}, "is trained on a base that it has rounded"),
        ({"init_lora_weights": ["x"]}, "was started by ['x'], which is not known"),
        (
            {"target_parameters": "x"},
            '"target_parameters" is x, and must be names of parameters — copy the adapter again',
        ),
    ],
)
def test_adapters_of_other_kinds_are_refused(
    tmp_path: Path, config: dict[str, Any], text: str
) -> None:
    folder = adapter(tmp_path / "lora", {f"{Q}.lora_A.weight": draw(3, 4)}, **config)
    with pytest.raises(PomonaError) as error:
        read_adapter(folder)
    assert text in str(error.value)
    assert str(folder / "adapter_config.json") in str(error.value)


@pytest.mark.parametrize(
    ("tensors", "text"),
    [
        (
            {f"{Q}.lora_A.weight": draw(3, 4), f"{Q}.lora_B.weight": draw(6, 3)},
            "is made for shape [6, 4], the model has [5, 4]",
        ),
        ({f"{Q}.lora_A.weight": draw(3, 4)}, "has no lora_A and lora_B — save the adapter again"),
        (
            {"model.x.lora_A.weight": draw(3, 4), "model.x.lora_B.weight": draw(5, 3)},
            'changes "model.x.weight", which',
        ),
        ({f"{Q}.lora_E": draw(3, 1)}, "of unknown meaning — merge it with PEFT"),
        (
            {f"{Q}.lora_A.weight": draw(3, 4) * np.nan, f"{Q}.lora_B.weight": draw(5, 3)},
            "would hold NaN, infinity or a number too large for F32",
        ),
    ],
)
def test_what_does_not_fit_is_said(
    tmp_path: Path, tensors: dict[str, np.ndarray], text: str
) -> None:
    view = checkpoint(tmp_path / "base", {f"{Q}.weight": draw(5, 4)})
    with pytest.raises(PomonaError) as error:
        merged(view, adapter(tmp_path / "lora", tensors), tmp_path)
    assert text in str(error.value)
    assert not (tmp_path / "made").exists()


def test_pickled_adapters_are_not_loaded(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (tmp_path / "adapter_model.bin").write_bytes(b"x")
    with pytest.raises(
        PomonaError, match=r"pickles are not loaded — save it again with safe_serialization=True"
    ):
        read_adapter(tmp_path)
    with pytest.raises(
        PomonaError,
        match=r"holds no adapter_config.json — name a folder that PEFT's save_pretrained wrote",
    ):
        read_adapter(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("settings", "scale", "says"),
    [
        ({"lora_alpha": 0}, 0.0, "has a lora_alpha of 0: its matrices change nothing"),
        ({"lora_alpha": ...}, 8 / 3, "gives no lora_alpha: 8, as in PEFT"),
        ({"lora_alpha": 0, "alpha_pattern": {"q_proj": 6}}, 2.0, ""),
        ({"lora_alpha": 1e-3}, 1e-3 / 3, ""),
    ],
)
def test_an_alpha_of_zero_is_zero(
    tmp_path: Path, settings: dict[str, Any], scale: float, says: str
) -> None:
    view = checkpoint(tmp_path / "base", {f"{Q}.weight": draw(4, 4)})
    a, b = draw(3, 4, seed=1), draw(4, 3, seed=2)
    folder = adapter(tmp_path / "lora", {f"{Q}.lora_A.weight": a, f"{Q}.lora_B.weight": b})
    file = folder / "adapter_config.json"
    config = {**json.loads(file.read_text()), **settings}
    file.write_text(json.dumps({key: value for key, value in config.items() if value is not ...}))
    notes = adapted(view, read_adapter(folder)).notes
    assert [note.removeprefix(f"{folder} ") for note in notes] == ([says] if says else [])
    wanted = draw(4, 4) + np.float32(scale) * (b @ a)
    np.testing.assert_allclose(merged(view, folder, tmp_path)[f"{Q}.weight"], wanted, rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"lora_alpha": None}, '"lora_alpha" is null'),
        ({"lora_alpha": "16"}, '"lora_alpha" is "16", and must be a number'),
        ({"lora_alpha": float("nan")}, '"lora_alpha" is nan, and must be a number'),
        ({"lora_alpha": 1e300}, "an alpha is 1e.300, which is no scale"),
        ({"r": 0}, '"r" is 0'),
        ({"r": "3"}, '"r" is "3", and must be a whole number'),
        ({"r": 4}, f'"{Q}" has rank 3, and adapter_config.json says 4'),
        ({"rank_pattern": {"q_proj": 2}}, f'"{Q}" has rank 3, and adapter_config.json says 2'),
        ({"alpha_pattern": []}, '"alpha_pattern" is .*a mapping from names to numbers'),
        ({"alpha_pattern": {"(": 1}}, r'"alpha_pattern" has .*, which is no pattern for names'),
        ({"alpha_pattern": {"(a+)+$": 1}}, "which is no pattern for names"),
        ({"alpha_pattern": {".*.*.*.*x": 1}}, "which is no pattern for names"),
        ({"peft_type": []}, '"peft_type" is'),
        ({"peft_type": "IA3"}, "is an adapter of type IA3"),
        ({"trainable_token_indices": ["1"]}, '"trainable_token_indices" is .* ids of tokens'),
        ({"trainable_token_indices": {"e": [-1]}}, '"trainable_token_indices" is .* ids of tokens'),
    ],
)
def test_settings_without_a_meaning_are_refused(
    tmp_path: Path, settings: dict[str, Any], says: str
) -> None:
    view = checkpoint(tmp_path / "base", {f"{Q}.weight": draw(4, 4)})
    tensors = {f"{Q}.lora_A.weight": draw(3, 4), f"{Q}.lora_B.weight": draw(4, 3)}
    folder = adapter(tmp_path / "lora", tensors, **settings)
    with pytest.raises(PomonaError, match=says):
        adapted(view, read_adapter(folder))


@pytest.mark.parametrize("text", ["{", "[]", "null", "[" * 100_000, '"16"'])
def test_a_configuration_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    folder = adapter(tmp_path / "lora", {f"{Q}.lora_A.weight": draw(3, 4)})
    (folder / "adapter_config.json").write_text(text)
    with pytest.raises(PomonaError, match=r"lora/adapter_config\.json: is not "):
        read_adapter(folder)


@pytest.mark.parametrize("start", ["pissa", "OLoRA"])
@pytest.mark.parametrize("flipped", [False, True])
def test_what_the_start_took_out_of_the_base_is_taken_out(
    tmp_path: Path, start: str, flipped: bool
) -> None:
    w, a, b = draw(5, 4), draw(3, 4, seed=1), draw(5, 3, seed=2)
    base = np.ascontiguousarray(w.T) if flipped else w
    parts = {f"{Q}.lora_A.weight": a, f"{Q}.lora_B.weight": b}
    folder = adapter(tmp_path / "lora", parts, init_lora_weights=start, fan_in_fan_out=flipped)
    out = merged(checkpoint(tmp_path / "base", {f"{Q}.weight": base}), folder, tmp_path)
    exact = w.astype(np.float64)
    if start == "pissa":
        u, s, v = np.linalg.svd(exact)
        taken = (u[:, :3] * s[:3]) @ v[:3]
    else:
        q, r = np.linalg.qr(exact)
        taken = 2 * q[:, :3] @ r[:3]
    got = out[f"{Q}.weight"].T if flipped else out[f"{Q}.weight"]
    np.testing.assert_allclose(got, exact - taken + 2 * b @ a, rtol=1e-5, atol=1e-5)


RESIZED = {f"{Q}.lora_A.weight": draw(3, 4), f"{Q}.lora_B.weight": draw(4, 3)}


def test_another_vocabulary_comes_from_the_adapter(tmp_path: Path) -> None:
    base = {f"{E}.weight": draw(7, 4), "lm_head.weight": draw(7, 4), f"{Q}.weight": draw(4, 4)}
    view = checkpoint(tmp_path / "base", base)
    rows = {f"{E}.weight": draw(9, 4, seed=1), "lm_head.weight": draw(9, 4, seed=2)}
    folder = adapter(tmp_path / "lora", {**RESIZED, **rows})
    laid = adapted(view, read_adapter(folder))
    assert laid.rows == 9
    assert not laid.untied
    assert laid.notes == [
        f"{folder} was trained with 9 rows of the vocabulary where the model has 7: the result has 9"
    ]
    out = merged(view, folder, tmp_path)
    assert all(np.array_equal(out[name], value) for name, value in rows.items())
    half = adapter(tmp_path / "half", {**RESIZED, f"{E}.weight": draw(9, 4)})
    message = (
        'makes "lm_head.weight" 7 rows and "model.embed_tokens.weight" 9 — save both with it, such '
        "as by modules_to_save: [embed_tokens, lm_head]"
    )
    with pytest.raises(PomonaError) as error:
        adapted(view, read_adapter(half))
    assert message in str(error.value)


def test_trained_tokens_of_another_vocabulary_replace_their_rows(tmp_path: Path) -> None:
    view, grown, new = checkpoint(tmp_path / "base", {f"{E}.weight": draw(7, 4)}), draw(9, 4), 2
    token = "token_adapter.trainable_tokens_delta"
    parts = {
        f"{module}.{part}": value
        for module in (E, "lm_head")
        for part, value in {"token_adapter.base_layer.weight": grown, token: draw(new, 4)}.items()
    }
    folder = adapter(tmp_path / "lora", parts, trainable_token_indices=[8, 1])
    laid = adapted(view, read_adapter(folder), tied=True)
    assert (laid.rows, laid.untied, list(laid.made)) == (9, False, [f"{E}.weight"])
    expected = grown.copy()
    expected[[8, 1]] = draw(new, 4)
    assert np.array_equal(merged(view, folder, tmp_path, tied=True)[f"{E}.weight"], expected)


TRAINED = {
    "head": {"lm_head.weight": draw(7, 4, seed=3)},
    "both": {"lm_head.weight": draw(7, 4, seed=3), f"{E}.weight": draw(7, 4, seed=4)},
    "embedding": {f"{E}.weight": draw(7, 4, seed=4)},
    "lora of the head": {"lm_head.lora_A.weight": draw(3, 4), "lm_head.lora_B.weight": draw(7, 3)},
    "lora of the embedding": {
        f"{E}.lora_embedding_A": draw(3, 7),
        f"{E}.lora_embedding_B": draw(4, 3),
    },
}


@pytest.mark.parametrize("trained", TRAINED)
def test_what_is_trained_apart_in_a_tied_model_stands_apart(tmp_path: Path, trained: str) -> None:
    w, parts = draw(7, 4), TRAINED[trained]
    view = checkpoint(tmp_path / "base", {f"{E}.weight": w})
    folder = adapter(tmp_path / "lora", parts)
    assert adapted(view, read_adapter(folder), tied=True).untied
    out = merged(view, folder, tmp_path, tied=True)
    head = embedding = w
    if trained == "lora of the head":
        head = w + 2 * parts["lm_head.lora_B.weight"] @ parts["lm_head.lora_A.weight"]
    elif trained == "lora of the embedding":
        b, a = parts[f"{E}.lora_embedding_B"], parts[f"{E}.lora_embedding_A"]
        embedding = w + 2 * (b @ a).T
    np.testing.assert_allclose(out["lm_head.weight"], parts.get("lm_head.weight", head), rtol=1e-5)
    np.testing.assert_allclose(
        out[f"{E}.weight"], parts.get(f"{E}.weight", embedding), rtol=1e-5, atol=1e-6
    )


def test_what_is_kept_tied_stays_tied(tmp_path: Path) -> None:
    parts = {**TRAINED["lora of the head"], **TRAINED["lora of the embedding"]}
    view = checkpoint(tmp_path / "base", {f"{E}.weight": draw(7, 4)})
    for number, chosen in enumerate((parts, TRAINED["embedding"])):
        folder = adapter(tmp_path / f"{number}", chosen, ensure_weight_tying=True)
        laid = adapted(view, read_adapter(folder), tied=True)
        assert not laid.untied
        assert [*laid.made, *laid.taken] == [f"{E}.weight"]
