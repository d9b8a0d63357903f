"""Steps and what they are made from.

A step is a pure function of its parameters, its inputs, the code of its room and the seed; their
hash is its key, and names its folder. So a killed run continues where it was, and a changed recipe
redoes only what changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from pomona.files import read_json, sha256_of

ROOT = Path(__file__).parents[1]
SHARED_CODE = ("native", "records", "models", "tasks", "train", "ledger/flops.py", "recipe/work.py")


@dataclass(frozen=True)
class Cost:
    """What a step spent: FLOPs by the cost model, tokens put through a model, seconds."""

    flops: float = 0.0
    tokens: int = 0
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0


@dataclass(frozen=True)
class Estimate:
    """What a step will need: `kind` chooses the rate at which this machine works through `flops`;
    `disk` is bytes left behind.
    """

    kind: str = "table"
    flops: float = 0.0
    disk: float = 0.0


@dataclass(frozen=True)
class Runtime:
    """Where a run computes. It is no part of a step's key: results agree within floating-point
    rounding.
    """

    device: str | None = None
    threads: int = 1


@dataclass(frozen=True)
class Desk:
    """Where a step works: `inputs` are folders or files it was given, `out` becomes its result,
    `bench` survives a kill.
    """

    params: Mapping[str, Any]
    inputs: dict[str, Path]
    out: Path
    bench: Path
    runtime: Runtime
    advance: Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Source:
    """Something that is there before the run: a checkpoint folder or a data file."""

    name: str
    path: Path

    @cached_property
    def key(self) -> str:
        """Hash of the content."""
        return _content_key(self.path)


@dataclass(frozen=True, eq=False)
class Step:
    """One piece of work. `room` names the folder of the package whose code it depends on, beside
    its own and what all steps share.
    """

    name: str
    room: str
    work: Callable[[Desk], Cost]
    params: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Step | Source] = field(default_factory=dict)
    estimate: Estimate = field(default_factory=Estimate)

    @cached_property
    def key(self) -> str:
        """Hash of everything the result depends on."""
        parts = [
            self.work.__module__,
            self.work.__qualname__,
            dict(self.params),
            {n: i.key for n, i in self.inputs.items()},
            code_key(self.room, self.work.__module__),
        ]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def folder(self) -> str:
        """Name of the result's folder: readable, and unique by the key."""
        return "".join(c if c.isalnum() or c in "-_.@" else "-" for c in self.name) + "-" + self.key


@cache
def code_key(room: str, module: str) -> str:
    """Hash of the code a step of `room` runs that is started by a function of `module`."""
    parts = [ROOT / name for name in (*SHARED_CODE, room, "/".join(module.split(".")[1:]) + ".py")]
    return hashlib.sha256("".join(sha256_of(p) for p in parts if p.exists()).encode()).hexdigest()[
        :16
    ]


@cache
def _content_key(path: Path) -> str:
    return sha256_of(path)[:16]


def ancestors(steps: Iterable[Step | Source]) -> Iterator[Step]:
    """The steps and everything they need, each once, inputs first."""
    seen: set[int] = set()

    def visit(node: Step | Source) -> Iterator[Step]:
        if id(node) in seen or isinstance(node, Source):
            return
        seen.add(id(node))
        for other in node.inputs.values():
            yield from visit(other)
        yield node

    for step in steps:
        yield from visit(step)


def cost_of(folder: Path) -> Cost:
    """What the step whose result is `folder` spent."""
    return Cost(**read_json(folder / "cost.json"))
