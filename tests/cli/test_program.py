"""Exit codes and streams of the real program, with as few starts as possible."""

from __future__ import annotations

import json
import resource
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from pomona.cli import main

Program = Callable[..., subprocess.CompletedProcess[str]]

INTERRUPTED = """
import functools, os, signal, sys
from pomona import recipe
from pomona.cli import main

@functools.wraps(recipe.run)
def run(recipe, progress):
    progress.plan([("first", 1.0), ("second", 5.0)])
    progress.finish("first", 0.0, skipped=True)
    progress.start("second")
    os.kill(os.getpid(), signal.SIGNAL)

signal.signal(signal.SIGINT, signal.default_int_handler)  # a parent in the background has it ignored
recipe.run = run
sys.argv[1:] = ["run", "any.yaml"]
sys.exit(main())
"""


def test_help_is_quick_and_goes_to_stdout(program: Program) -> None:
    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = program("--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert (done.returncode, done.stderr) == (0, "")
        assert all(
            command in done.stdout for command in ("run", "ledger", "report", "models", "doctor")
        )
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

    assert min(seconds() for _ in range(3)) <= 0.3


def test_nothing_heavy_is_imported_for_help(program: Program) -> None:
    code = (
        "import sys; from pomona.cli import main; main(['--help']); sys.stdout.write(' "
        "'.join(sys.modules))"
    )
    loaded = set(program(code=code).stdout.split())
    assert not loaded & {
        "torch",
        "numpy",
        "pyarrow",
        "pydantic",
        "daft",
        "altair",
        "numba",
        "transformers",
        "yaml",
    }


@pytest.fixture
def quick(program: Program, forked: Path) -> Program:
    """The program where it does not matter what a start imports."""
    return partial(program, python=forked / "python")


def test_a_usage_error_is_one_line_on_stderr(quick: Program) -> None:
    done = quick("run", "--sed", "3")
    assert (done.returncode, done.stdout) == (2, "")
    # before it may stand what a first use says
    assert done.stderr.splitlines()[-1] == "error: Unknown option: --sed. Did you mean --seed?"


def test_data_goes_to_stdout_without_colour(quick: Program, run_folder: Path) -> None:
    done = quick("ledger", str(run_folder), "--format", "json", "--group", "cy")
    assert (done.returncode, done.stderr) == (0, "")
    assert [(row["variant"], row["group"]) for row in json.loads(done.stdout)] == [
        ("ui-s", "cy"),
        ("hedged5", "cy"),
    ]
    done = quick("ledger", str(run_folder), NO_COLOR="1", FORCE_COLOR="1")
    assert "\x1b[3" not in done.stdout
    assert "hedged5" in done.stdout


@pytest.mark.parametrize("sign", ["SIGINT", "SIGTERM"])
def test_an_interrupt_is_130_and_progress_is_plain_lines(quick: Program, sign: str) -> None:
    done = quick(code=INTERRUPTED.replace("SIGNAL", sign))
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.splitlines() == [
        "[1/2] first: done before",
        "[2/2] second: run 0:05 left",
        "interrupted; the same command goes on with what is finished",
    ]


@pytest.mark.parametrize("asked", ["--format csv", "--format human", "--help"])
def test_a_reader_that_leaves_is_no_error(run_folder: Path, asked: str, forked: Path) -> None:
    command = [str(forked / "pomona"), "ledger", str(run_folder), *asked.split()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout and child.stderr
        child.stdout.close()
        assert child.stderr.read() == b""
    assert child.returncode == 0


def test_the_first_use_of_a_command_says_why_it_takes_long(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POMONA_CACHE", str(tmp_path / "empty"))
    told = [program("data", "dedup", "none.jsonl", "--out", "o").stderr for _ in range(2)]
    first = (
        "first use of pomona data dedup: libraries are loaded and loops compiled for this "
        "processor, which later runs need not do\n"
    )
    assert told[0] == first + told[1]
    assert told[1].startswith("error: none.jsonl")
    assert not program("merge", "--help").stderr


def test_windows_is_refused_in_a_sentence_that_the_readme_says_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.platform", "win32")
    code = main(["doctor"])
    monkeypatch.undo()
    sentence = "error: Pomona runs on Linux and macOS; on Windows, run it in WSL\n"
    assert (code, *capsys.readouterr()) == (2, "", sentence)
    readme = Path(__file__).parents[2] / "README.md"
    assert "on Linux and macOS; on Windows, run it in WSL" in readme.read_text()
