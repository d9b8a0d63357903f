from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pomona.merge._plan import Input, Job
from pomona.merge.methods import _native, run


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("POMONA_CACHE", str(tmp_path))
    return tmp_path / "loops"


def compiled(name: str) -> tuple[bytes, bytes]:
    folder = Path(_native._folder())
    _native.loop(name)
    content = next(folder.glob(f"{_native._key()}-{name}.o")).read_bytes()
    symbol, _, code = content[32:].partition(b"\n")
    return symbol, code


def test_a_damaged_cache_is_compiled_anew(cache, monkeypatch):
    made = []

    def compile_(name: str) -> tuple[bytes, bytes]:
        made.append(name)
        return code

    monkeypatch.delenv("POMONA_CACHE")
    code = compiled("linear")
    monkeypatch.setenv("POMONA_CACHE", str(cache.parent))
    monkeypatch.setattr(_native, "_compile", compile_)
    _native._load("linear")
    _native._load("linear")
    assert made == ["linear"]
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    for damaged in (b"", whole[:-1], whole[:400] + b"?" + whole[401:]):
        file.write_bytes(damaged)
        _native._load("linear")
        assert file.read_bytes() == whole
    assert made == ["linear"] * 4


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch):
    code = compiled("linear")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("POMONA_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(_native, "_compile", lambda _: code)
    assert callable(_native._load("linear"))


def test_a_second_process_needs_no_compiler():
    job = Job("x", (3,), "F32", "linear", (Input(0, "x", "F32", {"weight": 2.0}),), None, "F32", {"normalize": False})
    run(job, [np.ones(3, np.float32)])
    script = (
        "import sys, numpy as np\n"
        "from pomona.merge._plan import Input, Job\n"
        "from pomona.merge.methods import run\n"
        "job = Job('x', (3,), 'F32', 'linear', (Input(0, 'x', 'F32', {'weight': 2.0}),), None, 'F32', {'normalize': False})\n"
        "assert run(job, [np.ones(3, np.float32)]).tolist() == [2, 2, 2]\n"
        "print('numba' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
