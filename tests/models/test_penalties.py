"""What bends draws: penalties, biases and top-k, as transformers and the OpenAI API define them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.generation.logits_process import (
    RepetitionPenaltyLogitsProcessor,
    TopKLogitsWarper,
)

from pomona.models import ModelError, Request, load, wait_for
from pomona.models.torch.decode import Penalties, Truncation, kept

LOGITS = torch.linspace(-3, 4, 12)[torch.randperm(12, generator=torch.Generator().manual_seed(1))]
PROMPT = [3, 5, 3]


def test_top_k_is_that_of_transformers() -> None:
    for k in (1, 3, 11, 12, 40):
        theirs = torch.softmax(TopKLogitsWarper(top_k=min(k, 12))(None, LOGITS[None]), dim=-1)  # type: ignore[arg-type]
        assert torch.equal(kept(LOGITS[None], Truncation(top_k=k)), theirs)


def test_repetition_is_that_of_transformers() -> None:
    row = Penalties(Request(repetition_penalty=1.7), PROMPT)
    theirs: Any = RepetitionPenaltyLogitsProcessor(1.7)
    row(LOGITS)
    row.take(7)
    expected = theirs(torch.tensor([[*PROMPT, 7]]), LOGITS[None].clone())[0]
    assert torch.allclose(row(LOGITS), expected)


def test_frequency_and_presence_count_what_was_generated() -> None:
    bias = {2: 5.0, 7: -100.0}
    row = Penalties(Request(frequency_penalty=0.5, presence_penalty=1.25, logit_bias=bias), PROMPT)
    expected = LOGITS.clone()
    expected[2] += 5
    expected[7] -= 100
    assert torch.allclose(row(LOGITS), expected)
    for token in (5, 5, 9):
        row.take(token)
    expected[5] -= 2 * 0.5 + 1.25
    expected[9] -= 0.5 + 1.25
    assert torch.allclose(row(LOGITS), expected)


@pytest.mark.parametrize("kind", ["llama"])
def test_answers_are_bent_and_log_probabilities_are_not(
    checkpoints: dict[str, Path], kind: str
) -> None:
    model = load(str(checkpoints[kind]))
    ask = Request(prompt="save the draft", max_tokens=6, logprobs=0)

    def answer(**given: object) -> tuple[list[bytes], float | None]:
        (reply,) = wait_for(model.reply(Request(**{**vars(ask), **given}), [(0, 0.0)]))  # type: ignore[arg-type]
        return [bytes(token["bytes"]) for token in reply.tokens], reply.logprob

    free, free_log = answer()
    forced, forced_log = answer(logit_bias={100: 100.0})
    assert len(set(forced)) == 1 and forced != free
    assert free_log is not None and forced_log is not None and forced_log < free_log
    assert len(set(answer(logit_bias={100: 50.0}, presence_penalty=100.0)[0])) == 6
    assert answer(top_k=1, seed=3) == answer(top_k=1, seed=4)
    for wrong, says in (
        ({"logit_bias": {999_999: 1.0}}, "there is no token 999999"),
        ({"top_k": -1}, "top_k is -1"),
        ({"repetition_penalty": 0.0}, "repetition_penalty is 0.0"),
        ({"presence_penalty": float("nan")}, "is no finite number"),
    ):
        with pytest.raises(ModelError, match=says):
            answer(**wrong)
    wait_for(model.close())
