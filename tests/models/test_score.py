from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pomona.errors import PomonaError
from pomona.models import load
from pomona.models.torch.model import TorchModel

from .conftest import KINDS, some_prompts


def mean_loss(model: TorchModel, prompt: str, completion: str, *, end: bool) -> float:
    """Transformers' own loss over the completion."""
    start, answer = (
        model.codec.prompts([prompt])[0],
        model.codec.completions([completion], end=end)[0],
    )
    ids = torch.tensor([[*start, *answer]])
    labels = ids.clone()
    labels[:, : len(start)] = -100
    with torch.inference_mode():
        return model.network(input_ids=ids, labels=labels).loss.item()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", [False, True])
def test_the_mean_is_the_loss_of_transformers(
    models: dict[str, TorchModel], kind: str, end: bool
) -> None:
    model, prompts, answers = models[kind], some_prompts(40), some_prompts(40, seed=1, longest=6)
    for prompt, answer, scores in zip(
        prompts, answers, model.score(prompts, answers, end=end), strict=True
    ):
        assert scores.dtype == np.float32
        assert len(scores) == len(model.codec.completions([answer], end=end)[0])
        assert -scores.mean() == pytest.approx(mean_loss(model, prompt, answer, end=end), abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_windows_change_nothing(models: dict[str, TorchModel], kind: str) -> None:
    model, prompts, answers = models[kind], some_prompts(12), some_prompts(12, seed=1)
    expected, usual = model.score(prompts, answers), model.budget
    model.budget = type(usual)(
        usual.logits * 6, usual.token, usual.logits, usual.pass_tokens, usual.most_rows
    )
    assert model.budget.window() == 3
    try:
        for got, want in zip(model.score(prompts, answers), expected, strict=True):
            np.testing.assert_allclose(got, want, atol=1e-4)
    finally:
        model.budget = usual


def test_scores_are_the_log_probabilities_of_generation(model: TorchModel) -> None:
    prompts = some_prompts(20)
    for prompt, (sample,) in zip(
        prompts, model.generate(prompts, temperature=1.0, max_new_tokens=8), strict=True
    ):
        scores = model.score([prompt], [sample.text])[0]
        if model.codec.completions([sample.text], end=False)[0] == sample.token_ids.tolist():
            np.testing.assert_allclose(scores, sample.logprobs, atol=1e-4)


def test_empty_completions(model: TorchModel) -> None:
    empty, full = model.score(["save", "save"], ["", "the page"])
    assert empty.shape == (0,)
    assert empty.dtype == np.float32
    assert len(full) > 0
    assert model.score(["save"], [""], end=True)[0].shape == (1,)


def test_empty_prompts(models: dict[str, TorchModel]) -> None:
    model = models["gpt2"]
    scores = model.score([""], ["the page"])[0]
    assert -scores.mean() == pytest.approx(
        mean_loss(model, "<|start|>", "the page", end=False), abs=1e-4
    )
    assert len(model.generate([""], max_new_tokens=3)[0]) == 1
    with pytest.raises(
        PomonaError, match="prompt 2: is empty and the tokenizer has no start token"
    ):
        models["llama"].score(["a", ""], ["b", "c"])


def test_lengths_that_differ(model: TorchModel) -> None:
    with pytest.raises(
        PomonaError, match="2 prompts but 1 completions — give one completion a prompt"
    ):
        model.score(["a", "b"], ["c"])


def test_a_pair_longer_than_the_context(model: TorchModel) -> None:
    assert len(model.score(["x" * 64], ["x" * 64])[0]) == 64
    with pytest.raises(PomonaError, match="prompt 1: needs 129 tokens"):
        model.score(["x" * 64], ["x" * 65])


def test_several_end_tokens(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    import json
    import shutil

    folder = Path(shutil.copytree(checkpoints["llama"], tmp_path / "many"))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [5, 0, 9]}))
    model = load(str(folder))
    assert isinstance(model, TorchModel)
    assert model.codec.stops == [5, 0, 9]
    assert model.codec.end == 0
    assert not {5, 0, 9} & {
        int(t)
        for (s,) in model.generate(some_prompts(30), temperature=2.0, max_new_tokens=30)
        for t in s.token_ids
    }


def test_counted_tokens_are_those_read(models: dict[str, TorchModel]) -> None:
    for model in models.values():
        prompts = some_prompts(10)
        read = [row[0].prompt_tokens for row in model.generate(prompts, max_new_tokens=1)]
        assert model.count_tokens(prompts).tolist() == read
