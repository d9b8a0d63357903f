"""Two hundred annotators for a minute before `pomona arena serve`: every vote that was accepted must
be in the database once, and no other.

Each annotator is a browser without JavaScript: it reads a page, thinks for as long as an exponential
with the given mean says, and sends the form. One form in twenty is sent twice, as after a dropped
connection. What is compared are the keys of the forms that were answered with 303 and those in the
database. The server is a process of its own; its CPU is that of that process alone.

    python experiments/arena/load.py
    python experiments/arena/load.py --db postgresql://USER@HOST/DATABASE
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil
import pyarrow as pa
from sqlalchemy import func, select

from pomona.arena.annotating.people import add_person, new_link
from pomona.arena.annotating.schema import answers, items, tasks
from pomona.arena.annotating.store import Store
from pomona.files import write_json
from pomona.records import read, write

HERE = Path(__file__).parent
PROGRAM = "import sys; from pomona.cli import main; sys.exit(main())"
HIDDEN = {name: re.compile(f'name="{name}" value="([^"]*)"') for name in ("csrf", "task", "key")}
OUTCOMES = ("a", "b", "tie", "both_bad")


def pairs(n: int) -> pa.Table:
    """Real texts: two translations of the same words, in `ui`."""
    rows = read("ui").select("english", "translation").head(2 * n).to_table().to_pylist()
    return pa.Table.from_pylist(
        [
            {
                "prompt": one["english"],
                "model_a": f"model-{place % 7}",
                "model_b": f"model-{(place + 1 + place % 5) % 7}",
                "completion_a": one["translation"],
                "completion_b": other["translation"],
                "item": f"item-{place}",
            }
            for place, (one, other) in enumerate(zip(rows[::2], rows[1::2], strict=True))
        ]
    )


class Annotator:
    """One of them, and what became of its forms."""

    def __init__(self, client: httpx.AsyncClient, seed: int, think: float) -> None:
        self._client, self._choose, self._think = client, random.Random(seed), think
        self.accepted, self.refused = list[str](), Counter[int]()
        self.seconds, self.dropped = list[float](), 0

    async def work(self, link: str, until: float) -> None:
        """Vote until the time is over."""
        await self._client.post(link)
        while time.monotonic() < until:
            page = await self._timed(lambda: self._client.get("/"))
            form = {
                name: found[1] for name, way in HIDDEN.items() if (found := way.search(page.text))
            }
            if "task" not in form:
                self.refused[page.status_code] += 1
                return
            await asyncio.sleep(self._choose.expovariate(1 / self._think))
            form["outcome"] = self._choose.choice(OUTCOMES)
            for _ in range(2 if self._choose.random() < 0.05 else 1):
                sent = await self._timed(partial(self._client.post, "/answer", data=form))
                if sent.status_code != 303:
                    self.refused[sent.status_code] += 1
                elif form["key"] not in self.accepted:
                    self.accepted.append(form["key"])

    async def _timed(self, asked: Callable[[], Awaitable[httpx.Response]]) -> httpx.Response:
        begun = time.perf_counter()
        while True:  # as the page does when the connection is lost
            try:
                answer = await asked()
            except httpx.TransportError:
                self.dropped += 1
                continue
            self.seconds.append(time.perf_counter() - begun)
            return answer


async def crowd(url: str, links: list[str], seconds: float, think: float) -> list[Annotator]:
    """All of them at once."""
    clients = [httpx.AsyncClient(base_url=url, timeout=120) for _ in links]
    people = [Annotator(client, seed, think) for seed, client in enumerate(clients)]
    until = time.monotonic() + seconds
    await asyncio.gather(*(one.work(link, until) for one, link in zip(people, links, strict=True)))
    for client in clients:
        await client.aclose()
    return people


def measure(db: str, folder: Path, n: int, seconds: float, think: float) -> dict[str, Any]:
    """Serve, vote, and compare what was accepted with what is there."""
    table = folder / "pairs.parquet"
    write(pairs(3000), table)
    command = [sys.executable, "-c", PROGRAM, "arena", "serve", str(table), "--db", db]
    server = subprocess.Popen(
        [*command, "--overlap", "4", "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    url = server.stdout.readline().strip()
    store = Store(db)
    links = [
        f"/login/{new_link(store, add_person(store, f'Person {one}', 'annotator', ()).id)}"
        for one in range(n)
    ]
    begun, process = time.monotonic(), psutil.Process(server.pid)
    before = process.cpu_times()
    people = asyncio.run(crowd(url, links, seconds, think))
    after, wall = process.cpu_times(), time.monotonic() - begun
    memory = process.memory_info().rss
    server.kill()  # what was accepted is there without a farewell
    server.wait()
    accepted = [key for one in people for key in one.accepted]
    with store.reading() as source:
        kept = list(source.scalars(select(answers.c.key)))
        places = select(func.count()).select_from(tasks).where(tasks.c.placed)
        taken = source.scalar(select(func.sum(items.c.taken))), source.scalar(places)
        most = source.scalar(select(func.max(items.c.taken)))
    store.close()
    waits = sorted(second for one in people for second in one.seconds)
    refused = sum((one.refused for one in people), Counter())
    cpu = after.user + after.system - before.user - before.system
    return {
        "database": db.partition(":")[0],
        "annotators": n,
        "seconds": round(wall, 1),
        "think": think,
        "requests": len(waits),
        "accepted": len(accepted),
        "kept": len(kept),
        "lost": len({*accepted} - {*kept}),
        "doubled": len(kept) - len({*kept}),
        "not accepted but kept": len({*kept} - {*accepted}),
        "connections lost, and forms sent again": sum(one.dropped for one in people),
        "refused": {str(code): count for code, count in refused.items()},
        "places taken, and held by tasks": taken,
        "most answers an item": most,
        "wait, median and 99 % (s)": [statistics.median(waits), waits[int(0.99 * len(waits))]],
        "server CPU a vote (ms)": 1000 * cpu / max(1, len(accepted)),
        "server memory (MB)": round(memory / 1e6),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--db", help="a PostgreSQL with nothing in it; SQLite when left out")
    parser.add_argument("--annotators", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--think", type=float, default=4.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        db = given.db or f"sqlite:///{folder / 'arena.db'}"
        found = measure(db, folder, given.annotators, given.seconds, given.think)
    for key, value in found.items():
        print(f"{key}: {value}")
    write_json(HERE / "results" / f"load-{found['database']}.json", found)


if __name__ == "__main__":
    main()
