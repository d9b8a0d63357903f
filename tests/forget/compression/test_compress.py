"""Checkpoints made smaller: exactly as many zeros as were asked for, the formulas of others, whole
results or none.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForCausalLM

from pomona.errors import PomonaError
from pomona.forget import compress
from pomona.forget.compression import run
from pomona.forget.compression.weights import rounded, smallest, smallest_of_blocks
from pomona.models import present
from pomona.models.tensors import output

from .conftest import MATRICES, weights


@pytest.mark.parametrize("level", [0.3, 0.5, 0.95])
def test_the_smallest_weights_of_each_matrix_go(model: Path, tmp_path: Path, level: float) -> None:
    result = compress(model, tmp_path / "out", method="magnitude", level=level)
    before, after = weights(model), weights(tmp_path / "out")
    for name, values in before.items():
        if name not in MATRICES:
            assert np.array_equal(after[name], values), name
            continue
        gone = after[name] == 0
        assert gone.sum() == round(level * values.size)
        assert np.abs(values[gone]).max() <= np.abs(values[~gone]).min()
        assert np.array_equal(after[name][~gone], values[~gone])
    told = {module.name: module.zeros for module in result.modules}
    assert told == {name: round(level * 144) for name in MATRICES}
    kept = 4 * (144 - round(level * 144)) + 144 // 8  # those that are not zero, and a bit for each
    assert {module.packed for module in result.modules} == {kept}
    large = {name: np.full((6, 24), 1e30, np.float32) for name in MATRICES}
    save_file(large, model / "model.safetensors")
    whole = compress(model, tmp_path / "large", method="magnitude", level=0.5)
    assert whole.modules[0].error == pytest.approx(0.5**0.5)  # squares beyond single precision
    error = np.linalg.norm(before[MATRICES[0]] - after[MATRICES[0]]) / np.linalg.norm(
        before[MATRICES[0]]
    )
    assert result.modules[0].error == pytest.approx(error, rel=1e-5)


@pytest.mark.parametrize("method", ["magnitude", "random"])
@pytest.mark.parametrize("level", [0.1, 0.5, 0.9])
def test_a_global_threshold_is_exact(
    model: Path, tmp_path: Path, method: Any, level: float
) -> None:
    result = compress(model, tmp_path / "out", method=method, level=level, scope="global")
    assert result.zeros == round(level * 4 * 144)
    before, after = weights(model), weights(tmp_path / "out")
    if method == "magnitude":  # against all of them sorted at once
        flat = np.concatenate([before[name].reshape(-1) for name in MATRICES])
        cut = np.sort(np.abs(flat))[round(level * flat.size)]
        for name in MATRICES:
            assert np.array_equal(
                after[name], np.where(np.abs(before[name]) < cut, 0, before[name])
            )
    shares = [module.zeros for module in result.modules]
    assert len(set(shares)) > 1  # the matrices differ in scale


@given(
    st.lists(st.sampled_from([0, 1, 2, 3]), min_size=1, max_size=40),
    st.data(),
)
@settings(max_examples=50, deadline=None)
def test_among_equal_weights_the_first_go(keys: list[int], data: st.DataObject) -> None:
    count = data.draw(st.integers(0, len(keys)))
    chosen = np.flatnonzero(smallest(np.array(keys, np.uint32), count))
    assert chosen.tolist() == sorted(np.argsort(keys, kind="stable")[:count].tolist())


def test_equal_weights_of_all_matrices(model: Path, tmp_path: Path) -> None:
    ones = {name: np.ones((6, 24), np.float32) for name in MATRICES}
    save_file(ones, model / "model.safetensors")
    result = compress(model, tmp_path / "out", method="magnitude", level=0.4, scope="global")
    assert [module.zeros for module in result.modules] == [144, 86, 0, 0]


def test_two_of_four_are_kept(model: Path, tmp_path: Path) -> None:
    compress(model, tmp_path / "out", method="magnitude", pattern="2:4")
    before, after = weights(model), weights(tmp_path / "out")
    for name in MATRICES:
        blocks = np.abs(before[name]).reshape(-1, 4)
        kept = np.abs(after[name]).reshape(-1, 4)
        assert ((kept != 0).sum(1) == 2).all()
        assert np.allclose(np.sort(kept, 1)[:, 2:], np.sort(blocks, 1)[:, 2:])
    odd = smallest_of_blocks(np.arange(10)[None], 2, 4)
    assert odd.tolist() == [[True, True, False, False] * 2 + [False, False]]


def test_embeddings_change_where_asked(model: Path, tmp_path: Path) -> None:
    result = compress(model, tmp_path / "out", method="magnitude", level=0.5, embeddings=True)
    assert (weights(tmp_path / "out")["model.embed_tokens.weight"] == 0).sum() == 480
    assert "the embeddings, which are the output head too" in result.notes[0]
    assert "embeddings:changed" in result.signature


def test_chance_depends_on_the_seed_alone(model: Path, tmp_path: Path) -> None:
    outs = {
        name: compress(model, tmp_path / name, method="random", level=0.5, seed=seed)
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    }
    made = {name: weights(tmp_path / name)[MATRICES[0]] for name in outs}
    assert np.array_equal(made["a"], made["b"])
    assert not np.array_equal(made["a"], made["c"])
    assert outs["a"].signature == outs["b"].signature != outs["c"].signature
    assert all((values == 0).sum() == 72 for values in made.values())


def test_transformers_loads_what_pruning_in_memory_gives(tmp_path: Path) -> None:
    folder = present("ui-xs")
    compress(folder, tmp_path / "out", method="magnitude", level=0.5)
    pruned: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    for name, module in pruned.named_modules():
        if isinstance(module, torch.nn.Linear) and name != "lm_head":
            flat = module.weight.data.view(-1)
            flat[flat.abs().argsort(stable=True)[: flat.numel() // 2]] = 0
    loaded: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    ids = torch.arange(40)[None]
    with torch.no_grad():
        assert torch.equal(pruned(ids).logits, loaded(ids).logits)
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == (
        folder / "tokenizer.json"
    ).read_bytes()


W = np.array(
    [
        [0.11, -0.52, 0.93, -1.7, 0.04, 0.31, -0.08, 0.66],
        [2.1, 1.9, 0.4, 1.3, -0.9, -0.2, -0.65, -0.31],
    ],
    np.float32,
)


def test_the_grids_are_those_of_torchao() -> None:
    # torchao 0.18.0: quantize_(linear, Int8WeightOnlyConfig()), then weight.dequantize()
    steps = np.abs(W).max(1, keepdims=True) / np.float32(127.5)
    whole = [[8, -39, 70, -128, 3, 23, -6, 50], [127, 115, 24, 79, -55, -12, -39, -19]]
    assert np.allclose(rounded(W, 8, None, symmetric=True), steps * np.array(whole), atol=1e-6)
    # IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=PerGroup(4), mapping_type=ASYMMETRIC)
    golden = [
        [
            0.175333336,
            -0.526,
            0.876666666,
            -1.753333330,
            0.049333334,
            0.296,
            -0.098666668,
            0.641333342,
        ],
        [2.1, 1.96, 0.42, 1.26, -0.9, -0.18, -0.66, -0.3],
    ]
    assert np.allclose(rounded(W, 4, 4, symmetric=False), golden, atol=1e-6)


@pytest.mark.parametrize("group", [None, 5])
def test_rounding_is_off_by_half_a_step_at_most(
    model: Path, tmp_path: Path, group: int | None
) -> None:
    result = compress(model, tmp_path / "out", method="int8", group_size=group)
    before, after = weights(model), weights(tmp_path / "out")
    for name in MATRICES:
        for start in range(0, 24, group or 24):
            was, now = (w[name][:, start : start + (group or 24)] for w in (before, after))
            step = np.abs(was).max(1, keepdims=True) / 127.5
            assert (np.abs(was - now) <= step * 0.5001).all()
    size = 4 * (144 + 6 * 2 * (1 if group is None else 5))
    assert result.packed == size + (40 * 24 + 24 + 6) * 4
    assert f"group_size:{group or 'row'}|grid:symmetric" in result.signature


@pytest.mark.parametrize("asked", [{"rank": 2}, {"share": 0.5}])
def test_a_low_rank_is_that_of_the_decomposition(
    model: Path, tmp_path: Path, asked: dict[str, Any]
) -> None:
    compress(model, tmp_path / "out", method="low_rank", **asked)
    before, after = weights(model), weights(tmp_path / "out")
    for name in MATRICES:
        u, s, v = np.linalg.svd(before[name].astype(np.float64), full_matrices=False)
        assert np.allclose(after[name], (u[:, :2] * s[:2]) @ v[:2], atol=1e-4)


def test_other_types_and_files(model: Path, tmp_path: Path) -> None:
    result = compress(model, tmp_path / "out", method="int4", group_size=8, dtype="BF16")
    out = tmp_path / "out"
    assert json.loads((out / "config.json").read_text())["dtype"] == "bfloat16"
    assert (out / "tokenizer.json").exists() and not (out / "old.bin").exists()
    # Four bits a weight; for each of three groups in six rows a step of two bytes and a zero point
    assert result.modules[0].packed == 144 // 2 + 6 * 3 * 3
    card = json.loads((out / "pomona_compress.json").read_text())
    assert card["signature"] == result.signature and card["modules"][0]["name"] == MATRICES[0]
    again = compress(out, tmp_path / "again", method="magnitude", level=0.5)
    card = json.loads((tmp_path / "again" / "pomona_compress.json").read_text())
    assert (card["before"], again.found) == (result.signature, 0)


def test_a_dry_run_tells_what_would_be(sharded: Path, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"method": "magnitude", "level": 0.7, "scope": "global"}
    told = compress(sharded, tmp_path / "out", dry_run=True, **asked)
    assert not (tmp_path / "out").exists() and not told.written
    made = compress(sharded, tmp_path / "out", **asked)
    zeros = [module.zeros for module in told.modules]
    assert zeros == [module.zeros for module in made.modules]
    assert (told.disk, told.packed, told.signature) == (made.disk, made.packed, made.signature)


def test_a_kill_costs_no_finished_tensor(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "INTERVAL", 0)
    asked: dict[str, Any] = {"method": "random", "level": 0.5}
    whole = compress(model, tmp_path / "whole", **asked)
    made, calls = run._Making._made, iter(range(4))

    def killed(*arguments: Any) -> Any:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return made(*arguments)

    monkeypatch.setattr(run._Making, "_made", killed)
    with pytest.raises(KeyboardInterrupt):
        compress(model, tmp_path / "out", **asked)
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(run._Making, "_made", made)
    again = compress(model, tmp_path / "out", **asked)
    assert again.found == 4 and again.modules == whole.modules
    for name, values in weights(tmp_path / "whole").items():
        assert np.array_equal(weights(tmp_path / "out")[name], values)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"method": "magnitud"}, 'unknown method "magnitud" — did you mean "magnitude"?'),
        ({"method": "magnitude"}, "give either a level or a pattern — give level, the share of"),
        ({"method": "magnitude", "level": 1.0}, "level is 1.0"),
        ({"method": "magnitude", "pattern": "4:2"}, "pattern is 4:2"),
        ({"method": "magnitude", "pattern": "٢:٤"}, "pattern is ٢:٤"),
        (
            {"method": "magnitude", "level": 0.5, "pattern": "2:4"},
            "give either a level or a pattern",
        ),
        ({"method": "int8", "level": 0.5}, "level is nothing to int8 — it takes group_size, embed"),
        (
            {"method": "int4", "group_size": -1},
            "group_size is -1 — give a group_size of at least 1",
        ),
        ({"method": "low_rank"}, "give either a rank or a share"),
        ({"method": "magnitude", "level": 0.5, "scope": "all"}, "scope is all — give level"),
        ({"method": "int8", "dtype": "F8"}, "dtype is F8, and must be F32, F16 or BF16"),
        ({"method": "wanda", "level": 0.5}, "calibration is missing"),
        ({"method": "Q8_0"}, "is no GGUF file, and GGUF types are made of one — turn it into one"),
    ],
)
def test_what_does_not_fit_is_refused(
    model: Path, tmp_path: Path, asked: dict[str, Any], says: str
) -> None:
    with pytest.raises(PomonaError) as caught:
        compress(model, tmp_path / "out", **asked)
    assert says in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_models_that_cannot_be_pruned(model: Path, tmp_path: Path) -> None:
    tensors = load_file(model / "model.safetensors")
    asked: dict[str, Any] = {"method": "magnitude", "level": 0.5}

    def refused(changed: dict[str, Any], says: str) -> None:
        save_file(changed, model / "model.safetensors")
        with pytest.raises(PomonaError, match=says):
            compress(model, tmp_path / "out", **asked)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]

    infinite = np.full((6, 24), np.inf, np.float32)
    refused({**tensors, MATRICES[0]: infinite}, f'tensor "{MATRICES[0]}" would hold NaN, infinity')
    asked = {"method": "low_rank", "rank": 2}
    refused({**tensors, MATRICES[0]: infinite}, f'tensor "{MATRICES[0]}" would hold NaN, infinity')
    refused({**tensors, MATRICES[0]: np.ones((6, 24), np.int8)}, "is quantised already .* is I8")
    refused({"model.norm.weight": np.ones(4, np.float32)}, "has no matrix to compress")


def test_wanda_ranks_by_the_inputs_of_each_row(tmp_path: Path) -> None:
    folder, texts = present("ui-xs"), tmp_path / "texts.jsonl"
    said = ["<|de|>Save the file<|to|>", "<|fr|>Delete<|to|>"]
    texts.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in said))
    result = compress(folder, tmp_path / "out", method="wanda", level=0.5, calibration=texts)
    assert all(module.zeros == module.weights // 2 for module in result.modules)
    # What goes into the first layer's projections: normed embeddings of the tokens.
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    held, name = weights(folder), "model.layers.0.self_attn.q_proj.weight"
    x = held["model.embed_tokens.weight"][
        [i for text in said for i in tokenizer(text)["input_ids"]]
    ]
    x = x / np.sqrt(np.square(x).mean(1, keepdims=True) + 1e-6)
    norms = np.linalg.norm(x * held["model.layers.0.input_layernorm.weight"], axis=0)
    keys = np.abs(held[name]) * norms
    kept = np.argsort(keys, axis=1)[:, 32:]
    after = weights(tmp_path / "out")[name]
    assert np.mean(np.take_along_axis(after, kept, axis=1) != 0) > 0.998
    assert "calibration:2-" in result.signature


def test_a_calibration_that_overlaps_the_test_is_refused(model: Path, tmp_path: Path) -> None:
    words = [
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
        "thirteen",
    ]
    calibration, test = tmp_path / "c.jsonl", tmp_path / "t.txt"

    def says(mine: str, theirs: str) -> str:
        calibration.write_text(json.dumps({"text": mine}) + "\n")
        test.write_text(theirs)
        with pytest.raises(PomonaError) as caught:
            compress(
                model, tmp_path / "o", method="wanda", level=0.5, calibration=calibration, test=test
            )
        return str(caught.value)

    long = " ".join(words)
    assert f'text 1 overlaps {test}: "one two' in says(f"Well, {long} more.", f"so {long.title()}!")
    assert "overlaps" in says("Save", "save!")
    assert "has no tokenizer" not in (said := says(" ".join(words[:12]), long))
    assert "overlaps" not in said  # it goes on, and the checkpoint is none that can be run
    calibration.write_text('{"a": 1}\n')
    for name, wrong in (("no.txt", "cannot be read: No such file"), ("bad.txt", "is not UTF-8")):
        (tmp_path / "bad.txt").write_bytes(b"\xff")
        with pytest.raises(PomonaError, match=f"{name}: {wrong}"):
            compress(model, tmp_path / "o", method="wanda", level=0.5, calibration=tmp_path / name)
    with pytest.raises(PomonaError, match="has no column text or prompt"):
        compress(model, tmp_path / "o", method="wanda", level=0.5, calibration=calibration)
