"""From a URI to a model that answers messages."""

from __future__ import annotations

from pathlib import Path

from pomona.errors import PomonaError
from pomona.models._catalogue import SMOLLM2, entry
from pomona.models._load import _require
from pomona.models.chat.limits import Rate
from pomona.models.chat.protocol import ChatModel

__all__ = ["open_chat"]


def open_chat(
    uri: str,
    *,
    device: str | None = None,
    dtype: str | None = None,
    threads: int = 1,
    memory: int | None = None,
    api_key: str | None = None,
    concurrency: int = 8,
    rate: Rate | None = None,
    timeout: float = 120.0,
    price: tuple[float, float] | None = None,
    tokenizer: str | None = None,
    context: int | None = None,
) -> ChatModel:
    """The model that `uri` names: a catalogue name, `hf:PATH_OR_ID`, a folder, `gguf:PATH`, or
    `http(s)://HOST/v1#NAME`.

    device, dtype, memory: for torch, as in `pomona.models.load`. threads: of the processor, for
    torch and llama.cpp; more threads than
        idle cores are much slower than one.
    context: for llama.cpp, the most tokens of one prompt with its answer; without it what the model
        was trained for, at most 8192.
    api_key, rate (requests and tokens a minute), tokenizer (to count answers' tokens): for servers.
    Without `api_key` the environment's
        POMONA_API_KEY, or for api.openai.com OPENAI_API_KEY.
    concurrency: requests under way at once at a server, and answers decoded at once by llama.cpp.
    timeout: seconds without a sign of life from a server.
    price: money for a million prompt tokens and a million answer tokens.
    A PomonaError when the URI names nothing, what it needs is not installed, or a setting is out of
    range.
    """
    for name, value in (
        ("threads", threads),
        ("concurrency", concurrency),
        ("timeout", timeout),
        ("context", context),
    ):
        if value is not None and not value > 0:
            raise PomonaError(f"{name} is {value}", where=uri, remedy="give a positive number")
    scheme, _, rest = uri.partition(":")
    if scheme in {"http", "https"}:
        _require("httpx", extra="serve")
        from pomona.models.chat.http import HttpChat

        return HttpChat(
            uri,
            api_key=api_key,
            concurrency=concurrency,
            rate=rate,
            timeout=timeout,
            price=price,
            tokenizer=tokenizer,
        )
    if scheme == "gguf" or uri == SMOLLM2:
        _require("xllamacpp", "httpx", extra="gguf")
        from pomona.models.chat.llama import LlamaChat

        return LlamaChat(
            _gguf(uri, rest),
            name=uri,
            threads=threads,
            slots=concurrency,
            context=context,
            price=price,
        )
    _require("torch", "transformers", extra="torch")
    from pomona.models.chat.torch import TorchChat

    return TorchChat(uri, device=device, dtype=dtype, threads=threads, memory=memory, price=price)


def _gguf(uri: str, rest: str) -> Path:
    if uri != SMOLLM2:
        return Path(rest).expanduser()
    found = entry(SMOLLM2)
    if not found.present:
        raise PomonaError(
            f'model "{uri}" is not on this machine',
            where=found.where,
            remedy="run `pomona models pull smollm2`",
        )
    return found.where
