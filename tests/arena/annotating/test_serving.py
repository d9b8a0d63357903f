"""`arena serve`: what it makes of tables and options, and what it refuses before anything is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pomona.arena.annotating import serve
from pomona.arena.annotating.people import enter, invited
from pomona.arena.annotating.store import Store
from pomona.cli import main
from pomona.errors import PomonaError

from .conftest import pairs


def test_a_server_goes_on_with_what_is_there(tmp_path: Path) -> None:
    guide, db = tmp_path / "guide.md", str(tmp_path / "a.db")
    guide.write_text("Be *kind*.")
    rate = pa.table({"prompt": ["Why?"], "completion": ["Because"]})
    with serve(pairs(2), db=db, rate=rate, lead="Ada", guidelines=guide, port=0) as first:
        assert first.link is not None and first.link.startswith(f"{first.url}/login/")
        token = first.link.rpartition("/")[2]
    with serve(db=db, port=0, host="localhost", url="https://arena.example.org/") as second:
        assert (second.url, second.link) == ("https://arena.example.org", None)
    store = Store(db)
    ada = invited(store, token)
    assert ada is not None and ada.is_lead and enter(store, token)
    assert store.setting("guidelines") == "Be *kind*."
    store.close()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"pairs": pairs(1).drop_columns("model_b")}, "model_b"),
        ({"rate": pa.table({"prompt": ["?"]})}, "completion"),
        ({"overlap": 0}, "--overlap: overlap is 0 — give a positive number"),
        ({"overlap": 10**20}, "--overlap: overlap is 100000000000000000000 — give at most"),
        ({"lease": 0.0}, "--lease: lease is 0.0"),
        ({"needed": -1}, "--needed: needed is -1 — give 0 or more"),
        ({"url": "arena.example.org"}, "is no address of a server — write such as https://"),
        ({"url": "https://example.org/arena"}, "is no address of a server"),
        ({"guidelines": "none.md"}, "none.md: cannot be read"),
        ({"port": 70000}, "there is no port 70000"),
    ],
)
def test_what_is_refused_makes_no_database(
    given: dict[str, Any], message: str, tmp_path: Path
) -> None:
    db = tmp_path / "a.db"
    with pytest.raises(PomonaError) as caught:
        serve(**{"db": str(db), "port": 0, **given})
    assert message in str(caught.value) and not db.exists()


def test_what_is_wrong_with_the_database_frees_the_port(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_text("mine")
    with serve(pairs(1), db=str(tmp_path / "b.db"), port=0) as server:
        port = int(server.url.rpartition(":")[2])
    with pytest.raises(PomonaError, match="is not an arena's database"):
        serve(pairs(1), db=str(tmp_path / "a.db"), port=port)
    with serve(db=str(tmp_path / "b.db"), port=port):
        pass


def test_the_command_says_where_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pomona.arena.annotating.ArenaServer.wait", lambda _: None)
    db = f"sqlite:///{tmp_path / 'a.db'}"
    assert main(["arena", "serve", "--db", db, "--lead", "Ada", "--port", "0"]) == 0
    url, link = capsys.readouterr().out.splitlines()
    assert link.startswith(f"link for Ada, once: {url}/login/")
    assert main(["arena", "serve", "--db", "mysql://x/y", "--port", "0"]) == 2
    assert 'no "mysql" is known here' in capsys.readouterr().err
