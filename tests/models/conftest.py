"""Tiny random checkpoints of three architectures, made once a session: what the tests say holds for
any causal language model.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models as token_models, pre_tokenizers, trainers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from pomona.models import load
from pomona.models.torch.model import TorchModel

VOCABULARY = 320
KINDS = ("llama", "grouped", "gpt2")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POMONA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def _tokenizer(*, start: bool) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(token_models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<|end|>", "<|start|>", "<|to|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["save the draft and delete the page of the user"] * 4, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|end|>",
        pad_token="<|end|>",
        bos_token="<|start|>" if start else None,
    )


def _network(kind: str) -> Any:
    torch.manual_seed(7)
    common: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "bos_token_id": None,
        "eos_token_id": 0,
        "initializer_range": 0.3,
    }
    if kind == "gpt2":
        return GPT2LMHeadModel(
            GPT2Config(n_positions=128, n_embd=32, n_layer=2, n_head=4, **common)
        )
    return LlamaForCausalLM(
        LlamaConfig(
            hidden_size=32,
            num_hidden_layers=2,
            intermediate_size=64,
            num_attention_heads=4,
            num_key_value_heads=1 if kind == "grouped" else 4,
            max_position_embeddings=128,
            tie_word_embeddings=kind != "grouped",
            **common,
        )
    )


def _likelier_end(network: Any, kind: str) -> None:
    """Point the end token's output where hidden states tend to point, so that some answers end
    early and others do not.
    """
    with torch.no_grad():
        ids = torch.randint(3, VOCABULARY, (16, 20), generator=torch.Generator().manual_seed(1))
        hidden = network.base_model(input_ids=ids).last_hidden_state.flatten(0, 1)
        weight = network.get_output_embeddings().weight
        largest = (hidden @ weight.T).amax(dim=-1)
        direction = hidden[
            torch.randperm(len(hidden), generator=torch.Generator().manual_seed(2))[:20]
        ].mean(dim=0)
        weight[0] = (
            (0.7 if kind == "gpt2" else 0.4)
            * direction
            * (largest / (hidden @ direction).abs()).median()
        )


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = {}
    for kind in KINDS:
        folders[kind] = tmp_path_factory.mktemp(kind)
        network = _network(kind).eval()
        _likelier_end(network, kind)
        network.save_pretrained(folders[kind])
        _tokenizer(start=kind == "gpt2").save_pretrained(folders[kind])
    return folders


@pytest.fixture(scope="session")
def models(checkpoints: dict[str, Path]) -> dict[str, TorchModel]:
    loaded = {}
    for kind, folder in checkpoints.items():
        model = load(str(folder), device="cpu")
        assert isinstance(model, TorchModel)
        loaded[kind] = model
    return loaded


@pytest.fixture(scope="session")
def model(models: dict[str, TorchModel]) -> TorchModel:
    return models["llama"]


def some_prompts(count: int, *, seed: int = 0, longest: int = 12) -> list[str]:
    """Distinct prompts of mixed lengths."""
    source, words = (
        random.Random(seed),
        [
            "save",
            "the",
            "draft",
            "and",
            "delete",
            "page",
            "of",
            "user",
            "{name}",
            "%",
            "file",
            "é",
            "中",
        ],
    )
    prompts: dict[str, None] = {}
    while len(prompts) < count:
        prompts[" ".join(source.choices(words, k=source.randint(1, longest)))] = None
    return list(prompts)
