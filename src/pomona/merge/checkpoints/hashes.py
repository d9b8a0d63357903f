"""SHA-256 of input files, in threads of their own, and remembered; the hub's cache names large
files by it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from pomona.files import atomic_file

_BLOCK = 1 << 20
_MOST = 4000  # files that are remembered
_SETTLED = 2.0  # seconds a file must be old for its time of change to tell it from a later one


class Hashes:
    """Hashes of files, begun when made. `threads` are used for files that must be read."""

    def __init__(self, files: Iterable[Path], threads: int) -> None:
        files = list(dict.fromkeys(files))
        self._cache = _cache_file()
        self._known = _remembered(self._cache)
        self._keys = {file: _key(file) for file in files}
        self._stop = threading.Event()
        self._found: dict[Path, str] = {}
        unknown: list[Path] = []
        for file in files:
            known = _hub_name(file) or self._known.get(self._keys[file])
            if known is None:
                unknown.append(file)
            else:
                self._found[file] = known
        self.read = sum(file.stat().st_size for file in unknown)
        self._pool = ThreadPoolExecutor(max(1, min(threads, len(unknown)))) if unknown else None
        unknown.sort(key=lambda file: -file.stat().st_size)
        self._waiting: dict[Path, Future[str]] = (
            {file: self._pool.submit(self._sha256, file) for file in unknown} if self._pool else {}
        )

    def result(self) -> dict[Path, str]:
        """The hash of every file, when all are known; they are remembered."""
        for file, future in self._waiting.items():
            self._found[file] = future.result()
        if self._pool is not None:
            self._pool.shutdown()
            self._remember(
                [
                    file
                    for file in self._waiting
                    if _key(file) == self._keys[file] and _age(file) > _SETTLED
                ]
            )
        self._pool, self._waiting = None, {}
        return self._found

    def stop(self) -> None:
        """The hashes are not needed any more."""
        self._stop.set()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def _sha256(self, file: Path) -> str:
        digest, block = hashlib.sha256(), bytearray(_BLOCK)
        view = memoryview(block)
        with file.open("rb", buffering=0) as stream:
            while (got := stream.readinto(block)) and not self._stop.is_set():
                digest.update(view[:got])
        return digest.hexdigest()

    def _remember(self, files: Iterable[Path]) -> None:
        entries = {
            **_remembered(self._cache),
            **{self._keys[file]: self._found[file] for file in files},
        }
        try:
            with atomic_file(self._cache) as partial:
                partial.write_text(
                    json.dumps(dict(list(entries.items())[-_MOST:])), encoding="utf-8"
                )
        except OSError:  # a cache that cannot be written only costs time
            return


def _cache_file() -> Path:
    from pomona.models._catalogue import cache_folder

    return cache_folder() / "hashes.json"


def _remembered(cache: Path) -> dict[str, str]:
    try:
        found = json.loads(cache.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return (
        {key: value for key, value in found.items() if isinstance(value, str)}
        if isinstance(found, dict)
        else {}
    )


def _key(file: Path) -> str:
    told = file.stat()
    return f"{file.resolve()}|{told.st_size}|{told.st_mtime_ns}|{told.st_ino}"


def _age(file: Path) -> float:
    return time.time() - file.stat().st_mtime


def _hub_name(file: Path) -> str | None:
    """The hub's cache names a large file by its SHA-256."""
    if not file.is_symlink():
        return None
    blob = Path(os.path.realpath(file))
    return (
        blob.name
        if blob.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{64}", blob.name)
        else None
    )
