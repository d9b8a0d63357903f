"""What an operation on tables did: rows in and out, what was removed and why, and a signature to
quote it by.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pomona._version import __version__
from pomona.files import address, sha256_of, write_json
from pomona.records.store import is_remote
from pomona.records.writing import upload
from pomona.workspace import disk_guard


@dataclass(frozen=True)
class Input:
    """A file that was read: its SHA-256 (None when it is remote), and its rows where they were
    counted.
    """

    path: str
    rows: int | None
    sha256: str | None


@dataclass(frozen=True)
class Written:
    """A file that was written: its path from the card's folder (or its address), bytes, and SHA-256
    (None when it is remote). A file of ours is known again by it.
    """

    path: str
    size: int
    sha256: str | None


@dataclass(frozen=True)
class Card:
    """`removed` counts rows by reason; `groups` has rows in and out of each group; `details` is the
    operation's own. `left_out` is how many rows of the inputs were malformed or lacked a value and
    were dropped or set aside when they were read: they are not in `rows_in`.
    """

    operation: str
    parameters: Mapping[str, Any]
    inputs: tuple[Input, ...]
    rows_in: int
    rows_out: int
    removed: Mapping[str, int] = field(default_factory=dict)
    groups: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    left_out: int = 0
    outputs: tuple[Written, ...] = ()
    version: str = __version__

    @property
    def signature(self) -> str:
        """One line that says how the result was made, as sacreBLEU does for metrics."""
        parts = (
            f"{name}:{_short(value)}"
            for name, value in self.parameters.items()
            if value is not None
        )
        return "|".join([self.operation, *parts, f"version:{self.version}"])

    def write(self, out: str | Path) -> Path:
        """Write the card beside `out`, as `OUT.card.json`."""
        path = card_of(out)
        if not is_remote(path):
            write_json(path, {"signature": self.signature, **asdict(self)})
            return path
        with TemporaryDirectory(prefix="pomona-") as folder:
            staged = Path(folder) / "card"
            write_json(staged, {"signature": self.signature, **asdict(self)})
            with disk_guard(address(path)):
                upload(staged, address(path))
        return path


def card_of(out: str | Path) -> Path:
    """Where the card of `out` is; `pomona.files.address` tells a remote one's."""
    return Path(f"{out}.card.json")


def inputs_of(paths: Iterable[tuple[str | Path, int | None]]) -> tuple[Input, ...]:
    """The inputs of a card from paths and their rows."""
    return tuple(
        Input(str(path), rows, sha256_of(path) if Path(path).exists() else None)
        for path, rows in paths
    )


def _short(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
