"""From a URI to a model, whatever runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from pomona.errors import PomonaError
from pomona.models.checkpoint import require
from pomona.models.concurrency import Rate
from pomona.models.locating import SMOLLM2, locate, present
from pomona.models.model import Ability, Model

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
