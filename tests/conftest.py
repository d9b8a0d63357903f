"""Every test: no deadlines (speed lives in benchmarks), one thread, no hub, no waiting for disks
that nobody pulls out.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from tests.forks import Forks

from pomona.models import (
    Ability,
    Model,
    ModelError,
    Reply,
    ReplyPiece,
    Request,
    Spent,
    prompt_tokens,
)

os.environ.update(
    {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
)
settings.register_profile("plain", deadline=None, max_examples=50)
settings.load_profile("plain")


FORKS = pytest.StashKey[Forks]()
# Of the processes none ends with a file of half a minute while the other has nothing left to do.
FIRST = (
    "test_documents.py", "recipe/test_run.py", "data/test_engines.py", "recipe/test_faults.py",
    "recipe/test_models.py", "test_embedded.py", "test_house.py", "train/test_fit.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The heaviest files first, which the Makefile has xdist leave so."""
    places = {Path(__file__).parent / name: place for place, name in enumerate(FIRST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


def pytest_collection_finish(session: pytest.Session) -> None:
    """What is imported by now stays: the Trainer collects garbage after each training and need not
    look through it again. Programs that tests start are forks of what is there now.
    """
    os.fsync = _nothing  # what a killed process wrote, the system still has
    if any("forked" in getattr(item, "fixturenames", ()) for item in session.items):
        forks = session.config.stash[FORKS] = Forks()
        session.config.add_cleanup(forks.close)
    gc.collect()
    gc.freeze()
    gc.get_freeze_count = _many  # it counts them one by one, and each training asks


def _many() -> int:
    return 1


def _nothing(descriptor: object) -> None: ...


@pytest.fixture(scope="session")
def forked(request: pytest.FixtureRequest) -> Path:
    """A folder with a `python` and a `pomona` that start at once. What must not be imported, or
    counts memory and time from the start, is started by `sys.executable`.
    """
    return request.config.stash[FORKS].folder


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


Say = Callable[[Request, int, float], str]


def _numbered(request: Request, index: int, temperature: float) -> str:
    return f"answer {index}"


class Fake(Model):
    """A model that answers at once and says what it was asked: for what goes wrong, and for what
    must be exact.

    `say(request, index, temperature)` is the text; an answer costs 10 prompt tokens (the first
    of a call) and `answer` answer tokens.
    """

    def __init__(
        self,
        say: Say | None = None,
        *,
        name: str = "fake",
        abilities: frozenset[Ability] = frozenset(),
        answer: int = 5,
    ) -> None:
        self.name, self.identity, self.abilities = name, f"{name}:1", abilities
        self.say: Say = say or _numbered
        self.answer = answer
        self.made: list[tuple[Request, int, float]] = []
        self.calls = 0
        self.scored: list[int] = []
        self.most_at_once = self.under_way = 0
        self.broken = False

    async def each(
        self, request: Request, samples: Sequence[tuple[int, float]]
    ) -> AsyncIterator[Reply]:
        self.calls += 1
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        try:
            for place, (index, temperature) in enumerate(samples):
                await asyncio.sleep(0)
                if self.broken:
                    raise ModelError("the server is down", status=502, where=self.name)
                self.made.append((request, index, temperature))
                tokens = 0 if place else 10
                spent = Spent(
                    tokens,
                    self.answer,
                    100.0 * (tokens + self.answer),
                    0.25 * (tokens + self.answer),
                    0.5,
                )
                yield Reply(
                    self.say(request, index, temperature),
                    "stop",
                    spent,
                    self.name,
                    index,
                    temperature,
                    -1.0 * index,
                )
        finally:
            self.under_way -= 1

    async def reply(self, request: Request, samples: Sequence[tuple[int, float]]) -> list[Reply]:
        return [reply async for reply in self.each(request, samples)]

    async def stream(
        self, request: Request, samples: Sequence[tuple[int, float]]
    ) -> AsyncIterator[ReplyPiece | Reply]:
        for reply in await self.reply(request, samples):
            yield reply

    async def logprobs(
        self, request: Request, completions: Sequence[str], *, end: bool = False
    ) -> tuple[list[np.ndarray], Spent]:
        self.scored.append(len(completions))
        logs = [np.full(len(text), -0.1 * len(text), np.float32) for text in completions]
        return logs, Spent(10 * len(completions), sum(map(len, completions)))

    async def vectors(self, texts: Sequence[str]) -> tuple[Any, Spent]:
        rows = np.array(
            [[1 + text.count("a"), 1 + text.count("b")] for text in texts], np.float32
        ).reshape(-1, 2)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True), Spent(sum(map(len, texts)))

    def tokens(self, request: Request) -> int:
        return prompt_tokens(request)

    def cost(self, prompt: int, answer: int = 0, samples: int = 1) -> Spent:
        return Spent(prompt, answer * samples, estimated=True)

    async def close(self) -> None: ...


@pytest.fixture(scope="session")
def fake() -> type[Fake]:
    return Fake


@pytest.fixture
def earlier_results() -> Callable[..., dict[str, str]]:
    """Files as an earlier call would have left them at `out` and `out` + endings, with the card that
    lists them; returns the text of each by its name.
    """

    def leave(out: Path, *endings: str) -> dict[str, str]:
        out.parent.mkdir(exist_ok=True)
        texts = {f"{out.name}{end}": f"old {end}" for end in endings}
        listed = [
            {
                "path": name,
                "size": len(text),
                "sha256": hashlib.sha256(text.encode()).hexdigest(),
            }
            for name, text in texts.items()
        ]
        card = {"signature": "", "operation": "", "outputs": listed}
        texts[f"{out.name}.card.json"] = json.dumps(card)
        for name, text in texts.items():
            (out.parent / name).write_text(text)
        return texts

    return leave
