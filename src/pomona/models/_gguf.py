"""GGUF files: turned into a safetensors checkpoint once, then loaded like any other."""

from __future__ import annotations

import contextlib
import hashlib
import io
import struct
from pathlib import Path
from typing import Any

from pomona.errors import PomonaError
from pomona.files import atomic_directory
from pomona.models._catalogue import cache_folder
from pomona.models._checkpoint import check


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

    from pomona.models._network import quiet, refuse_missing

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
            reason = (
                str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            )
            remedy = (
                "is the file whole, and its architecture one that transformers reads from GGUF?"
            )
            raise PomonaError(
                f"cannot be converted: {reason}", where=file, remedy=remedy
            ) from error
        network, report = loaded
        refuse_missing(report, file)
        # the weights are plain by now, yet saving is refused as long as this says otherwise
        network.hf_quantizer = None
        network.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
