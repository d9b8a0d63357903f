"""A loaded model takes the weights of another checkpoint: it then is that other model."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from pomona.errors import PomonaError
from pomona.models.tensors import Tensors
from pomona.models.torch.model import TorchModel

ASSETS = Path(__file__).parents[2] / "src/pomona/assets"
PROMPTS, ANSWERS = (
    ["<|de|>Save the page<|to|>", "<|fr|>Delete<|to|>"],
    ["Seite speichern", "Supprimer"],
)


def arrays(folder: Path) -> list[tuple[str, np.ndarray]]:
    stored, kinds = Tensors(folder), {"BF16": np.uint16, "F32": np.float32}
    return [
        (n, np.frombuffer(stored.raw(n), kinds[stored.info(n)[0]]).reshape(stored.info(n)[1]))
        for n in stored.names
    ]


def checkpoint(
    folder: Path, seed: int, kind: str, *, tied: bool, dtype: torch.dtype = torch.float32
) -> Path:
    torch.manual_seed(seed)
    sizes = {
        "vocab_size": 6144,
        "bos_token_id": None,
        "eos_token_id": 0,
        "tie_word_embeddings": tied,
        "initializer_range": 0.3,
    }
    if kind == "gpt2":
        network = GPT2LMHeadModel(
            GPT2Config(n_positions=64, n_embd=16, n_layer=2, n_head=2, **sizes)
        )
    else:
        network = LlamaForCausalLM(
            LlamaConfig(
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                max_position_embeddings=64,
                **sizes,
            )
        )
    network.to(dtype).save_pretrained(folder)
    for file in (ASSETS / "ui-tokenizer").iterdir():
        shutil.copy(file, folder)
    return folder


def scores(model: TorchModel) -> np.ndarray:
    return np.concatenate(model.score(PROMPTS, ANSWERS))


@pytest.mark.parametrize(("kind", "tied"), [("llama", True), ("llama", False), ("gpt2", True)])
@pytest.mark.parametrize("blank", [False, True])
def test_a_model_becomes_the_one_whose_weights_it_takes(
    tmp_path: Path, kind: str, tied: bool, blank: bool
) -> None:
    one, other = (
        checkpoint(tmp_path / name, seed, kind, tied=tied)
        for seed, name in enumerate(("one", "other"))
    )
    model = TorchModel("one", one, blank=blank)
    model.replace(arrays(other))
    expected = TorchModel("other", other)
    assert np.array_equal(scores(model), scores(expected))
    assert (
        model.generate(PROMPTS, max_new_tokens=5)[0][0].text
        == expected.generate(PROMPTS, max_new_tokens=5)[0][0].text
    )
    assert model.shape == expected.shape


def test_bfloat16_comes_as_uint16(tmp_path: Path) -> None:
    one, other = (
        checkpoint(tmp_path / name, seed, "llama", tied=True, dtype=torch.bfloat16)
        for seed, name in enumerate(("one", "other"))
    )
    model = TorchModel("one", one)
    model.replace(arrays(other))
    assert np.array_equal(scores(model), scores(TorchModel("other", other)))


def test_of_tied_weights_the_embedding_counts(tmp_path: Path) -> None:
    one = checkpoint(tmp_path / "one", 0, "llama", tied=True)
    model, tensors = TorchModel("one", one), dict(arrays(one))
    before = scores(model)
    head = np.zeros_like(tensors["model.embed_tokens.weight"])
    for order in (
        [("lm_head.weight", head), *tensors.items()],
        [*tensors.items(), ("lm_head.weight", head)],
    ):
        model.replace(order)
        assert np.array_equal(scores(model), before)
    renamed = {
        "lm_head.weight" if name == "model.embed_tokens.weight" else name: array
        for name, array in tensors.items()
    }
    model.replace(renamed.items())
    assert np.array_equal(scores(model), before)


def test_names_without_the_prefix_of_the_base_model(tmp_path: Path) -> None:
    one, other = (
        checkpoint(tmp_path / name, seed, "gpt2", tied=True)
        for seed, name in enumerate(("one", "other"))
    )
    model = TorchModel("one", one)
    model.replace([(name.removeprefix("transformer."), array) for name, array in arrays(other)])
    assert np.array_equal(scores(model), scores(TorchModel("other", other)))


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    one = checkpoint(tmp_path / "one", 0, "llama", tied=True)
    model, tensors = TorchModel("one", one), dict(arrays(one))
    with pytest.raises(
        PomonaError, match=r'no weight "model.norms.weight" — did you mean "model.norm.weight"'
    ):
        model.replace([("model.norms.weight", tensors["model.norm.weight"])])
    with pytest.raises(
        PomonaError, match=r'"model.norm.weight" has the shape \[3\], and the model takes \[16\]'
    ):
        model.replace([("model.norm.weight", np.zeros(3, np.float32))])
    del tensors["model.norm.weight"]
    with pytest.raises(PomonaError, match=r"1 weight is missing, the first is model\.norm\.weight"):
        model.replace(tensors.items())
    model.replace(
        [*arrays(one), ("model.layers.0.self_attn.rotary_emb.inv_freq", np.zeros(4, np.float32))]
    )
