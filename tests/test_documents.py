"""The examples in the documents run as they are pasted."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import forks

ROOT = Path(__file__).parents[1]
BLOCKS = [
    pytest.param(kind, block, id=f"{path.name}-{i}")
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    for i, (kind, block) in enumerate(
        re.findall(r"```(bash|python)\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)
    )
]


FORKS = """
import gc, json, os, sys, traceback
import numba, torch, transformers.models.llama.modeling_llama
gc.freeze()
for folder, block in json.loads(sys.argv[1]):
    pid = os.fork()
    if pid == 0:
        os.chdir(folder)
        for descriptor, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(name, os.O_CREAT | os.O_WRONLY), descriptor)
        code = 0
        try:
            exec(compile(block, "block", "exec"), {"__name__": "__main__"})
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


@pytest.fixture(scope="session")
def python_blocks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str, str]]:
    """Exit code, stdout and stderr of each Python block, run in folders of their own by children of
    one process with torch loaded.
    """
    blocks = [str(param.values[1]) for param in BLOCKS if param.values[0] == "python"]
    folders = [_folder(tmp_path_factory.mktemp("block")) for _ in blocks]
    cases = json.dumps(
        [(str(folder), block) for folder, block in zip(folders, blocks, strict=True)]
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FORKS, cases],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    said = [
        tuple((folder / name).read_text() for name in ("stdout", "stderr")) for folder in folders
    ]
    return {
        block: (int(code), *texts)
        for block, code, texts in zip(blocks, done.stdout.split(), said, strict=True)
    }


@pytest.fixture(scope="session")
def command(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for the PATH with a `pomona` that starts at once."""
    folder = tmp_path_factory.mktemp("bin")
    # An address must be short, which a folder of pytest's need not be.
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        address = Path(short) / "socket"
        forks.install(folder, address)
        server = [sys.executable, forks.__file__, str(address)]
        with subprocess.Popen(server, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None and process.stdout.readline() == b"ready\n"
            yield folder
            process.kill()


def _folder(folder: Path) -> Path:
    (folder / "src").symlink_to(ROOT / "src")
    (folder / "examples").symlink_to(ROOT / "examples")
    return folder


@pytest.mark.parametrize(("kind", "block"), BLOCKS)
def test_an_example_runs(
    kind: str, block: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if kind == "python":
        code, said, errors = request.getfixturevalue("python_blocks")[block]
    else:
        places = [request.getfixturevalue("command"), Path(sys.executable).parent]
        path = ":".join([*map(str, places), os.environ["PATH"]])
        environment = {**os.environ, "PATH": path}
        done = subprocess.run(
            ["bash", "-euc", block],
            cwd=_folder(tmp_path),
            check=False,
            capture_output=True,
            text=True,
            env=environment,
        )
        code, said, errors = done.returncode, done.stdout, done.stderr
    assert code == 0, errors
    assert said.strip() or "merge" in block


def test_links_lead_somewhere() -> None:
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"
