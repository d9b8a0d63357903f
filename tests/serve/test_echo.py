"""Completions that repeat their prompt, with its log-probabilities: what harnesses score texts by."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from pomona.models import catalogue
from pomona.models.torch import TorchModel
from pomona.serve import ServeSettings, open_models

from .conftest import House

SMOLLM2 = next(entry for entry in catalogue() if entry.name == "smollm2").present
PROMPT, ANSWERS = "<|de|>Save<|to|>", ("Sichern", "日本 für", "Speichern")


@pytest.fixture(scope="module")
def tiny() -> TorchModel:
    model = open_models(["tiny=ui-xs"])["tiny"]
    assert isinstance(model, TorchModel)
    return model


@pytest.fixture(scope="module")
def own(tiny: TorchModel) -> Iterator[House]:
    more = open_models(["smollm2"]) if SMOLLM2 else {}
    house = House({"tiny": tiny, **more}, ServeSettings())
    yield house
    house.stop()


def _post(house: House, **given: Any) -> Any:
    return house.client.post("/v1/completions", json={"model": "tiny", "temperature": 0, **given})


def test_a_harness_scores_as_the_model_does(own: House, tiny: TorchModel) -> None:
    context = tiny.codec.plain([PROMPT])[0]
    endings = tiny.codec.completions(ANSWERS, end=False)
    asked = {"prompt": [[*context, *one] for one in endings], "logprobs": 1, "echo": True}
    expected = [scores.sum() for scores in tiny.score([PROMPT] * len(ANSWERS), ANSWERS)]
    for silent in (0, 1):
        choices = _post(own, **asked, max_tokens=silent).json()["choices"]
        for choice, ending, score in zip(choices, endings, expected, strict=True):
            told = choice["logprobs"]
            length = len(context) + len(ending)
            assert len(told["tokens"]) == length + silent
            assert (told["token_logprobs"][0], told["top_logprobs"][0]) == (None, None)
            own_logs = told["token_logprobs"][len(context) : length]
            assert np.isclose(sum(own_logs), score, atol=1e-3)
            for log, top in zip(own_logs, told["top_logprobs"][len(context) :], strict=False):
                assert max(top.values()) >= log and log in top.values()
            assert choice["text"].startswith(PROMPT)
            assert told["text_offset"][0] == 0


def test_long_prompts_are_read_in_windows(tiny: TorchModel) -> None:
    from pomona.models.torch.batches import read_prompt

    ids = tiny.codec.plain([PROMPT * 20])[0]
    whole, parts = (read_prompt(tiny.network, ids, size, 3) for size in (4096, 7))
    for one, other in zip(whole, parts, strict=True):
        assert np.allclose(one, other, atol=1e-4)
    assert read_prompt(tiny.network, ids[:1], 7, 2)[1].shape == (0, 2)


@pytest.mark.parametrize("name", ["tiny", *(["smollm2"] if SMOLLM2 else [])])
def test_without_log_probabilities_every_model_repeats(own: House, name: str) -> None:
    choices = _post(own, model=name, prompt=["a b", "c"], max_tokens=2, n=2, echo=True).json()
    starts = [choice["text"][:1] for choice in choices["choices"]]
    assert starts == ["a", "a", "c", "c"]
    (bare,) = _post(own, model=name, prompt="a b", max_tokens=0, echo=True).json()["choices"]
    assert (bare["text"], bare["finish_reason"], bare["logprobs"]) == ("a b", "length", None)


@pytest.mark.parametrize(
    ("given", "param", "says"),
    [
        ({"max_tokens": 0, "echo": False}, "max_tokens", "must be from 1"),
        ({"stream": True}, "echo", "does not go together with stream"),
        ({"model": "tiny@hedged3-mbr"}, "echo", "does not go together with a strategy"),
        ({"echo": 1}, "echo", "must be true or false"),
        ({"prompt": "word " * 3000, "logprobs": 1, "max_tokens": 0}, None, "takes"),
    ],
)
def test_what_cannot_be_echoed(own: House, given: Any, param: str | None, says: str) -> None:
    refused = _post(own, **{"prompt": "a", "echo": True, **given})
    error = refused.json()["error"]
    assert (refused.status_code, error["param"]) == (400, param)
    assert says in error["message"]


def test_only_torch_tells_of_prompts(own: House, house: House) -> None:
    asked: dict[str, Any] = {"prompt": "a", "echo": True, "logprobs": 0}
    refused = _post(house, model="fake", **asked).json()["error"]
    assert "told by torch alone" in refused["message"]
    if SMOLLM2:
        refused = _post(own, model="smollm2", **asked).json()["error"]
        assert "score with torch: open the checkpoint as hf:PATH" in refused["message"]
