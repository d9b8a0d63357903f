"""A small run to print, and the program in this process or in one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pomona.ledger import Entry, Ledger, Meta

Program = Callable[..., subprocess.CompletedProcess[str]]


def entry(variant: str, group: str, delta: float) -> Entry:
    return Entry(
        lever="base" if variant == "ui-s" else "sampling",
        variant=variant,
        metric="chrf",
        group=group,
        baseline="ui-s",
        value=40 + delta,
        delta=delta,
        ci_low=delta - 0.5,
        ci_high=delta + 0.5,
        n=100,
        flops_once=0.0,
        flops_per_item=1e8 if variant == "ui-s" else 5e8,
        tokens=0,
        seconds=1.0,
        scale_equivalent=None,
        seed=0,
        signature="chrF2",
    )


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A finished run: the base and one lever, overall and in two groups."""
    meta = Meta("small", "chrF", True, "ui-s", 1_200_000, 1000, 0, "2026-01-01T00:00:00+00:00")
    entries = [
        entry(variant, group, delta)
        for group in ("overall", "fr", "cy")
        for variant, delta in (("ui-s", 0.0), ("hedged5", 1.5))
    ]
    folder = tmp_path / "small"
    folder.mkdir()
    Ledger(meta, entries).write(folder / "ledger.json")
    return folder


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """`program("ledger", "RUN")`: what a process of its own says and returns. `code` replaces the
    program by Python code, `python` the Python that runs it.
    """

    def program(
        *arguments: str,
        code: str | None = None,
        python: str | Path = sys.executable,
        **environment: str,
    ) -> subprocess.CompletedProcess[str]:
        start = (
            ["-c", code]
            if code
            else ["-c", "import sys; from pomona.cli import main; sys.exit(main())"]
        )
        return subprocess.run(
            [str(python), *start, *arguments],
            cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            text=True, capture_output=True, timeout=120, check=False,
        )  # fmt: skip

    return program
