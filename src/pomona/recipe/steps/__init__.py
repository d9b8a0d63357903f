"""What the steps of a run do: functions from parameters and inputs to a folder, apart from
planning, so that their keys hold the code they run and no other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pomona.tasks.harness import HarnessTask


@dataclass(frozen=True)
class Cost:
    """What a step spent: FLOPs by the cost model, tokens put through a model, seconds, money. What
    is not known is None; where no token went through a model, nothing was paid.
    """

    flops: float | None = 0.0
    tokens: int | None = 0
    cpu_seconds: float | None = 0.0
    wall_seconds: float | None = 0.0
    money: float | None = None


@dataclass(frozen=True)
class Runtime:
    """Where a run computes, keeps what models answered to its requests, and what servers may cost
    it; the tasks of lm-evaluation-harness, open, by the signatures that their items' keys hold. It
    is no part of a step's key: results agree within floating-point rounding.
    """

    device: str | None = None
    threads: int = 1
    answers: Path = Path("answers.db")
    budget: Mapping[str, float] = field(default_factory=dict)
    tasks: Mapping[str, HarnessTask] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Served:
    """A model behind a server: there is no file of it. `says` is what the server tells of it,
    `wait` the seconds to wait for one that is starting.
    """

    name: str
    uri: str
    says: str = ""
    wait: float | None = None

    @property
    def key(self) -> str:
        """Hash of its address, which holds no secret, and of what the server tells."""
        return hashlib.sha256(f"{self.uri}\0{self.says}".encode()).hexdigest()[:16]


@dataclass(frozen=True)
class StepContext:
    """Where a step works: `inputs` are folders or files it was given, `served` the models among its
    inputs that have none, `out` becomes its result, `scratch` survives a kill.
    """

    params: Mapping[str, Any]
    inputs: dict[str, Path]
    out: Path
    scratch: Path
    runtime: Runtime
    advance: Callable[[int, int], None]
    served: Mapping[str, Served] = field(default_factory=dict)


def checkpoint(result: Path) -> Path:
    """The checkpoint folder of a step's result, or a checkpoint that was there before the run."""
    return result / "model" if (result / "model").is_dir() else result
