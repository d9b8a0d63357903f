"""What compressing made, or would make."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class CompressedModule:
    """One changed tensor. zeros: of its weights. error: ‖W − W'‖ / ‖W‖, None before it is made.
    packed: bytes it would take in a form made for it. type: of its weights in a GGUF file.
    """

    name: str
    weights: int
    zeros: int | None
    error: float | None
    packed: int
    type: str | None = None


@dataclass(frozen=True)
class Compressed:
    """A compressed model, or in a dry run what it would be.

    kept: tensors that stay as they are. disk: bytes of the result's tensors; packed: bytes they
    would take in a form made for them; free: bytes free where it goes. found: tensors that an
    earlier, killed call had finished.
    """

    out: Path
    written: bool
    signature: str
    settings: Mapping[str, Any]
    modules: tuple[CompressedModule, ...]
    kept: int
    parameters: int
    disk: int
    packed: int
    free: int
    notes: tuple[str, ...]
    found: int = 0

    @property
    def zeros(self) -> int | None:
        """Zeros in the changed tensors; None where they are not known yet."""
        known = [module.zeros for module in self.modules]
        return None if None in known else sum(filter(None, known))

    def rows(self) -> list[dict[str, Any]]:
        """A row for each changed tensor."""
        return [asdict(module) for module in self.modules]

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**asdict(self), "out": str(self.out), "zeros": self.zeros}
