"""Every command is a public function, every option has a text, and remedies name options."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cyclopts import App

from pomona.cli import app, main
from pomona.cli.command import Command, imported


def commands(group: App, path: str = "") -> Iterator[tuple[str, App]]:
    """All commands by the words one types for them."""
    for name in group:
        if not name.startswith("-"):
            command, words = group[name], f"{path} {name}".strip()
            if command.default_command is not None:
                yield words, command
            yield from commands(command, words)


COMMANDS = dict(commands(app))
SOURCES = Path(__file__).parents[2] / "src/pomona"
# Options of programs that are not ours.
FOREIGN = """--help --version --merge --allow-crimes --quiet --no-input --no-deps --long --dest
--disable-pip-version-check"""


@cache
def arguments(words: str) -> Any:
    """What a command takes, with its texts."""
    return COMMANDS[words].assemble_argument_collection(parse_docstring=True)


# What reads no rows, or only its own; takes checkpoints; or whose recipe says what becomes of rows.
NO_ROWS = {
    "ledger", "report", "data audit page", "data audit report", "data value", "arena export",
    "scale flops", "scale thresholds", "models list", "models pull", "doctor", "run", "merge",
    "merge moe", "merge transplant", "merge extract", "merge adapters", "merge sweep",
}  # fmt: skip


def test_all_commands_are_found() -> None:
    assert {
        "run",
        "data dedup",
        "data audit sample",
        "merge",
        "merge sweep",
        "sample index",
    } <= set(COMMANDS)


@pytest.mark.parametrize("words", COMMANDS)
def test_every_option_has_a_text(words: str) -> None:
    bare = [a.name for a in arguments(words) if a.show and not a.children and not a.parameter.help]
    assert not bare
    assert COMMANDS[words].help


@pytest.mark.parametrize(
    "command",
    [c.default_command for c in COMMANDS.values() if isinstance(c.default_command, Command)],
    ids=lambda command: command.home,
)
def test_a_command_is_a_function_of_a_face(command: Command) -> None:
    options = command.options
    homes = [command.home, *(made.home for made in options.made.values())]
    homes += [home for home, _ in (*options.more.values(), *options.instead.values())]
    for home in homes:
        module, _, name = home.partition(":")
        is_room = hasattr(importlib.import_module(module), "__path__") or module.count(".") == 1
        assert is_room, f"{module} is private to its room"
        assert name.partition(".")[0] in dir(importlib.import_module(module))
        assert callable(imported(home))


@pytest.mark.parametrize("words", COMMANDS)
def test_seeds_are_not_below_zero(words: str) -> None:
    """NumPy refuses one with a traceback."""
    for argument in arguments(words):
        if argument.name == "--seed":
            checks: Any = argument.parameter.validator
            assert [check.gte for check in checks] == [0]


def test_every_command_that_reads_rows_says_what_becomes_of_bad_ones() -> None:
    made = {words: one.default_command for words, one in COMMANDS.items()}
    known = {words: one for words, one in made.items() if isinstance(one, Command)}
    without = {one for one in known if "on_error" not in known[one].__signature__.parameters}
    assert without == NO_ROWS & set(known), "give it tables in Options, or say why it has none"


def test_remedies_name_options_as_the_command_line_does() -> None:
    """Whichever face an error comes through, its remedy can be typed, or is said to be Python's."""
    known = {name for words in COMMANDS for one in arguments(words) for name in one.names}
    remedy = re.compile(r"remedy\s*\+?=\s*\(?\s*f?([\"'])(.*?)(?<!\\)\1")
    in_python = re.compile(r"\b[a-z_]+=(?![\d….])|[a-z]-[a-z]+ \"\w+\"")
    for path in sorted(SOURCES.rglob("*.py")):
        text = path.read_text()
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", text):
            assert option in known or option in FOREIGN.split(), f"{path}: there is no {option}"
        for _, told in remedy.findall(text):
            if not re.search(r"in Python|safe_serial|NAME=|\"stop\"", told):
                assert not in_python.search(told), f"{path}: {told}"


def test_what_is_wrong_with_an_option_is_told_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.jsonl").write_text('{"text": "a"}\n')
    dedup = "data dedup in.jsonl --method substring --out"
    prune = "data prune in.jsonl --out o.jsonl --by text"
    assert main(f"{dedup} o --min-length 0".split()) == 2
    assert "error: --min-length: 0 units are no repeat — " in capsys.readouterr().err
    assert main(f"{prune} --keep 3".split()) == 2
    assert "error: --keep: 3.0 is not a share" in capsys.readouterr().err
    Path("out").write_text("mine")
    assert main(f"{dedup} out".split()) == 2
    assert "error: out" in capsys.readouterr().err
