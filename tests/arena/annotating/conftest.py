"""Arenas on SQLite and on a real PostgreSQL, which is started here where Debian's is installed."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx
import psycopg
import pyarrow as pa
import pytest

from pomona.arena.annotating.app import Arena, ArenaSettings
from pomona.arena.annotating.items import add_items, read_pairs
from pomona.arena.annotating.people import Person, add_person, new_link
from pomona.arena.annotating.store import Store
from pomona.web import BackgroundServer, listening

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))  # as Debian has them
MODELS = ("apple", "pear", "quince")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The address of a PostgreSQL with an empty database, which listens on a socket in a folder of
    its own and ends with the tests.
    """
    if not PROGRAMS:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    folder = tempfile.mkdtemp(prefix="pg", dir="/tmp")  # a socket's path is short
    user = None
    if os.geteuid() == 0:  # as root it does not start
        user = next(name for name in ("postgres", "nobody") if _is_there(name))
        shutil.chown(folder, user)

    def run(program: str, *options: str) -> None:
        command = [str(PROGRAMS[-1].with_name(program)), "-D", f"{folder}/data", *options]
        subprocess.run(command, check=True, user=user, cwd=folder, stdout=subprocess.DEVNULL)

    try:
        run("initdb", "-N", "-A", "trust", "-U", "arena", "-E", "UTF8", "--locale=C")
        own = f"-k {folder} -c listen_addresses='' -c fsync=off -c max_connections=60"
        run("pg_ctl", "-w", "-l", f"{folder}/log", "-o", own, "start")
        try:
            yield f"postgresql://arena@/postgres?host={folder}"
        finally:
            run("pg_ctl", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'arena.db'}"
    url: str = request.getfixturevalue("postgresql")
    with psycopg.connect(url, autocommit=True) as to:
        others = (
            "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()"
        )
        to.execute(f"{others} and datname = current_database()")
        to.execute("drop schema public cascade")
        to.execute("create schema public")
    return url


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    """An empty arena."""
    store = Store(database)
    yield store
    store.close()


def pairs(n: int, **columns: Sequence[object]) -> pa.Table:
    """`n` pairs of three models' completions, in English."""
    rows = [
        {
            "prompt": f"Question {row}?",
            "model_a": MODELS[row % 3],
            "model_b": MODELS[(row + 1) % 3],
            "completion_a": f"An answer {row}",
            "completion_b": f"Another answer {row}",
            "lang": "en",
            "item": f"item-{row}",
        }
        for row in range(n)
    ]
    table = pa.Table.from_pylist(rows)
    for name, values in columns.items():
        at = table.schema.get_field_index(name)
        table = table.remove_column(at) if at >= 0 else table
        table = table.append_column(name, pa.array(values))
    return table


def person(store: Store, name: str, *languages: str, role: str = "annotator") -> Person:
    """Somebody who speaks English, where nothing else is said."""
    return add_person(store, name, role, languages or ("en",))


class Browser(httpx.Client):
    """Somebody who is logged in and sends the forms of the pages that they see."""

    def __init__(self, link: str) -> None:
        base = link.partition("/login/")[0]
        super().__init__(base_url=base, follow_redirects=True, timeout=30)
        assert self.post(link.removeprefix(base)).status_code == 200

    def field(self, page: str, name: str) -> str:
        """What a hidden field of a page holds."""
        found = re.search(rf'name="{name}" value="([^"]*)"', page)
        assert found is not None, page
        return found[1]

    def submit(self, path: str, page: str | None = None, **fields: object) -> httpx.Response:
        """Send a form of the page, or of the first one."""
        page = self.get("/").text if page is None else page
        form: dict[str, object] = {"csrf": self.field(page, "csrf")}
        for name in ("task", "key"):
            if f'name="{name}"' in page:
                form[name] = self.field(page, name)
        return self.post(path, data=form | fields)


class Running:
    """An arena that is served."""

    def __init__(self, database: str, settings: ArenaSettings | None = None) -> None:
        self.database, self._settings = database, settings or ArenaSettings(needed=0)
        self._port, self._browsers = 0, list[Browser]()
        self.restart()

    def restart(self) -> None:
        """Begin, or begin again, at the same address."""
        self.store = Store(self.database)
        arena = Arena(self.store, self._settings)
        self._server = BackgroundServer(arena.application(), listening("127.0.0.1", self._port))
        self._port = self._server.port
        self.url = f"http://127.0.0.1:{self._port}"

    def link(self, name: str, role: str = "annotator", languages: Sequence[str] = ("en",)) -> str:
        """A link that lets somebody new in, once."""
        new = add_person(self.store, name, role, languages)
        return f"{self.url}/login/{new_link(self.store, new.id)}"

    def browser(self, name: str, role: str = "annotator", *languages: str) -> Browser:
        """Somebody new who is logged in."""
        browser = Browser(self.link(name, role, languages or ("en",)))
        self._browsers.append(browser)
        return browser

    def add(self, table: pa.Table, overlap: int = 1) -> int:
        """Add pairs."""
        return add_items(self.store, read_pairs(table), overlap)

    def close(self) -> None:
        """End it."""
        for browser in self._browsers:
            browser.close()
        self._server.close()
        self.store.close()


@pytest.fixture
def serving(database: str) -> Iterator[Callable[..., Running]]:
    """Starts arenas on the database."""
    running: list[Running] = []

    def start(**settings: object) -> Running:
        running.append(Running(database, ArenaSettings(**{"needed": 0, **settings})))  # type: ignore[arg-type]
        return running[-1]

    yield start
    for each in running:
        each.close()


@pytest.fixture
def arena(serving: Callable[..., Running]) -> Running:
    """An arena that is served."""
    return serving()


def unique() -> str:
    """A key of a vote."""
    return uuid.uuid4().hex


def _is_there(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True
