"""The server never stands still: slow and silent clients, full queues, a held store, much feedback
and long prompts keep nobody else waiting.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from pomona.answers import CachedModel
from pomona.models import Model
from pomona.sample.context import Feedback
from pomona.web import BackgroundServer, listening

from .conftest import House, Open, Upstream

HEAD = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    b"content-length: 5000\r\n\r\n{"
)


def _opened(port: int, first: bytes) -> socket.socket:
    opened = socket.create_connection(("127.0.0.1", port), timeout=10)
    opened.sendall(first)
    return opened


def test_who_sends_slowly_takes_no_place(upstream: Upstream, open_house: Open) -> None:
    house = open_house({"fake": upstream.model()}, queue=2)
    slow = [_opened(house.port, HEAD) for _ in range(5)]
    assert house.chat().status_code == 200
    assert "pomona_requests_in_flight 0" in house.client.get("/metrics").text
    for one in slow:
        one.close()


def test_a_full_queue_of_one_model_keeps_nobody_from_another(
    upstream: Upstream, open_house: Open
) -> None:
    house = open_house({"held": upstream.model(), "free": upstream.model()}, queue=2)
    upstream.acts = [{"delay": 1.0}] * 2
    threads = [threading.Thread(target=house.chat, kwargs={"model": "held"}) for _ in range(2)]
    for thread in threads:
        thread.start()
    while len(upstream.seen) < 2:
        time.sleep(0.01)
    assert house.chat(model="held").status_code == 429
    assert house.chat(model="free").status_code == 200
    for thread in threads:
        thread.join()


def test_a_head_that_never_ends_is_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pomona.web.server._HEAD", 0.3)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise RuntimeError
        await asyncio.sleep(0.5)  # longer than a head may take
        start = {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-length", b"2")],
        }
        await send(start)
        await send({"type": "http.response.body", "body": b"ok"})

    server = BackgroundServer(app, listening("127.0.0.1", 0))
    try:
        half = _opened(server.port, b"GET / HTTP/1.1\r\nhost: x\r\nx: ")
        silent = _opened(server.port, b"")
        whole = _opened(server.port, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b"408 Request Timeout" in half.recv(1000)
        assert b"408 Request Timeout" in silent.recv(1000)
        assert b"200 OK" in whole.recv(1000)
        time.sleep(0.1)
        whole.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n")  # a second head, which does not end either
        answer = whole.recv(1000)
        assert b"408" in (answer if answer != b"ok" else whole.recv(1000))
        endless = _opened(server.port, b"GET / HTTP/1.1\r\nx: " + b"x" * 70_000)
        assert b"431 Request Header Fields Too Large" in endless.recv(1000)
        for one in (half, silent, whole, endless):
            one.close()
    finally:
        server.close()


def test_a_body_that_comes_after_its_answer_is_no_head() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise RuntimeError
        headers = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 415, "headers": headers})
        await send({"type": "http.response.body", "body": b"no"})

    server = BackgroundServer(app, listening("127.0.0.1", 0))
    size = 1 << 18
    try:
        late = _opened(server.port, f"POST / HTTP/1.1\r\ncontent-length: {size}\r\n\r\n".encode())
        for _ in range(2):
            answer = b""
            while not answer.endswith(b"no"):
                answer += late.recv(1000)
            assert answer.count(b"HTTP/1.1") == 1 and b"415" in answer
            late.sendall(b"x" * size)  # answered already
            late.sendall(f"POST / HTTP/1.1\r\ncontent-length: {size}\r\n\r\n".encode())
        late.close()
    finally:
        server.close()


def test_a_store_that_another_process_holds_stops_nobody_else(
    upstream: Upstream, open_house: Open, tmp_path: Path
) -> None:
    kept = CachedModel(upstream.model(), tmp_path / "store.sqlite")
    house = open_house({"kept": kept, "free": upstream.model()})
    holder = sqlite3.connect(tmp_path / "store.sqlite", isolation_level=None)
    holder.execute("begin immediate")
    given: list[Any] = []
    asking = threading.Thread(target=lambda: given.append(house.chat(model="kept", seed=1)))
    asking.start()
    while not upstream.seen:
        time.sleep(0.01)
    time.sleep(0.1)
    assert _seconds(house) < 1
    assert house.chat(model="free").status_code == 200
    assert not given  # what nobody could keep is not told either
    holder.execute("commit")
    asking.join()
    assert given[0].status_code == 200
    assert house.chat(model="kept", seed=1).json()["choices"] == given[0].json()["choices"]
    holder.close()


def test_much_feedback_is_looked_through_beside_and_within_a_limit(
    upstream: Upstream, open_house: Open, tmp_path: Path
) -> None:
    path = tmp_path / "feedback.sqlite"
    memory = Feedback(path)
    row = ("a prompt of some words", "chosen", "edited", 1.0)
    with memory._file.writing() as file:
        columns = "(prompt, chosen, edited, time)"
        file.executemany(f"insert into said {columns} values (?, ?, ?, ?)", [row] * 10_000)
    assert len(memory.rows(latest=3)) == 3
    assert [one.id for one in memory.rows(latest=3)] == [9998, 9999, 10_000]
    assert len(memory.similar(row[0], 20_000)) == 2000
    memory.close()
    house = open_house({"fake": upstream.model()}, feedback=path, queue=1)
    found = house.chat(pomona={"context": "memory"}).json()
    assert found["pomona"]["notes"]["memory"]["examples"] == []
    long = {"prompt": "x" * 100_001, "chosen": "y"}
    refused = house.client.post("/v1/feedback", json=long)
    assert refused.status_code == 400
    assert "prompt has 100,001 characters; at most 100,000 are kept" in refused.text


def test_a_long_prompt_is_counted_beside(tiny: Model, open_house: Open) -> None:
    house = open_house({"ui": tiny})
    given: list[Any] = []
    text = "Many words that nobody needs. " * 30_000
    said = [{"role": "user", "content": text}]
    asking = threading.Thread(target=lambda: given.append(house.chat(model="ui", messages=said)))
    asking.start()
    slowest = 0.0
    while asking.is_alive():
        slowest = max(slowest, _seconds(house))
    assert given[0].status_code == 400
    assert given[0].json()["error"]["code"] == "context_length_exceeded"
    assert slowest < 1


def _seconds(house: House) -> float:
    started = time.monotonic()
    assert house.client.get("/healthz").status_code == 200
    return time.monotonic() - started


def test_a_long_body_that_is_no_json_keeps_nobody_waiting(house: House) -> None:
    raw = b"[" + b"1.5," * 200_000 + b"NaN]"
    headers = {"content-type": "application/json"}
    given: list[Any] = []

    def ask() -> None:
        post = house.client.post("/v1/chat/completions", content=raw, headers=headers)
        given.append(post)

    asking = threading.Thread(target=ask)
    asking.start()
    slowest = 0.0
    while asking.is_alive():
        slowest = max(slowest, _seconds(house))
    assert given[0].status_code == 400
    assert "it holds NaN" in given[0].text
    assert slowest < 1


def test_a_budget_of_seconds_holds_and_the_result_says_so(house: House, upstream: Upstream) -> None:
    upstream.acts = [{}, {"delay": 20}]
    started = time.monotonic()
    found = house.chat(pomona={"strategy": "hedged5-mbr", "budget": {"seconds": 0.5}}).json()
    assert time.monotonic() - started < 5
    assert found["pomona"]["stopped_by"] == "seconds"
    assert 1 <= len(found["pomona"]["candidates"]) < 5
    upstream.acts = [{"delay": 20}] * 2
    refused = house.chat(pomona={"strategy": "hedged5-mbr", "budget": {"seconds": 0.3}})
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "budget_spent"


def test_embeddings_are_written_row_by_row(house: House) -> None:
    body = {"model": "fake", "input": ["a", "b"]}
    found = house.client.post("/v1/embeddings", json=body)
    assert json.loads(found.content)["data"][1]["embedding"] == pytest.approx([0.6, 0.8])


def test_a_file_held_for_too_long_is_told_as_that(
    upstream: Upstream, open_house: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pomona.db._PATIENCE", 0.05)
    kept = CachedModel(upstream.model(), tmp_path / "store.sqlite")
    house = open_house({"kept": kept}, feedback=tmp_path / "said.sqlite")
    said = {"prompt": "x", "chosen": "y"}
    holders = []
    for name in ("store.sqlite", "said.sqlite"):
        holders.append(sqlite3.connect(tmp_path / name, isolation_level=None))
        holders[-1].execute("begin immediate")
    for answer in (house.client.post("/v1/feedback", json=said), house.chat(model="kept", seed=1)):
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "10"
        assert answer.json()["error"]["code"] == "file_held"
        assert str(tmp_path) not in answer.text
    for holder in holders:
        holder.close()
    assert house.client.post("/v1/feedback", json=said).status_code == 200


def test_slow_bodies_together_take_no_more_than_so_much(
    upstream: Upstream, open_house: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pomona.web.body._MOST", 4000)
    house = open_house({"fake": upstream.model()}, max_body=1000)
    head = HEAD.replace(b"5000", b"1000")
    slow = [_opened(house.port, head + b" " * 900) for _ in range(5)]
    assert b"408" in slow[0].recv(1000)  # the first, for the last
    assert house.chat().status_code == 200
    slow[4].setblocking(False)
    with pytest.raises(BlockingIOError):
        slow[4].recv(1000)
    for one in slow:
        one.close()
