"""How a run says where it is."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Told by a run what it does. Calls come in order: `plan`, then for each step `start`, any
    number of `advance`, `finish`.
    """

    def plan(self, steps: list[tuple[str, float]]) -> None:
        """All steps in order, with the estimated seconds of each."""
        ...

    def start(self, step: str) -> None:
        """A step begins."""
        ...

    def advance(self, done: int, total: int) -> None:
        """`done` of `total` parts of the current step are finished."""
        ...

    def finish(self, step: str, seconds: float, skipped: bool) -> None:
        """A step ended after `seconds` of wall clock; `skipped` when an earlier run had finished
        it, which needs no `start`.
        """
        ...


class Silent:
    """Says nothing."""

    def plan(self, steps: list[tuple[str, float]]) -> None: ...

    def start(self, step: str) -> None: ...

    def advance(self, done: int, total: int) -> None: ...

    def finish(self, step: str, seconds: float, skipped: bool) -> None: ...
