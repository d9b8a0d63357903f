"""Databases that are an arena's, and others, which stay as they were."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import psycopg
import pyarrow as pa
import pytest
from sqlalchemy import text

from pomona.arena.annotating.items import add_items, read_pairs
from pomona.arena.annotating.store import Store
from pomona.errors import PomonaError, ResourceError

from .conftest import pairs


def test_what_was_kept_is_there_again(database: str) -> None:
    first = Store(database)
    first.keep("guidelines", "Be kind.")
    first.keep("guidelines", "Be fair.")
    assert add_items(first, read_pairs(pairs(3)), 2) == 3
    second = Store(database)  # another server of the same arena
    assert second.setting("guidelines") == "Be fair."
    assert second.seed == first.seed
    assert add_items(second, read_pairs(pairs(4)), 2) == 1
    first.close()
    second.close()


def test_a_transaction_is_whole_or_nothing(store: Store) -> None:
    add_items(store, read_pairs(pairs(1)), 1)
    new, late = pairs(1, item=["item-7"]), pairs(1, prompt=["Something else?"])
    late = pa.concat_tables([new, late.select(new.column_names)])
    with pytest.raises(
        PomonaError, match='item "item-0" is there already with another prompt, answer'
    ):
        add_items(store, read_pairs(late), 1)
    with store.reading() as source:
        assert source.scalar(text("select count(*) from arena_items")) == 1


def test_a_sqlite_file_of_something_else_is_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "else.db"
    with sqlite3.connect(path) as file:
        file.execute("create table arena_settings (name text, value text)")
    file.close()
    before = path.read_bytes()
    with pytest.raises(PomonaError, match="is a database, but not an arena's database of this"):
        Store(f"sqlite:///{path}")
    assert path.read_bytes() == before and [*tmp_path.iterdir()] == [path]


def test_no_database_is_made_of_a_text(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("Buy apples. " * 100)
    with pytest.raises(PomonaError, match="is not an arena's database, but something else"):
        Store(str(path))
    assert path.read_text() == "Buy apples. " * 100


def test_a_postgresql_of_something_else_is_refused(postgresql: str) -> None:
    with psycopg.connect(postgresql, autocommit=True) as to:
        to.execute("drop schema public cascade")
        to.execute("create schema public")
        to.execute("create table orders (id integer)")
        with pytest.raises(PomonaError, match="is a database, but not an arena's"):
            Store(postgresql)
        found = to.execute("select tablename from pg_tables where schemaname = 'public'")
        assert found.fetchall() == [("orders",)]


def test_another_version_is_refused(database: str) -> None:
    store = Store(database)
    with store.writing() as to:
        if database.startswith("sqlite"):
            store.close()
        else:
            to.execute(text("update arena_settings set value = '99' where name = 'version'"))
    store.close()
    if database.startswith("sqlite"):
        file = sqlite3.connect(database.removeprefix("sqlite:///"))
        file.execute("pragma user_version = 99")
        file.close()
    with pytest.raises(PomonaError, match="of this version"):
        Store(database)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://localhost/x", 'no "mysql" is known here — write sqlite:///FILE or postgresql'),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("sqlite:///a.db?mode=ro", "names no file"),
        ("://", "is no URL"),
    ],
)
def test_addresses_that_lead_nowhere(url: str, message: str) -> None:
    with pytest.raises(PomonaError, match=message):
        Store(url)


def test_a_password_is_in_no_message() -> None:
    with pytest.raises(ResourceError) as caught:
        Store("postgresql://ada:secret@127.0.0.1:1/arena")
    assert "secret" not in str(caught.value) and "the database says" in str(caught.value)


def test_an_arena_that_has_to_be_there(database: str) -> None:
    with pytest.raises(PomonaError, match="there is no arena — `pomona arena serve"):
        Store(database, new=False)
    if database.startswith("sqlite"):
        assert not Path(database.removeprefix("sqlite:///")).exists()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"model_a": ["apple", None]}, r"table, row 2: model_a is missing — give it, or drop"),
        ({"model_b": ["pear", "pear"], "model_a": ["kiwi", "pear"]}, "row 2: both models are one"),
        ({"completion_b": ["a", "b\0"]}, "row 2: completion_b has the character NUL"),
        ({"propensity": [0.5, 1.5]}, 'row 2: propensity is "1.5" — give a number above 0, at most'),
        ({"rank": ["1", "first"]}, 'row 2: rank is "first" — give a number'),
        (
            {"item": ["x", "x"], "model_a": ["kiwi", "pear"], "model_b": ["pear", "kiwi"]},
            'row 2: item "x" is there already with another prompt, answer or language — give the',
        ),
    ],
)
def test_pairs_that_are_none(columns: dict[str, list[object]], message: str) -> None:
    with pytest.raises(PomonaError, match=message):
        read_pairs(pairs(2, **columns))


def test_a_table_without_rows_or_columns(tmp_path: Path) -> None:
    with pytest.raises(PomonaError, match="holds no rows"):
        read_pairs(pairs(2).slice(0, 0))
    with pytest.raises(PomonaError, match="completion_b"):
        read_pairs(pairs(2).drop_columns("completion_b"))
