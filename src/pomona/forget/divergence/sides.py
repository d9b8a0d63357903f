"""A model as one side of a comparison: it gives what it knows of the next token, a block of
positions at a time.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from pomona.forget.divergence.measures import Block, Known
from pomona.models import LlamaLogits, load, present, wait_for
from pomona.models.torch import Probe, TokenDecoder, Unit

_SMOLLM2 = "smollm2"
_SERVER_TOP = 20  # tokens a position: more are refused by vLLM as it is set up
_AT_ONCE = 8  # requests under way


class Side(Protocol):
    """One of two models.

    runs: what computes it, and how exactly, for the signature.
    vocabulary: tokens of which it tells.
    prefix: the token before a text's first, None without one; adds_prefix: whether a text as such
        begins with it.
    context: the most tokens it reads at once, None where nobody knows.
    """

    name: str
    identity: str
    runs: str
    vocabulary: int
    prefix: int | None
    adds_prefix: bool
    context: int | None

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text without special tokens."""
        ...

    def spelled(self, token: int) -> bytes:
        """The bytes of a token."""
        ...

    def blocks(self, units: Sequence[Unit], rows: int) -> Iterator[Block]:
        """What it knows of the scored tokens, at most `rows` positions at a time and never of two
        units; a block holds until the next is asked for.
        """
        ...

    def close(self) -> None:
        """Give back the memory."""
        ...


class TorchSide:
    """A checkpoint that torch runs."""

    def __init__(self, uri: str, device: str | None, dtype: str | None, threads: int) -> None:
        model: Any = load(uri, need=["score"], device=device, dtype=dtype, threads=threads)
        self._probe = Probe(model)
        codec, self.name, self.identity = self._probe.codec, uri, model.identity
        tokenizer = codec.tokenizer
        kind = dtype or str(model.network.dtype).removeprefix("torch.")
        self.runs = f"torch-{torch.__version__}-{kind}-{model.network.device.type}"
        ends = (tokenizer.bos_token_id, tokenizer.eos_token_id)
        self.prefix: int | None = next((token for token in ends if token is not None), None)
        self.adds_prefix = codec.encode([""], special=True)[0][:1] == [self.prefix]
        self.context = self._probe.context
        self.vocabulary = self._probe.shape.vocabulary
        self.spelled = TokenDecoder(tokenizer)
        self._codec = codec

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """See `Side`."""
        return self._codec.encode(texts, special=False)

    def blocks(self, units: Sequence[Unit], rows: int) -> Iterator[Block]:
        """See `Side`."""
        return self._probe.logits(units, rows)

    def close(self) -> None:
        """See `Side`."""


class LlamaSide:
    """A GGUF file that llama.cpp runs."""

    def __init__(self, uri: str, file: Path, context: int, threads: int) -> None:
        self._llama = llama = LlamaLogits(file, context=context, threads=threads)
        self.name, self.identity, self.runs = uri, llama.identity, f"llama.cpp-{llama.version}"
        self.vocabulary, self.prefix = llama.vocabulary, llama.prefix
        self.adds_prefix, self.context = llama.adds_prefix, llama.context
        self.encode, self.spelled, self.close = llama.encode, llama.spelled, llama.close

    def blocks(self, units: Sequence[Unit], rows: int) -> Iterator[Block]:
        """See `Side`."""
        for unit in units:
            for logits in self._llama.logits(unit.ids, unit.first, rows):
                yield torch.from_numpy(logits)


class ServerSide:
    """A server that tells the likeliest tokens at each position of a given text, as vLLM's
    completions with `prompt_logprobs` do; the tokenizer is that of the other side.
    """

    context: int | None = None

    def __init__(self, uri: str, other: Side) -> None:
        self._model: Any = load(uri)
        self.name, self.identity, self.runs = uri, self._model.identity, f"server-top{_SERVER_TOP}"
        self.vocabulary, self.prefix = other.vocabulary, other.prefix
        self.adds_prefix, self.encode, self.spelled = other.adds_prefix, other.encode, other.spelled

    def blocks(self, units: Sequence[Unit], rows: int) -> Iterator[Block]:
        """See `Side`."""
        for start in range(0, len(units), _AT_ONCE):
            asked = units[start : start + _AT_ONCE]
            for unit, told in zip(asked, wait_for(self._asked(asked)), strict=True):
                known = _known(told[unit.first :])
                for row in range(0, len(known), rows):
                    yield known[row : row + rows]

    async def _asked(self, units: Sequence[Unit]) -> list[list[Any]]:
        ask = self._model.prompt_logprobs
        return await asyncio.gather(*(ask(unit.ids.tolist(), _SERVER_TOP) for unit in units))

    def close(self) -> None:
        """See `Side`."""
        wait_for(self._model.close())


def _known(positions: Sequence[tuple[list[tuple[int, float]], float]]) -> Known:
    """What a server told: the likeliest tokens with their log-probabilities, and the true one's."""
    k = min(len(top) for top, _ in positions)
    ids = torch.tensor([[token for token, _ in top[:k]] for top, _ in positions])
    logprobs = torch.tensor([[p for _, p in top[:k]] for top, _ in positions], dtype=torch.float64)
    tail = (1 - logprobs.exp().sum(1)).clamp_min(0)
    target = torch.tensor([own for _, own in positions], dtype=torch.float64)
    return Known(ids.long().view(len(positions), k), logprobs, tail, target)


def open_side(
    uri: str, *, device: str | None, dtype: str | None, threads: int, context: int
) -> Side:
    """The model that `uri` names, run here. GGUF files run in llama.cpp, as they do elsewhere, but
    where a device or type of numbers is wanted in torch. Raises PomonaError as
    `pomona.models.load`.
    """
    if (file := gguf_of(uri)) is not None and device is None and dtype is None:
        return LlamaSide(uri, file, context, threads)
    return TorchSide(uri, device, dtype, threads)


def is_server(uri: str) -> bool:
    """Whether a URI names a server."""
    return uri.partition(":")[0] in {"http", "https"}


def files_of(uri: str) -> list[Path]:
    """The file or folder that a URI names here, as far as it is one."""
    path = gguf_of(uri) or Path(uri.removeprefix("hf:")).expanduser()
    return [path] if path.exists() else []


def gguf_of(uri: str) -> Path | None:
    """The GGUF file that a URI names, None where it names none."""
    scheme, _, rest = uri.partition(":")
    if uri == _SMOLLM2:
        return present(uri)
    return Path(os.path.expanduser(rest)) if scheme == "gguf" else None  # noqa: PTH111
