"""What finished windows gave, kept line by line until the files are written."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pomona.workspace import disk_guard


class Journal:
    """A file of JSON lines, one a finished window. A kill loses the line that was being written,
    and nothing before it: such a line is cut off when the file is opened again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        whole = 0
        with disk_guard(path), path.open("ab+") as file:
            file.seek(0)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                whole += len(line)
            file.truncate(whole)

    def windows(self) -> Iterator[dict[str, Any]]:
        """The windows so far, in order."""
        with self._path.open("rb") as file:
            for line in file:
                yield json.loads(line)

    def add(self, window: dict[str, Any]) -> None:
        """Keep a window; it is on the disk when this returns."""
        line = json.dumps(window, ensure_ascii=True, separators=(",", ":")) + "\n"
        with disk_guard(self._path), self._path.open("ab") as file:
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
