import asyncio
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from pomona.db import Database
from pomona.errors import PomonaError

TABLES = ("create table notes (text text not null)", "create index by_text on notes (text)")


def opened(path: Path, **changed) -> Database:
    return Database(path, TABLES, **{"what": "notes", "application": b"TEST", **changed})


@pytest.fixture
def database(tmp_path):
    with closing(opened(tmp_path / "deep" / "notes.db")) as database:
        yield database


def add(database: Database, text: str) -> None:
    with database.writing() as file:
        file.execute("insert into notes values (?)", (text,))


def texts(database: Database) -> list[str]:
    with database.reading() as file:
        return [row[0] for row in file.execute("select text from notes order by text")]


def test_what_is_written_is_there_when_it_is_opened_again(database):
    add(database, "a")
    database.close()
    with closing(opened(database.path)) as again:
        assert texts(again) == ["a"]


def test_a_transaction_that_fails_leaves_nothing(database):
    add(database, "a")
    with pytest.raises(KeyError), database.writing() as file:
        file.execute("insert into notes values ('b')")
        raise KeyError
    assert texts(database) == ["a"]
    add(database, "c")
    assert texts(database) == ["a", "c"]


def test_threads_take_turns(database):
    threads = [
        threading.Thread(target=lambda k=k: [add(database, f"{k}-{n}") for n in range(20)])
        for k in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(texts(database)) == 80


def test_two_processes_make_it_once(tmp_path):
    script = (
        "import sys; from pomona.db import Database; "
        "d = Database(sys.argv[1], ['create table notes (text text)'], what='n', "
        "application=b'TEST')\n"
        "for k in range(30):\n"
        "    with d.writing() as file: file.execute('insert into notes values (?)', (str(k),))"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "notes.db")]
    for process in [subprocess.Popen(command) for _ in range(2)]:
        assert process.wait() == 0
    with closing(opened(tmp_path / "notes.db")) as database:
        assert len(texts(database)) == 60


def test_a_database_of_something_else_is_refused_and_left_as_it_was(tmp_path):
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as other:
        other.execute("create table t (a)")
    before = path.read_bytes()
    message = r"other\.db: is a database, but not notes of this version — give another path"
    with pytest.raises(PomonaError, match=message):
        opened(path)
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["other.db"]


def test_another_version_is_refused(database):
    with pytest.raises(PomonaError, match="not notes of this version"):
        opened(database.path, version=2)
    with pytest.raises(PomonaError, match="not notes of this version"):
        opened(database.path, application=b"ELSE")


def test_a_damaged_file_is_named_with_what_to_do(tmp_path):
    path = tmp_path / "notes.db"
    path.write_bytes(b"not a database at all" * 300)
    with pytest.raises(
        PomonaError,
        match=r"notes\.db: is not notes, but something else or damaged — give another path; if it was one, copy",
    ):
        opened(path, lost="copy it again")


def test_what_sqlite_says_is_told(database, tmp_path):
    with (
        pytest.raises(PomonaError, match=r"notes\.db: SQLite says: no such table: t — is it writ"),
        database.reading() as file,
    ):
        file.execute("select * from t")
    (tmp_path / "folder.db").mkdir()
    with pytest.raises(PomonaError, match=r"folder\.db: is no file"):
        opened(tmp_path / "folder.db")


def test_half_a_character_is_refused(database):
    with pytest.raises(PomonaError, match=r"notes\.db: a text has half a character in it — give"):
        add(database, "\ud800")
    assert texts(database) == []


def test_a_file_that_another_holds_keeps_nobody_waiting(database, monkeypatch):
    add(database, "a")

    async def main() -> list[str]:
        other = sqlite3.connect(database.path, isolation_level=None)
        other.execute("begin immediate")
        writing = asyncio.ensure_future(database.run_short(lambda: add(database, "b")))
        await asyncio.sleep(0.05)  # the loop goes on
        assert not writing.done()
        later = asyncio.ensure_future(database.run_short(lambda: texts(database)))
        other.execute("commit")
        other.close()
        await asyncio.wait_for(writing, 5)
        assert await asyncio.wait_for(later, 5) == ["a", "b"]
        return await database.run(lambda: texts(database))

    assert asyncio.run(main()) == ["a", "b"]
    monkeypatch.setattr("pomona.db._PATIENCE", 0.1)
    with closing(opened(database.path)) as short, closing(sqlite3.connect(database.path)) as other:
        other.execute("begin immediate")
        with pytest.raises(PomonaError, match="another process holds it — wait for that one"):
            add(short, "c")
        with pytest.raises(PomonaError, match="another process holds it"):
            asyncio.run(short.run_short(lambda: add(short, "c")))


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(PomonaError, match="its folder cannot be made"):
        Database(tmp_path / "file" / "x" / "a.db", [], what="a store", application=b"test")
