"""Wrong requests, failing upstreams, full queues and strangers get errors of the OpenAI shape with
the right status.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import openai
import pytest

from pomona.errors import PomonaError
from pomona.models import RetryPolicy
from pomona.serve import ServeSettings, check_host, parse_size, read_keys, serve

from .conftest import House, Open, Upstream

KEY = "a-key-that-is-long-enough"
SAY: Any = [{"role": "user", "content": "Say something."}]


def _error(found: Any, status: int) -> dict[str, Any]:
    assert found.status_code == status, found.text
    assert found.headers["content-type"] == "application/json"
    error = found.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


@pytest.mark.parametrize(
    ("given", "param", "says"),
    [
        ({"model": 3}, "model", "model must be a string"),
        ({"messages": []}, "messages", "messages has 0 entries"),
        ({"messages": "hi"}, "messages", "messages must be an array"),
        (
            {"messages": [{"role": "king", "content": "x"}]},
            "messages[0].role",
            "must be one of assistant",
        ),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "is missing"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "messages[0].content[0].text",
            "must be a string",
        ),
        ({"temperature": 3}, "temperature", "temperature is 3; it must be from 0 to 2"),
        ({"temperature": True}, "temperature", "temperature must be a number"),
        ({"top_p": 0}, "top_p", "must be above 0 and at most 1"),
        ({"min_p": 1}, "min_p", "it must be from 0 to below 1"),
        ({"n": 0}, "n", "n is 0; it must be from 1 to 128"),
        ({"max_tokens": 1.5}, "max_tokens", "max_tokens must be an integer"),
        ({"stop": [1]}, "stop", "a string or an array of strings"),
        ({"stop": ""}, "stop", "stop holds an empty string"),
        ({"stream": "yes"}, "stream", "stream must be true or false"),
        ({"seed": 10**40}, "seed", "seed is a huge number"),
        ({"tools": [{"type": "function"}]}, "tools[0].function.name", "is missing"),
        ({"pomona": {"strategy": "hedged5-mbx"}}, "pomona.strategy", "there is no part"),
        (
            {"pomona": {"strategy": {"select": "best", "reward": "os:system"}}},
            "pomona.strategy",
            "is code, a pattern or an address",
        ),
        ({"pomona": {"budget": {"tokens": 0}}}, "pomona.budget.tokens", "it must be from 1"),
        ({"pomona": {"colour": 1}}, "pomona.colour", "pomona.colour is not known here"),
        ({"pomona": {"strategy": "greedy"}, "n": 2}, "n", "ask for more samples by its name"),
    ],
)
def test_wrong_fields_are_named(house: House, given: dict[str, Any], param: str, says: str) -> None:
    error = _error(house.chat(**given), 400)
    assert error["param"] == param
    assert says in error["message"]
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"{", "not valid JSON"),
        (b"[]", "not a JSON object"),
        (b'{"temperature": NaN}', "it holds NaN"),
        (b'{"temperature": 1e999}', "1e999 is too large"),
        (b'{"model": "\xff"}', "not valid JSON"),
        (b'{"model": "\\ud800"}', "not valid JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"seed": ' + b"9" * 5000 + b"}", "not valid JSON"),
    ],
)
def test_a_body_that_is_no_json_object(house: House, raw: bytes, says: str) -> None:
    response = house.client.post(
        "/v1/chat/completions", content=raw, headers={"content-type": "application/json"}
    )
    assert says in _error(response, 400)["message"]


def test_forms_are_refused_because_any_page_can_send_them(house: House) -> None:
    response = house.client.post(
        "/v1/chat/completions", content=b"{}", headers={"content-type": "text/plain"}
    )
    assert "Content-Type: application/json" in _error(response, 415)["message"]


def test_a_large_body_is_refused_told_or_not(upstream: Upstream, open_house: Open) -> None:
    house = open_house({"fake": upstream.model()}, max_body=1000)
    assert "larger than 1,000 bytes" in _error(house.chat(user="x" * 1000), 413)["message"]
    parts = (b'{"a": "', *[b"x" * 100] * 20, b'"}')
    response = house.client.post(
        "/v1/chat/completions", content=iter(parts), headers={"content-type": "application/json"}
    )
    _error(response, 413)


def test_unknown_models_paths_and_methods(house: House) -> None:
    error = _error(house.chat(model="fak"), 404)
    assert error["code"] == "model_not_found"
    assert 'did you mean "fake"?' in error["message"]
    assert _error(house.client.get("/v2/chat"), 404)["code"] == "not_found"
    response = house.client.get("/v1/chat/completions")
    assert _error(response, 405)["code"] == "method_not_allowed"
    assert response.headers["allow"] == "POST"
    assert _error(house.chat(model="fake@hedgd5"), 400)["code"] == "unknown_strategy"


@pytest.mark.parametrize(
    ("upstream_status", "status"),
    [(400, 400), (404, 404), (422, 422), (401, 502), (500, 502), (503, 502), (429, 429)],
)
def test_what_the_upstream_refuses(
    house: House, upstream: Upstream, upstream_status: int, status: int
) -> None:
    upstream.acts = [{"status": upstream_status, "message": "because", "code": "its_code"}] * 2
    error = _error(house.chat(), status)
    assert "because" in error["message"]


def test_a_dead_upstream_is_502_and_a_slow_one_504(
    house: House, upstream: Upstream, open_house: Open
) -> None:
    upstream.acts = [{"delay": 5}] * 2
    slow = open_house({"fake": upstream.model(timeout=0.2)})
    assert _error(slow.chat(), 504)["type"] == "timeout_error"
    dead = open_house({"fake": upstream.model(), "dead": _dead()}, timeout=0.2)
    assert _error(dead.chat(model="dead"), 502)["type"] == "server_error"
    assert (
        "check that the server is up"
        in _error(dead.chat(model="dead", stream=True), 502)["message"]
    )
    assert _error(dead.chat(model="dead@hedged5-mbr"), 502)["code"] == "upstream_failed"
    upstream.acts = [{"delay": 5}]
    assert "no answer within 0.2 s" in _error(dead.chat(), 504)["message"]


def _dead() -> Any:
    from pomona.models.http import HttpModel

    return HttpModel("http://127.0.0.1:1/v1#dead", policy=RetryPolicy(attempts=1))


def test_an_upstream_that_wants_a_pause_holds_only_its_own_requests(
    upstream: Upstream, open_house: Open
) -> None:
    patient = RetryPolicy(attempts=3, first=0.01, longest=0.02)
    house = open_house({"held": upstream.model(policy=patient), "free": upstream.model()})
    upstream.acts = [{"status": 429, "headers": {"retry-after": "1"}}]
    ended: list[str] = []

    def ask(name: str) -> None:
        assert house.chat(model=name).status_code == 200
        ended.append(name)

    threads = [threading.Thread(target=ask, args=("held",))]
    threads[0].start()
    while not upstream.seen:
        time.sleep(0.005)
    threads += [
        threading.Thread(target=ask, args=(name,))
        for name in ("held", "held", "free", "free", "free")
    ]
    for thread in threads[1:]:
        thread.start()
    for thread in threads:
        thread.join()
    assert ended == ["free"] * 3 + ["held"] * 3


def test_more_than_the_queue_holds_get_429_and_a_time_to_come_back(
    upstream: Upstream, open_house: Open
) -> None:
    house = open_house({"fake": upstream.model()}, queue=2)
    upstream.acts = [{"delay": 0.6}] * 2
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda: statuses.append(house.chat().status_code)) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    while len(upstream.seen) < 2:
        time.sleep(0.01)
    response = house.chat()
    assert _error(response, 429)["code"] == "queue_full"
    assert int(response.headers["retry-after"]) >= 1
    assert house.client.get("/healthz").status_code == 200
    for thread in threads:
        thread.join()
    assert statuses == [200, 200]
    assert house.chat().status_code == 200
    assert "pomona_requests_refused_total 1" in house.client.get("/metrics").text


def test_keys(upstream: Upstream, open_house: Open) -> None:
    house = open_house({"fake": upstream.model()}, keys=(KEY, "another-key-of-this-server"))
    response = house.chat()
    assert _error(response, 401)["code"] == "invalid_api_key"
    assert response.headers["www-authenticate"] == "Bearer"
    for path in ("/v1/models", "/metrics"):
        _error(house.client.get(path), 401)
    for path in ("/healthz", "/", "/openapi.json"):
        assert house.client.get(path).status_code == 200
    with (
        openai.OpenAI(base_url=f"{house.url}/v1", api_key="wrong", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError),
    ):
        client.models.list()
    with openai.OpenAI(base_url=f"{house.url}/v1", api_key=KEY) as client:
        assert client.models.list().data


def test_without_keys_another_name_for_this_machine_is_refused(house: House) -> None:
    """A page elsewhere that binds its own name to 127.0.0.1 must not get in."""
    assert (
        _error(house.client.get("/v1/models", headers={"host": "evil.example"}), 403)["code"]
        == "host_not_allowed"
    )
    assert _error(
        house.client.get("/v1/models", headers={"host": "localhost.evil.example:80"}), 403
    )
    assert house.client.get("/v1/models", headers={"host": "[::1]:8000"}).status_code == 200


def test_other_machines_need_a_key() -> None:
    with pytest.raises(
        Exception, match=r"0\.0\.0\.0 can be reached from other machines, and there is no API key"
    ):
        check_host("0.0.0.0", ServeSettings())
    check_host("0.0.0.0", ServeSettings(keys=(KEY,)))
    check_host("127.0.0.1", ServeSettings())
    check_host("::1", ServeSettings())


def test_key_files(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# ours\n\n{KEY}\n")
    assert read_keys(file) == (KEY,)
    assert ServeSettings(keys=read_keys(file)).tenant(KEY) == ""
    assert ServeSettings(keys=read_keys(file)).tenant(KEY[:-1]) is None
    file.write_text("short\n")
    with pytest.raises(Exception, match="key 1 is shorter than 16 characters"):
        read_keys(file)
    file.write_text("# nothing\n")
    with pytest.raises(Exception, match="holds no API key"):
        read_keys(file)


@pytest.mark.parametrize(
    ("text", "size"), [("1MB", 1_000_000), ("512 kB", 512_000), ("1MiB", 1 << 20), ("77", 77)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


def test_a_small_budget_still_buys_one_answer(house: House, upstream: Upstream) -> None:
    upstream.acts = [{"text": "first"}]
    body = house.chat(pomona={"strategy": "hedged5-mbr", "budget": {"tokens": 1}}).json()
    assert body["pomona"]["stopped_by"] == "tokens"
    assert len(body["pomona"]["candidates"]) == 1


def test_a_mistake_of_ours_is_a_500_without_its_text(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("pomona.serve.routes.outcome", _broken)
    response = house.chat()
    assert "secret" not in response.text
    assert _error(response, 500)["code"] == "internal_error"
    assert response.headers["x-request-id"] in caplog.text


def test_a_file_of_the_server_that_fails_is_not_the_clients_fault(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pomona.serve.routes.outcome", _full)
    response = house.chat()
    assert "secret" not in response.text
    assert _error(response, 500)["type"] == "server_error"


async def _full(asked: object) -> None:
    raise PomonaError(
        "SQLite says: disk full", where=Path("/secret/store.sqlite"), remedy="make room"
    )


async def _broken(asked: object) -> None:
    raise KeyError("secret")


def test_without_the_extra_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    sentence = (
        r"prometheus_client must be installed to serve models — pip install 'pomona\[serve\]'"
    )
    with pytest.raises(PomonaError, match=sentence):
        serve(model=["ui-xs"])
