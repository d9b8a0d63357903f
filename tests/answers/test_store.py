"""What is paid for once is kept, whatever dies meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from pomona.answers import CachedModel
from pomona.answers.store import _base, _key
from pomona.errors import PomonaError
from pomona.models import Model, ModelError, Reply, ReplyPiece, Request, Spent

ASK = Request(messages=({"role": "user", "content": "hi"},), seed=1)


class Counting(Model):
    """Answers with what it was asked and counts how often; fails for the indices in `broken`."""

    name, identity, abilities = "counting", "counting:1", frozenset()

    def __init__(self) -> None:
        self.made: list[tuple[int, float]] = []
        self.broken: set[int] = set()

    async def each(
        self, request: Request, samples: Sequence[tuple[int, float]]
    ) -> AsyncIterator[Reply]:
        for index, temperature in samples:
            await asyncio.sleep(0)
            if index in self.broken:
                raise ModelError("failed", status=502)
            self.made.append((index, temperature))
            calls = ({"id": "c", "function": {"name": "f"}},)
            yield Reply(
                f"é{index}@{temperature}",
                "stop",
                Spent(1, 2, 3.0, 0.5),
                self.name,
                index,
                temperature,
                -1.5,
                calls,
            )

    async def reply(self, request: Request, samples: Sequence[tuple[int, float]]) -> list[Reply]:
        return [reply async for reply in self.each(request, samples)]

    async def stream(
        self, request: Request, samples: Sequence[tuple[int, float]]
    ) -> AsyncIterator[ReplyPiece | Reply]:
        for reply in await self.reply(request, samples):
            yield ReplyPiece(reply.text[:1], reply.index)
            yield ReplyPiece(reply.text[1:], reply.index)
            yield reply

    async def logprobs(
        self, request: Request, completions: Sequence[str], *, end: bool = False
    ) -> Any: ...

    async def vectors(self, texts: Sequence[str]) -> Any: ...

    def tokens(self, request: Request) -> int: ...

    def cost(self, prompt: int, answer: int = 0, samples: int = 1) -> Spent: ...

    async def close(self) -> None: ...


def test_a_larger_pool_pays_only_for_what_is_new(tmp_path: Path) -> None:
    async def main() -> None:
        model = Counting()
        store = CachedModel(model, tmp_path / "s.db")
        assert isinstance(store, Model)
        first = await store.reply(ASK, [(0, 0.0), (1, 0.8)])
        again = await CachedModel(model, tmp_path / "s.db").reply(
            ASK, [(1, 0.8), (2, 0.8), (0, 0.0), (1, 0.9)]
        )
        assert again[0] == first[1]
        assert again[2] == first[0]
        assert model.made == [(0, 0.0), (1, 0.8), (2, 0.8), (1, 0.9)]
        assert store.paid == Spent(2, 4, 6.0, 1.0)

    asyncio.run(main())


def test_equal_samples_at_the_same_time_are_made_once(tmp_path: Path) -> None:
    async def main() -> None:
        model = Counting()
        store = CachedModel(model, tmp_path / "s.db")
        pools = await asyncio.gather(
            *(store.reply(ASK, [(0, 0.0), (at % 3, 0.8)]) for at in range(9))
        )
        assert sorted(model.made) == [(0, 0.0), (0, 0.8), (1, 0.8), (2, 0.8)]
        assert len({pool[0].text for pool in pools}) == 1

    asyncio.run(main())


def test_what_came_before_a_failure_is_kept(tmp_path: Path) -> None:
    async def main() -> None:
        model = Counting()
        store = CachedModel(model, tmp_path / "s.db")
        model.broken = {2}
        with pytest.raises(ModelError):
            await store.reply(ASK, [(0, 0.0), (1, 0.8), (2, 0.8)])
        model.broken = set()
        await store.reply(ASK, [(0, 0.0), (1, 0.8), (2, 0.8)])
        assert model.made == [(0, 0.0), (1, 0.8), (2, 0.8)]

    asyncio.run(main())


def test_streams_are_kept_and_come_back_whole(tmp_path: Path) -> None:
    async def main() -> None:
        model = Counting()
        store = CachedModel(model, tmp_path / "s.db")
        first = [piece async for piece in store.stream(ASK, [(0, 0.0)])]
        second = [piece async for piece in store.stream(ASK, [(0, 0.0)])]
        assert second == [ReplyPiece(first[-1].text), first[-1]]
        assert len(model.made) == 1

    asyncio.run(main())


CHANGES = st.sampled_from(
    [
        {"seed": 2},
        {"max_tokens": 3},
        {"top_p": 0.5},
        {"min_p": 0.1},
        {"stop": ("x",)},
        {"top_k": 3},
        {"frequency_penalty": 0.5},
        {"presence_penalty": 0.5},
        {"repetition_penalty": 1.1},
        {"logit_bias": {5: -1.0}},
        {"options": ("a",)},
        {"prompt": "hi"},
        {"extra": {"a": 1}},
        {"tools": ({"type": "function"},)},
        {"messages": ({"role": "system", "content": "hi"},)},
    ]
)


@given(CHANGES, st.integers(0, 9), st.sampled_from([0.0, 0.3]))
def test_every_parameter_is_in_the_key_and_the_requests_temperature_is_not(
    change: dict[str, Any], index: int, temperature: float
) -> None:
    key = _key(_base("m", ASK), index, temperature)
    assert key == _key(_base("m", replace(ASK, temperature=0.7)), index, temperature)
    others = [
        _key(_base("m", replace(ASK, **change)), index, temperature),
        _key(_base("n", ASK), index, temperature),
    ]
    others += [
        _key(_base("m", ASK), index + 1, temperature),
        _key(_base("m", ASK), index, temperature + 0.1),
    ]
    assert key not in others


@pytest.mark.parametrize(
    "content", [b"not a database at all, but long enough to be looked at" * 20, None]
)
def test_a_damaged_file_is_named_and_left_as_it_is(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "s.db"
    if content is None:
        asyncio.run(_fill(path))
        whole = path.read_bytes()
        content = whole[:4096] + b"\x05" * (len(whole) - 4096)
    path.write_bytes(content)
    with pytest.raises(PomonaError, match=r"s\.db: is (damaged|not a store)"):
        asyncio.run(_fill(path))
    assert path.read_bytes() == content


async def _fill(path: Path) -> None:
    store = CachedModel(Counting(), path)
    try:
        await store.reply(ASK, [(at, 0.5) for at in range(20)])
    finally:
        await store.close()


def test_another_database_is_refused(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "o.db")
    other.execute("create table mine (a)")
    other.commit()
    other.close()
    with pytest.raises(PomonaError, match="not a store of answers"):
        CachedModel(Counting(), tmp_path / "o.db")


PROGRAM = """
import asyncio, sys
from pathlib import Path
from pomona.models import Model, Reply, Request, Spent
from pomona.answers import CachedModel

class Scripted(Model):
    name, identity, abilities = "m", "m", frozenset()
    async def reply(self, request, samples):
        await asyncio.sleep(0.002)
        with open(sys.argv[2], "a") as log:
            log.write(f"{request.prompt}\\n")
        return [Reply(request.prompt, "stop", Spent(), "m", i, t) for i, t in samples]

async def main():
    store = CachedModel(Scripted(), sys.argv[1])
    for at in range(int(sys.argv[3])):
        reply = await store.reply(Request(prompt=f"p{at}"), [(0, 0.0)])
        assert reply[0].text == f"p{at}"

asyncio.run(main())
"""


def _start(folder: Path, count: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder / "s.db"), str(folder / "log"), str(count)],
        env=os.environ,
    )


def test_killed_in_a_batch_and_resumed_nothing_is_made_twice_but_the_one_under_way(
    tmp_path: Path,
) -> None:
    child = _start(tmp_path, 300)
    log = tmp_path / "log"
    while child.poll() is None and (not log.exists() or log.read_text().count("\n") < 60):
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert _start(tmp_path, 300).wait() == 0
    made = log.read_text().split()
    assert len(set(made)) == 300
    assert len(made) <= 301


def test_several_processes_share_a_file(tmp_path: Path) -> None:
    children = [_start(tmp_path, 60) for _ in range(3)]
    assert [child.wait() for child in children] == [0, 0, 0]
    rows = sqlite3.connect(tmp_path / "s.db").execute("select reply from replies").fetchall()
    assert len({json.loads(row[0])["text"] for row in rows}) == len(rows) == 60
