"""A server that takes no connections: looked for once for all that is asked of it, and given up."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import pytest

from pomona.models import ReplyPiece, Request, RetryPolicy, TransientError, Unreachable
from pomona.models.concurrency import Presence
from pomona.models.http import HttpModel

QUICK = RetryPolicy(attempts=4, first=0.001, longest=0.002)
ASK = Request(messages=({"role": "user", "content": "hi"},))


def _closed() -> int:
    """A port at which nobody listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Asked:
    """Refuses connections `down` times, and counts."""

    def __init__(self, down: float) -> None:
        self.down, self.looks, self.calls = down, 0, 0

    async def look(self) -> None:
        self.looks += 1
        self._refuse()

    async def once(self) -> str:
        self.calls += 1
        await asyncio.sleep(0)
        self._refuse()
        return "there"

    def _refuse(self) -> None:
        self.down -= 1
        if self.down >= 0:
            raise TransientError("refused", refused=True)


def test_all_requests_wait_for_one_look_and_fail_together() -> None:
    async def main() -> None:
        server = Asked(float("inf"))
        presence = Presence(server.look, QUICK, "here")
        asked = [presence.asked(server.once) for _ in range(8)]
        failures = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(one, Unreachable) for one in failures)
        assert (server.calls, server.looks) == (8, QUICK.attempts - 1)
        text = "here: cannot be reached: refused — check that the server is up and healthy"
        with pytest.raises(Unreachable, match=text) as caught:  # given up: not looked for again
            await presence.asked(server.once)
        assert caught.value.status == 502
        assert (server.calls, server.looks) == (9, QUICK.attempts - 1)
        server.down = 0
        assert await presence.asked(server.once) == "there"
        server.down = 2
        assert await presence.asked(server.once) == "there"
        assert server.looks == QUICK.attempts + 1

    asyncio.run(main())


def test_who_gives_up_leaves_the_others_waiting() -> None:
    async def main() -> None:
        server = Asked(2)
        presence = Presence(server.look, RetryPolicy(first=0.02), "here")
        first, second = (asyncio.create_task(presence.asked(server.once)) for _ in range(2))
        await asyncio.sleep(0.005)
        first.cancel()
        assert await second == "there"
        server.down = 1
        alone = asyncio.create_task(presence.asked(server.once))
        await asyncio.sleep(0.005)
        alone.cancel()
        await asyncio.gather(alone, return_exceptions=True)
        assert await presence.asked(server.once) == "there"
        assert len(asyncio.all_tasks()) == 1  # nothing looks for what nobody waits for

    asyncio.run(main())


def test_one_that_takes_looks_and_no_requests_is_given_up() -> None:
    async def look() -> None: ...

    async def main() -> None:
        server = Asked(float("inf"))
        with pytest.raises(Unreachable):
            await Presence(look, QUICK, "here").asked(server.once)
        assert server.calls == QUICK.attempts + 1

    asyncio.run(main())


@pytest.mark.parametrize("streamed", [False, True])
def test_a_server_that_is_starting_is_waited_for(streamed: bool) -> None:
    port, unready = _closed(), 3

    async def answer(reader: Any, writer: Any) -> None:
        nonlocal unready
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        size = int(head.partition("content-length:")[2].partition("\r")[0] or 0)
        await reader.readexactly(size)
        status, unready = "503 Loading" if unready > 0 else "200 OK", unready - 1
        if unready == 1:  # as what stands before a server that is starting
            writer.close()
            return
        choice = {
            "finish_reason": "stop",
            "message": {"content": "yes"},
            "delta": {"content": "yes"},
        }
        said = json.dumps({"choices": [choice]})
        kind = "application/json"
        if head.startswith("post") and streamed:
            said, kind = f"data: {said}\n\ndata: [DONE]\n\n", "text/event-stream"
        writer.write(f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nConnection: close\r\n".encode())
        writer.write(f"Content-Length: {len(said)}\r\n\r\n{said}".encode())
        writer.close()

    async def main() -> None:
        model = HttpModel(f"http://127.0.0.1:{port}/v1#m", policy=QUICK, wait_for_server=60)

        async def text() -> str:
            if not streamed:
                return (await model.reply(ASK, [(0, 0.0)]))[0].text
            items = [item async for item in model.stream(ASK, [(0, 0.0)])]
            return "".join(item.text for item in items if isinstance(item, ReplyPiece))

        coming = asyncio.create_task(text())
        await asyncio.sleep(0.05)  # far longer than the policy's four tries
        assert not coming.done()
        server = await asyncio.start_server(answer, "127.0.0.1", port)
        assert await coming == "yes"
        server.close()
        await model.close()

    asyncio.run(main())
