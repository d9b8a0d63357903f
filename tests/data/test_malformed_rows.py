"""Malformed rows, and rows without what a command needs: told, dropped or set aside."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pomona.cli import main
from pomona.records import read

ROWS = (
    '{"text": "one two three", "lang": "en", "n": 1.0}\n'
    '{"text": null, "lang": "en", "n": 2.0}\n'
    "nope\n"
    '{"text": "a text of its own", "lang": "de", "n": null}\n'
    '{"text": "yet another one of them", "lang": null, "n": 3.0}\n'
)
COMMANDS = {
    "dedup": (["data", "dedup", "--method", "exact"], 3, 2),
    "substring": (["data", "dedup", "--method", "substring"], 3, 2),
    "prune": (["data", "prune", "--by", "n", "--keep", "1"], 3, 2),
    "score": (["data", "score", "--scores", "mtld"], 3, 2),
    "audit": (["data", "audit", "sample"], 2, 3),
    "templates": (["data", "templates", "--prompt", "lang", "--completion", "text"], 2, 3),
}


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text(ROWS)
    return Path("rows.jsonl")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_stops_drops_or_rejects(
    name: str, rows: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, left, out = COMMANDS[name]
    command = [*words, str(rows), "--out", "o" if name == "audit" else "o.jsonl"]
    assert main(command) == 2
    told = capsys.readouterr().err
    assert "rows.jsonl, line 3: not valid JSON" in told and "on-error" in told
    assert not re.search(r"on_error|=", told), "the remedy is one of the command line"
    assert not Path("o.jsonl").exists()
    assert main([*command, "--on-error", "drop", "--dry-run", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows_in"] == left
    assert main([*command, "--on-error", "reject"]) == 2
    assert "go together" in capsys.readouterr().err
    assert main([*command, "--on-error", "reject", "--rejects", "r.jsonl"]) == 0
    card = json.loads(Path("o.card.json" if name == "audit" else "o.jsonl.card.json").read_text())
    assert (card["rows_in"], card["left_out"]) == (left, out)
    assert read("r.jsonl").count() == out


def test_both_tables_of_a_command_are_read_alike(
    rows: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["data", "rates", str(rows), "--valid", str(rows), "--format", "json"]
    assert main(command) == 2
    assert main([*command, "--on-error", "reject", "--rejects", "r.jsonl"]) == 0
    assert read("r.jsonl").count() == read("r.valid.jsonl").count() == 2
    capsys.readouterr()
