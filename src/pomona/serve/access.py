"""The access log: a line of JSON for each request, without texts, keys and what is behind us."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener, WatchedFileHandler
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from pomona.errors import PomonaError

_FIRST = '{"time":'


class AccessLog:
    """Lines written by a thread of their own, behind what a file has already, which may be rotated
    meanwhile; to stderr where `path` is "-".

    A line has `time` (UTC), `id` (the header x-request-id), `client` (its address), `tenant` (12
    hex digits of its key where there are several), `method`, `route`, `model`, `status` (499 is a
    client that left), `seconds`, and the tokens that were paid for, null where nothing was.

    Raises PomonaError when the file cannot be written, or is something else.
    """

    def __init__(self, path: str | Path) -> None:
        handler: logging.Handler = logging.StreamHandler(sys.stderr)
        if str(path) != "-":
            _check(Path(path))
            handler = WatchedFileHandler(path, encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(message)s"))
        waiting: SimpleQueue[Any] = SimpleQueue()
        self._writer = QueueListener(waiting, handler)
        self._log = QueueHandler(waiting)
        self._handler = handler
        self._writer.start()

    def add(self, told: Mapping[str, Any]) -> None:
        """Write a line of these values, with the time before them."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"time": now, **told}, ensure_ascii=False, separators=(",", ":"))
        self._log.enqueue(logging.LogRecord("access", logging.INFO, "", 0, line, None, None))

    def close(self) -> None:
        """Write what is waiting, and end."""
        self._writer.stop()
        self._handler.close()


def _check(path: Path) -> None:
    try:
        with path.open("a+", encoding="utf-8", errors="replace") as file:
            file.seek(0)
            first = file.readline(100)
    except OSError as error:
        reason, remedy = error.strerror or error, "name a file in a folder that you may write to"
        raise PomonaError(f"cannot be written: {reason}", where=path, remedy=remedy) from error
    if first and not first.startswith(_FIRST):
        raise PomonaError("is no access log of Pomona", where=path, remedy="name another file")
