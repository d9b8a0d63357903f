"""Every test: no deadlines (speed lives in benchmarks), one thread, no hub, no waiting for disks
that nobody pulls out.
"""

from __future__ import annotations

import gc
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

os.environ.update(
    {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
)
settings.register_profile("plain", deadline=None, max_examples=50)
settings.load_profile("plain")


def pytest_collection_finish() -> None:
    """What is imported by now stays: the Trainer collects garbage after each training and need not
    look through it again.
    """
    os.fsync = _nothing  # what a killed process wrote, the system still has
    gc.collect()
    gc.freeze()


def _nothing(descriptor: object) -> None: ...


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    if (
        sys.platform != "linux"
        or subprocess.run(command, capture_output=True, check=False).returncode
    ):
        pytest.skip("a small disk can only be mounted by root on Linux")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A page driven in Chromium, as the ledger's tests do; skipped where the machine has none."""
    program = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if program is None:
        pytest.skip("no Chromium on this machine: the page cannot be opened")
    spec = importlib.util.spec_from_file_location(
        "ledger_browser", Path(__file__).parent / "ledger/conftest.py"
    )
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    opened = module.Browser(program, tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()
