"""From a URI to a model, whatever runs it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from pomona.errors import PomonaError
from pomona.models.checkpoint import require
from pomona.models.concurrency import Rate
from pomona.models.locating import SMOLLM2, locate, present
from pomona.models.model import Ability, Model
from pomona.models.request import BatchTerms

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
    price: tuple[float, float] | str | None = None,
    tokenizer: str | None = None,
    batches: BatchTerms | None = None,
    wait_for_server: float | None = None,
) -> Model:
    """The model that `uri` names: a catalogue name, `hf:PATH_OR_ID`, a folder, `gguf:PATH`, or
    `http(s)://HOST/v1#NAME`.

    GGUF runs in llama.cpp unless "score", "states" or "train" is needed; then torch runs it,
    converted once. Without `dtype` it is bfloat16 on a GPU and float32, which is exact, on a CPU;
    "mixed" is float32 weights with bfloat16 arithmetic (faster on CPUs with AVX512-BF16 or AMX).
    More threads than idle cores are much slower than one.

    Args:
        uri: What names the model.
        need: Abilities it must have.
        device: For torch "cpu", "cuda", "cuda:1", "mps"; a GPU where there is one when left out.
        dtype: For torch "float32", "bfloat16", "float16" or "mixed".
        memory: Bytes that torch's caches and logits may take beside the weights; a part of what is
            free when left out.
        chat: Every prompt of `generate` and `score` becomes one user message in the chat template.
        progress: Called with the number of prompts done and in all, after each batch that torch
            runs for `generate` and `score`.
        threads: Processor threads of models in this process.
        context: For llama.cpp, the most tokens of one prompt with its answer; what the model was
            trained for, at most 8192, when left out.
        concurrency: Requests under way at once at a server, and answers decoded at once by
            llama.cpp.
        api_key: For servers; the environment's POMONA_API_KEY_HOST (POMONA_API_KEY_LOCALHOST_8001),
            for api.openai.com OPENAI_API_KEY, or POMONA_API_KEY, when left out.
        rate: Requests and tokens a minute, for servers.
        timeout: Seconds without a sign of life from a server; ten times as many for a whole answer
            that is not streamed.
        price: Money for a million prompt tokens and a million answer tokens, such as 0.15,0.60.
        tokenizer: Folder or tokenizer.json to count a server's tokens with.
        batches: What a server takes in a batch, and at what price.
        wait_for_server: Seconds to wait for a server that takes no connections, such as one that is
            starting; about ten when left out.

    Raises:
        PomonaError: the URI names nothing, the checkpoint is broken, what it needs is not
            installed, or a setting is unknown or out of range.
    """
    price = _two_numbers(price) if isinstance(price, str) else price
    sizes = {
        "threads": threads,
        "concurrency": concurrency,
        "timeout": timeout,
        "context": context,
        "wait_for_server": wait_for_server,
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
            batches=batches,
            wait_for_server=wait_for_server,
        )
    if (scheme == "gguf" or uri == SMOLLM2) and not for_torch:
        require("xllamacpp", "httpx", extra="gguf")
        from pomona.models.llama import LlamaModel

        return LlamaModel(
            present(uri) if uri == SMOLLM2 else Path(os.path.expanduser(rest)),  # noqa: PTH111
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


def _two_numbers(price: str) -> tuple[float, float]:
    try:
        prompt, answer = (float(part) for part in price.split(","))
    except ValueError:
        raise PomonaError(
            f'"{price}" is no price',
            where="--price",
            remedy="write PROMPT,ANSWER for a million tokens: 0.15,0.60",
        ) from None
    return prompt, answer
