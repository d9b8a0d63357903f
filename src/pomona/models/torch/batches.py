"""How many rows go through a network at once, and running a long list in such batches."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from transformers import PreTrainedModel

from pomona.errors import ResourceError
from pomona.models.torch.network import embedding_table, head_size

_UNKNOWN = 8 << 30


@dataclass(frozen=True)
class Budget:
    """Bytes to spend, bytes a token of a row and a position's logits take, and the most tokens and
    rows that still speed up a pass.
    """

    memory: int
    token: int
    logits: int
    pass_tokens: int
    most_rows: int

    def decoding(self, prompt: int, new: int, n: int) -> int:
        """Rows to decode at once when the longest prompt has `prompt` tokens and `n` rows share
        one; whole prompts if that can be.
        """
        fit = self.memory // ((prompt + new) * self.token + self.logits)
        rows = max(1, min(fit, self.most_rows, n * max(1, self.pass_tokens // prompt)))
        return rows - rows % n if rows > n else rows

    def scoring(self, tokens: int, positions: int) -> int:
        """Rows to score at once when the longest has `tokens` tokens of which `positions` are
        scored.
        """
        fit = self.memory // (tokens * self.token + min(positions, self.window()) * self.logits)
        return max(1, min(fit, self.pass_tokens // tokens))

    def window(self) -> int:
        """Positions whose logits may be held at once for a single row."""
        return max(1, self.memory // (2 * self.logits))


def budget_of(network: PreTrainedModel, memory: int | None) -> Budget:
    """The budget of a loaded network; `memory` in bytes, or None for a share of what the device
    has.
    """
    config: Any = network.config.get_text_config(decoder=True)
    width = network.dtype.itemsize
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    kept = 2 * config.num_hidden_layers * heads * head_size(config) * width
    feed_forward = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    passing = (8 * config.hidden_size + 3 * feed_forward) * width
    vocabulary = embedding_table(network).shape[0]
    on_cpu = network.device.type == "cpu"
    return Budget(
        memory=memory if memory is not None else _free(network.device),
        token=2 * kept + passing,  # twice: a cache grows by copying
        logits=vocabulary
        * (width + 4 + 4 + 8),  # logits, their float32 copy, probabilities, float64 cumulative sum
        pass_tokens=2048
        if on_cpu
        else 65536,  # measured: a processor is fastest where a pass fits its caches
        most_rows=128 if on_cpu else 1024,
    )


def _free(device: torch.device) -> int:
    """Bytes to use by default: most of what a GPU has free, an eighth of a machine's memory, which
    others want too.

    That of a machine does not change from run to run, so that batches are split the same and their
    answers equal to the bit.
    """
    if device.type == "cuda":
        return int(0.8 * torch.cuda.mem_get_info(device)[0])
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 8
    except (AttributeError, ValueError, OSError):
        return _UNKNOWN // 8


Item = TypeVar("Item")
Result = TypeVar("Result")
Run = Callable[[Sequence[Item]], list[Result]]


def in_batches(
    items: Sequence[Item],
    size: Callable[[Item], int],
    run: Run[Item, Result],
    report: Callable[[int, int], None] | None = None,
) -> list[Result]:
    """One result an item, in their order. `size` tells how many items fit from an item on, so the
    largest come first.
    """
    results: list[Result] = []
    while len(results) < len(items):
        at = len(results)
        results += _halving(items[at : at + size(items[at])], run)
        if report is not None:
            report(len(results), len(items))
    return results


def _halving(items: Sequence[Item], run: Run[Item, Result]) -> list[Result]:
    """`run`, and where the device has too little memory both halves one after the other."""
    try:
        return run(items)
    except torch.OutOfMemoryError as error:
        if len(items) == 1:
            raise ResourceError(
                "the device has too little memory for a single row",
                remedy="use fewer tokens a row, a smaller dtype, or device=cpu",
            ) from error
    torch.cuda.empty_cache()
    middle = len(items) // 2
    return _halving(items[:middle], run) + _halving(items[middle:], run)
