"""`arena serve`: from tables and a database to a server that listens. Nothing of it needs the extra
`arena` before that is looked for.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pomona.errors import PomonaError
from pomona.models import require
from pomona.records import Where

if TYPE_CHECKING:
    from pomona.arena.annotating.app import Arena

_NEEDED = ("sqlalchemy", "psycopg", "starlette", "uvicorn", "nh3", "markdown_it")
_LONGEST = 100_000  # letters of the guidelines
_MOST_PEOPLE = 1_000_000  # for an item


class ArenaServer:
    """A server that is to work at `url`, in a `with` block: `wait` answers requests until the
    process is told to stop. `link` lets the lead in, once; `notes` are what is left to do before
    others can come.
    """

    def __init__(
        self, arena: Arena, host: str, bound: socket.socket, url: str, lead: str, notes: list[str]
    ) -> None:
        self._arena, self._bound, self.notes = arena, bound, notes
        shown = f"[{host.strip('[]')}]" if ":" in host else host
        self.url = url.rstrip("/") or f"http://{shown}:{bound.getsockname()[1]}"
        self.link = f"{self.url}/login/{lead}" if lead else None

    def wait(self) -> None:
        """Serve; requests under way at the end may take 30 seconds to end."""
        from pomona.web import run_server

        run_server(self._arena.application(), self._bound)

    def __enter__(self) -> ArenaServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._bound.close()
        self._arena.store.close()


def serve(
    pairs: Where | None = None,
    *,
    db: str,
    rate: Where | None = None,
    write: bool = False,
    lead: str | None = None,
    guidelines: str | Path | None = None,
    project: str = "Pomona",
    overlap: int = 1,
    lease: float = 30.0,
    needed: int = 10,
    host: str = "127.0.0.1",
    port: int = 8000,
    url: str = "",
) -> ArenaServer:
    """Serve a page on which people say which of two answers is better, and see not whose they are.

    PAIRS and what people say are kept in the database; to go on, the database is enough. Several
    servers may share one in PostgreSQL.

    Args:
        pairs: Table with the columns prompt, model_a, model_b, completion_a and completion_b, and
            optional lang, item, rank (the smallest comes first), propensity and available. A pair
            that stands there twice is for two people.
        db: sqlite:///FILE or postgresql://USER@HOST/DATABASE; made where it is not there.
        rate: Table of single answers to rate from 1 to 5: prompt, completion, and optional model,
            lang, item and rank.
        write: People may write prompts of their own, with an answer.
        lead: Name of somebody who invites the others; prints a link that lets them in once.
        guidelines: Markdown file of what annotators should know.
        project: Name on every page.
        overlap: People that judge each item of these tables; from 2 on their agreement is shown.
        lease: Minutes that a task is kept for whom it was shown.
        needed: Votes of one's own before the leaderboard is shown; leads see it at once.
        host: Address to listen on.
        port: Port; 0 takes a free one.
        url: Address that people open, where it is another, such as https://arena.example.org.

    Raises:
        PomonaError: a table or the guidelines cannot be read, the database is of something else,
            the address is taken, or the extra is not installed.
        ResourceError: the database cannot be reached.
    """
    require(*_NEEDED, extra="arena", for_what="to collect votes")
    from pomona.arena.annotating.app import Arena, ArenaSettings
    from pomona.arena.annotating.items import add_items, read_answers, read_pairs
    from pomona.arena.annotating.people import everybody, lead_of, new_link
    from pomona.arena.annotating.store import Store
    from pomona.web import listening

    _check(overlap, lease, needed, url)
    given = [] if pairs is None else read_pairs(pairs)
    given += [] if rate is None else read_answers(rate)
    text = None if guidelines is None else _read(Path(guidelines))
    bound = listening(host, port)
    try:
        store = Store(db)
        try:
            add_items(store, given, overlap)
            if text is not None:
                store.keep("guidelines", text)
            token = "" if lead is None else new_link(store, lead_of(store, lead).id)
            notes = _notes(any(one["active"] for one in everybody(store)), host, url)
        except BaseException:
            store.close()
            raise
    except BaseException:
        bound.close()
        raise
    settings = ArenaSettings(project, write, needed, lease * 60, url)
    return ArenaServer(Arena(store, settings), host, bound, url, token, notes)


def _check(overlap: int, lease: float, needed: int, url: str) -> None:
    for name, value, least in (("overlap", overlap, 1), ("lease", lease, 0), ("needed", needed, 0)):
        if not value >= least or (name == "lease" and not value > 0):
            remedy = "give a positive number" if least or name == "lease" else "give 0 or more"
            raise PomonaError(f"{name} is {value}", where=f"--{name}", remedy=remedy)
    if overlap > _MOST_PEOPLE:
        remedy = f"give at most {_MOST_PEOPLE:,}"
        raise PomonaError(f"overlap is {overlap}", where="--overlap", remedy=remedy)
    parts = urlsplit(url)
    if url and (parts.scheme not in ("http", "https") or not parts.netloc or parts.path.strip("/")):
        remedy = "write such as https://arena.example.org"
        raise PomonaError(f'"{url}" is no address of a server', where="--url", remedy=remedy)


def _notes(anybody: bool, host: str, url: str) -> list[str]:
    from pomona.web import is_loopback

    notes = []
    if not anybody:
        notes.append("nobody can log in yet: --lead NAME prints a link for who invites the others")
    if not is_loopback(host) and urlsplit(url).scheme != "https":
        notes.append(
            f"{host} can be reached from other machines without TLS, so that links and votes can be"
            " read on the way: put a proxy with TLS in front, and say where by --url https://..."
        )
    return notes


def _read(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        remedy = "give a Markdown file"
        raise PomonaError(f"cannot be read: {error}", where=path, remedy=remedy) from error
    if len(text) > _LONGEST or "\0" in text:
        remedy = f"give at most {_LONGEST:,} letters of plain text"
        raise PomonaError("is no text that a page can show", where=path, remedy=remedy)
    return text
