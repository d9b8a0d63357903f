"""The wrapper between a function and its command, on functions made for it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pomona.cli import main
from pomona.cli.command import Command, Made, Options
from pomona.cli.output import Out
from pomona.errors import PomonaError

EVENTS: list[str] = []


@contextmanager
def opened(*, lamp: str | None = None, width: int = 3) -> Iterator[str]:
    """A thing that is open.

    Args:
        lamp: Its light.
        width: Its width.
    """
    EVENTS.append("open")
    try:
        yield f"{lamp} {width}"
    finally:
        EVENTS.append("closed")


def work(
    inputs: Sequence[str],
    *,
    thing: str = "none",
    settings: Mapping[str, Any] | None = None,
    loud: bool = True,
    fails: bool = False,
) -> list[Any]:
    """Do the work.

    More of it.

    Args:
        loud: Whether it is loud.
        fails: Fail.
    """
    EVENTS.append("work")
    if fails:
        raise PomonaError("it failed")
    return [inputs, thing, settings, loud]


def forecast(inputs: Sequence[str], loud: bool = True) -> str:
    """Tell what it would be."""
    return f"{inputs} {loud}"


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Command:
    """`work` with an object made of options, a mapping of options, and another function."""
    toy = ModuleType("toy")
    for function in (opened, work, forecast):
        setattr(toy, function.__name__, function)
    monkeypatch.setitem(sys.modules, "toy", toy)
    EVENTS.clear()
    options = Options(
        inverted={"loud": ("quiet", "Be quiet.")},
        made={
            "thing": Made("toy:opened", {"Things": "lamp width"}, prefix="thing_"),
            "settings": Made("toy:opened", {"": "width"}, kept=True),
        },
        instead={"dry_run": ("toy:forecast", "Only tell.")},
        missing={"inputs": PomonaError("no inputs")},
    )
    return Command("toy:work", None, options, lambda _, result, __: RESULTS.append(result))


RESULTS: list[Any] = []


def test_an_object_is_made_of_its_options_and_open_for_as_long_as_it_is_used(
    command: Command,
) -> None:
    command(["a"], thing_lamp="bright")
    assert RESULTS.pop() == [["a"], "bright 3", None, True]
    assert EVENTS == ["open", "work", "closed"]
    EVENTS.clear()
    command(["a"], width=4, quiet=True)
    assert RESULTS.pop() == [["a"], "none", {"width": 4}, False]
    assert EVENTS == ["work"]


def test_what_was_opened_is_closed_when_the_work_fails(command: Command) -> None:
    with pytest.raises(PomonaError, match="it failed"):
        command(["a"], thing_width=2, fails=True)
    assert EVENTS == ["open", "work", "closed"]


def test_a_flag_calls_another_function_with_what_it_takes(command: Command) -> None:
    command(["a"], dry_run=True, quiet=True, thing_lamp="x")
    assert RESULTS.pop() == "['a'] False"
    assert EVENTS == []
    for flags in ({}, {"dry_run": True}):
        with pytest.raises(PomonaError, match="no inputs"):
            command(**flags)


def test_options_and_texts_are_those_of_the_functions(command: Command) -> None:
    assert command.__doc__ == "Do the work."
    texts = {
        name: option.annotation.__metadata__[-1].help
        for name, option in command.__signature__.parameters.items()
    }
    assert {name: texts[name] for name in ("thing_lamp", "quiet", "fails", "dry_run")} == {
        "thing_lamp": "Its light.",
        "quiet": "Be quiet.",
        "fails": "Fail.",
        "dry_run": "Only tell.",
    }
    assert {"inputs", "width", "format"} <= set(texts)
    assert not {"thing", "settings", "loud", "lamp"} & set(texts)


def test_whole_numbers_are_not_rounded(capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("1.5", "1e3", "", "x", "nan.0"):
        rows = ["sample", "rows.jsonl", "--out", "o", "--model", "ui-xs"]
        assert main([*rows, "--top-k", text]) == 2
        assert f'Invalid value for --top-k: "{text}" is no whole number' in capsys.readouterr().err


def test_a_value_of_no_option_is_named_with_how_several_are_given(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["data", "filter", "rows.jsonl", "--out", "o.jsonl", "--not-null", "a", "b"]
    assert main(words) == 2
    told = '"b" belongs to no option — leave it out; an option of several values is given with each'
    assert told in capsys.readouterr().err


def test_a_package_that_is_missing_is_said_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "needy.py").write_text("import nothing_like_it\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PomonaError, match=r"nothing_like_it is not installed — `pomona doctor`"):
        Command("needy:work")()


@pytest.mark.parametrize("width", [12, 30, 50, 57, 80, 160])
def test_a_table_never_loses_a_column_to_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    rows = [{"step": "fine-tune upsample/last 20 %", "state": "to do", "cost": 12345, "disk": None}]
    Out("human").table(rows, caption="to do: 1 step")
    said = capsys.readouterr().out
    for text in ("step", "state", "cost", "disk", "12,345", "—", "to do: 1"):
        assert text in " ".join(said.split())
    assert ("upsample/last 20 %" in said) or width < 40
    assert said.startswith("step: ") is (width < 57)
