"""Real checkpoints of the catalogue, loaded once, and real pairs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

import pomona
from pomona.models import load, locate
from pomona.models.torch import TorchModel

PROMPT = "<|{lang}|>{english}<|to|>"


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def pairs() -> pa.Table:
    """40 rows of ui, a few words to a few dozen each."""
    table = pq.read_table(
        Path(pomona.__file__).parent / "assets" / "ui" / "ui.parquet",
        columns=["id", "lang", "english", "translation"],
    )
    return table.take(list(range(20_000, 180_000, 4_000)))


@pytest.fixture(scope="session")
def model() -> TorchModel:
    loaded = load("ui-xs", device="cpu", dtype="float32")
    assert isinstance(loaded, TorchModel)
    return loaded


@pytest.fixture(scope="session")
def random_pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two random checkpoints of another architecture: learnt positions, a context of 48 tokens, and
    a start token.
    """
    return _random(tmp_path_factory.mktemp("early"), 3), _random(tmp_path_factory.mktemp("late"), 4)


@pytest.fixture(scope="session")
def gpt2(random_pair: tuple[Path, Path]) -> Path:
    return random_pair[0]


def _random(folder: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=6144,
        n_positions=48,
        n_embd=16,
        n_layer=2,
        n_head=2,
        bos_token_id=0,
        eos_token_id=1,
        initializer_range=0.3,
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(locate("ui-xs") / name, folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(
        json.dumps({**settings, "bos_token": settings["pad_token"]})
    )
    return folder
