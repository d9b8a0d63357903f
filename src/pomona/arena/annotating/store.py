"""The database of an arena: a SQLite file or PostgreSQL, known again, and one transaction for all
that belongs together.
"""

from __future__ import annotations

import secrets
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Table, create_engine, event, inspect, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, TimeoutError as NoConnection
from sqlalchemy.schema import CreateIndex, CreateTable

from pomona.arena.annotating.schema import VERSION, metadata, settings
from pomona.db import Database
from pomona.errors import PomonaError, ResourceError, first_line

_PATIENCE = 60  # seconds to wait for another process that writes
_LOCK = int.from_bytes(b"PArn")  # PostgreSQL's advisory lock while tables are made
_REMEDY = "write sqlite:///FILE or postgresql://USER@HOST/DATABASE"
_WHAT = "an arena's database"


class Store:
    """The database at `url`: sqlite:///FILE, a path, or postgresql://USER@HOST/DATABASE. Made when
    there is nothing in it; several threads, and several servers, may use it.

    What a transaction has done is on the disk when it ends. Raises PomonaError when the database
    is of something else or of another version, and is then left as it was; ResourceError when it
    cannot be reached. Without `new` there has to be an arena in it.
    """

    def __init__(self, url: str, *, new: bool = True) -> None:
        parsed = _parsed(url)
        self.where = parsed.set(drivername=parsed.get_backend_name()).render_as_string()
        self._is_file = parsed.get_backend_name() == "sqlite"
        self._one = threading.Lock()
        self.files = [Path(parsed.database or "")] if self._is_file else []
        if not new and not all(file.exists() for file in self.files):
            raise self._missing()
        self._engine = _sqlite(parsed) if self._is_file else _postgresql(parsed)
        try:
            if not self._is_file:
                self._make_tables(new)
            with self.writing() as to:
                seed = self.insert(settings).values(name="seed", value=secrets.token_hex(16))
                to.execute(seed.on_conflict_do_nothing())
            self.seed = self.setting("seed") or ""
        except BaseException:
            self.close()
            raise

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction: all that the block does, or nothing."""
        with self._guarded():
            if not self._is_file:
                with self._engine.begin() as to:
                    yield to
                return
            # SQLite has one writer, and threads that wait for it inside SQLite do so in no order.
            with self._one, self._engine.execution_options(writes=True).begin() as to:
                yield to

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection for what only reads."""
        with self._guarded(), self._engine.connect() as source, source.begin():
            yield source

    def insert(self, table: Table) -> sqlite.Insert | postgresql.Insert:
        """A statement that can say what happens where the row is there already."""
        return (sqlite.insert if self._is_file else postgresql.insert)(table)

    def setting(self, name: str) -> str | None:
        """What was kept under a name."""
        with self.reading() as source:
            return source.scalar(select(settings.c.value).where(settings.c.name == name))

    def keep(self, name: str, value: str) -> None:
        """Keep what all servers of this database share."""
        given = self.insert(settings).values(name=name, value=value)
        with self.writing() as to:
            to.execute(given.on_conflict_do_update(index_elements=["name"], set_={"value": value}))

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def _make_tables(self, new: bool) -> None:
        with self.writing() as to:
            # Of two servers that start at once, the second finds the tables.
            to.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            there = set(inspect(to).get_table_names())
            if settings.name not in there:
                if there:
                    raise self._foreign()
                if not new:
                    raise self._missing()
                metadata.create_all(to)
                to.execute(self.insert(settings).values(name="version", value=str(VERSION)))
            known = select(settings.c.value).where(settings.c.name == "version")
            if to.scalar(known) != str(VERSION):
                raise self._foreign()

    def _missing(self) -> PomonaError:
        remedy = "`pomona arena serve PAIRS --db ...` makes one"
        return PomonaError("there is no arena", where=self.where, remedy=remedy)

    def _foreign(self) -> PomonaError:
        message = f"is a database, but not {_WHAT} of this version"
        return PomonaError(message, where=self.where, remedy="give another one, or an empty one")

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError:
            raise
        except (DBAPIError, NoConnection) as error:
            reason = first_line(getattr(error, "orig", None) or error)
            remedy = "is it there, may this user write to it, and has its disk room?"
            raise ResourceError(
                f"the database says: {reason}", where=self.where, remedy=remedy
            ) from error


def _parsed(given: str) -> URL:
    """The address of a database, with the driver that is used. A path is a SQLite file."""
    if "://" not in given:
        return URL.create("sqlite", database=given)
    try:
        url = make_url(given)
    except (ArgumentError, ValueError) as error:
        raise PomonaError("the address of a database is no URL", remedy=_REMEDY) from error
    kind = url.get_backend_name()
    where = url.render_as_string(hide_password=True)
    if kind not in ("sqlite", "postgresql"):
        raise PomonaError(f'no "{kind}" is known here', where=where, remedy=_REMEDY)
    if kind == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    if url.database in (None, "", ":memory:") or url.query:
        raise PomonaError("names no file", where=where, remedy=_REMEDY)
    return url.set(drivername="sqlite")


def _sqlite(url: URL) -> Engine:
    """The file, made or known again by the ground's rule, and connections to it whose commits are
    on the disk when they return.
    """
    assert url.database is not None
    path = Path(url.database)
    dialect: Any = sqlite.dialect()
    indexes = [index for table in metadata.sorted_tables for index in table.indexes]
    made = [CreateTable(table) for table in metadata.sorted_tables]
    tables = [str(each.compile(dialect=dialect)) for each in (*made, *map(CreateIndex, indexes))]
    Database(
        path,
        tables,
        what=_WHAT,
        application=b"PArn",
        version=VERSION,
        settings=("synchronous = full",),
    ).close()

    def connected() -> sqlite3.Connection:
        file = sqlite3.connect(
            path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False
        )
        for setting in ("synchronous = full", "foreign_keys = on"):
            file.execute(f"pragma {setting}")
        return file

    engine = create_engine(url, creator=connected, pool_size=8, max_overflow=32)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes")
        connection.exec_driver_sql("begin immediate" if writes else "begin")

    return engine


def _postgresql(url: URL) -> Engine:
    return create_engine(url, pool_size=8, max_overflow=8, pool_pre_ping=True)
