"""A SQLite file that several threads and processes may use: known by its application id, made in
one step, and every error with the name of the file.

Tables that will live in PostgreSQL too are for SQLAlchemy; what is here stays on one machine.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from pomona.errors import PomonaError, ResourceError

Result = TypeVar("Result")

_PATIENCE = 60.0  # seconds to wait for another process that writes


class FileHeld(ResourceError):
    """Another process held the file for longer than anybody waits."""


class Database:
    """The file at `path`, made with `tables` when it is not there.

    what: the word for such a file in messages, as in "not a store of answers of this version".
    application: four letters that SQLite keeps in the file, by which it is known again. version:
    goes up when `tables` change. settings: pragmas, such as "synchronous = full". lost: the remedy
    when the file is damaged.
    Raises PomonaError when the file is damaged, of another version, or a database of something
    else, which is then left as it was.
    """

    def __init__(
        self,
        path: str | Path,
        tables: Sequence[str],
        *,
        what: str,
        application: bytes,
        version: int = 1,
        settings: Sequence[str] = ("synchronous = normal",),
        lost: str = "move it away, or restore a copy",
    ) -> None:
        self.path, self._lost = Path(path), lost
        self._what, self._known = what, (int.from_bytes(application), version)
        self._lock = threading.RLock()
        self._file: sqlite3.Connection | None = None
        self._thread: ThreadPoolExecutor | None = None
        if self.path.exists() and not self.path.is_file():
            raise PomonaError("is no file", where=self.path, remedy="give another path")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            message = f"its folder cannot be made: {error.strerror}"
            raise PomonaError(message, where=self.path, remedy="give another path") from error
        try:
            with self._guarded():
                self._file = sqlite3.connect(
                    self.path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False
                )
                self._prepare(self._file, tables, settings)
        except BaseException:
            self.close()
            raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The connection, for one thread at a time, and outside a transaction."""
        with self._guarded():
            yield self._connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """The connection in a transaction: all that the block does, or nothing."""
        with self._guarded():
            self._connection.execute("begin immediate")
            yield self._connection
            self._connection.execute("commit")

    async def run(self, work: Callable[[], Result]) -> Result:
        """What `work` returns, which reads or writes much here: in a thread of the file's own, one
        after the other in the order of the calls, while the event loop goes on.

        Another process may hold the file for long, so it is not one of the threads that all share.
        Work that has begun ends, also when nobody waits for it any more.
        """
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"pomona {self.path.name}")
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def run_short(self, work: Callable[[], Result]) -> Result:
        """As `run`, for work of some rows: done at once where nobody holds the file, so that a
        death of the process right afterwards loses nothing.
        """
        if self._lock.acquire(blocking=False):
            try:
                self._connection.execute("pragma busy_timeout = 0")
                return work()
            except FileHeld:
                pass
            finally:
                self._connection.execute(f"pragma busy_timeout = {int(_PATIENCE * 1000)}")
                self._lock.release()
        return await self.run(work)

    def close(self) -> None:
        """Close the file, after the work that was begun."""
        if self._thread is not None:
            self._thread.shutdown()
        if self._file is not None:
            self._file.close()

    def damaged(self, reason: object) -> PomonaError:
        """The error for a file that does not hold what was written to it."""
        return PomonaError(f"is damaged: {reason}", where=self.path, remedy=self._lost)

    @property
    def _connection(self) -> sqlite3.Connection:
        assert self._file is not None
        return self._file

    def _prepare(
        self, file: sqlite3.Connection, tables: Sequence[str], settings: Sequence[str]
    ) -> None:
        self._is_new(file)  # before a pragma changes a file of something else
        for setting in ("journal_mode = wal", *settings):
            file.execute(f"pragma {setting}").fetchone()
        # Asked again inside: of two processes that make the file, the second finds the tables.
        file.execute("begin immediate")
        if self._is_new(file):
            file.execute(f"pragma application_id = {self._known[0]}")
            file.execute(f"pragma user_version = {self._known[1]}")
            for table in tables:
                file.execute(table)
        file.execute("commit")

    def _is_new(self, file: sqlite3.Connection) -> bool:
        """Whether there is nothing in the file. PomonaError where it is of something else."""
        tables = file.execute("select count(*) from sqlite_master").fetchone()[0]
        known = tuple(
            file.execute(f"pragma {name}").fetchone()[0]
            for name in ("application_id", "user_version")
        )
        if tables and known != self._known:
            raise PomonaError(
                f"is a database, but not {self._what} of this version",
                where=self.path,
                remedy="give another path",
            )
        return not tables

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        with self._lock:
            try:
                yield
            except UnicodeEncodeError as error:
                raise PomonaError(
                    "a text has half a character in it",
                    where=self.path,
                    remedy="give valid Unicode",
                ) from error
            except sqlite3.OperationalError as error:
                if _is_busy(error):
                    remedy = "wait for that one, or end it"
                    raise FileHeld(
                        "another process holds it", where=self.path, remedy=remedy
                    ) from error
                if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL:
                    remedy = "free some space and run again: what was written before is kept"
                    raise ResourceError(
                        "the disk is full", where=self.path, remedy=remedy
                    ) from error
                remedy = "is it writable, and on a local disk?"
                raise PomonaError(
                    f"SQLite says: {error}", where=self.path, remedy=remedy
                ) from error
            except sqlite3.DatabaseError as error:
                if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_NOTADB:
                    raise PomonaError(
                        f"is not {self._what}, but something else or damaged",
                        where=self.path,
                        remedy=f"give another path; if it was one, {self._lost}",
                    ) from error
                raise self.damaged(error) from error
            finally:
                self._undo()

    def _undo(self) -> None:
        """End a transaction that failed half-way."""
        with suppress(sqlite3.Error):
            if self._file is not None and self._file.in_transaction:
                self._file.execute("rollback")


def _is_busy(error: BaseException | None) -> bool:
    """Whether SQLite says that somebody else holds the file."""
    return isinstance(error, sqlite3.Error) and (
        getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    )
