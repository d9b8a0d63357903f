"""A user's folder: a base, three experts made from it, records in three languages, and a recipe
that searches their weights.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from pomona.merge.search import Searched, page, search_merge

ASSETS = Path(__file__).parents[3] / "src/pomona/assets"
WORDS = {
    "de": ["Seite", "Datei", "Benutzer"],
    "fr": ["page", "fichier", "utilisateur"],
    "cy": ["tudalen", "ffeil", "defnyddiwr"],
}
RECIPE = """\
merge_method: linear
models:
  - {model: german, parameters: {weight: {search: [0, 1], name: german}}}
  - {model: french, parameters: {weight: {search: [0, 1]}}}
  - {model: noise, parameters: {weight: {choices: [0, 0.5, 1], name: noise}}}
search:
  base: base
  method: random
  trials: 5
  records: rows.jsonl
  prompt: "<|{lang}|>{english}<|to|>"
  completion: "{translation}"
  group: lang
  valid: {where: {split: valid}, per_group: 3}
  test: {where: {split: test}, per_group: 5}
"""


def write_models(folder: Path) -> None:
    """Checkpoints of one small random Llama: the base, and experts some way off it, one of them
    far.
    """
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=6144,
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        tie_word_embeddings=True,
        max_position_embeddings=96,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
        initializer_range=0.3,
    )
    network = LlamaForCausalLM(config)
    base = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    for name, spread in (("base", 0.0), ("german", 0.1), ("french", 0.1), ("noise", 2.0)):
        network.load_state_dict(
            {key: tensor + spread * torch.randn_like(tensor) for key, tensor in base.items()}
        )
        network.to(torch.bfloat16).save_pretrained(folder / name)
        network.to(torch.float32)
        for file in (ASSETS / "ui-tokenizer").iterdir():
            shutil.copy(file, folder / name)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models, made once."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("models")
    write_models(folder)
    return folder


def lay_out(models: Path, folder: Path) -> Path:
    """Models, records and recipe in `folder`."""
    for model in models.iterdir():
        (folder / model.name).symlink_to(model)
    draw = random.Random(0)
    with (folder / "rows.jsonl").open("w", encoding="utf-8") as stream:
        for number in range(60):
            lang = list(WORDS)[number % 3]
            row = {
                "lang": lang,
                "english": f"page {number}",
                "translation": f"{draw.choice(WORDS[lang])} {number}",
            }
            stream.write(json.dumps({**row, "split": ("valid", "test")[number // 3 % 2]}) + "\n")
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    return folder


def _undrawn(*_: object) -> dict[str, str]:
    return {"light": "", "dark": ""}


@pytest.fixture
def project(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder a user works in, as the working directory; pages come without their pictures,
    which take half a second each.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(page, "picture", _undrawn)
    return lay_out(models, tmp_path)


@pytest.fixture(scope="session")
def done(models: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Searched]:
    """Such a folder after its search, and what that gave."""
    folder = lay_out(models, tmp_path_factory.mktemp("done"))
    with contextlib.chdir(folder):
        return folder, search_merge(folder / "recipe.yaml", folder / "best")
