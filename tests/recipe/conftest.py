from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from pomona.train import save_checkpoint

ASSETS = Path(__file__).parents[2] / "src/pomona/assets"
WORDS = {
    "de": ["Seite", "Datei", "Benutzer"],
    "fr": ["page", "fichier", "utilisateur"],
    "af": ["bladsy", "lêer", "gebruiker"],
}
RECIPE = """\
name: small
seed: 3
data: {records: rows.jsonl, group: group}
task: {where: {split: test}, tail: 1, max_new_tokens: 8}
train: {where: {split: train}, tokens: 1500, batch_tokens: 512, learning_rate: 1.0e-3}
base: hf:model
LADDER
levers:
  data: {keep: 0.4}
  merging:
    experts: {german: [de, af], french: [fr]}
  sampling:
    strategies: [hedged3-mbr]
"""


def checkpoint(folder: Path, hidden: int) -> Path:
    """A small random Llama with the embedded tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(ASSETS / "ui-tokenizer")
    torch.manual_seed(hidden)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=1,
        num_attention_heads=2,
        tie_word_embeddings=True,
        max_position_embeddings=128,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    save_checkpoint(LlamaForCausalLM(config), tokenizer, folder)
    return folder


@pytest.fixture
def make_checkpoint() -> Callable[[Path, int], Path]:
    """`make_checkpoint(folder, hidden)`."""
    return checkpoint


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A user's folder: a model, rows of prompt, completion and group, and a recipe."""
    checkpoint(tmp_path / "model", 16)
    draw = random.Random(0)
    with (tmp_path / "rows.jsonl").open("w", encoding="utf-8") as stream:
        for number in range(150):
            group = draw.choices(list(WORDS), [5, 3, 1])[0]
            word = draw.choice(WORDS[group])
            row = {
                "prompt": f"{group}: page {number} ",
                "completion": f"{word} {number}",
                "group": group,
            }
            stream.write(
                json.dumps({**row, "split": "test" if number % 5 == 0 else "train"}) + "\n"
            )
    (tmp_path / "recipe.yaml").write_text(RECIPE.replace("LADDER\n", ""), encoding="utf-8")
    return tmp_path
