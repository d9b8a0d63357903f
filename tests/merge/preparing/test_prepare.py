from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from pomona.errors import PomonaError, ResourceError
from pomona.merge import merge
from pomona.merge.preparing.prepare import ModelSource, Prepared, prepare
from pomona.models.tensors import NewTensor, stored_array, write_made

EMBED, HEAD, UP = "model.embed_tokens.weight", "lm_head.weight", "model.layers.0.mlp.up_proj.weight"


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def words(texts: list[str]) -> str:
    vocab = {text: index for index, text in enumerate(texts)}
    return json.dumps(
        {"added_tokens": [], "model": {"type": "WordLevel", "vocab": vocab, "unk_token": texts[0]}}
    )


def model(
    folder: Path,
    texts: list[str] | None,
    rows: int,
    *,
    seed: int = 0,
    tied: bool = False,
    **config: Any,
) -> Path:
    folder.mkdir()
    tensors = {
        EMBED: draw(rows, 4, seed=seed),
        HEAD: draw(rows, 4, seed=seed + 50),
        UP: draw(6, 4, seed=seed + 90),
    }
    save_file(
        {name: value for name, value in tensors.items() if not (tied and name == HEAD)},
        folder / "model.safetensors",
    )
    settings = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": rows,
        "tie_word_embeddings": tied,
        **config,
    }
    (folder / "config.json").write_text(json.dumps(settings))
    if texts is not None:
        (folder / "tokenizer.json").write_text(words(texts))
    return folder


def tensors(prepared: Prepared, name: str) -> dict[str, np.ndarray]:
    view = prepared.views[name]
    return {tensor: stored_array(view.tensors[tensor]) for tensor in view.names}


def lora(folder: Path) -> Path:
    folder.mkdir()
    module = f"base_model.model.{UP.removesuffix('.weight')}"
    save_file(
        {
            f"{module}.lora_A.weight": draw(2, 4, seed=3),
            f"{module}.lora_B.weight": draw(6, 2, seed=4),
        },
        folder / "adapter_model.safetensors",
    )
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "lora_alpha": 4}')
    return folder


def test_an_adapter_changes_its_tensors_only(tmp_path: Path) -> None:
    base = model(tmp_path / "m", None, 5)
    prepared = prepare(
        {"m": ModelSource(base), "m+l": ModelSource(base, lora(tmp_path / "l"))}, tmp_path / "work"
    )
    old, new = tensors(prepared, "m"), tensors(prepared, "m+l")
    np.testing.assert_allclose(
        new[UP], old[UP] + 2 * draw(6, 2, seed=4) @ draw(2, 4, seed=3), rtol=1e-5
    )
    assert prepared.views["m+l"].locate(EMBED) == prepared.views["m"].locate(EMBED)
    assert prepared.written == 6 * 4 * 4


def test_an_adapter_with_more_tokens_brings_its_tokenizer(tmp_path: Path) -> None:
    base, folder = model(tmp_path / "m", [*"abc"], 3), lora(tmp_path / "l")
    parts = load_file(folder / "adapter_model.safetensors")
    grown = {f"base_model.model.{name}": draw(4, 4, seed=9) for name in (EMBED, HEAD)}
    save_file({**parts, **grown}, folder / "adapter_model.safetensors")
    (folder / "tokenizer.json").write_text(words([*"abcd"]))
    name = f"{base}+{folder}"
    recipe: dict[str, Any] = {"merge_method": "passthrough", "models": [{"model": name}]}
    merge(recipe, tmp_path / "alone", report=False)
    assert json.loads((tmp_path / "alone/config.json").read_text())["vocab_size"] == 4
    assert "d" in (tmp_path / "alone/tokenizer.json").read_text()
    both = [{"model": each, "parameters": {"weight": 0.5}} for each in (str(base), name)]
    recipe = {"merge_method": "linear", "models": both}
    with pytest.raises(PomonaError, match=r"is \[4, 4\] in .* tokenizer_source: union"):
        merge(recipe, tmp_path / "no", report=False)
    merge({**recipe, "tokenizer_source": "union"}, tmp_path / "both", report=False)
    out = load_file(tmp_path / "both/model.safetensors")[EMBED]
    np.testing.assert_allclose(out[3], draw(4, 4, seed=9)[3], rtol=1e-6)
    start = load_file(base / "model.safetensors")[EMBED]
    np.testing.assert_allclose(out[:3], (start + draw(4, 4, seed=9)[:3]) / 2, rtol=1e-6)


def test_a_head_that_an_adapter_has_trained_stands_in_the_result(tmp_path: Path) -> None:
    base, folder = model(tmp_path / "m", None, 3, tied=True), lora(tmp_path / "l")
    parts = load_file(folder / "adapter_model.safetensors")
    parts[f"base_model.model.{HEAD}"] = draw(3, 4, seed=9)
    save_file(parts, folder / "adapter_model.safetensors")
    both = [
        {"model": each, "parameters": {"weight": 0.5}} for each in (str(base), f"{base}+{folder}")
    ]
    merge({"merge_method": "linear", "models": both}, tmp_path / "out", report=False)
    assert json.loads((tmp_path / "out/config.json").read_text())["tie_word_embeddings"] is False
    out, start = load_file(tmp_path / "out/model.safetensors"), draw(3, 4)
    np.testing.assert_allclose(out[HEAD], (start + draw(3, 4, seed=9)) / 2, rtol=1e-6)
    assert np.array_equal(out[EMBED], start)


def test_a_dry_run_says_the_same_and_writes_nothing(tmp_path: Path) -> None:
    one, two = model(tmp_path / "1", [*"abc"], 3), model(tmp_path / "2", [*"cbxy"], 4, seed=1)
    sources = {"1": ModelSource(one, lora(tmp_path / "l")), "2": ModelSource(two)}
    dry = prepare(sources, tmp_path / "work", tokenizer={"source": "union"}, dry_run=True)
    assert not (tmp_path / "work").exists()
    wet = prepare(sources, tmp_path / "work", tokenizer={"source": "union"})
    assert dry == wet
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("*")}
    assert prepare(sources, tmp_path / "work", tokenizer={"source": "union"}) == wet
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("*")} == made
    (two / "config.json").write_text((two / "config.json").read_text() + "\n")
    again = prepare(sources, tmp_path / "work", tokenizer={"source": "union"})
    assert again.views["2"].locate(EMBED)[0] != wet.views["2"].locate(EMBED)[0]


def test_embedding_and_head_are_matched_by_token(tmp_path: Path) -> None:
    one, two = model(tmp_path / "1", [*"abc"], 3), model(tmp_path / "2", [*"cbxy"], 4, seed=1)
    prepared = prepare(
        {"1": ModelSource(one), "2": ModelSource(two)},
        tmp_path / "work",
        base="1",
        tokenizer={"source": "union", "pad_to_multiple_of": 4},
    )
    assert prepared.config == {"vocab_size": 8}
    assert prepared.tokenizer is not None
    assert json.loads((prepared.tokenizer / "tokenizer.json").read_text())["model"]["vocab"] == {
        t: i for i, t in enumerate("abcxy")
    }
    first, second = load_file(one / "model.safetensors"), load_file(two / "model.safetensors")
    for name in (EMBED, HEAD):
        assert np.array_equal(
            tensors(prepared, "1")[name][:5], [*first[name], second[name][2], second[name][3]]
        )
        assert np.array_equal(
            tensors(prepared, "2")[name][:5], [first[name][0], *second[name][[1, 0, 2, 3]]]
        )


def test_what_fits_already_is_left_where_it_is(tmp_path: Path) -> None:
    one, two = model(tmp_path / "1", [*"abc"], 3), model(tmp_path / "2", [*"abc"], 3, seed=1)
    prepared = prepare(
        {"1": ModelSource(one), "2": ModelSource(two)},
        tmp_path / "work",
        tokenizer={"source": "union"},
    )
    assert prepared.tokenizer == one
    assert prepared.written == 0
    assert not (tmp_path / "work").exists()


def test_a_tied_model_beside_an_untied_one_is_matched_in_both(tmp_path: Path) -> None:
    one, two = (
        model(tmp_path / "1", [*"ab"], 2),
        model(tmp_path / "2", [*"bac"], 3, seed=1, tied=True),
    )
    prepared = prepare(
        {"1": ModelSource(one), "2": ModelSource(two)},
        tmp_path / "work",
        tokenizer={"source": "union"},
    )
    theirs = load_file(two / "model.safetensors")[EMBED]
    assert np.array_equal(tensors(prepared, "1")[HEAD][2], theirs[2])
    assert np.array_equal(tensors(prepared, "2")[EMBED], theirs[[1, 0, 2]])


def test_a_tokenizer_longer_than_its_model_loses_the_tokens_without_rows(tmp_path: Path) -> None:
    one, two = model(tmp_path / "1", [*"abcd"], 3), model(tmp_path / "2", [*"bd"], 2, seed=1)
    base = prepare(
        {"1": ModelSource(one), "2": ModelSource(two)},
        tmp_path / "work",
        base="1",
        tokenizer={"source": "base"},
    )
    assert base.config == {"vocab_size": 3}
    union = prepare(
        {"1": ModelSource(one), "2": ModelSource(two)},
        tmp_path / "work",
        tokenizer={"source": "union"},
    )
    assert union.config == {"vocab_size": 4}
    assert np.array_equal(
        tensors(union, "1")[EMBED][3], load_file(two / "model.safetensors")[EMBED][1]
    )


def test_the_tokenizer_may_be_that_of_a_model_that_is_not_merged(tmp_path: Path) -> None:
    one, third = (
        model(tmp_path / "1", [*"abc"], 3, eos_token_id=0),
        model(tmp_path / "3", [*"cxa"], 3, eos_token_id=2),
    )
    prepared = prepare(
        {"1": ModelSource(one), "3": ModelSource(third, merged=False)},
        tmp_path / "work",
        tokenizer={"source": "3"},
    )
    assert list(prepared.views) == ["1"]
    assert prepared.config == {"vocab_size": 3, "eos_token_id": 2}
    assert prepared.tokenizer == third
    ours = load_file(one / "model.safetensors")[EMBED]
    assert np.array_equal(tensors(prepared, "1")[EMBED], [ours[2], np.zeros(4), ours[0]])


def test_generation_ends_with_the_tokens_of_the_tokenizer(tmp_path: Path) -> None:
    one, two = (
        model(tmp_path / "1", [*"abc"], 3, eos_token_id=0),
        model(tmp_path / "2", [*"cab"], 3, seed=1, eos_token_id=2),
    )
    (one / "generation_config.json").write_text('{"eos_token_id": 0, "temperature": 0.6}')
    (two / "generation_config.json").write_text('{"eos_token_id": [1, 2]}')
    models = [{"model": str(folder), "parameters": {"weight": 1}} for folder in (one, two)]
    recipe = {"merge_method": "linear", "models": models}
    for number, (source, eos) in enumerate(((str(two), [1, 2]), ("base", 0))):
        out = tmp_path / f"out{number}"
        merge({**recipe, "base_model": str(one), "tokenizer_source": source}, out)
        assert json.loads((out / "generation_config.json").read_text()) == {
            "eos_token_id": eos,
            "temperature": 0.6,
        }


def test_tokens_with_rules_of_their_own(tmp_path: Path) -> None:
    one, two = model(tmp_path / "1", [*"abc"], 3), model(tmp_path / "2", [*"cbxy"], 4, seed=1)
    rules = {
        "b": {"source": "2", "force": True},
        "<new>": {"source": {"kind": "model_token", "model": "1", "token": "a"}},
        "x": {"source": {"kind": "zero"}},
    }
    prepared = prepare(
        {"1": ModelSource(one), "2": ModelSource(two)},
        tmp_path / "work",
        tokenizer={"source": "union", "tokens": rules},
    )
    first, second = (
        load_file(one / "model.safetensors")[EMBED],
        load_file(two / "model.safetensors")[EMBED],
    )
    assert np.array_equal(
        tensors(prepared, "1")[EMBED],
        [first[0], second[1], first[2], np.zeros(4), second[3], first[0]],
    )
    assert np.array_equal(
        tensors(prepared, "2")[EMBED],
        [first[0], second[1], second[0], second[2], second[3], first[0]],
    )
    assert prepared.tokenizer is not None
    written = json.loads((prepared.tokenizer / "tokenizer.json").read_text())
    assert [
        (entry["id"], entry["content"], entry["special"]) for entry in written["added_tokens"]
    ] == [(5, "<new>", False)]


def test_tokenizers_that_are_not_there(tmp_path: Path) -> None:
    one, two = model(tmp_path / "1", [*"abc"], 3), model(tmp_path / "2", None, 3, seed=1)
    prepared = prepare(
        {"1": ModelSource(one), "2": ModelSource(two)},
        tmp_path / "work",
        tokenizer={"source": "union"},
    )
    assert '"2" has no tokenizer: taken to be that of "1"' in prepared.notes
    three = model(tmp_path / "3", None, 4)
    with pytest.raises(
        PomonaError,
        match=(
            r"3: holds no tokenizer — copy tokenizer.json and tokenizer_config.json of the "
            r"model into its folder"
        ),
    ):
        prepare(
            {"1": ModelSource(one), "3": ModelSource(three)},
            tmp_path / "work",
            tokenizer={"source": "union"},
        )
    with pytest.raises(PomonaError, match=r'tokenizer: source: no model "11" — did you mean "1"\?'):
        prepare({"1": ModelSource(one)}, tmp_path / "work", tokenizer={"source": "11"})


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    def blocks() -> Any:
        yield b"1234"
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(ResourceError, match="the disk is full"):
        write_made(tmp_path / "made", {"x": NewTensor("F32", (2,), blocks)})
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A real vision-language model with random weights, and a text model of its backbone with eight
    tokens less.
    """
    import torch
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlamaForCausalLM,
        LlavaConfig,
        LlavaForConditionalGeneration,
    )

    torch.manual_seed(0)
    size: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    backbone: dict[str, Any] = {**size, "num_key_value_heads": 1, "tie_word_embeddings": False}
    vision = CLIPVisionConfig(**size, image_size=8, patch_size=4, projection_dim=16)
    config = LlavaConfig(
        vision_config=vision.to_dict(),
        text_config=LlamaConfig(vocab_size=104, **backbone).to_dict(),
        image_token_index=100,
    )
    folder = tmp_path_factory.mktemp("llava")
    LlavaForConditionalGeneration(config).save_pretrained(folder / "vlm")
    LlamaForCausalLM(LlamaConfig(vocab_size=96, **backbone)).save_pretrained(folder / "text")
    return folder / "vlm", folder / "text"


@pytest.mark.parametrize(
    "key_map",
    ["auto", {"text": {"model.": "language_model.model.", "lm_head.": "language_model.lm_head."}}],
)
@pytest.mark.parametrize("vlm_first", [True, False])
def test_a_vision_language_model_with_its_text_model(
    llava: tuple[Path, Path], tmp_path: Path, key_map: Any, vlm_first: bool
) -> None:
    weights = {"vlm": 0.4, "text": 0.6}
    names = ["vlm", "text"] if vlm_first else ["text", "vlm"]
    listed = [{"model": name, "parameters": {"weight": weights[name]}} for name in names]
    recipe = {"merge_method": "linear", "models": listed, "key_map": key_map}
    result = merge(
        recipe,
        tmp_path / "out",
        models={"vlm": llava[0], "text": llava[1]},
        threads=1,
        report=False,
    )
    vlm, text = (load_file(folder / "model.safetensors") for folder in llava)
    out = load_file(tmp_path / "out" / "model.safetensors")
    assert out.keys() == vlm.keys()
    assert result.tensors == len(vlm)
    for name, value in vlm.items():
        mine = text.get(name.removeprefix("language_model."))
        if mine is None:
            assert np.array_equal(out[name], value), name
        else:
            np.testing.assert_allclose(
                out[name][: len(mine)], 0.4 * value[: len(mine)] + 0.6 * mine, rtol=1e-5, atol=1e-7
            )
            assert np.array_equal(out[name][len(mine) :], value[len(mine) :]), name


def test_the_merged_vision_language_model_sees(llava: tuple[Path, Path], tmp_path: Path) -> None:
    import torch
    from transformers import LlavaForConditionalGeneration

    vlm, text = llava
    shutil.copytree(vlm, tmp_path / "bf16")
    recipe = {
        "merge_method": "ties",
        "base_model": str(text),
        "models": [{"model": str(vlm), "parameters": {"weight": 0.5, "density": 0.5}}],
    }
    merge({**recipe, "key_map": "auto"}, tmp_path / "out", threads=1, report=False)
    loaded: Any = LlavaForConditionalGeneration.from_pretrained(
        tmp_path / "out", output_loading_info=True
    )
    merged, info = loaded
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    ids = torch.tensor([[1, 100, 100, 100, 100, 5]])
    assert merged(input_ids=ids, pixel_values=torch.zeros(1, 3, 8, 8)).logits.shape == (1, 6, 104)


def test_other_tokens_in_the_text_model_ask_for_a_rule(
    llava: tuple[Path, Path], tmp_path: Path
) -> None:
    folders = {
        name: shutil.copytree(folder, tmp_path / name)
        for name, folder in zip(("vlm", "text"), llava, strict=True)
    }
    texts = [f"w{number}" for number in range(104)]
    (folders["vlm"] / "tokenizer.json").write_text(words(texts))
    (folders["text"] / "tokenizer.json").write_text(words(["w1", "w0", *texts[2:96]]))
    sources = {name: ModelSource(folder) for name, folder in folders.items()}
    with pytest.raises(PomonaError) as error:
        prepare(sources, tmp_path / "work", key_map="auto")
    assert str(error.value) == (
        'key_map: token "w1" is 0 in "text" and 1 in "vlm" — write tokenizer_source: MODEL '
        "or union to match rows by token"
    )
    prepared = prepare(
        dict(reversed(sources.items())),
        tmp_path / "work",
        key_map="auto",
        base="text",
        tokenizer={"source": "base"},
    )
    name = "language_model.model.embed_tokens.weight"
    mine, theirs = (
        tensors(prepared, "text")[name],
        load_file(folders["vlm"] / "model.safetensors")[name],
    )
    assert prepared.tokenizer == folders["vlm"]
    assert prepared.config == {"text_config.vocab_size": 104}
    assert np.array_equal(
        mine[:2],
        load_file(folders["text"] / "model.safetensors")["model.embed_tokens.weight"][[1, 0]],
    )
    assert np.array_equal(mine[96:], theirs[96:])
