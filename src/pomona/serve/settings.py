"""What the server is told at its start, and whether that is safe."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from pomona.errors import PomonaError, nearest, positive
from pomona.sample.context import Context
from pomona.web import is_loopback

if TYPE_CHECKING:
    from pomona.markers import Trained
    from pomona.memory import RowMemory

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kMG]i?)?B?", re.IGNORECASE)
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(\[[0-9a-f:.]+\]|[\w.-]+)(:\d{1,5})?", re.ASCII)
_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30}
_SHORTEST_KEY = 16


UnknownFields = Literal["refuse", "ignore"]


@dataclass(frozen=True)
class ServeSettings:
    """Limits and keys of a server.

    keys: API keys, any of which lets a client in; none lets everybody on this machine in.
    max_body: bytes of a request. timeout: seconds a request may take. queue: requests of one
        model under way or waiting; more get status 429.
    feedback: the SQLite file of what users say about answers; None refuses feedback. Of several
        keys each has users of its own.
    contexts: levers on what the model sees, by the names that requests use, beside thought and
        (with feedback) memory.
    memory: rows that were answered before, for the contexts phrases, selector (where it has one),
        lookup, examples and neighbours: with the similarity from which a row is the answer, and how
        many are shown or are candidates. Of several keys each adds rows of its own.
    markers: what models were trained with, by the names clients use.
    keep_alive: seconds of silence after which a stream says that it is alive.
    cors: origins whose pages may ask, as https://my.page; "*" for all, which needs keys.
    access_log: the file with a line for each request, "-" for stderr.
    unknown_fields: "refuse" answers a request with fields that nobody here knows with status 400,
        "ignore" leaves them out. Other servers get what is not known here either way.
    """

    keys: tuple[str, ...] = ()
    max_body: int = 1_000_000
    timeout: float = 120.0
    queue: int = 64
    feedback: Path | None = None
    contexts: Mapping[str, Context] = field(default_factory=dict)
    keep_alive: float = 5.0
    markers: Mapping[str, Trained] = field(default_factory=dict)
    memory: RowMemory | None = None
    lookup: float = 0.6
    examples: int = 2
    neighbours: int = 5
    cors: tuple[str, ...] = ()
    access_log: str | Path | None = None
    unknown_fields: UnknownFields = "refuse"

    def __post_init__(self) -> None:
        if self.unknown_fields not in (known := get_args(UnknownFields)):
            message = f'"{self.unknown_fields}" is no way to treat unknown fields'
            remedy = nearest(self.unknown_fields, known)
            raise PomonaError(message, where="--unknown-fields", remedy=remedy)
        for origin in self.cors:
            _check_origin(origin, self.keys)
        positive(self, "serve", "max_body", "timeout", "queue", "keep_alive")

    def tenant(self, given: str) -> str | None:
        """Whose users a key may name: 12 hex digits of its own where there are several keys, "" for
        the only one, None for no key.

        Takes the same time for every wrong key.
        """
        digest = hashlib.sha256(given.encode("utf-8", "surrogateescape")).digest()
        known = [hashlib.sha256(key.encode()).digest() for key in self.keys]
        if not sum(hmac.compare_digest(key, digest) for key in known):
            return None
        return hashlib.sha256(b"users of " + digest).hexdigest()[:12] if len(self.keys) > 1 else ""


def _check_origin(origin: str, keys: Sequence[str]) -> None:
    """A PomonaError for what is no origin, and for all of them without a key."""
    if origin == "*" and not keys:
        message = "every page in the browser could ask, and there is no API key"
        raise PomonaError(
            message, where="--cors", remedy="name the origins, or give --api-key-file"
        )
    if origin != "*" and not _ORIGIN.fullmatch(origin):
        remedy = "write scheme, host and port alone, as https://my.page or http://localhost:3000"
        raise PomonaError(f'"{origin}" is no origin', where="--cors", remedy=remedy)


def check_host(host: str, settings: ServeSettings) -> None:
    """A PomonaError when other machines could connect without a key."""
    if not is_loopback(host) and not settings.keys:
        remedy = "give --api-key-file, or bind to 127.0.0.1 and forward the port through SSH"
        message = f"{host} can be reached from other machines, and there is no API key"
        raise PomonaError(message, where="--host", remedy=remedy)


def read_keys(path: str | Path) -> tuple[str, ...]:
    """The API keys in a file: one a line, empty lines and lines with # left out. A PomonaError when
    there is none or one is short.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        remedy = "give a text file with one key a line"
        raise PomonaError(f"cannot be read: {error}", where=path, remedy=remedy) from error
    stripped = map(str.strip, lines)
    keys = tuple(line for line in stripped if line and not line.startswith("#"))
    if not keys:
        raise PomonaError("holds no API key", where=path, remedy="write one key a line")
    for row, key in enumerate(keys, 1):
        if len(key) < _SHORTEST_KEY or not key.isascii() or not key.isprintable() or " " in key:
            remedy = 'python -c "import secrets; print(secrets.token_urlsafe(32))" makes a good one'
            message = f"key {row} is shorter than {_SHORTEST_KEY} characters or not plain ASCII"
            raise PomonaError(message, where=path, remedy=remedy)
    return keys


def parse_size(text: str) -> int:
    """Bytes from "1MB", "512 kB", "1MiB" or a number; a PomonaError for anything else."""
    parts = _SIZE.fullmatch(text.strip())
    size = int(float(parts[1]) * _UNITS[(parts[2] or "").lower()]) if parts else 0
    if size < 1:
        raise PomonaError(f'"{text}" is not a size', remedy="write 1MB, 512kB or a number of bytes")
    return size
