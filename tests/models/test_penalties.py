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

from pomona.errors import PomonaError
from pomona.models import ModelError, Request, Sampling, SamplingOptions, load, wait_for
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
    assert len(set(answer(repetition_penalty=10.0)[0])) == 6
    assert answer(top_k=1, seed=3) == answer(top_k=1, seed=4)
    for wrong, says in (
        ({"logit_bias": {999_999: 1.0}}, "there is no token 999999"),
        ({"top_k": -2}, "top_k is -2"),
        ({"repetition_penalty": 0.0}, "repetition_penalty is 0.0"),
        ({"presence_penalty": float("nan")}, "presence_penalty is nan"),
    ):
        with pytest.raises(ModelError, match=says):
            answer(**wrong)
    wait_for(model.close())


def test_lists_of_prompts_are_drawn_as_single_requests_and_as_transformers_draws(
    checkpoints: dict[str, Path],
) -> None:
    model: Any = load(str(checkpoints["llama"]))
    prompts = ["save the draft", "delete"]

    def texts(**sampling: Any) -> list[list[str]]:
        drawn = {"n": 2, "max_new_tokens": 8, "temperature": [0.0, 0.9], "seed": 4}
        pools = model.generate(prompts, **drawn, **sampling)
        asks = [(Request(prompt=one, max_tokens=8, seed=4, **sampling), [(0, 0.0), (1, 0.9)])
                for one in prompts]  # fmt: skip
        single = wait_for(model.together(asks))
        assert [[one.text for one in pool] for pool in single] == [
            [one.text for one in pool] for pool in pools
        ]
        assert [[one.finish_reason for one in pool] for pool in single] == [
            [one.finish_reason for one in pool] for pool in pools
        ]
        return [[one.text for one in pool] for pool in pools]

    free = texts()
    assert texts(top_k=1)[0][0] == texts(top_k=1)[0][1] == free[0][0]
    for given in (
        {"repetition_penalty": 1.8},
        {"frequency_penalty": 2.0, "presence_penalty": 2.0},
        {"logit_bias": {"100": 100}},
        {"stop": free[0][0][2:4]},
    ):
        assert texts(**given) != free
    assert texts(stop=[free[0][0][2:4]])[0][0] == free[0][0].partition(free[0][0][2:4])[0]
    (drawn,) = model.generate(prompts[:1], max_new_tokens=8, repetition_penalty=1.8)
    ids = torch.tensor(model.codec.prompts(prompts[:1]))
    theirs = model.network.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False,
        repetition_penalty=1.8, pad_token_id=model.codec.stops[0],
    )  # fmt: skip
    assert (
        drawn[0].token_ids.tolist() == theirs[0, ids.shape[1] :].tolist()[: len(drawn[0].token_ids)]
    )
    with pytest.raises(PomonaError, match=r"top_k is 0.5 — use a whole number from 0 to 2,147"):
        model.generate(prompts, top_k=0.5)
    with pytest.raises(PomonaError, match=r"there is no token 320; the model has 320"):
        model.generate(prompts, logit_bias={320: 1.0})


def test_parameters_are_read_as_the_apis_write_them() -> None:
    assert SamplingOptions.__annotations__.keys() == Sampling.__dataclass_fields__.keys()
    given: Any = {"stop": "END", "top_k": -1, "logit_bias": '{"198": -100}'}
    assert Sampling(**given) == Sampling(stop=("END",), logit_bias={198: -100})
    assert Request(prompt="a", **given).stop == ("END",)
