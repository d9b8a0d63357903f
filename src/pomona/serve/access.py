"""The access log: a line of JSON for each request, without texts, keys and what is behind us."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener, WatchedFileHandler
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from pomona.errors import PomonaError

_log = logging.getLogger("pomona.serve")
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
        check_log(path)
        handler: logging.Handler = logging.StreamHandler(sys.stderr)
        if str(path) != "-":
            handler = _File(path, encoding="utf-8")
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
        with suppress(OSError):  # of a full disk, which was told
            self._handler.close()


class _File(WatchedFileHandler):
    """The server goes on where a disk is full: what could not be written is told once."""

    _told = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """See `logging.Handler`."""
        if not self._told:
            _log.error("the access log cannot be written: %s", sys.exc_info()[1])
        self._told = True


def check_log(path: str | Path) -> None:
    """Raise PomonaError when the file cannot be written, or is something else; "-" is stderr."""
    if str(path) == "-":
        return
    path = Path(path)
    if path.exists() and not path.is_file():
        raise PomonaError("is no file", where=path, remedy="name a file, or - for stderr")
    try:
        with path.open("a+", encoding="utf-8", errors="replace") as file:
            file.seek(0)
            first = file.readline(100)
    except OSError as error:
        reason, remedy = error.strerror or error, "name a file in a folder that you may write to"
        raise PomonaError(f"cannot be written: {reason}", where=path, remedy=remedy) from error
    if first and not first.startswith(_FIRST):
        raise PomonaError("is no access log of Pomona", where=path, remedy="name another file")
