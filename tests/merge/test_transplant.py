"""A model with another's tokenizer: rows that both know, rows that are made, and what it costs."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from pomona.cli import main
from pomona.errors import PomonaError
from pomona.merge import transplant, transplant_vocabulary
from pomona.merge.preparing.tokenizer import read_tokenizer, without_tail
from pomona.merge.pursuit import Atoms, pursue
from pomona.models import folder_of
from pomona.models.tensors import View
from pomona.models.torch import Vocabulary, bits_per_byte

TOKENIZER = Path(__file__).parents[2] / "src/pomona/assets/ui-tokenizer"
ROWS, CUT = 6144, 6000
CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "eos_token_id": 7}
EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"
# What mergekit 0.1.5 finds of four atoms for three targets.
CHOSEN = [[1, 11, 5, 18], [13, 18, 15, 10], [11, 18, 5, 15]]
COEFFICIENTS = [
    [0.893854, 0.572017, -0.327217, -0.170184],
    [0.866623, 0.266148, -0.698692, 0.596469],
    [-0.923274, 0.258178, 0.236805, -0.306279],
]
SETTINGS: dict[str, Any] = {"threads": 1, "measure": False}


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def atoms(folder: Path, values: np.ndarray, memory: int = 1 << 20) -> Atoms:
    folder.mkdir(exist_ok=True)
    save_file({"x": values}, folder / "model.safetensors")
    return Atoms(View.of(folder).tensors["x"], range(len(values)), memory)


def checkpoint(folder: Path, rows: int, tensors: dict[str, np.ndarray], **config: Any) -> Path:
    folder.mkdir()
    tokenizer = read_tokenizer(TOKENIZER)
    assert tokenizer is not None
    (folder / "tokenizer.json").write_text(json.dumps(without_tail(tokenizer, rows).data))
    shutil.copy(TOKENIZER / "tokenizer_config.json", folder)
    (folder / "config.json").write_text(json.dumps({**CONFIG, "vocab_size": rows, **config}))
    save_file(tensors, folder / "model.safetensors")
    return folder


@pytest.fixture
def models(tmp_path: Path) -> tuple[str, str]:
    """A model that lacks the last tokens of its donor, whose rows for these are sums of two."""
    donated = draw(ROWS, 64, seed=2)
    for row in range(CUT, ROWS):
        donated[row] = 3 * donated[row - CUT + 300] - 2 * donated[row - CUT + 700]
    one = {EMBED: draw(CUT, 8), HEAD: draw(CUT, 8, seed=1), "model.norm.weight": draw(8)}
    checkpoint(tmp_path / "model", CUT, one, tie_word_embeddings=False, torch_dtype="float32")
    checkpoint(tmp_path / "donor", ROWS, {EMBED: donated}, eos_token_id=3, bos_token_id=2)
    return str(tmp_path / "model"), str(tmp_path / "donor")


def test_pursuit_is_that_of_mergekit(tmp_path: Path) -> None:
    generator = np.random.default_rng(5)
    points, targets = (generator.standard_normal(s).astype(np.float32) for s in ((20, 8), (3, 8)))
    chosen, coefficients = pursue(targets, atoms(tmp_path / "a", points), 4)
    assert chosen.tolist() == CHOSEN
    np.testing.assert_allclose(coefficients, COEFFICIENTS, atol=2e-6)


@pytest.mark.parametrize(("memory", "gram"), [(1 << 20, False), (1, False), (1 << 20, True)])
def test_pursuit_is_that_of_float64(
    tmp_path: Path, memory: int, gram: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where float32 cannot tell atoms apart, and where none is near the target."""
    monkeypatch.setattr("pomona.merge.pursuit._BLOCK", 4 * 24 * 7)
    points, targets = draw(50, 24), draw(40, 24, seed=1)
    points[25:] = points[:25] * (1 + 1e-7 * draw(25, 24, seed=2))
    targets[:3] -= targets[:3] @ np.linalg.pinv(points[:20]) @ points[:20] * (1 - 1e-7)
    held = atoms(tmp_path / "a", points, memory)
    held.prepare(10**6 if gram else 0, 2, 1 << 20)
    assert (held.gram is not None) == gram
    chosen, coefficients = pursue(targets, held, 6)
    for target, places, found in zip(targets, chosen, coefficients, strict=True):
        left = target.astype(np.float64)
        for step in range(6):
            product = np.abs(points @ left)
            product[places[:step]] = 0
            assert places[step] == product.argmax()
            best = np.linalg.lstsq(points[places[: step + 1]].T, target.astype(float), rcond=None)
            left = target - points[places[: step + 1]].T @ best[0]
        np.testing.assert_allclose(found, best[0], rtol=1e-6)


def test_atoms_that_depend_on_others_count_as_nothing(tmp_path: Path) -> None:
    points = np.repeat(draw(2, 4), 3, axis=0)  # three times each
    targets = points[:1] * 2 + points[3:4]
    chosen, coefficients = pursue(targets, atoms(tmp_path / "a", points), 5)
    made = (coefficients[0, :, None] * points[chosen[0]]).sum(0)
    np.testing.assert_allclose(made, targets[0], atol=1e-5)
    assert np.abs(coefficients).max() < 10
    assert len(set(chosen[0].tolist())) == 5


def test_rows_are_the_models_own_or_the_same_sums(models: tuple[str, str], tmp_path: Path) -> None:
    told = transplant_vocabulary(*models, tmp_path / "out", k=2, memory="1MiB", **SETTINGS)
    assert (told.known, told.made, told.before, told.after) == (CUT, ROWS - CUT, None, None)
    out, before = (load_file(tmp_path / each / "model.safetensors") for each in ("out", "model"))
    for name in (EMBED, HEAD):
        assert out[name].shape == (ROWS, 8)
        assert np.array_equal(out[name][:CUT], before[name])
        rows = np.arange(ROWS - CUT)
        expected = 3 * before[name][rows + 300] - 2 * before[name][rows + 700]
        np.testing.assert_allclose(out[name][CUT:], expected, atol=1e-4)
    assert np.array_equal(out["model.norm.weight"], before["model.norm.weight"])
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert [config[key] for key in ("vocab_size", "eos_token_id", "bos_token_id")] == [ROWS, 3, 2]
    files = [
        (Path(folder) / "tokenizer.json").read_bytes() for folder in (models[1], tmp_path / "out")
    ]
    assert files[0] == files[1]


def test_the_mean_is_that_of_the_tokens_it_was_cut_into(
    models: tuple[str, str], tmp_path: Path
) -> None:
    transplant_vocabulary(*models, tmp_path / "out", method="mean", **SETTINGS)
    out, before = (load_file(tmp_path / each / "model.safetensors") for each in ("out", "model"))
    mine, theirs = Vocabulary(Path(models[0])), Vocabulary(Path(models[1]))
    measured = 0
    for token in range(CUT, ROWS):
        meaning = theirs.meanings[token]
        assert isinstance(meaning, bytes)
        if (text := meaning.decode("utf-8", "ignore")).encode() == meaning:
            pieces = mine.encode([text])[0]
            assert len(pieces) > 1
            np.testing.assert_allclose(out[EMBED][token], before[EMBED][pieces].mean(0), atol=1e-6)
            measured += 1
    assert measured > 100


def test_a_smaller_vocabulary_keeps_what_it_shares(models: tuple[str, str], tmp_path: Path) -> None:
    told = transplant_vocabulary(models[1], models[0], tmp_path / "out", **SETTINGS)
    assert (told.known, told.made) == (CUT, 0)
    rows = load_file(tmp_path / "out" / "model.safetensors")[EMBED]
    assert np.array_equal(rows, load_file(Path(models[1]) / "model.safetensors")[EMBED][:CUT])


def test_bits_per_byte_are_those_of_the_loss() -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, lines = folder_of("ui-xs"), ["Save the file", "Größe ändern"]
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    start = AutoTokenizer.from_pretrained(folder).eos_token_id  # it has no start token
    nats = 0.0
    for ids in Vocabulary(folder).encode(lines):
        whole = torch.tensor([[start, *ids]])
        with torch.no_grad():
            nats += float(network(whole, labels=whole).loss) * len(ids)
    size = sum(len(line.encode()) for line in lines)
    found = bits_per_byte(folder, lines, device="cpu")
    assert found == pytest.approx(nats / math.log(2) / size, rel=1e-4)


def test_the_command_tells_what_it_cost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text").write_text("Open a file\n\nClose the window\n")
    line = ["ui-xs", "ui-xs", str(tmp_path / "out"), "--text", str(tmp_path / "text")]
    assert main(["merge", "transplant", *line, "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["known"], told["made"]) == (ROWS, 0)
    assert told["before"] == told["after"] > 0
    assert main(["merge", "transplant", *line[:2], str(tmp_path / "dry"), "--dry-run"]) == 0
    assert "6,144 rows: 6,144 tokens of the donor are the model's own, 0 are made" in (
        capsys.readouterr().out
    )
    assert not (tmp_path / "dry").exists()


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"k": 0}, "k: k is 0 — use at least 1; 64 is usual"),
        (
            {"k": 7000},
            "k: k is 7000, and the vocabularies share 6000 tokens — give a smaller k, or --method mean",
        ),
        (
            {"model": "a+b"},
            "a+b: has an adapter — merge the adapter first: a recipe with passthrough",
        ),
        ({"text": Path("none")}, "none: cannot be read: No such file or directory"),
        ({"text": TOKENIZER}, f"{TOKENIZER}: cannot be read: Is a directory"),
        (
            {"text": Path("/dev/null")},
            "/dev/null: is empty — name a text that both can be measured on",
        ),
    ],
)
def test_a_mistake_is_said(
    models: tuple[str, str], tmp_path: Path, more: dict[str, Any], expected: str
) -> None:
    given = {"model": models[0], "donor": models[1], "out": tmp_path / "out", "threads": 1, **more}
    with pytest.raises(PomonaError) as error:
        transplant_vocabulary(**given)
    assert str(error.value) == expected
    assert not (tmp_path / "out").exists()


def test_a_text_is_read_as_far_as_it_counts(models: tuple[str, str], tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_bytes(b"ok\n" + "\u00e9".encode() * 70_000)  # is cut within a character
    assert [len(line) for line in transplant._lines(file)] == [2, 65_534]
    file.write_bytes(b"ok\n\xff\n" + b"x" * 200_000)
    with pytest.raises(PomonaError, match="text: is not UTF-8 text — save it as UTF-8"):
        transplant_vocabulary(*models, tmp_path / "out", text=file)


def test_damage_names_model_and_tensor(models: tuple[str, str], tmp_path: Path) -> None:
    file = Path(models[1]) / "model.safetensors"
    tensors = load_file(file)
    tensors[EMBED][CUT + 5] = np.nan
    save_file(tensors, file)
    with pytest.raises(PomonaError, match=rf'donor: tensor "{EMBED}" holds NaN or inf'):
        transplant_vocabulary(*models, tmp_path / "out", k=2, **SETTINGS)
    (Path(models[1]) / "tokenizer.json").write_text("{}")
    with pytest.raises(PomonaError, match="donor: its tokenizer cannot be loaded: "):
        transplant_vocabulary(*models, tmp_path / "out", k=2, **SETTINGS)
    file = Path(models[0]) / "model.safetensors"
    name = "model.layers.0.mlp.up_proj"
    eight = {f"{name}.weight": np.ones((4, 4), np.int8), f"{name}.SCB": np.ones(4, np.float32)}
    save_file(load_file(file) | eight, file)
    quantised = {**CONFIG, "quantization_config": {"quant_method": "bitsandbytes"}}
    (Path(models[0]) / "config.json").write_text(json.dumps(quantised))
    with pytest.raises(PomonaError, match=f"{name}.weight is quantised — make it numbers first: "):
        transplant_vocabulary(*models, tmp_path / "out", k=2, **SETTINGS)
    assert not (tmp_path / "out").exists()


def test_a_kill_costs_no_more_than_the_last_tokens(
    models: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {"k": 2, "memory": "1MiB", **SETTINGS}
    transplant_vocabulary(*models, tmp_path / "whole", **given)
    monkeypatch.setattr("pomona.merge.pursuit._MOST", 50)
    seen: list[int] = []

    def stopped(done: int, total: int) -> None:
        assert total == 2 * (ROWS - CUT)  # one matrix of the donor for both of the model
        seen.append(done)
        if len(seen) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        transplant_vocabulary(*models, tmp_path / "out", progress=stopped, **given)
    assert seen == [50, 100, 150, 200, 244]
    assert not (tmp_path / "out").exists()
    monkeypatch.undo()
    transplant_vocabulary(
        *models, tmp_path / "out", progress=lambda done, _: seen.append(done), **given
    )
    assert seen[5:7] == [244, 288]
    files = [tmp_path / each / "model.safetensors" for each in ("out", "whole")]
    assert files[0].read_bytes() == files[1].read_bytes()
