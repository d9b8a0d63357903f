"""Answers have the shapes of the OpenAI API, and parameters arrive where they belong."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pyarrow as pa
import pytest

from pomona.sample.context import Index, Retrieval


@pytest.fixture
def client(house: Any) -> Any:
    with openai.OpenAI(base_url=f"{house.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def _ask(client: openai.OpenAI, **given: Any) -> Any:
    return client.chat.completions.create(
        model="fake", messages=[{"role": "user", "content": "Hi"}], **given
    )


def test_a_chat_completion_through_the_official_client(
    client: openai.OpenAI, upstream: Any
) -> None:
    completion = _ask(
        client,
        n=2,
        temperature=0.5,
        max_completion_tokens=9,
        stop="END",
        seed=3,
        top_p=0.9,
        extra_body={"min_p": 0.05},
    )
    assert (completion.object, completion.model) == ("chat.completion", "fake")
    assert [
        (c.index, c.message.role, c.message.content, c.finish_reason) for c in completion.choices
    ] == [
        (0, "assistant", "answer 0", "stop"),
        (1, "assistant", "answer 1", "stop"),
    ]
    assert (
        completion.usage.prompt_tokens,
        completion.usage.completion_tokens,
        completion.usage.total_tokens,
    ) == (
        7,
        10,
        17,
    )
    assert completion.id.startswith("chatcmpl-")
    assert completion._request_id.startswith("req_")
    sent = upstream.seen[0]
    assert sent == {
        "model": "fake",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 9,
        "temperature": 0.5,
        "seed": 3,
        "n": 2,
        "top_p": 0.9,
        "min_p": 0.05,
        "stop": ["END"],
    }


def test_fields_we_do_not_know_reach_the_upstream(client: openai.OpenAI, upstream: Any) -> None:
    upstream.acts.append({"text": "{}"})
    _ask(
        client,
        presence_penalty=0.5,
        response_format={"type": "json_object"},
        extra_body={"repetition_penalty": 1.1, "guided": {"a": None}},
    )
    sent = upstream.seen[0]
    assert sent["presence_penalty"] == 0.5
    assert sent["response_format"] == {"type": "json_object"}
    assert (sent["repetition_penalty"], sent["guided"]) == (1.1, {"a": None})
    assert "pomona" not in sent


def test_without_a_seed_samples_differ_and_without_a_temperature_it_is_one(
    client: openai.OpenAI, upstream: Any
) -> None:
    _ask(client)
    _ask(client)
    first, second = upstream.seen
    assert first["temperature"] == 1.0
    assert first["seed"] != second["seed"]


def test_tool_calls_pass_through(client: openai.OpenAI, upstream: Any) -> None:
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "look", "arguments": '{"at": "sky"}'},
    }
    upstream.acts.append({"text": "", "message": {"content": None, "tool_calls": [call]}})
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    choice = _ask(client, tools=[tool], tool_choice="required").choices[0]
    assert choice.message.content is None
    assert choice.message.tool_calls[0].function.arguments == '{"at": "sky"}'
    assert (upstream.seen[0]["tools"], upstream.seen[0]["tool_choice"]) == ([tool], "required")


def test_completions_of_several_prompts(client: openai.OpenAI, upstream: Any) -> None:
    response = client.completions.create(model="fake", prompt=["one", "two"], max_tokens=5)
    assert (response.object, [(c.index, c.text) for c in response.choices]) == (
        "text_completion",
        [(0, "answer 0"), (1, "answer 0")],
    )
    assert sorted(sent["prompt"] for sent in upstream.seen) == ["one", "two"]
    assert response.usage is not None
    assert response.usage.total_tokens == 24


def test_every_model_is_listed_alone_and_with_every_named_strategy(client: openai.OpenAI) -> None:
    names = [one.id for one in client.models.list()]
    assert names[0] == "fake"
    assert "fake@hedged5-mbr" in names
    assert client.models.retrieve("fake@hedged5-mbr").id == "fake@hedged5-mbr"
    with pytest.raises(openai.NotFoundError, match='did you mean "fake"'):
        client.models.retrieve("faek")


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_embeddings(house: Any, encoding: str) -> None:
    given = {"model": "fake", "input": ["a", "b"], "encoding_format": encoding}
    body = house.client.post("/v1/embeddings", json=given).json()
    rows = [one["embedding"] for one in body["data"]]
    if encoding == "base64":
        rows = [np.frombuffer(base64.b64decode(row), "<f4").tolist() for row in rows]
    assert np.allclose(rows, [[0.6, 0.8]] * 2)
    assert [one["index"] for one in body["data"]] == [0, 1]
    assert body["usage"] == {"prompt_tokens": 3, "total_tokens": 3}


def test_the_official_client_reads_embeddings(client: openai.OpenAI) -> None:
    assert np.allclose(
        client.embeddings.create(model="fake", input="a").data[0].embedding, [0.6, 0.8]
    )


def test_a_strategy_by_name_shows_its_pool_its_choice_and_the_whole_cost(
    house: Any, upstream: Any
) -> None:
    upstream.acts = [{"texts": ["a cat sat", "dogs", "a cat sat", "a cat sat"]}] * 2
    body = house.chat(model="fake@hedged5-mbr", seed=1).json()
    pomona = body["pomona"]
    assert body["choices"][0]["message"]["content"] == "a cat sat"
    assert body["model"] == "fake@hedged5-mbr"
    assert pomona["strategy"] == "hedged5-mbr"
    assert len(pomona["candidates"]) == 5
    assert pomona["candidates"][pomona["chosen"]]["text"] == "a cat sat"
    assert pomona["candidates"][0]["temperature"] == 0.0
    spent = sum(
        one["spent"]["prompt_tokens"] + one["spent"]["completion_tokens"]
        for one in pomona["candidates"]
    )
    assert body["usage"]["total_tokens"] == spent > 12
    assert pomona["stopped_by"]


def test_a_strategy_in_the_body_with_a_budget_stops_there(house: Any, upstream: Any) -> None:
    ours = {"strategy": {"pool": "sample", "n": 8}, "budget": {"tokens": 30}, "candidates": False}
    body = house.chat(max_tokens=5, pomona=ours).json()
    assert body["pomona"]["stopped_by"] == "tokens"
    assert "candidates" not in body["pomona"]
    assert body["usage"]["total_tokens"] < 30 + 12


def test_what_a_user_said_is_shown_to_the_model(house: Any, upstream: Any) -> None:
    said = {
        "prompt": "Say something about apples",
        "chosen": "no",
        "edited": "Apples are good.",
        "user": "me",
    }
    assert house.client.post("/v1/feedback", json=said).status_code == 200
    messages = [{"role": "user", "content": "Say something about apples"}]
    body = house.chat(messages=messages, pomona={"context": ["memory"], "user": "me"}).json()
    assert [message["content"] for message in upstream.seen[0]["messages"]][:2] == [
        messages[0]["content"],
        "Apples are good.",
    ]
    assert body["pomona"]["notes"]["memory"]["examples"]
    house.chat(messages=messages, pomona={"context": ["memory"], "user": "you"})
    assert upstream.seen[1]["messages"] == messages
    assert (
        "there is no context" in house.chat(pomona={"context": "magic"}).json()["error"]["message"]
    )


def test_each_key_has_users_of_its_own(upstream: Any, open_house: Any, tmp_path: Path) -> None:
    keys = tuple(letter * 20 for letter in "ab")
    house = open_house({"fake": upstream.model()}, keys=keys, feedback=tmp_path / "feedback.sqlite")

    def shown(key: str, **user: str) -> int:
        asked = {
            "model": "fake",
            "messages": [{"role": "user", "content": "Say apples"}],
            "pomona": {"context": "memory", **user},
        }
        house.client.post(
            "/v1/chat/completions", json=asked, headers={"Authorization": f"Bearer {key}"}
        ).raise_for_status()
        return len(upstream.seen[-1]["messages"])

    for said in ({"user": "me"}, {}):
        given = {"prompt": "Say apples", "chosen": "no", "edited": "Apples.", **said}
        house.client.post(
            "/v1/feedback", json=given, headers={"Authorization": f"Bearer {keys[0]}"}
        ).raise_for_status()
        assert (shown(keys[0], **said), shown(keys[1], **said)) == (3, 1)
    removed = [
        house.client.delete(
            "/v1/feedback", params={"user": "me"}, headers={"Authorization": f"Bearer {key}"}
        ).json()["deleted"]
        for key in reversed(keys)
    ]
    assert removed == [0, 1]


def test_passages_are_shown_and_citations_checked(
    upstream: Any, open_house: Any, tmp_path: Path
) -> None:
    index = Index.build(
        pa.table({"text": ["Apples ripen in autumn.", "Pears keep for weeks."]}),
        out=tmp_path / "index",
    )
    house = open_house({"fake": upstream.model()}, contexts={"retrieval": Retrieval(index)})
    upstream.acts = [{"text": "In autumn [1][7]."}]
    messages = [{"role": "user", "content": "When do apples ripen?"}]
    body = house.chat(
        messages=messages, pomona={"context": "retrieval", "strategy": "greedy"}
    ).json()
    assert "Apples ripen in autumn." in upstream.seen[0]["messages"][0]["content"]
    assert body["choices"][0]["message"]["content"].startswith("In autumn [1]")
    assert body["pomona"]["notes"]["retrieval"]["unknown"] == [7]


def test_thought_is_taken_off_the_answer(house: Any, upstream: Any) -> None:
    upstream.acts = [{"text": "First this, then that.\nAnswer: 42"}]
    body = house.chat(pomona={"context": "thought", "strategy": "greedy"}).json()
    assert body["choices"][0]["message"]["content"] == "42"


def test_a_model_whose_own_name_has_an_at_sign(upstream: Any, open_house: Any) -> None:
    house = open_house({"ui-s@20": upstream.model()})
    assert house.chat(model="ui-s@20").status_code == 200
    assert house.chat(model="ui-s@20@greedy").json()["pomona"]["strategy"] == "greedy"


def test_curl(house: Any) -> None:
    body = json.dumps(
        {"model": "fake", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    )
    command = [
        "curl",
        "-sN",
        f"{house.url}/v1/chat/completions",
        "-H",
        "Content-Type: application/json",
        "-d",
        body,
    ]
    lines = (
        subprocess.run(command, capture_output=True, text=True, check=True)
        .stdout.strip()
        .split("\n\n")
    )
    assert lines[-1] == "data: [DONE]"
    texts = [json.loads(line[6:])["choices"][0]["delta"].get("content", "") for line in lines[:-1]]
    assert "".join(texts) == "one two three four"
