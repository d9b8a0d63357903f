from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from pomona.errors import PomonaError
from pomona.merge.extract import Extraction, extract_adapter
from pomona.merge.preparing.adapter_files import read_adapter
from pomona.merge.preparing.adapters import adapted
from pomona.models.tensors import View, keep, stored_array

UP, NORM, EMBED = (
    "model.layers.0.mlp.up_proj.weight",
    "model.norm.weight",
    "model.embed_tokens.weight",
)


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def checkpoint(folder: Path, tensors: dict[str, np.ndarray], **config: Any) -> Path:
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(
        json.dumps({"architectures": ["LlamaForCausalLM"], **config})
    )
    return folder


def applied(base: Path, adapter: Path, work: Path, *, tied: bool = False) -> dict[str, np.ndarray]:
    view = View.of(base)
    laid = adapted(view, read_adapter(adapter), tied=tied)
    result = view.with_tensors({**laid.taken, **keep(work, laid.made, dry_run=False)})
    return {name: stored_array(result.tensors[name]) for name in result.names}


def pair(tmp_path: Path, change: dict[str, np.ndarray], **config: Any) -> tuple[Path, Path]:
    old = {name: draw(*value.shape, seed=7) for name, value in change.items()}
    new = {name: old[name] + value for name, value in change.items()}
    return checkpoint(tmp_path / "new", new, **config), checkpoint(tmp_path / "old", old, **config)


@pytest.mark.parametrize("shape", [(12, 9), (9, 12)])
@pytest.mark.parametrize("model_type", ["llama", "gpt2"])
def test_a_change_of_low_rank_comes_back_whole(
    tmp_path: Path, shape: tuple[int, int], model_type: str
) -> None:
    name = "h.0.attn.c_attn.weight" if model_type == "gpt2" else UP
    new, old = pair(
        tmp_path,
        {name: draw(shape[0], 2) @ draw(2, shape[1], seed=1), "same.weight": draw(4, 4) * 0},
        model_type=model_type,
    )
    extracted = extract_adapter(new, old, tmp_path / "lora", rank=4)
    assert [(module.name, module.rank) for module in extracted.modules] == [
        (name.removesuffix(".weight"), 2)
    ]
    assert extracted.worst < 1e-6
    assert extracted.unchanged == 1
    out = applied(old, tmp_path / "lora", tmp_path / "made")
    np.testing.assert_allclose(out[name], load_file(new / "model.safetensors")[name], atol=1e-5)


def test_errors_and_ranks_are_those_of_the_singular_values(tmp_path: Path) -> None:
    new, old = pair(
        tmp_path, {UP: draw(12, 9), "model.layers.1.mlp.up_proj.weight": draw(12, 9, seed=1)}
    )
    change = load_file(new / "model.safetensors")[UP] - load_file(old / "model.safetensors")[UP]
    squares = np.square(np.linalg.svd(change.astype(np.float64), compute_uv=False))
    by_rank = extract_adapter(new, old, tmp_path / "a", rank=3).modules[0]
    assert by_rank.error == pytest.approx(np.sqrt(squares[3:].sum() / squares.sum()))
    for energy in (0.3, 0.9, 0.99, 1.0):
        rank = (
            extract_adapter(new, old, tmp_path / "b", energy=energy, dry_run=True).modules[0].rank
        )
        assert squares[:rank].sum() / squares.sum() >= energy - 1e-9
        assert squares[: rank - 1].sum() / squares.sum() < energy
    assert (
        extract_adapter(new, old, tmp_path / "b", energy=0.99, rank=2, dry_run=True).modules[0].rank
        == 2
    )
    assert not (tmp_path / "b").exists()


def test_the_applied_adapter_is_as_near_as_it_says(tmp_path: Path) -> None:
    new, old = pair(
        tmp_path, {UP: draw(12, 9), NORM: draw(9), EMBED: draw(7, 9)}, tie_word_embeddings=False
    )
    extracted = extract_adapter(new, old, tmp_path / "lora", rank=5)
    assert extracted.whole == ("model.embed_tokens", "model.norm")
    out, wanted, start = (
        applied(old, tmp_path / "lora", tmp_path / "made"),
        *(load_file(f / "model.safetensors") for f in (new, old)),
    )
    assert np.array_equal(out[NORM], wanted[NORM])
    assert np.array_equal(out[EMBED], wanted[EMBED])
    error = np.linalg.norm(out[UP] - wanted[UP]) / np.linalg.norm(wanted[UP] - start[UP])
    assert error == pytest.approx(extracted.worst, rel=1e-4)


def test_biases_go_along(tmp_path: Path) -> None:
    q, k = "model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.k_proj"
    change = {
        f"{q}.weight": draw(4, 1) @ draw(1, 4),
        f"{q}.bias": draw(4),
        f"{k}.weight": draw(4, 4) * 0,
        f"{k}.bias": draw(4),
    }
    new, old = pair(tmp_path, change)
    extract_adapter(new, old, tmp_path / "lora", rank=1)
    names = set(load_file(tmp_path / "lora/adapter_model.safetensors"))
    assert {f"base_model.model.{q}.base_layer.bias", f"base_model.model.{k}.bias"} < names
    out, wanted = (
        applied(old, tmp_path / "lora", tmp_path / "made"),
        load_file(new / "model.safetensors"),
    )
    assert all(np.array_equal(out[f"{module}.bias"], wanted[f"{module}.bias"]) for module in (q, k))


def test_a_tied_embedding_is_there_under_both_names(tmp_path: Path) -> None:
    new, old = pair(tmp_path, {EMBED: draw(7, 4)}, tie_word_embeddings=True)
    extract_adapter(new, old, tmp_path / "lora", rank=1)
    settings = json.loads((tmp_path / "lora/adapter_config.json").read_text())
    assert settings["ensure_weight_tying"] is True
    assert "base_model.model.lm_head.weight" in load_file(
        tmp_path / "lora/adapter_model.safetensors"
    )
    out = applied(old, tmp_path / "lora", tmp_path / "made", tied=True)
    assert np.array_equal(out[EMBED], load_file(new / "model.safetensors")[EMBED])


def test_what_is_left_out_is_listed(tmp_path: Path) -> None:
    new, old = pair(
        tmp_path,
        {UP: draw(4, 4), NORM: draw(4), "model.layers.0.mlp.down_proj.weight": draw(4, 4, seed=2)},
    )
    extracted = extract_adapter(
        new, old, tmp_path / "lora", rank=1, modules=["*.up_proj", "model.norm"], whole=False
    )
    assert extracted.left == ("model.layers.0.mlp.down_proj.weight", NORM)
    assert isinstance(extracted, Extraction)
    assert extracted.size == 4 * (4 + 4)


def test_ranks_that_differ_are_written_for_peft(tmp_path: Path) -> None:
    other = UP.replace("0", "1")
    new, old = pair(
        tmp_path,
        {
            UP: draw(6, 6),
            other: draw(6, 2) @ draw(2, 6, seed=1),
            UP.replace("0", "2"): draw(6, 6, seed=3),
        },
    )
    extract_adapter(new, old, tmp_path / "lora", rank=4)
    settings = json.loads((tmp_path / "lora/adapter_config.json").read_text())
    assert settings["r"] == settings["lora_alpha"] == 4
    assert (
        settings["rank_pattern"] == settings["alpha_pattern"] == {other.removesuffix(".weight"): 2}
    )


def test_mistakes_are_said(tmp_path: Path) -> None:
    new, old = pair(tmp_path, {UP: draw(4, 4) * 0})
    with pytest.raises(
        PomonaError,
        match=r"does not differ from .* in these modules — check the two folders and `modules`",
    ):
        extract_adapter(new, old, tmp_path / "lora", rank=1)
    with pytest.raises(
        PomonaError,
        match=r"^extract: neither rank nor energy is given — give a rank of at least 1, or an energy",
    ):
        extract_adapter(new, old, tmp_path / "lora")
    wide = checkpoint(tmp_path / "wide", {UP: draw(5, 4)})
    with pytest.raises(
        PomonaError, match=r"is \[5, 4\], in .* it is \[4, 4\] — an adapter cannot change shapes"
    ):
        extract_adapter(wide, old, tmp_path / "lora", rank=1)
    with pytest.raises(PomonaError, match=r'has no tensor "x", which'):
        extract_adapter(
            checkpoint(tmp_path / "more", {UP: draw(4, 4), "x": draw(1)}),
            old,
            tmp_path / "lora",
            rank=1,
        )
    assert not (tmp_path / "lora").exists()


def test_an_adapter_replaces_neither_its_models_nor_a_folder_of_somebody_else(
    tmp_path: Path,
) -> None:
    tuned, base = pair(tmp_path, {UP: draw(8, 8)})
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis").write_text("x")
    for out, match in ((base, "is an input"), (tuned, "is an input"), (mine, "holds files and is")):
        before = sorted(path.name for path in out.iterdir())
        with pytest.raises(PomonaError, match=match):
            extract_adapter(tuned, base, out, rank=1)
        assert sorted(path.name for path in out.iterdir()) == before
    extract_adapter(tuned, base, tmp_path / "out", rank=1)
    with pytest.raises(
        PomonaError, match=r"out: is there already .* write over it with --overwrite"
    ):
        extract_adapter(tuned, base, tmp_path / "out", rank=2)
    extract_adapter(tuned, base, tmp_path / "out", rank=2, overwrite=True)


@pytest.mark.parametrize(
    ("settings", "says"),
    [({"rank": 0}, "rank is 0"), ({"energy": 0.0}, r"energy is 0\.0"), ({"energy": 1.5}, "is 1.5")],
)
def test_a_rank_or_energy_that_is_none(tmp_path: Path, settings: Any, says: str) -> None:
    new, old = pair(tmp_path, {UP: draw(4, 4)})
    with pytest.raises(PomonaError, match=f"^extract: .*{says} — give a rank of at least 1"):
        extract_adapter(new, old, tmp_path / "lora", **settings)


@pytest.mark.parametrize("odd", [np.nan, np.inf])
@pytest.mark.parametrize("name", [UP, NORM])
def test_what_is_no_number_has_no_difference(tmp_path: Path, odd: float, name: str) -> None:
    change = draw(*((4, 4) if name == UP else (4,)))
    change.flat[-1] = odd
    new, old = pair(tmp_path, {name: change})
    for one, other in ((new, old), (old, new)):
        with pytest.raises(
            PomonaError, match=rf'/{new.name}: tensor "{name}" holds NaN or infinity'
        ):
            extract_adapter(one, other, tmp_path / "lora", rank=1)


def test_a_quantised_model_changed_by_what_its_weights_stand_for(tmp_path: Path) -> None:
    """Of a fine-tuned model whose base was 8-bit: base and adapter are the model again."""
    codes, scale = (draw(12, 9) * 40).astype(np.int8), np.abs(draw(12, 1)) + 0.1
    tensors = {UP: codes, f"{UP}_scale": scale}
    old = checkpoint(tmp_path / "old", tensors, quantization_config={"quant_method": "fp8"})
    change = draw(12, 2, seed=3) @ draw(2, 9, seed=4)
    new = checkpoint(tmp_path / "new", {UP: codes * scale + change}, dtype="float32")
    (old / "config.json").write_text(
        json.dumps({**json.loads((old / "config.json").read_text()), "dtype": "float32"})
    )
    extracted = extract_adapter(new, old, tmp_path / "lora", rank=2)
    assert extracted.notes == (
        '"old" is quantised (fp8): 1 weight is numbers again, in F32; what rounding has lost '
        "stays lost",
    )
    assert extracted.worst < 1e-6
    adapter = load_file(tmp_path / "lora" / "adapter_model.safetensors")
    name = f"base_model.model.{UP.removesuffix('.weight')}"
    made = adapter[f"{name}.lora_B.weight"] @ adapter[f"{name}.lora_A.weight"]
    np.testing.assert_allclose(made, change, atol=1e-4)
    with pytest.raises(PomonaError, match="does not differ from"):
        extract_adapter(old, old, tmp_path / "none", rank=2)


def test_quantised_weights_that_are_not_read_are_refused(tmp_path: Path) -> None:
    new, old = pair(tmp_path, {UP: draw(4, 4)})
    save_file({UP: (draw(4, 4) * 9).astype(np.int8)}, new / "model.safetensors")
    for one, other in ((new, old), (old, new)):
        message = '"new" is quantised by a method that its config.json does not name, whose weights'
        with pytest.raises(PomonaError, match=message):
            extract_adapter(one, other, tmp_path / "lora", rank=1)


def test_counters_that_differ_are_told(tmp_path: Path) -> None:
    new, old = pair(tmp_path, {UP: draw(4, 4)})
    for count, folder in enumerate((new, old)):
        tensors = load_file(folder / "model.safetensors")
        tensors["model.bn.seen"] = np.array([count])
        save_file(tensors, folder / "model.safetensors")
    assert "model.bn.seen" in extract_adapter(new, old, tmp_path / "lora", rank=1).left


def test_values_too_large_for_the_type_are_refused(tmp_path: Path) -> None:
    new, old = pair(tmp_path, {UP: draw(4, 4) * 1e12})
    with pytest.raises(PomonaError, match="too large for F16"):
        extract_adapter(new, old, tmp_path / "lora", rank=1, dtype="F16")
