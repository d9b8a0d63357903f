"""What this installation has, and whether something is broken."""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from pomona.pages import size

_EXTRAS = {
    "torch": ("torch", "transformers", "tokenizers", "accelerate"),
    "gguf": ("torch", "transformers", "accelerate", "gguf", "xllamacpp"),
    "constrained": ("llguidance", "jsonschema"),
    "serve": ("starlette", "uvicorn", "httpx"),
    "ray": ("ray",),
    "zstd": ("zstandard",),
}
_BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}


@dataclass(frozen=True)
class Fact:
    """One line of the doctor's report. "absent" is fine: an extra that is not installed, a model
    that can be fetched.
    """

    what: str
    value: str
    state: Literal["ok", "absent", "broken"] = "ok"


def examine() -> list[Fact]:
    """What this installation has, and whether something is broken.

    Packages and extras, processor and device, embedded data and models by their hashes, folders and
    disks, telemetry; the fundamental first.
    """
    return list(_facts())


def _facts() -> Iterator[Fact]:
    version = platform.python_version()
    yield Fact(
        "Python",
        f"{version}, {sys.executable}",
        "ok" if (3, 11) <= sys.version_info < (3, 14) else "broken",
    )
    yield Fact("system", f"{platform.system()} {platform.machine()}")
    yield from _packages()
    yield from _extras()
    yield from _processor()
    yield from _assets()
    yield from _folders()
    yield from _telemetry()


def _packages() -> Iterator[Fact]:
    try:
        needed = [line for line in metadata.requires("pomona") or [] if "extra ==" not in line]
    except metadata.PackageNotFoundError:
        yield Fact("pomona", "is not installed as a package: pip install .", "broken")
        return
    yield Fact("pomona", metadata.version("pomona"))
    for line in needed:
        name = re.split(r"[^\w.-]", line)[0]
        found = _version(name)
        yield Fact(
            name, found or "is not installed: pip install pomona", "ok" if found else "broken"
        )


def _extras() -> Iterator[Fact]:
    for extra, modules in _EXTRAS.items():
        missing = [module for module in modules if importlib.util.find_spec(module) is None]
        present = ", ".join(
            f"{module} {_version(module)}" for module in modules if module not in missing
        )
        if missing:
            yield Fact(
                f"extra {extra}",
                f"without {', '.join(missing)}: pip install 'pomona[{extra}]'",
                "absent",
            )
        else:
            yield Fact(f"extra {extra}", present)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> Iterator[Fact]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Fact("cores", f"{cores} usable of {os.cpu_count()}")
    yield Fact(
        "bf16 on the CPU", "fast" if _cpu_flags() & _BF16_FLAGS else "slow: use dtype float32"
    )
    if importlib.util.find_spec("torch") is None:
        return
    try:
        torch = importlib.import_module("torch")
    except (ImportError, OSError) as error:
        yield Fact("device", f"torch cannot be loaded: {error}", "broken")
        return
    yield Fact(
        "threads",
        (
            f"{torch.get_num_threads()} in torch, "
            f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'not set')}"
        ),
    )
    if torch.cuda.is_available():
        yield Fact(
            "device",
            (
                f"cuda, {torch.cuda.get_device_name(0)}, bf16 "
                f"{'yes' if torch.cuda.is_bf16_supported() else 'no'}"
            ),
        )
    else:
        yield Fact("device", "mps" if torch.backends.mps.is_available() else "cpu")


def _cpu_flags() -> set[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return set()
    return set(" ".join(re.findall(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)).split())


def _assets() -> Iterator[Fact]:
    from pomona.files import sha256_of
    from pomona.models import catalogue

    root = Path(importlib.import_module("pomona").__path__[0]) / "assets"
    for name in ("ui", "ui-tokenizer"):
        folder = root / name
        if folder.is_dir() and list(folder.iterdir()):
            yield _asset(name, folder, sha256_of(folder))
        else:
            yield Fact(name, f"is missing: {folder}", "broken")
    for entry in catalogue():
        fetched = root not in entry.where.parents
        if entry.present:
            yield _asset(entry.name, entry.where, sha256_of(entry.where))
        else:
            yield Fact(
                entry.name,
                f"run `pomona models pull {entry.name}`" if fetched else "is missing",
                "absent" if fetched else "broken",
            )


def _asset(name: str, path: Path, digest: str) -> Fact:
    total = (
        path.stat().st_size
        if path.is_file()
        else sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    )
    return Fact(name, f"{size(total)}, SHA-256 {digest[:16]}")


def _folders() -> Iterator[Fact]:
    from pomona.files import cache_folder

    cache = cache_folder()
    there = next(folder for folder in (cache, *cache.parents) if folder.exists())
    writable = os.access(there, os.W_OK)
    yield Fact(
        "cache",
        f"{cache}{'' if writable else ': cannot be written; set POMONA_CACHE'}",
        "ok" if writable else "broken",
    )
    for what, folder in (("disk of the cache", there), ("disk here", Path.cwd())):
        yield Fact(what, f"{size(shutil.disk_usage(folder).free)} free")


def _telemetry() -> Iterator[Fact]:
    off = os.environ.get("RAY_USAGE_STATS_ENABLED", "0") == "0"  # the only one
    yield Fact("telemetry", "off" if off else "on", "ok" if off else "broken")
