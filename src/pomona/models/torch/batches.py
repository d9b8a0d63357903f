"""How many rows go through a network at once, running a long list in such batches, and the single
pass of a batch: log-probabilities of given completions, or hidden states.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import DynamicCache, PreTrainedModel

from pomona.errors import ResourceError
from pomona.models.request import Steer
from pomona.models.torch.network import embedding_table, head_size

_UNKNOWN = 8 << 30


@dataclass(frozen=True)
class PassBudget:
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


def budget_of(network: PreTrainedModel, memory: int | None) -> PassBudget:
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
    return PassBudget(
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
    # in order and never regrouped: what is in a batch together changes rounding
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
                remedy="use fewer tokens a row, a smaller type of weights, or the CPU",
            ) from error
    torch.cuda.empty_cache()
    middle = len(items) // 2
    return _halving(items[:middle], run) + _halving(items[middle:], run)


def padded(
    rows: Sequence[Sequence[int] | NDArray[np.int32]], starts: Sequence[int], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and attention mask, int64 `[rows, longest]`, each row from its start on and padding
    around it.
    """
    width = max(start + len(row) for start, row in zip(starts, rows, strict=True))
    ids, mask = np.zeros((2, len(rows), width), np.int64)
    for index, (start, row) in enumerate(zip(starts, rows, strict=True)):
        place = slice(start, start + len(row))
        ids[index, place], mask[index, place] = row, 1
    return torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)


class Watched:
    """A network whose logits are steered, each prompt of a batch by its own of `steers` (by the one
    there is, where all have the same), None by nothing. Only the thread that uses the network may
    have one.
    """

    def __init__(self, network: PreTrainedModel, steers: Sequence[Steer | None]) -> None:
        self._network = network
        distinct = {steer.identity: steer for steer in steers if steer is not None}
        self._steers = list(distinct.values())
        numbers = {name: number for number, name in enumerate(distinct)}
        of = [-1 if steer is None else numbers[steer.identity] for steer in steers]
        self._of = torch.tensor(of, device=network.device)

    def __call__(self, prompts: torch.Tensor | None, **inputs: Any) -> torch.Tensor:
        """The logits of the network at `inputs`, `[rows, places, vocabulary]`; `prompts`, int64
        `[rows]`, are the rows' places in `steers`, and without them all rows have the one.
        """
        if not self._steers:
            return self._network(**inputs).logits
        seen: list[torch.Tensor] = []
        head: Any = self._network.get_output_embeddings()
        hook = head.register_forward_pre_hook(lambda _, states: seen.append(states[0]))
        try:
            logits = self._network(**inputs).logits
        finally:
            hook.remove()
        if prompts is None:
            return self._steers[0](seen[0], logits)
        # What comes after the projection, such as a cap, is in the logits already.
        led, which = logits.float(), self._of[prompts]
        for number, steer in enumerate(self._steers):
            rows = (which == number).nonzero()[:, 0]
            if len(rows):
                led[rows] = steer(seen[0][rows], logits[rows]).float()
        return led


Pair = tuple[Sequence[int], Sequence[int]]


@torch.inference_mode()
def score_batch(
    network: PreTrainedModel, pairs: Sequence[Pair], positions: int, steer: Steer | None = None
) -> list[np.ndarray]:
    """Natural-log probability of each completion token, float32 `[t]` a pair; completions are not
    empty.

    Prompts are padded in front and completions behind, so that all completions begin in one column
    and only the columns that predict them get logits. At most `positions` columns of logits exist
    at once: longer completions go through in windows over a cache. `steer` leads all of them.
    """
    lead = max(len(prompt) for prompt, _ in pairs)
    tail = max(len(completion) for _, completion in pairs)
    tokens, seen = padded(
        [[*prompt, *completion] for prompt, completion in pairs],
        [lead - len(prompt) for prompt, _ in pairs],
        network.device,
    )
    place_of = (seen.cumsum(dim=-1) - 1).clamp_(min=0)
    cache = DynamicCache(config=network.config) if tail > positions else None
    parts, start = [], 0
    watched = Watched(network, [steer])
    for first in range(
        0, tail, positions
    ):  # the logits of column lead - 1 + k predict the k-th completion token
        last = min(first + positions, tail)
        stop = lead - 1 + last
        logits = watched(
            None,
            input_ids=tokens[:, start:stop],
            attention_mask=seen[:, :stop],
            position_ids=place_of[:, start:stop],
            past_key_values=cache,
            use_cache=cache is not None,
            logits_to_keep=last - first,
        )
        targets = tokens[:, lead + first : lead + last]
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1).float(), targets.flatten(), reduction="none"
        )
        parts.append(-loss.view(targets.shape))
        start = stop
    scores = torch.cat(parts, dim=-1).cpu().numpy()
    return [scores[row, : len(completion)].copy() for row, (_, completion) in enumerate(pairs)]


@torch.inference_mode()
def read_prompt(
    network: PreTrainedModel, ids: Sequence[int], positions: int, top: int
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]:
    """Of each token of a prompt but the first its natural-log probability `[t - 1]`, and the
    likeliest tokens in its place with theirs `[t - 1, top]`, likeliest first. At most `positions`
    columns of logits exist at once.
    """
    tokens = torch.tensor([list(ids)], device=network.device)
    last = len(ids) - 1
    cache = DynamicCache(config=network.config) if last > positions else None
    parts: list[tuple[torch.Tensor, ...]] = []
    for start in range(0, last, positions):
        stop = min(start + positions, last)
        logits = network(
            input_ids=tokens[:, start:stop],
            position_ids=torch.arange(start, stop, device=network.device)[None],
            past_key_values=cache,
            use_cache=cache is not None,
        ).logits[0]
        logs = logits.float().log_softmax(dim=-1)
        likeliest, which = logs.topk(top, dim=-1)
        own = logs.gather(1, tokens[0, start + 1 : stop + 1, None])[:, 0]
        parts.append((own, which, likeliest))
    if not parts:
        return np.zeros(0, np.float32), np.zeros((0, top), np.int64), np.zeros((0, top), np.float32)
    own, which, likeliest = (torch.cat(part).cpu().numpy() for part in zip(*parts, strict=True))
    return own, which, likeliest


@torch.inference_mode()
def sum_states(
    base: Any, device: torch.device, rows: Sequence[list[int]]
) -> list[NDArray[np.float64]]:
    """The sum of the last hidden states of each row; rows are padded behind."""
    tokens, seen = padded(rows, [0] * len(rows), device)
    states = base(input_ids=tokens, attention_mask=seen, use_cache=False).last_hidden_state
    sums = (states.float() * seen[:, :, None]).sum(dim=1)
    return list(sums.cpu().numpy().astype(np.float64))
