"""Batches: submitted once and collected once, whatever fails or dies in between, into the store and
under the keys of single requests.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse
from tests.batch_server import BatchServer, shouting

from pomona.answers import Account, Budget, CachedModel, Exhausted, Fetched, InBatches, Submitted
from pomona.errors import PomonaError
from pomona.models import BatchTerms, ModelError, Request, RetryPolicy
from pomona.models.http import HttpBatches, HttpModel, NoBatches, Single, client

QUICK = RetryPolicy(attempts=3, first=0.001, longest=0.002)


@pytest.fixture(scope="module")
def _server() -> Iterator[BatchServer]:
    server = BatchServer()
    yield server
    server.stop()


@pytest.fixture
def server(_server: BatchServer) -> BatchServer:
    return _server.as_new()


def asks(count: int, word: str = "word") -> list[Single]:
    return [
        (Request(messages=({"role": "user", "content": f"{word} {at}"},), max_tokens=4), (0, 0.0))
        for at in range(count)
    ]


class Run:
    """One process: the model, its store, and what is asked of them."""

    def __init__(self, server: BatchServer, store: Path, **terms: Any) -> None:
        self._base, self._store, self._terms = server.base, store, terms

    def __call__(
        self, wanted: Sequence[Single], budget: Budget | None = None, **how: Any
    ) -> Fetched:
        return asyncio.run(self._fetch(wanted, budget, how))

    async def _fetch(
        self, wanted: Sequence[Single], budget: Budget | None, how: dict[str, Any]
    ) -> Fetched:
        model = self._open()
        try:
            return await model.fetch(wanted, Account(budget), **how)
        finally:
            await model.close()

    def _open(self) -> InBatches:
        settings: dict[str, Any] = {"policy": QUICK, "batches": BatchTerms(**self._terms)}
        return InBatches(HttpModel(f"{self._base}#m", price=(2.0, 2.0), **settings), self._store)

    def texts(self, wanted: Sequence[Single]) -> list[str]:
        """The answers, from the store or else asked for singly."""

        async def read() -> list[str]:
            model = CachedModel(HttpModel(f"{self._base}#m", policy=QUICK), self._store)
            replies = [(await model.reply(request, [draw]))[0] for request, draw in wanted]
            await model.close()
            return [reply.text for reply in replies]

        return asyncio.run(read())


@pytest.fixture
def run(server: BatchServer, tmp_path: Path) -> Run:
    return Run(server, tmp_path / "kept.db", price=(1.0, 1.0))


def submit(run: Run, wanted: Sequence[Single], **how: Any) -> Submitted:
    with pytest.raises(Submitted) as caught:
        run(wanted, **how)
    return caught.value


def test_what_is_submitted_is_collected_once_and_asked_never_again(
    server: BatchServer, run: Run
) -> None:
    plain = (Request(prompt="plain", max_tokens=4), (1, 0.5))
    wanted = [*asks(4), plain]
    left = submit(run, wanted)
    assert (left.requests, left.batches, left.exit_code) == (5, ("batch_0", "batch_1"), 75)
    assert "5 requests are under way in 2 batches (batch_0, batch_1; in_progress)" in str(
        submit(run, wanted)
    )
    server.work()
    got = run(wanted)
    assert (got.errors, got.fresh) == ([None] * 5, 5)
    assert run(wanted).fresh == 0
    assert run.texts(wanted) == [*(f"WORD {at}" for at in range(4)), "PLAIN"]
    assert server.seen["single"] == 0 and set(server.asked.values()) == {1}
    assert server.seen["POST /v1/batches"] == 2


def test_half_a_character_in_a_result_is_not_asked_for_again(server: BatchServer, run: Run) -> None:
    wanted = asks(2)
    submit(run, wanted)
    server.work()
    server.files = {
        name: text.replace(b"WORD 1", rb"A\ud83d") for name, text in server.files.items()
    }
    assert run(wanted).errors == [None, None]
    assert run.texts(wanted) == ["WORD 0", "A\ufffd"]


def test_a_line_without_end_takes_no_other_along(
    server: BatchServer, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_MOST_EVENT", 4096)
    wanted = asks(3)
    submit(run, wanted)
    server.work()
    server.files = {
        name: text.replace(b"WORD 1", b"WORD " * 5000) for name, text in server.files.items()
    }
    assert submit(run, wanted).requests == 1  # of which there is no result
    assert run.texts([wanted[0], wanted[2]]) == ["WORD 0", "WORD 2"]
    server.work()
    assert run(wanted).errors == [None] * 3
    assert run.texts(wanted) == ["WORD 0", "WORD 1", "WORD 2"]


def test_a_batch_has_its_own_price(server: BatchServer, run: Run, tmp_path: Path) -> None:
    server.at_once = True

    async def money(model: CachedModel) -> float:
        request, draw = asks(1)[0]
        try:
            return (await model.reply(request, [draw]))[0].spent.money
        finally:
            await model.close()

    run(asks(1), wait=9)
    assert asyncio.run(money(run._open())) == pytest.approx(4e-6)
    single = CachedModel(HttpModel(f"{server.base}#m", price=(2.0, 2.0)), tmp_path / "other.db")
    assert asyncio.run(money(single)) == pytest.approx(8e-6)


def test_files_are_as_long_as_the_server_takes_them(server: BatchServer, tmp_path: Path) -> None:
    submit(Run(server, tmp_path / "a.db", requests=3), asks(7))
    assert [len(file.splitlines()) for file in server.files.values()] == [3, 3, 1]
    server.files.clear()
    submit(Run(server, tmp_path / "b.db", bytes=500), asks(7))
    assert sum(len(file.splitlines()) for file in server.files.values()) == 7
    assert all(len(file) <= 500 for file in server.files.values()) and len(server.files) > 2


def _particular(refuses: str, says: str) -> Any:
    """A server that refuses a field by its name, then seeds, and some texts for ever."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        content = await HttpRequest(scope, receive).body()
        body = json.loads(content)
        field = next((name for name in (refuses, "seed") if name in body), None)

        async def again() -> Any:
            return {"type": "http.request", "body": content}

        if field is None:
            await shouting(scope, again, send)
            return
        error = {"error": {"message": says.format(field), "code": "unsupported_parameter"}}
        await JSONResponse(error, 400)(scope, again, send)

    return app


@pytest.mark.parametrize("others", [False, True])
def test_fields_that_a_server_refuses_are_asked_otherwise_by_whoever_collects_them(
    server: BatchServer, run: Run, others: bool
) -> None:
    server.app = _particular("max_tokens", "Unsupported parameter: '{}' is not supported here.")
    wanted = [*asks(3), *asks(1, "bad")]
    submit(run, wanted)
    server.work()
    if others:  # another call collects them, and dies before it submits anything
        run(asks(1, "other"), submit=False)
    # Each command is a process of its own: what the one before learnt is in the store.
    for batches in (2, 3):
        assert submit(run, wanted).requests == 4
        assert server.seen["POST /v1/batches"] == batches
        server.work()
    got = run(wanted)
    assert got.errors[:3] == [None] * 3 and got.fresh == 3
    assert isinstance(got.errors[3], ModelError) and "this prompt is bad" in str(got.errors[3])
    assert set(server.asked.values()) == {3}
    lines = [json.loads(line)["body"] for line in server.files["file-0"].splitlines()]
    assert all("max_tokens" in body for body in lines)
    uploaded = [file for file in server.files.values() if b'"custom_id":"' in file]
    last = json.loads(uploaded[-1].splitlines()[0])["body"]
    assert last["max_completion_tokens"] == 4 and not {"max_tokens", "seed"} & last.keys()
    assert run.texts(wanted[:3]) == [f"WORD {at}" for at in range(3)]
    # Nothing waits any more: the next rows are asked as any server is.
    submit(run, asks(1, "new"))
    assert b'"max_tokens"' in [*server.files.values()][-1]


def test_a_server_that_refuses_for_ever_is_given_up(server: BatchServer, run: Run) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        error = {"error": {"message": "max_tokens and seed are not supported"}}
        await JSONResponse(error, 400)(scope, receive, send)

    server.app, server.at_once = app, True
    (error,) = run(asks(1), wait=9).errors
    assert "has no answer after 5 batches, the last time: refused with status 400" in str(error)
    assert server.seen["POST /v1/batches"] == 5


def test_a_field_of_the_callers_own_is_never_left_out(server: BatchServer, run: Run) -> None:
    server.app, server.at_once = _particular("top_k", "{} was unexpected"), True
    request, draw = asks(1)[0]
    (error,) = run([(replace(request, extra={"seed": 5}), draw)], wait=9).errors
    assert isinstance(error, ModelError) and "seed was unexpected" in str(error)
    assert server.seen["POST /v1/batches"] == 1


def test_a_batch_that_is_refused_for_a_field_is_made_again(server: BatchServer, run: Run) -> None:
    submit(run, asks(2))
    message = "Line 1: unrecognized parameter max_tokens"
    server.batches["batch_0"] |= {"status": "failed", "errors": {"data": [{"message": message}]}}
    assert submit(run, asks(2)).batches == ("batch_1",)
    server.work()
    assert run(asks(2)).errors == [None, None]


def test_rows_that_are_refused_fail_and_the_others_are_there(server: BatchServer, run: Run) -> None:
    wanted = [*asks(2), *asks(1, "bad")]
    submit(run, wanted)
    server.work()
    errors = run(wanted).errors
    assert errors[:2] == [None, None]
    assert isinstance(errors[2], ModelError) and errors[2].status == 400
    assert "refused with status 400: this prompt is bad" in str(errors[2])


def test_what_expired_is_submitted_again_and_in_the_end_is_an_error(
    server: BatchServer, run: Run
) -> None:
    wanted = asks(3)
    submit(run, wanted)
    server.work(leave=1, status="expired")
    assert submit(run, wanted).requests == 1
    server.work(leave=1, status="expired")
    submit(run, wanted)
    server.work(leave=1, status="expired")
    errors = run(wanted).errors
    assert errors[:2] == [None, None] and server.seen["POST /v1/batches"] == 3
    assert "has no answer after 3 batches, the last time: the batch was expired" in str(errors[2])


def test_what_was_cancelled_is_not_submitted_again_by_itself(server: BatchServer, run: Run) -> None:
    wanted = asks(3)
    submit(run, wanted)
    with openai.OpenAI(base_url=server.base, api_key="none") as client:
        assert client.batches.cancel("batch_0").status == "cancelled"
    errors = run(wanted).errors
    assert errors[:2] == [None, None] and "the batch was cancelled" in str(errors[2])
    assert server.seen["POST /v1/batches"] == 1
    assert submit(run, wanted).requests == 1


def test_a_batch_that_failed_says_why(server: BatchServer, run: Run) -> None:
    submit(run, asks(2))
    errors = {"data": [{"code": "token_limit", "message": "too many tokens are waiting"}]}
    server.batches["batch_0"] |= {"status": "failed", "errors": errors}
    assert "batch batch_0: too many tokens are waiting" in str(run(asks(2)).errors[0])
    submit(run, asks(2))
    server.batches.clear()
    assert "does not know it any more" in str(run(asks(2)).errors[1])


def test_the_answer_to_a_submission_may_be_lost(server: BatchServer, run: Run) -> None:
    server.acts = {
        "POST /v1/files": [500],
        "POST /v1/batches": ["lost"],
        "GET /v1/batches": [503],
        "content": [503, 429],
    }
    wanted = asks(3)
    assert submit(run, wanted).batches == ("batch_0",)
    server.work()
    assert run(wanted).errors == [None] * 3 and len(server.batches) == 1


class Killed(BaseException): ...


@pytest.mark.parametrize("at", ["upload", "submit", "confirmed", "kept"])
def test_whatever_dies_nothing_is_submitted_twice(
    server: BatchServer, run: Run, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    others, wanted = asks(3, "other"), asks(4)
    for each in others:  # batches that the list has before ours
        submit(run, [each])

    def dies(owner: Any, name: str, before: bool) -> None:
        kept = getattr(owner, name)

        async def dying(*args: Any, **named: Any) -> None:
            if not before:
                await kept(*args, **named)
            raise Killed

        monkeypatch.setattr(owner, name, dying)

    with monkeypatch.context():
        places = {"upload": (HttpBatches, "upload", True), "submit": (HttpBatches, "submit", True)}
        places |= {"confirmed": (HttpBatches, "submit", False)}
        if at == "kept":
            submit(run, wanted)
            server.work()
            places |= {"kept": (InBatches, "_take_in", False)}
        dies(*places[at])
        with pytest.raises(Killed):
            run(wanted)
        monkeypatch.undo()
    if at != "kept":
        assert submit(run, wanted).requests == 4
        server.work()
    assert run(wanted).errors == [None] * 4
    assert len(server.batches) == 4 and set(server.asked.values()) == {1}
    assert run(others).fresh <= 3 and run.texts(others) == ["OTHER 0", "OTHER 1", "OTHER 2"]
    assert server.seen["single"] == 0


def test_a_budget_is_reserved_before_anything_is_submitted(server: BatchServer, run: Run) -> None:
    wanted, rounds = asks(12), []
    budget = Budget(tokens=70)  # a request takes 54 at its most, and 4 in the end
    while True:
        try:
            got = run(wanted, budget)
            break
        except Submitted as more:
            rounds.append(more.requests)
        server.work()
    assert rounds == [1] * 5 and got.errors[:5] == [None] * 5
    assert [str(error) for error in got.errors[5:]] == ["tokens"] * 7
    assert all(isinstance(error, Exhausted) for error in got.errors[5:])


def test_no_batches_is_not_a_failing_server(
    server: BatchServer, run: Run, tmp_path: Path, fake: Any
) -> None:
    for path in ("/v1/files", "/v1/batches"):
        server.absent = {path}
        with pytest.raises(NoBatches, match=r"has no batches \(status 404\) — ask it one request"):
            run(asks(2))
    server.absent, server.acts = set(), {"POST /v1/files": [500] * 3}
    assert "failed 3 times" in str(run(asks(2)).errors[0])
    assert submit(run, asks(2)).batches == ("batch_0",)
    server.acts = {"GET /v1/batches": [500] * 3}
    assert "the server does not answer now" in str(submit(run, asks(2)))
    with pytest.raises(PomonaError, match='fake: cannot "batches" — use a model behind a server'):
        InBatches(fake(), tmp_path / "local.db")


def test_waiting_collects_and_without_submission_only_what_is_there(
    server: BatchServer, run: Run
) -> None:
    submit(run, asks(2))
    assert submit(run, asks(4), submit=False).requests == 2
    server.at_once = True
    server.work()
    assert run(asks(4), submit=False).fresh == 2 and len(server.batches) == 1
    assert run(asks(4), wait=9).fresh == 2


def test_what_another_call_collected_is_told_to_the_one_that_asked(
    server: BatchServer, run: Run
) -> None:
    submit(run, asks(2, "bad"))
    submit(run, asks(2))
    server.work()
    assert run(asks(2)).errors == [None, None]
    assert "this prompt is bad" in str(run(asks(2, "bad")).errors[1])
    assert server.seen["POST /v1/batches"] == 2
    assert submit(run, asks(1, "bad")).batches == ("batch_2",)


def test_teachers_of_one_model_take_turns(server: BatchServer, run: Run) -> None:
    server.at_once = True

    async def both() -> list[Fetched]:
        some, others = asks(2), asks(2, "other")
        work = [run._fetch(wanted, None, {"wait": 9.0}) for wanted in (some, others)]
        return list(await asyncio.gather(*work))

    assert [got.fresh for got in asyncio.run(both())] == [2, 2]


def test_the_server_of_these_tests_is_what_the_official_client_takes_it_for(
    server: BatchServer,
) -> None:
    line = b'{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"model":"m",'
    line += b'"messages":[{"role":"user","content":"hello"}]}}'
    with openai.OpenAI(base_url=server.base, api_key="none", max_retries=0) as client:
        file = client.files.create(file=("in.jsonl", line), purpose="batch")
        batch = client.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        server.work()
        batch = client.batches.retrieve(batch.id)
        assert batch.output_file_id and batch.request_counts and batch.request_counts.completed == 1
        assert '"HELLO"' in client.files.content(batch.output_file_id).text
        assert [each.id for each in client.batches.list()] == ["batch_0"]
