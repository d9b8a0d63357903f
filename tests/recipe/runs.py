"""What tests of runs share."""

from __future__ import annotations

from pathlib import Path

from pomona.ledger import Entry, Ledger


class Log:
    """Which steps were done and which were skipped."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.skipped: list[str] = []

    def plan(self, steps: list[tuple[str, float]]) -> None:
        self.planned = [name for name, _ in steps]

    def start(self, step: str) -> None: ...

    def advance(self, done: int, total: int) -> None: ...

    def measured(self, entry: Entry, higher_is_better: bool) -> None: ...

    def finish(self, step: str, seconds: float, skipped: bool) -> None:
        (self.skipped if skipped else self.done).append(step)


def without_times(ledger: Ledger) -> list[dict[str, object]]:
    return [
        {k: v for k, v in entry.to_json().items() if "seconds" not in k} for entry in ledger.entries
    ]


def edit(project: Path, old: str, new: str) -> None:
    recipe = project / "recipe.yaml"
    assert old in recipe.read_text()
    recipe.write_text(recipe.read_text().replace(old, new))


class Touching(Log):
    """Somebody writes to a file while the run goes on."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def finish(self, step: str, seconds: float, skipped: bool) -> None:
        self.path.write_bytes(self.path.read_bytes() + b"\n")
