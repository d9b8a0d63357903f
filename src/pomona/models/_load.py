"""From a URI to a folder, and from a folder to a model."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path

from pomona.errors import PomonaError, nearest
from pomona.models._catalogue import folder_of, names
from pomona.models._checkpoint import check
from pomona.models.protocol import Model

_SUPPORTED = "hf:PATH_OR_ID, a folder, gguf:PATH, or a name of the catalogue"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_HUB_FILES = ["*.safetensors", "*.json", "*.model", "*.txt", "*.jinja"]


def load(
    uri: str,
    *,
    device: str | None = None,
    dtype: str | None = None,
    memory: int | None = None,
    chat: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Model:
    """The model that `uri` names: `hf:PATH_OR_ID`, a folder, `gguf:PATH`, or a catalogue name.

    device: "cpu", "cuda", "cuda:1", "mps"; without it a GPU when there is one.
    dtype: "float32", "bfloat16" or "float16" for weights and arithmetic, or "mixed" for float32
        weights with bfloat16 arithmetic (faster on CPUs with AVX512-BF16 or AMX); without it
        bfloat16 on a GPU and float32, which is exact, on a CPU.
    memory: bytes that caches and logits may take beside the weights; without it a part of what is
        free.
    chat: every prompt becomes one user message in the tokenizer's chat template.
    progress: called with the number of prompts done and in all, after each batch of `generate` and
        `score`.
    A PomonaError when the URI names nothing, the checkpoint is broken, or a setting is unknown.
    """
    folder = locate(uri)
    _require("torch", "transformers", extra="torch")
    from pomona.models._torch import TorchModel

    return TorchModel(
        uri, folder, device=device, dtype=dtype, memory=memory, chat=chat, progress=progress
    )


def locate(uri: str) -> Path:
    """The local checkpoint folder of a URI, checked for missing and broken files; GGUF is converted
    and hub models are fetched first.
    """
    scheme, _, rest = uri.partition(":")
    if scheme in {"http", "https"}:
        raise PomonaError(
            f'models behind a server ("{uri}") cannot be loaded yet',
            remedy=f"supported: {_SUPPORTED}",
        )
    if scheme == "gguf":
        _require("torch", "transformers", "gguf", "accelerate", extra="gguf")
        from pomona.models._gguf import converted

        return converted(Path(rest).expanduser())
    if uri in names():
        return folder_of(uri)
    path = Path(rest if scheme == "hf" else uri).expanduser()
    if path.exists():
        return _local(path)
    if scheme == "hf" and _HUB_ID.fullmatch(rest):
        return _from_hub(rest)
    if scheme == "hf" or "/" in uri:
        raise PomonaError("no such folder", where=path, remedy=f"supported: {_SUPPORTED}")
    raise PomonaError(
        f'unknown model "{uri}"', remedy=f"{nearest(uri, names())} Supported: {_SUPPORTED}"
    )


def _local(path: Path) -> Path:
    if path.is_file() and path.suffix == ".gguf":
        raise PomonaError("is a GGUF file", where=path, remedy=f"write gguf:{path}")
    check(path)
    return path


def _from_hub(name: str) -> Path:
    _require("huggingface_hub", extra="torch")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        folder = Path(snapshot_download(name, allow_patterns=_HUB_FILES))
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise PomonaError(
            f"not a local folder, and fetching it failed: {reason}",
            where=f"hf:{name}",
            remedy="check the name",
        ) from error
    check(folder)
    return folder


def _require(*modules: str, extra: str) -> None:
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        raise PomonaError(
            f"{' and '.join(missing)} must be installed for this model",
            remedy=f"pip install 'pomona[{extra}]'",
        )
