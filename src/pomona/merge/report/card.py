"""The model card of a merge: README.md for people and the hub, pomona_merge.json for programs, with
the SHA-256 of every input file: hashed in threads of their own, and remembered.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pomona._version import __version__
from pomona.errors import quantity
from pomona.files import atomic_file, cache_folder
from pomona.merge.plan import MergePlan, MergeResult, inputs_of
from pomona.models.tensors import Tensors

if TYPE_CHECKING:
    from pomona.merge.report.survey import Layers


_BLOCK = 1 << 20
_MOST = 4000  # files that are remembered
_SETTLED = 2.0  # seconds a file must be old for its time of change to tell it from a later one


class FileHashes:
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
    return cache_folder() / "hashes.json"


def _remembered(cache: Path) -> dict[str, str]:
    try:
        entries = json.loads(cache.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if isinstance(entries, dict):
        return {key: value for key, value in entries.items() if isinstance(value, str)}
    return {}


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
    if blob.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{64}", blob.name):
        return blob.name
    return None


_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


@dataclass(frozen=True)
class CardModel:
    """A model as the card names it, and the files of it that are read."""

    name: str
    files: tuple[Path, ...]
    prepared: bool  # made for this merge from an adapter or a tokenizer


def sources_of(plan: MergePlan, work: Path) -> tuple[CardModel, ...]:
    """The models of a plan with the files that its jobs read, in the recipe's order. `work` is
    where tensors were prepared.
    """
    used: dict[tuple[str, Path], dict[Path, None]] = {}
    opened: dict[Path, Tensors] = {}
    for job in plan.jobs:
        for item in inputs_of(job):
            folder = plan.models[item.model]
            if folder not in opened:
                opened[folder] = Tensors(folder)
            used.setdefault((item.identity or folder.name, folder), {})[
                opened[folder].place(item.tensor).file
            ] = None
    return tuple(
        CardModel(name, tuple(sorted(files)), work in folder.parents)
        for (name, folder), files in sorted(used.items())
    )


def card_files(
    plan: MergePlan,
    title: str,
    sources: Sequence[CardModel],
    hashes: Mapping[Path, str],
    told: MergeResult,
    layers: Layers | None,
) -> dict[str, bytes]:
    """README.md and pomona_merge.json."""
    inputs = [
        {
            "model": source.name,
            "prepared": source.prepared,
            "files": [
                {"name": file.name, "bytes": file.stat().st_size, "sha256": hashes[file]}
                for file in source.files
            ],
        }
        for source in sources
    ]
    about: dict[str, Any] = {
        "signature": told.signature,
        "version": __version__,
        "seed": plan.seed,
        "recipe": plan.recipe,
        "inputs": inputs,
        "tensors": {"count": told.tensors, "by_method": told.methods},
        "parameters": told.parameters,
        "notes": list(plan.notes),
    }
    if layers is not None:
        about["report"] = {"of": layers.of, "measured": layers.share, "layers": layers.rows}
    readme = _readme(plan, title, inputs, told, layers)
    return {
        "README.md": readme.encode(),
        "pomona_merge.json": (
            json.dumps(about, indent=1, ensure_ascii=False, default=str) + "\n"
        ).encode(),
    }


def _readme(
    plan: MergePlan,
    title: str,
    inputs: Sequence[Mapping[str, Any]],
    told: MergeResult,
    layers: Layers | None,
) -> str:
    import yaml

    names = list(dict.fromkeys(source["model"] for source in inputs))
    hub = [name for name in names if _HUB_ID.fullmatch(name) and not Path(name).exists()]
    front = {
        **({"base_model": hub} if hub else {}),
        "library_name": "transformers",
        "tags": ["merge", "pomona"],
    }
    recipe = yaml.safe_dump(
        json.loads(json.dumps(plan.recipe, default=str)),
        sort_keys=False,
        allow_unicode=True,
        width=120,
    )
    fence = "`" * max(3, 1 + max(map(len, re.findall(r"`+", recipe)), default=0))
    counts = ", ".join(f"{count:,} {method}" for method, count in told.methods.items())
    lines = [
        "---",
        yaml.safe_dump(front, sort_keys=False, allow_unicode=True).rstrip(),
        "---",
        f"# {_plain(title)}",
        "",
        f"{quantity(told.parameters, 'parameter')} in {quantity(told.tensors, 'tensor')}"
        f" ({counts}), merged by "
        f"Pomona {__version__} with seed {plan.seed}.",
        "",
        "## Recipe",
        f"{fence}yaml",
        recipe.rstrip(),
        fence,
        "",
        "## Inputs",
        "| model | file | bytes | SHA-256 |",
        "|---|---|--:|---|",
    ]
    for source in inputs:
        name = _plain(source["model"]) + (" (prepared)" if source["prepared"] else "")
        lines += [
            f"| {name} | {_plain(file['name'])} | {file['bytes']:,} | `{file['sha256']}` |"
            for file in source["files"]
        ]
    if plan.notes:
        lines += ["", "## Notes", *(f"- {_plain(note)}" for note in plan.notes)]
    if layers is not None:
        lines += ["", "`report.html` shows how the models differ, layer by layer."]
    return "\n".join([*lines, "", f"Signature: `{told.signature}`", ""])


def _plain(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", " ".join(text.split()))
