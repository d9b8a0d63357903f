from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy import stats
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from pomona.models.torch.decode import Truncation, draw, kept, row_keys, uniforms
from pomona.models.torch.model import TorchModel


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    temperature=st.floats(0.2, 3.0),
    top_p=st.floats(0.01, 1.0),
    min_p=st.floats(0.0, 0.99),
    spread=st.floats(0.1, 6.0),
)
def test_cuts_are_those_of_transformers(
    seed: int, temperature: float, top_p: float, min_p: float, spread: float
) -> None:
    logits = spread * torch.randn((4, 500), generator=torch.Generator().manual_seed(seed))
    theirs = TemperatureLogitsWarper(temperature)(None, logits)  # pyright: ignore[reportArgumentType]
    if top_p < 1:
        theirs = TopPLogitsWarper(top_p)(None, theirs)  # pyright: ignore[reportArgumentType]
    theirs = MinPLogitsWarper(min_p)(None, theirs).softmax(dim=-1)  # pyright: ignore[reportArgumentType]
    ours = kept(logits / temperature, Truncation(top_p, min_p))
    ours = ours / ours.sum(dim=-1, keepdim=True)
    differ = (ours > 0) != (theirs > 0)
    assert differ.sum() <= 1, "at most one token on the very border, by rounding"
    if not differ.any():
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


def test_what_is_cut_is_never_drawn() -> None:
    weights = torch.tensor([[0.0, 0.3, 0.0, 0.2, 0.0]]).expand(4, -1)
    edges = torch.tensor([0.0, 0.6 - 1e-9, 0.6 + 1e-7, 1 - 2.0**-32], dtype=torch.float64)
    assert draw(weights, edges).tolist() == [1, 1, 3, 3]


def test_uniforms_are_uniform_and_addressable() -> None:
    keys = np.concatenate([row_keys(0, f"prompt {i}", 4) for i in range(250)])
    block = uniforms(keys, 0, 100)
    assert block.shape == (100, 1000)
    np.testing.assert_array_equal(block[40:60, 7:9], uniforms(keys[7:9], 40, 20))
    assert stats.kstest(block.ravel(), "uniform").pvalue > 0.001
    assert abs(np.corrcoef(block[:-1].ravel(), block[1:].ravel())[0, 1]) < 0.01
    assert abs(np.corrcoef(block[:, :-1].ravel(), block[:, 1:].ravel())[0, 1]) < 0.01
    assert len(np.unique(keys)) == 1000


def test_keys_tell_seed_prompt_and_sample_apart() -> None:
    keys = [
        row_keys(seed, prompt, 3)
        for seed in (0, 1, -1, 10)
        for prompt in ("a", "0:a", "", "\ud800")
    ]
    assert len(np.unique(np.concatenate(keys))) == 4 * 4 * 3
    np.testing.assert_array_equal(row_keys(4, "a", 2), row_keys(4, "a", 5)[:2])


@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_first_tokens_follow_the_softmax(model: TorchModel, temperature: float) -> None:
    count, prompt = 4000, "save the draft"
    drawn = [
        sample.token_ids[0] if len(sample.token_ids) else 0
        for sample in model.generate([prompt], n=count, temperature=temperature, max_new_tokens=1)[
            0
        ]
    ]
    with torch.inference_mode():
        logits = model.network(input_ids=torch.tensor(model.codec.prompts([prompt]))).logits[0, -1]
    expected = count * (logits / temperature).softmax(dim=-1).double().numpy()
    seen = np.bincount(drawn, minlength=len(expected))
    often = expected >= 5
    observed, wanted = (
        [*seen[often], seen[~often].sum()],
        [*expected[often], expected[~often].sum()],
    )
    if wanted[-1] < 1:
        observed, wanted = observed[:-1], wanted[:-1]
    assert len(wanted) > 5
    assert stats.chisquare(observed, np.array(wanted) * sum(observed) / sum(wanted)).pvalue > 0.001
