"""Compiled loops take what they say they take, and their cache may be empty, damaged, out of reach
or shared.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pomona.native import Family

LOOPS = """
from pomona.native import part

@part
def twice(value):
    return 2 * value

def total(values, matrix, factor, added, out):
    found = 0.0
    for value in values:
        found += twice(value)
    for row in range(matrix.shape[0]):
        for column in range(matrix.shape[1]):
            found += factor * row * matrix[row, column]
    out[0] = found
    return added + matrix.shape[1]
"""
TABLE = {"total": ("adding", "u1[::1] u8[:,::1] f8 i8 f8[::1]")}
SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np
import some_loops
from pomona.native import Family
family = Family("adding", "some_loops", ("adding",), {"total": ("adding", "u1[::1] u8[:,::1] f8 i8 f8[::1]")})
out = np.zeros(1)
assert family.loop("total")(np.ones(3, np.uint8), np.ones((2, 5), np.uint64), 0.5, 7, out) == 12
print(out[0], "numba" in sys.modules)
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the package `some_loops`."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "some_loops").mkdir()
    (folder / "some_loops" / "__init__.py").touch()
    (folder / "some_loops" / "adding.py").write_text(LOOPS)
    sys.path.insert(0, str(folder))
    importlib.import_module("some_loops")
    yield folder
    sys.path.remove(str(folder))


@pytest.fixture(scope="module")
def code(home: Path) -> tuple[bytes, bytes]:
    return Family("adding", "some_loops", ("adding",), TABLE)._compile("total")


@pytest.fixture
def family(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Family:
    """A family with an empty cache."""
    monkeypatch.setenv("POMONA_CACHE", str(tmp_path / "cache"))
    return Family("adding", "some_loops", ("adding",), TABLE)


def sums(family: Family) -> float:
    out = np.zeros(1)
    matrix = np.arange(6, dtype=np.uint64).reshape(2, 3)
    assert (
        family._load("total")(np.array([1, 2, 250], np.uint8), matrix, -0.25, 1 << 40, out)
        == (1 << 40) + 3
    )
    return out[0]


def test_integers_floats_arrays_and_matrices_arrive(
    family: Family, code: tuple[bytes, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(family, "_compile", lambda _: code)
    assert sums(family) == 2 * 253 - 0.25 * (3 + 4 + 5)
    assert family.loop("total") is family.loop("total")


def test_other_arrays_are_refused(
    family: Family, code: tuple[bytes, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(family, "_compile", lambda _: code)
    total, values, matrix, out = (
        family.loop("total"),
        np.ones(3, np.uint8),
        np.ones((4, 4), np.uint64),
        np.zeros(1),
    )
    with pytest.raises(TypeError, match=r"takes uint8 of 1 dimensions in C order, not int8 \(3,\)"):
        total(values.view(np.int8), matrix, 1.0, 0, out)
    for wrong in (matrix.T[1:], matrix[:, 1:], matrix.reshape(-1), matrix.astype(np.int64)):
        with pytest.raises(TypeError, match="takes uint64 of 2 dimensions in C order"):
            total(values, wrong, 1.0, 0, out)
    with pytest.raises(ValueError, match="shorter"):
        total(values, matrix, 1.0, 0)
    assert out[0] == 0


def test_a_damaged_cache_is_compiled_anew(
    family: Family, code: tuple[bytes, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def compile_(name: str) -> tuple[bytes, bytes]:
        made.append(name)
        return code

    monkeypatch.setattr(family, "_compile", compile_)
    sums(family)
    sums(family)
    assert made == ["total"]
    file = family.file("total")
    whole = file.read_bytes()
    for damaged in (b"", whole[:-1], whole[:400] + b"?" + whole[401:]):
        file.write_bytes(damaged)
        assert sums(family) == 503
        assert file.read_bytes() == whole
    assert made == ["total"] * 4


def test_a_cache_that_cannot_be_written_is_done_without(
    family: Family, code: tuple[bytes, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_text("")
    monkeypatch.setattr(family, "_compile", lambda _: code)
    assert sums(family) == 503
    assert (tmp_path / "cache").read_text() == ""


def test_another_text_is_other_code(home: Path, family: Family) -> None:
    source = home / "some_loops" / "adding.py"
    assert family.file("total") == Family("adding", "some_loops", ("adding",), TABLE).file("total")
    assert family.file("total") != Family(
        "adding", "some_loops", ("adding",), {"total": ("adding", "u1[::1]")}
    ).file("total")
    source.write_text(LOOPS + "\n")
    assert family.file("total") != Family("adding", "some_loops", ("adding",), TABLE).file("total")
    source.write_text(LOOPS)


def test_processes_that_compile_at_once_do_not_disturb_each_other(
    home: Path, family: Family
) -> None:
    command = [sys.executable, "-c", SCRIPT, str(home)]
    first = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[0] for process in first] == ["8.5 True\n"] * 2
    assert [file.name for file in family.file("total").parent.iterdir()] == [
        family.file("total").name
    ]
    assert (
        subprocess.run(command, capture_output=True, text=True, check=True).stdout == "8.5 False\n"
    )


def test_what_is_compiled_is_announced_once(
    family: Family,
    code: tuple[bytes, bytes],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    said: list[str] = []
    monkeypatch.setattr("pomona.native.family._announced", set())
    # Before the seconds that it takes, so that nobody waits without knowing for what.
    monkeypatch.setattr(
        family, "_compile", lambda _: (said.append(capsys.readouterr().err), code)[1]
    )
    sums(family)
    folder = family.file("total").parent
    assert said == [f"compiling the loops of adding for this processor (once; kept in {folder})\n"]
    sums(family)
    Family("adding", "some_loops", ("adding",), TABLE)._load("total")
    assert capsys.readouterr().err == ""


JIT = """
import sys
from pomona.native import jit

@jit("nothing much")
def one(value):
    return value + 1

if __name__ == "__main__":
    print(one(1), one(2), one(1.5), file=sys.stderr)
"""


def test_what_numba_keeps_itself_is_announced_too(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(JIT)
    command = [sys.executable, str(tmp_path / "one.py")]
    runs = [subprocess.run(command, check=True, capture_output=True, text=True) for _ in range(2)]
    told = [run.stderr for run in runs]
    first = "compiling the loops of nothing much for this processor (once; kept beside the program)"
    assert told == [f"{first}\n2 3 2.5\n", "2 3 2.5\n"]
