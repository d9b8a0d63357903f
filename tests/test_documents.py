"""The examples in the documents run as they are pasted."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCKS = [
    pytest.param(kind, block, id=f"{path.name}-{i}")
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    for i, (kind, block) in enumerate(
        re.findall(r"```(bash|python)\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)
    )
]


def _folder(folder: Path) -> Path:
    (folder / "src").symlink_to(ROOT / "src")
    (folder / "examples").symlink_to(ROOT / "examples")
    return folder


@pytest.mark.parametrize(("kind", "block"), BLOCKS)
def test_an_example_runs(kind: str, block: str, tmp_path: Path, forked: Path) -> None:
    if kind == "python":
        strict = "import warnings\nwarnings.simplefilter('error')\n"
        command = [str(forked / "python"), "-c", strict + block]
    else:
        command = ["bash", "-euc", block]
    path = ":".join([str(forked), str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        command,
        cwd=_folder(tmp_path),
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": path},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() or "merge" in block


def test_links_lead_somewhere() -> None:
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        prose = re.sub(
            r"```.*?```|(?m:^    .*$)", "", path.read_text(encoding="utf-8"), flags=re.DOTALL
        )
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", prose):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"
