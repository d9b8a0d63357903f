"""Who may ask from a browser, and what is written down of each request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from pomona.errors import PomonaError
from pomona.serve import serve
from pomona.serve.access import AccessLog
from pomona.serve.settings import ServeSettings

from .conftest import Open, Upstream

OURS, THEIRS = "https://my.page", "https://their.page"
KEYS = ("a-key-that-is-long-enough", "another-that-is-long-enough")


def _preflight(house: httpx.Client, origin: str) -> httpx.Response:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,x-stainless-lang",
    }
    return house.options("/v1/chat/completions", headers=headers)


def test_pages_of_the_origins_that_are_named_may_ask(upstream: Upstream, open_house: Open) -> None:
    house = open_house({"fake": upstream.model()}, cors=(OURS,))
    allowed = _preflight(house.client, OURS)
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == OURS
    assert "x-stainless-lang" in allowed.headers["access-control-allow-headers"]
    assert "access-control-allow-origin" not in _preflight(house.client, THEIRS).headers
    body = {"model": "fake", "messages": [{"role": "user", "content": "Say."}]}
    for origin, told in ((OURS, OURS), (THEIRS, None)):
        answer = house.client.post("/v1/chat/completions", json=body, headers={"Origin": origin})
        assert answer.headers.get("access-control-allow-origin") == told
    refused = house.client.post("/v1/chat/completions", json={}, headers={"Origin": OURS})
    assert refused.status_code == 400  # a page must be able to read why
    assert refused.headers["access-control-allow-origin"] == OURS


def test_without_names_no_page_elsewhere_may(upstream: Upstream, open_house: Open) -> None:
    house = open_house({"fake": upstream.model()})
    assert _preflight(house.client, OURS).status_code == 405


@pytest.mark.parametrize("origin", ["my.page", "https://my.page/", "https://", "https://a b"])
def test_what_is_no_origin_is_told(origin: str) -> None:
    with pytest.raises(PomonaError, match=r"--cors: .* is no origin — write scheme, host and port"):
        ServeSettings(cors=(origin,))


def test_all_origins_need_a_key() -> None:
    with pytest.raises(PomonaError, match="every page in the browser could ask"):
        ServeSettings(cors=("*",))
    assert ServeSettings(cors=("*", "http://[::1]:3000"), keys=KEYS).cors[0] == "*"


def test_each_request_is_a_line_without_its_texts(
    upstream: Upstream, open_house: Open, tmp_path: Path
) -> None:
    log = tmp_path / "access.jsonl"
    for _ in range(2):  # a server that is started again goes on with it
        house = open_house({"fake": upstream.model()}, keys=KEYS, access_log=log)
        known = {"Authorization": f"Bearer {KEYS[1]}"}
        for stream in (False, True):
            body = {"messages": [{"role": "user", "content": "a secret"}], "stream": stream}
            path = "/v1/chat/completions"
            house.client.post(path, json={"model": "fake", **body}, headers=known).read()
        house.client.get("/v1/models/nothing", headers=known)
        house.client.get("/v1/models", headers={"Authorization": "Bearer wrong"})
        house.client.get("/healthz")
        house.stop()
    text = log.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert len(lines) == 8
    for part in ("secret", *KEYS, "wrong", str(upstream.port)):
        assert part not in text
    # A stream's line is written when it has ended, which its client may know before.
    chats = [line for line in lines[:4] if line["method"] == "POST"]
    whole, streamed = sorted(chats, key=lambda line: -line["completion_tokens"])
    missing, refused = sorted((line for line in lines[:4] if line["method"] == "GET"), key=_status)[
        ::-1
    ]
    assert list(whole) == [
        "time", "id", "client", "tenant", "method", "route", "model", "status", "seconds",
        "prompt_tokens", "completion_tokens",
    ]  # fmt: skip
    told = ("method", "route", "model", "status", "prompt_tokens", "completion_tokens")
    chat = ("POST", "/v1/chat/completions", "fake", 200)
    assert tuple(whole[name] for name in told) == (*chat, 7, 5)
    assert tuple(streamed[name] for name in told) == (*chat, 7, 4)
    assert tuple(missing[name] for name in told) == ("GET", "/v1/models", None, 404, None, None)
    assert (refused["status"], refused["tenant"], refused["client"]) == (401, None, "127.0.0.1")
    assert whole["tenant"] == missing["tenant"] and len(whole["tenant"]) == 12
    assert whole["id"].startswith("req_") and 0 <= whole["seconds"] < 20


def _status(line: dict[str, Any]) -> int:
    return line["status"]


def test_a_file_of_something_else_stays(tmp_path: Path) -> None:
    thesis = tmp_path / "thesis.txt"
    thesis.write_text("My thesis")
    with pytest.raises(PomonaError, match=r"thesis.txt: is no access log of Pomona — name another"):
        AccessLog(thesis)
    assert thesis.read_text() == "My thesis"
    with pytest.raises(PomonaError, match="is no file — name a file, or - for stderr"):
        AccessLog(tmp_path)
    with pytest.raises(PomonaError, match=r"cannot be written: .* — name a file in a folder"):
        AccessLog(tmp_path / "none/access.jsonl")


@pytest.mark.parametrize("other", ["store", "feedback", "api_key_file"])
def test_the_log_is_no_other_file_of_the_server(tmp_path: Path, other: str) -> None:
    file = tmp_path / "one.file"
    file.write_text(KEYS[0])
    with pytest.raises(PomonaError, match="write the access log to another path"):
        serve(model=["ui-xs"], port=0, access_log=file, **{other: file})
    assert file.read_text() == KEYS[0]


def test_a_full_disk_is_told_once_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    log = AccessLog(tmp_path / "access.jsonl")
    handler: Any = log._handler
    handler.stream.close()
    handler.stream = open("/dev/full", "w")  # noqa: SIM115, PTH123 (the handler closes it)
    for _ in range(3):
        log.add({"status": 200})
    log.close()
    assert [record.getMessage() for record in caplog.records] == [
        "the access log cannot be written: [Errno 28] No space left on device"
    ]
