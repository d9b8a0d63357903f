"""llama.cpp's server inside this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pomona.errors import PomonaError

_QUIET = -1
_BATCH = 2048


class Engine:
    """A running server; `address` is its loopback URL."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self.address: str = server.listening_address

    def stop(self) -> None:
        """End it and give its memory back."""
        self._server = None


def start(
    path: Path, *, threads: int, slots: int, context: int, key: str, embedding: bool = False
) -> Engine:
    """Load a GGUF file. `slots` answers are decoded at once; each may fill the whole `context`,
    which all share.

    With `embedding` it gives mean-pooled vectors instead of answers. A PomonaError when llama.cpp
    cannot load the file.
    """
    import xllamacpp as library

    xllamacpp: Any = library  # its compiled names are unknown to type checkers

    settings: Any = xllamacpp.CommonParams()
    settings.model.path = str(path)
    settings.n_ctx, settings.n_parallel, settings.kv_unified = context, slots, True
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = threads
    settings.api_keys, settings.ui, settings.endpoint_slots = [key], False, False
    settings.use_jinja, settings.warmup, settings.verbosity = True, False, _QUIET
    settings.cache_ram_mib = 0
    if embedding:
        settings.embedding, settings.pooling_type = (
            True,
            xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN,
        )
        settings.n_batch = settings.n_ubatch = min(context, _BATCH)
    try:
        return Engine(xllamacpp.Server(settings))
    except Exception as error:  # the library raises no narrower class
        raise PomonaError(
            f"llama.cpp cannot load it: {error}",
            where=path,
            remedy="is the file whole, and memory enough?",
        ) from error
