"""A server that is killed between votes: none is lost, none is doubled."""

from __future__ import annotations

import os
import signal
import socket
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from sqlalchemy import func, select

from pomona.arena.annotating.app import Arena, ArenaSettings
from pomona.arena.annotating.items import add_items, read_pairs
from pomona.arena.annotating.people import new_link
from pomona.arena.annotating.schema import answers, items, tasks
from pomona.arena.annotating.store import Store
from pomona.web import listening, run_server

from .conftest import Browser, pairs, person

PEOPLE = 4


@contextmanager
def process(database: str, bound: socket.socket) -> Iterator[int]:
    """A process that serves the arena; it is killed at the end, if it was not before."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of threads that pools left behind
        child = os.fork()
    if child == 0:
        try:
            run_server(Arena(Store(database), ArenaSettings(needed=0)).application(), bound)
        finally:
            os._exit(0)
    try:
        yield child
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@pytest.fixture
def links(database: str) -> list[str]:
    store = Store(database)
    add_items(store, read_pairs(pairs(10)), 2)
    found = [new_link(store, person(store, f"Person {n}").id) for n in range(PEOPLE)]
    store.close()
    return found


def test_none_is_lost_and_none_is_doubled(database: str, links: list[str]) -> None:
    accepted, pending = set[str](), dict[int, dict[str, object]]()
    enough = threading.Event()

    def vote(n: int) -> None:
        """Vote until the server is gone, and keep the form that got no answer."""
        while True:
            try:
                page = crowd[n].get("/").text
                if 'name="outcome"' not in page:
                    return
                form = {name: crowd[n].field(page, name) for name in ("csrf", "task", "key")}
                form["outcome"] = "a"
                pending[n] = {**form}
                sent = crowd[n].post("/answer", data=form, follow_redirects=False)
            except httpx.TransportError:
                return
            assert sent.status_code == 303
            accepted.add(form["key"])
            del pending[n]
            if len(accepted) >= 6:
                enough.set()

    with listening("127.0.0.1", 0) as bound:
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        bound.listen()
        with process(database, bound) as child:
            crowd = [Browser(f"{url}/login/{link}") for link in links]
            voting = [threading.Thread(target=vote, args=(n,)) for n in range(PEOPLE)]
            for thread in voting:
                thread.start()
            assert enough.wait(60)
            os.kill(child, signal.SIGKILL)
            bound.close()  # nobody else takes what waits there
            for thread in voting:
                thread.join()
    with (
        listening("127.0.0.1", int(url.rpartition(":")[2])) as bound,
        process(database, bound),
    ):
        bound.listen()
        for n, form in list(pending.items()):  # as the page does when there is a connection again
            again = crowd[n].post("/answer", data=form, follow_redirects=False)
            assert again.status_code == 303
            accepted.add(str(form["key"]))
        pending.clear()
        for n in range(PEOPLE):
            vote(n)
        for browser in crowd:
            browser.close()
    store = Store(database)
    with store.reading() as source:
        keys = source.scalars(select(answers.c.key)).all()
        assert sorted(keys) == sorted(accepted) and len(keys) == 20
        each = select(func.count(tasks.c.id)).group_by(tasks.c.item)
        assert set(source.scalars(each)) == {2}
        assert set(source.execute(select(items.c.taken, items.c.open))) == {(2, False)}
    store.close()
