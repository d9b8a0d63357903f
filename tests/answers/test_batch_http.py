"""A batch over a real server that fails now and then."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pomona.answers import Budget
from pomona.errors import ResourceError
from pomona.models import RetryPolicy, Sampling
from pomona.models.http import HttpModel
from pomona.records import read
from pomona.sample import answer_all


class Server(BaseHTTPRequestHandler):
    """Answers with prompt and seed, one choice fewer than asked now and then; fails every ninth
    request.
    """

    protocol_version = "HTTP/1.1"
    lock = threading.Lock()
    asked = 0
    served: list[str]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.lock:
            type(self).asked += 1
            turn = self.asked
        if "999" in body.get("logit_bias", {}):
            said = "token_id(s) [999] in logit_bias contain out-of-vocab token ids"
            self._send(400, {"error": {"message": said, "param": None, "code": 400}})
            return
        if turn % 9 == 4:
            self._send(429 if turn % 2 else 500, {"error": {"message": "busy"}})
            return
        count = max(1, body.get("n", 1) - (turn % 5 == 0))
        texts = [
            f"{body['messages'][-1]['content']}/{body['temperature']}/{body['seed']}/{at}"
            for at in range(count)
        ]
        with self.lock:
            self.served.extend(texts)
        choices = [
            {"index": at, "message": {"content": text}, "finish_reason": "stop"}
            for at, text in enumerate(texts)
        ]
        self._send(
            200,
            {"choices": choices, "usage": {"prompt_tokens": 10, "completion_tokens": 5 * count}},
        )

    def _send(self, status: int, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.send_header("retry-after", "0")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def uri() -> Iterator[str]:
    Server.asked, Server.served = 0, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1#m"
    server.shutdown()
    server.server_close()
    thread.join()


TABLE = pa.table({"prompt": [f"p{at}" for at in range(24)]})


def test_nothing_is_lost_or_asked_twice(uri: str, tmp_path: Path) -> None:
    out = tmp_path / "o.jsonl"
    card = answer_all(
        TABLE,
        out,
        model=uri,
        judge=uri,
        strategy="hedged4-mbr",
        max_tokens=8,
        settings={"price": (1e6, 1e6)},
    )
    rows = read(out).to_table().to_pylist()
    assert [row["error"] for row in rows] == [None] * 24
    for row in rows:
        assert len(row["candidates"]) == 4
        assert all(text.startswith(f"{row['prompt']}/") for text in row["candidates"])
        assert row["candidates"][0].split("/")[1] == "0.0"
        assert len(set(row["candidates"])) == 4
    assert sorted(Server.served) == sorted(text for row in rows for text in row["candidates"])
    assert (
        card.details["spent"]["money"]
        == card.details["paid"]["money"]
        == sum(row["money"] for row in rows)
        > 24 * (10 + 20)
    )


def test_what_is_refused_for_every_row_is_asked_for_once(uri: str, tmp_path: Path) -> None:
    how: dict[str, Any] = {"model": uri, "strategy": "greedy", "concurrency": 1}
    text = (
        r'^the table: "logit_bias" would be refused for every row: refused with status 400: token_id.* '
        r"— change it, and run again: 0 of 24 rows are answered and kept in "
    )
    with pytest.raises(ResourceError, match=text):
        answer_all(TABLE, tmp_path / "o.jsonl", sampling=Sampling(logit_bias={999: 1.0}), **how)
    assert Server.asked == 1 and not (tmp_path / "o.jsonl").exists()


def test_money_ends_it_within_one_sample(uri: str, tmp_path: Path) -> None:
    out, budget = tmp_path / "o.jsonl", Budget(money=300)
    options = {
        "model": uri,
        "strategy": "hedged4-mbr",
        "max_tokens": 8,
        "settings": {"price": (1e6, 1e6)},
    }
    card = answer_all(TABLE, out, budget=budget, **options)
    assert 300 <= card.details["spent"]["money"] < 315
    assert card.details["stopped_by"]["money"] > 10


LIES: list[dict[str, Any]] = [
    {"message": "hi"},
    {"message": {"content": 42}},
    {"message": {"content": None, "refusal": "I may not."}},
    {"message": {"content": "half"}, "finish_reason": {"type": "stop"}},
    {"message": {"content": "cut"}, "finish_reason": "content_filter"},
]


def test_a_batch_goes_on_past_lies_and_counts_no_refusal(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def post(self: Server) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        number = int(body["messages"][-1]["content"][1:])
        lie = LIES[number // 2] if number % 2 and number < 10 else {"message": {"content": "ok"}}
        usage = {"prompt_tokens": 10, "completion_tokens": 5}
        self._send(200, {"choices": [{"finish_reason": "stop", **lie}], "usage": usage})

    monkeypatch.setattr(Server, "do_POST", post)
    out = tmp_path / "o.jsonl"
    card = answer_all(TABLE, out, model=uri, strategy="greedy", max_tokens=8, concurrency=1)
    rows = read(out).to_table().to_pylist()
    errors = {at: row["error"] for at, row in enumerate(rows) if row["error"]}
    assert sorted(errors) == [1, 3, 5, 7, 9]
    assert 'message must be an object, not "hi"' in errors[1]
    assert "message.content must be text, not 42" in errors[3]
    assert errors[5] == "the model refused: I may not."
    assert "finish_reason must be text" in errors[7]
    assert errors[9] == "a content filter took the answer away"
    assert (rows[5]["answer"], rows[5]["tokens"]) == (None, 15)  # paid for all the same
    assert (card.details["answered"], card.details["failed"]) == (19, 5)


def test_a_server_that_dies_is_given_up_at_once_and_what_it_answered_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[str] = []
    monkeypatch.setattr(Server, "served", served, raising=False)
    monkeypatch.setattr(Server, "asked", 9)  # the next to fail is the fourth
    table = pa.table({"prompt": [f"q{at}" for at in range(10)]})
    out, quick = tmp_path / "o.jsonl", RetryPolicy(attempts=3, first=0.001, longest=0.002)

    def answered(server: ThreadingHTTPServer, most: int | None) -> Any:
        """Answers until so many requests were made of the server, which then is no more."""
        uri = f"http://127.0.0.1:{server.server_address[1]}/v1#m"
        model = HttpModel(uri, policy=quick)
        stop = lambda done, _total: server.server_close() if done == most else None  # noqa: E731
        how: dict[str, Any] = {"strategy": "greedy", "concurrency": 1, "progress": stop}
        return answer_all(table, out, model=model, **how)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = server.server_address[1]
    monkeypatch.setattr(Server, "protocol_version", "HTTP/1.0")  # a connection for each request
    text = (
        rf"http:http://127.0.0.1:{port}/v1#m cannot be reached: .* — start it, or wait for one that "
        r"is starting \(--wait-for-server SECONDS\); run the same command again when the model "
        r"answers: 3 of 10 rows are answered and kept in "
    )
    with pytest.raises(ResourceError, match=text):
        answered(server, 3)
    server.shutdown()
    assert not out.exists() and len(served) == 3
    again = ThreadingHTTPServer(("127.0.0.1", port), Server)
    threading.Thread(target=again.serve_forever, daemon=True).start()
    try:
        card = answered(again, None)
    finally:
        again.shutdown()
        again.server_close()
    assert card.details["answered"] == 10 and len(served) == 10
