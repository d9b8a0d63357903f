"""What the steps of a run do: functions from parameters and inputs to a folder, apart from
planning, so that their keys hold the code they run and no other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


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
    """Where a run computes. It is no part of a step's key: results agree within floating-point
    rounding.
    """

    device: str | None = None
    threads: int = 1


@dataclass(frozen=True)
class StepContext:
    """Where a step works: `inputs` are folders or files it was given, `out` becomes its result,
    `scratch` survives a kill.
    """

    params: Mapping[str, Any]
    inputs: dict[str, Path]
    out: Path
    scratch: Path
    runtime: Runtime
    advance: Callable[[int, int], None]


def checkpoint(result: Path) -> Path:
    """The checkpoint folder of a step's result, or a checkpoint that was there before the run."""
    return result / "model" if (result / "model").is_dir() else result
