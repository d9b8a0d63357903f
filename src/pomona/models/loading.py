"""From a URI to a model, whatever runs it, and to a checkpoint folder; GGUF files are turned into
one once.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pomona.errors import PomonaError, nearest
from pomona.files import atomic_directory, cache_folder
from pomona.models.checkpoint import check, require
from pomona.models.concurrency import Rate
from pomona.models.entries import SMOLLM2, names, present
from pomona.models.model import Ability, Model
from pomona.models.request import reason_of

_SUPPORTED = "hf:PATH_OR_ID, a folder, gguf:PATH, or a name of the catalogue"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_HUB_FILES = ["*.safetensors", "*.json", "*.model", "*.txt", "*.jinja"]
# What only torch does with a checkpoint: whoever needs one of these gets torch, also for GGUF.
_OF_TORCH: frozenset[Ability] = frozenset({"score", "states", "train"})


def load(
    uri: str,
    *,
    need: Iterable[Ability] = (),
    device: str | None = None,
    dtype: str | None = None,
    memory: int | None = None,
    chat: bool = False,
    progress: Callable[[int, int], None] | None = None,
    threads: int = 1,
    context: int | None = None,
    concurrency: int = 8,
    api_key: str | None = None,
    rate: Rate | None = None,
    timeout: float = 120.0,
    price: tuple[float, float] | None = None,
    tokenizer: str | None = None,
) -> Model:
    """The model that `uri` names: a catalogue name, `hf:PATH_OR_ID`, a folder, `gguf:PATH`, or
    `http(s)://HOST/v1#NAME`.

    need: abilities it must have. GGUF runs in llama.cpp unless "score", "states" or "train" is
        among them; then torch runs it, converted once.
    device: for torch "cpu", "cuda", "cuda:1", "mps"; without it a GPU when there is one.
    dtype: for torch "float32", "bfloat16" or "float16" for weights and arithmetic, or "mixed" for
        float32 weights with bfloat16 arithmetic (faster on CPUs with AVX512-BF16 or AMX); without
        it bfloat16 on a GPU and float32, which is exact, on a CPU.
    memory: bytes that torch's caches and logits may take beside the weights; without it a part of
        what is free.
    chat: every prompt of `generate` and `score` becomes one user message in the chat template.
    progress: called with the number of prompts done and in all, after each batch that torch runs
        for `generate` and `score`.
    threads: of the processor, for requests to torch and llama.cpp; more threads than idle cores are
        much slower than one.
    context: for llama.cpp, the most tokens of one prompt with its answer; without it what the model
        was trained for, at most 8192.
    concurrency: requests under way at once at a server, and answers decoded at once by llama.cpp.
    api_key, rate (requests and tokens a minute), tokenizer (to count answers' tokens): for servers.
        Without `api_key` the environment's POMONA_API_KEY, or for api.openai.com OPENAI_API_KEY.
    timeout: seconds without a sign of life from a server.
    price: money for a million prompt tokens and a million answer tokens.
    A PomonaError when the URI names nothing, the checkpoint is broken, what it needs is not
    installed, or a setting is unknown or out of range.
    """
    sizes = {
        "threads": threads,
        "concurrency": concurrency,
        "timeout": timeout,
        "context": context,
    }
    for name, value in sizes.items():
        if value is not None and not value > 0:
            raise PomonaError(f"{name} is {value}", where=uri, remedy="give a positive number")
    scheme, _, rest = uri.partition(":")
    for_torch = bool(_OF_TORCH.intersection(need))
    if scheme in {"http", "https"} and not for_torch:
        require("httpx", extra="serve")
        from pomona.models.http.model import HttpModel

        return HttpModel(
            uri,
            chat=chat,
            api_key=api_key,
            concurrency=concurrency,
            rate=rate,
            timeout=timeout,
            price=price,
            tokenizer=tokenizer,
        )
    if (scheme == "gguf" or uri == SMOLLM2) and not for_torch:
        require("xllamacpp", "httpx", extra="gguf")
        from pomona.models.llama import LlamaModel

        return LlamaModel(
            present(uri) if uri == SMOLLM2 else Path(rest).expanduser(),
            name=uri,
            chat=chat,
            threads=threads,
            slots=concurrency,
            context=context,
            price=price,
        )
    folder = locate(uri)  # the cheap checks come first: importing torch takes seconds
    require("torch", "transformers", extra="torch")
    from pomona.models.torch.model import TorchModel

    return TorchModel(
        uri,
        folder,
        device=device,
        dtype=dtype,
        memory=memory,
        chat=chat,
        progress=progress,
        threads=threads,
        price=price,
    )


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
        return converted(Path(rest).expanduser())
    if uri in names():
        return folder_of(uri)
    path = Path(rest if scheme == "hf" else uri).expanduser()
    if path.exists():
        if path.is_file() and path.suffix == ".gguf":
            raise PomonaError("is a GGUF file", where=path, remedy=f"write gguf:{path}")
        check(path)
        return path
    if scheme == "hf" and _HUB_ID.fullmatch(rest):
        return _from_hub(rest)
    if scheme == "hf" or "/" in uri:
        raise PomonaError("no such folder", where=path, remedy=f"supported: {_SUPPORTED}")
    raise PomonaError(
        f'unknown model "{uri}"', remedy=f"{nearest(uri, names())} Supported: {_SUPPORTED}"
    )


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
    if not file.is_file():
        raise PomonaError(
            "no such file", where=file, remedy="give the path of a .gguf file after gguf:"
        )
    with file.open("rb") as stream:
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
        except (ValueError, OSError, LookupError, TypeError, RuntimeError, struct.error) as error:
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
