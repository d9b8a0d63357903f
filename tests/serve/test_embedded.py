"""Models of this process behind the server: real checkpoints, their streams, their limits, and
feedback on them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pyarrow as pa
import pytest

from pomona.errors import PomonaError
from pomona.models import catalogue
from pomona.sample.context import Datastore, Steering, build_datastore
from pomona.serve import ServeSettings, open_models

from .conftest import House

SAY: Any = [{"role": "user", "content": "<|fr|>Save the file<|to|>"}]
SMOLLM2 = next(entry for entry in catalogue() if entry.name == "smollm2").present


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """ui-xs, and smollm2 where it is at hand, with a store and a memory of feedback."""
    folder = tmp_path_factory.mktemp("served")
    named = ["ui=ui-xs", *(["smollm2"] if SMOLLM2 else [])]
    house = House(
        open_models(named, store=folder / "store.sqlite"),
        ServeSettings(feedback=folder / "feedback.sqlite"),
    )
    yield house
    house.stop()


def _models() -> list[Any]:
    return [
        "ui",
        pytest.param(
            "smollm2",
            marks=pytest.mark.skipif(not SMOLLM2, reason="smollm2 is not on this machine"),
        ),
    ]


@pytest.mark.parametrize("name", _models())
def test_a_stream_is_the_answer_in_pieces(house: House, name: str) -> None:
    with openai.OpenAI(base_url=f"{house.url}/v1", api_key="none") as client:
        given: dict[str, Any] = {
            "model": name,
            "messages": SAY,
            "max_tokens": 12,
            "temperature": 0,
            "seed": 1,
        }
        whole = client.chat.completions.create(**given)
        chunks = list(client.chat.completions.create(**given, stream=True))
    assert whole.choices[0].message.content == "".join(
        chunk.choices[0].delta.content or "" for chunk in chunks
    )
    assert whole.usage is not None
    assert 0 < whole.usage.completion_tokens <= 12
    assert whole.model_dump()["pomona"]["spent"]["flops"] > 0


@pytest.mark.parametrize("name", _models())
def test_a_strategy_draws_and_chooses_and_equal_seeds_agree(house: House, name: str) -> None:
    given = {"max_tokens": 8, "messages": SAY, "seed": 5}
    first, second = (house.chat(model=f"{name}@hedged5-mbr", **given).json() for _ in range(2))
    assert len(first["pomona"]["candidates"]) == 5
    assert first["choices"] == second["choices"]
    assert (
        first["usage"]["completion_tokens"]
        > first["pomona"]["candidates"][0]["spent"]["completion_tokens"]
    )


@pytest.mark.parametrize(
    ("given", "param", "says"),
    [
        ({"reasoning_effort": "low"}, "reasoning_effort", "is not known to this model"),
        ({"suffix": "end"}, "suffix", "this model cannot do suffix end"),
        ({"presence_penalty": 3}, "presence_penalty", "must be from -2 to 2"),
        ({"logit_bias": {"x": 1}}, "logit_bias", 'names "x", which is no token id'),
        ({"logit_bias": {"1": 101}}, "logit_bias.1", "must be from -100 to 100"),
        ({"logit_bias": {"99999": 1}}, None, "there is no token 99999"),
        ({"repetition_penalty": 0}, "repetition_penalty", "must be above 0"),
        ({"tool_choice": "required"}, "tool_choice", "required, and there are no tools"),
        ({"response_format": {"type": "xml"}}, "response_format", 'there is no format "xml"'),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, None, "knows no tools"),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}
                ]
            },
            None,
            "reads text only",
        ),
        ({"messages": [{"role": "user", "content": "word " * 5000}]}, None, "takes"),
    ],
)
def test_what_a_model_cannot_do_it_says(
    house: House, given: dict[str, Any], param: str | None, says: str
) -> None:
    response = house.chat(model="ui", **given)
    assert response.status_code == 400
    assert says in response.json()["error"]["message"]
    assert response.json()["error"]["param"] == param


@pytest.mark.parametrize("name", _models())
def test_penalties_and_biases_bend_answers(house: House, name: str) -> None:
    def texts(**given: Any) -> set[str]:
        asked = {"messages": SAY, "max_tokens": 6, "temperature": 0, **given}
        answer = house.chat(model=name, **asked)
        assert answer.status_code == 200, answer.text
        return {choice["message"]["content"] for choice in answer.json()["choices"]}

    free = texts()
    assert texts(top_k=-1, presence_penalty=0, logit_bias={}, repetition_penalty=1.0) == free
    assert texts(logit_bias={"500": 100}) != free
    assert len(texts(top_k=1, temperature=1.5, n=3, seed=2)) == 1
    penalties = {"presence_penalty": 2, "frequency_penalty": 2, "repetition_penalty": 9}
    for field, value in list(penalties.items())[: 3 if name == "ui" else 1]:
        assert len(texts(logit_bias={"500": 20}, **{field: value})) == 1


def test_unknown_fields_are_left_out_where_the_server_is_told_to() -> None:
    lenient = House(open_models(["ui=ui-xs"]), ServeSettings(unknown_fields="ignore"))
    given: dict[str, Any] = {"model": "ui", "messages": SAY, "max_tokens": 2, "made_up": [1]}
    statuses = [
        lenient.chat(**given, reasoning_effort="low").status_code,
        lenient.chat(**given, suffix="known, and not to be done").status_code,
        lenient.client.post(
            "/v1/embeddings", json={"model": "ui", "input": "a", "x": 1}
        ).status_code,
        lenient.client.post(
            "/v1/responses", json={"model": "ui", "input": "a", "x": 1}
        ).status_code,
    ]
    lenient.stop()
    assert statuses == [200, 400, 200, 200]
    with pytest.raises(PomonaError, match=r"--unknown-fields.*ignore"):
        ServeSettings(unknown_fields="ignor")  # type: ignore[arg-type]


def test_what_changes_nothing_is_taken(house: House) -> None:
    neutral = {
        "presence_penalty": 0,
        "logit_bias": {},
        "user": "me",
        "response_format": {"type": "text"},
        "logprobs": False,
        "n": None,
    }
    assert house.chat(model="ui", max_tokens=3, **neutral).status_code == 200


@pytest.mark.parametrize("name", _models())
def test_nulls_in_messages_are_nothing_and_developers_are_the_system(
    house: House, name: str
) -> None:
    call = {
        "id": "1",
        "type": "function",
        "function": {"name": "f", "arguments": "{}"},
        "index": None,
    }
    said = [
        {"role": "developer", "content": "Be brief.", "name": None},
        {
            "role": "user",
            "content": [{"type": "text", "text": "<|fr|>Save<|to|>"}],
            "tool_calls": None,
        },
        {"role": "assistant", "content": None, "tool_calls": [call], "refusal": None},
        {"role": "tool", "content": "42", "tool_call_id": "1", "name": None},
        {"role": "assistant", "content": None, "tool_calls": []},
        {"role": "user", "content": "<|fr|>Save<|to|>", "weight": 1},
    ]
    response = house.chat(model=name, messages=said, max_tokens=2)
    assert response.status_code == 200, response.text


@pytest.mark.parametrize("name", _models())
def test_an_enum_is_the_only_answer_allowed(house: House, name: str) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": ["Oui", "Non"]}}}
    body = house.chat(model=name, messages=SAY, temperature=0, response_format=form).json()
    assert json.loads(body["choices"][0]["message"]["content"]) in {"Oui", "Non"}


@pytest.mark.parametrize("tokens", [1, 1 << 20])
def test_the_shortest_and_the_longest_answer(house: House, tokens: int) -> None:
    body = house.chat(model="ui", messages=SAY, max_tokens=tokens, temperature=0).json()
    assert body["choices"][0]["finish_reason"] in {"stop", "length"}
    assert 1 <= body["usage"]["completion_tokens"] <= min(tokens, 600)


def test_embeddings_are_unit_vectors(house: House) -> None:
    body = house.client.post(
        "/v1/embeddings", json={"model": "ui", "input": ["Save", "Open"]}
    ).json()
    assert np.allclose([np.linalg.norm(one["embedding"]) for one in body["data"]], 1, atol=1e-5)


def test_a_request_is_led_and_those_beside_it_are_not(tmp_path: Path) -> None:
    for side, word in (("to", "Entfernen"), ("from", "Sammlung")):
        build_datastore(
            pa.table({"text": [f"<|de|>Delete{rest}<|to|>{word}" for rest in ("", " it", " all")]}),
            out=tmp_path / side,
            model="ui-xs",
        )
    lever = Steering(
        Datastore.open(tmp_path / "to"), Datastore.open(tmp_path / "from"), temperature=10.0
    )
    house = House(
        open_models(["ui=ui-xs", "other=ui-s"]), ServeSettings(contexts={"steering": lever})
    )
    asked: dict[str, Any] = {
        "model": "ui",
        "messages": [{"role": "user", "content": "<|de|>Delete<|to|>"}],
        "max_tokens": 12,
        "temperature": 0,
    }
    steer: dict[str, Any] = {"pomona": {"context": "steering", "strategy": "greedy"}}
    try:
        alone = [house.chat(**asked, **more).json() for more in ({}, steer)]
        with ThreadPoolExecutor(8) as pool:
            beside = list(
                pool.map(
                    lambda at: house.chat(**asked, **(steer if at % 2 else {})).json(), range(8)
                )
            )
        texts = [one["choices"][0]["message"]["content"] for one in alone]
        assert texts[0] != texts[1]
        assert alone[1]["pomona"]["spent"]["flops"] > lever.flops > 0
        assert [one["choices"][0]["message"]["content"] for one in beside] == texts * 4
        response = house.chat(**{**asked, "model": "other"}, **steer)
        assert (
            response.status_code,
            "the datastores are from another model" in response.json()["error"]["message"],
        ) == (400, True)
    finally:
        house.stop()


def test_feedback_is_kept_and_forgotten(house: House) -> None:
    said = {
        "prompt": "<|fr|>Save<|to|>",
        "chosen": "Enregistrer",
        "rejected": "Sauver",
        "good": True,
        "user": "me",
        "strategy": "hedged5-mbr",
    }
    body = house.client.post("/v1/feedback", json=said).json()
    assert body["object"] == "feedback"
    assert isinstance(body["id"], int)
    assert house.client.delete("/v1/feedback", params={"user": "me"}).json() == {
        "object": "feedback.deleted",
        "deleted": 1,
    }
    wrong = house.client.post("/v1/feedback", json={"prompt": "x"})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "chosen")


def test_a_server_without_a_memory_says_so(open_house: Any, upstream: Any) -> None:
    response = open_house({"fake": upstream.model()}).client.post(
        "/v1/feedback", json={"prompt": "a", "chosen": "b"}
    )
    assert response.status_code == 404
    assert "start it with --feedback" in response.json()["error"]["message"]


def test_metrics_count_tokens_and_flops(house: House) -> None:
    house.chat(model="ui", messages=SAY, max_tokens=3)
    lines = house.client.get("/metrics").text.splitlines()
    values = {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
        for line in lines
        if not line.startswith("#")
    }
    assert values['pomona_flops_total{model="ui"}'] > 0
    assert values['pomona_completion_tokens_total{model="ui"}'] > 0
    counted = sum(
        value
        for name, value in values.items()
        if name.startswith("pomona_requests_total") and 'model="ui"' in name
    )
    assert values['pomona_request_seconds_count{model="ui"}'] == counted
    assert values['pomona_request_seconds_bucket{le="+Inf",model="ui"}'] == counted


def test_names_of_models(tmp_path: Path) -> None:
    models = open_models(["http://127.0.0.1:9/v1#one", "two=http://127.0.0.1:9/v1?a=b#x"])
    assert list(models) == ["one", "two"]
    with pytest.raises(PomonaError, match='two models are called "one"'):
        open_models(["http://127.0.0.1:9/v1#one", "one=http://127.0.0.1:9/v1#x"])
    with pytest.raises(PomonaError, match='unknown model "uixs"'):
        open_models(["uixs"])


def test_a_stream_of_a_waiting_strategy_ends_with_its_pool(house: House) -> None:
    text = house.chat(
        model="ui@hedged5-mbr",
        messages=SAY,
        max_tokens=5,
        stream=True,
        stream_options={"include_usage": True},
    ).text
    blocks = [block[6:] for block in text.strip().split("\n\n") if block.startswith("data: ")]
    last = json.loads(blocks[-2])
    assert blocks[-1] == "[DONE]"
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == sum(
        one["spent"]["completion_tokens"] for one in last["pomona"]["candidates"]
    )
