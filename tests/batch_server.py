"""A server with OpenAI's files and batches in front of any application that answers requests: over
HTTP on a loopback port, and as unreliable as a test wants it.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


async def shouting(scope: Any, receive: Any, send: Any) -> None:
    """Answers every prompt in capitals; each word is a token."""
    if scope["type"] != "http":
        return
    body = await Request(scope, receive).json()
    text = body["messages"][-1]["content"] if "messages" in body else body["prompt"]
    if "bad" in text:
        error = {"error": {"message": "this prompt is bad", "code": "bad"}}
        await JSONResponse(error, 400)(scope, receive, send)
        return
    said = {"message": {"role": "assistant", "content": text.upper()}, "text": text.upper()}
    choice = {"index": 0, "finish_reason": "stop", **said}
    count = len(text.split())
    usage = {"prompt_tokens": count, "completion_tokens": count, "total_tokens": 2 * count}
    await JSONResponse({"choices": [choice], "usage": usage})(scope, receive, send)


@dataclass
class BatchServer:
    """Batches over `app`. Nothing is answered before `work`, which leaves so many lines of each
    batch out and ends it with such a status; with `at_once` batches are done when they come.
    `acts` of a path such as "POST /v1/batches" are used up one a request: a status, or "lost" where
    the work is done and the answer is not a right one. Paths in `absent` are not there.
    """

    app: Any = shouting
    at_once: bool = False
    acts: dict[str, list[int | str]] = field(default_factory=dict)
    absent: set[str] = field(default_factory=set)
    files: dict[str, bytes] = field(default_factory=dict)
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)
    seen: Counter[str] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)  # lines by their custom_id

    def __post_init__(self) -> None:
        self._routes = Starlette(
            routes=[
                Route("/v1/files", self._upload, methods=["POST"]),
                Route("/v1/files/{file}/content", self._content),
                Route("/v1/batches", self._create, methods=["POST"]),
                Route("/v1/batches", self._list),
                Route("/v1/batches/{batch}", self._state),
                Route("/v1/batches/{batch}/cancel", self._cancel, methods=["POST"]),
            ]
        )
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.base = f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"
        config = uvicorn.Config(self, log_level="critical", ws="none", access_log=False)
        self._server = uvicorn.Server(config)
        run = {"sockets": [self._socket]}
        self._thread = threading.Thread(target=self._server.run, kwargs=run)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.005)

    def as_new(self) -> BatchServer:
        """The same server, with nothing in it."""
        self.app, self.at_once, self.acts, self.absent = shouting, False, {}, set()
        for memory in (self.files, self.batches, self.seen, self.asked):
            memory.clear()
        return self

    def stop(self) -> None:
        """End the server."""
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path = scope.get("path", "")
        if not path.startswith(("/v1/files", "/v1/batches")):
            if scope["type"] == "http":
                self.seen["single"] += 1
            await self.app(scope, receive, send)
            return
        name = f"{scope['method']} {path if path.count('/') < 3 else path.rsplit('/', 1)[0]}"
        name = name if not path.endswith("/content") else "content"
        self.seen[name] += 1
        act = self.acts[name].pop(0) if self.acts.get(name) else None
        if act == "lost":
            await self._routes(scope, receive, _nowhere)
        status = 404 if path in self.absent else 503 if act == "lost" else act
        refused = {"error": {"message": "no"}}
        app: Any = JSONResponse(refused, int(status)) if status else self._routes
        await app(scope, receive, send)

    def work(self, *, leave: int = 0, status: str = "completed") -> None:
        """Answer what came in, all but the last `leave` lines of each batch."""
        asyncio.run(self._work(leave, status))

    async def _work(self, leave: int, status: str) -> None:
        for batch in self.batches.values():
            if batch["status"] == "in_progress":
                await self._run(batch, leave, status)

    async def _run(self, batch: dict[str, Any], leave: int, status: str) -> None:
        lines = [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]
        good, bad = [], []
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://batch") as client:
            for line in lines[: len(lines) - leave]:
                self.asked[line["custom_id"]] += 1
                answer = await client.post(line["url"], json=line["body"])
                response = {"status_code": answer.status_code, "request_id": "r"}
                response["body"] = answer.json()
                told = {"custom_id": line["custom_id"], "response": response, "error": None}
                (good if answer.status_code == 200 else bad).append({"id": "l", **told})
        fault = {"code": f"batch_{status}", "message": f"the batch was {status}"}
        for line in lines[len(lines) - leave :]:
            told = {"custom_id": line["custom_id"], "response": None, "error": fault}
            bad.append({"id": "l", **told})
        batch |= {"status": status, f"{status}_at": 2, "in_progress_at": 1}
        batch["request_counts"] = {"total": len(lines), "completed": len(good), "failed": len(bad)}
        for name, rows in (("output_file_id", good), ("error_file_id", bad)):
            if rows:  # in any order, as the API says
                batch[name] = self._keep(
                    b"".join(json.dumps(row).encode() + b"\n" for row in rows[::-1])
                )

    def _keep(self, content: bytes) -> str:
        name = f"file-{len(self.files)}"
        self.files[name] = content
        return name

    async def _upload(self, request: Request) -> Response:
        async with request.form() as form:
            file: Any = form["file"]
            assert form["purpose"] == "batch"
            content, name = await file.read(), file.filename
        told = {"id": self._keep(content), "object": "file", "bytes": len(content)}
        told |= {"created_at": 0, "filename": name, "purpose": "batch"}
        return JSONResponse({**told, "status": "processed"})

    async def _content(self, request: Request) -> Response:
        content = self.files.get(request.path_params["file"])
        return Response(content) if content is not None else _unknown()

    async def _create(self, request: Request) -> Response:
        body = await request.json()
        batch = {"id": f"batch_{len(self.batches)}", "object": "batch", "created_at": 0}
        batch |= {"status": "in_progress", "output_file_id": None, "error_file_id": None}
        self.batches[str(batch["id"])] = batch = {**batch, **body}
        if self.at_once:
            await self._run(batch, 0, "completed")
        return JSONResponse(batch)

    async def _list(self, request: Request) -> Response:
        names = [*reversed(self.batches)]
        if after := request.query_params.get("after"):
            names = names[names.index(after) + 1 :]
        page = names[:2]  # small, so that there are several
        rows = [self.batches[name] for name in page]
        return JSONResponse({"object": "list", "data": rows, "has_more": len(names) > len(page)})

    async def _state(self, request: Request) -> Response:
        batch = self.batches.get(request.path_params["batch"])
        return JSONResponse(batch) if batch is not None else _unknown()

    async def _cancel(self, request: Request) -> Response:
        batch = self.batches[request.path_params["batch"]]
        await self._run(batch, 1, "cancelled")
        return JSONResponse(batch)


async def _nowhere(message: Any) -> None: ...


def _unknown() -> Response:
    return JSONResponse({"error": {"message": "there is no such thing"}}, 404)
