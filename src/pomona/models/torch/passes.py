"""Single forward passes: log-probabilities of given completions, and hidden states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import DynamicCache, PreTrainedModel

Pair = tuple[Sequence[int], Sequence[int]]


@torch.inference_mode()
def score_batch(
    network: PreTrainedModel, pairs: Sequence[Pair], positions: int
) -> list[np.ndarray]:
    """Natural-log probability of each completion token, float32 `[t]` a pair; completions are not
    empty.

    Prompts are padded in front and completions behind, so that all completions begin in one column
    and only the columns that predict them get logits. At most `positions` columns of logits exist
    at once: longer completions go through in windows over a cache.
    """
    device, lead, tail = (
        network.device,
        max(len(prompt) for prompt, _ in pairs),
        max(len(completion) for _, completion in pairs),
    )
    ids, mask = (
        np.zeros((len(pairs), lead + tail), dtype=np.int64),
        np.zeros((len(pairs), lead + tail), dtype=np.int64),
    )
    for row, (prompt, completion) in enumerate(pairs):
        place = slice(lead - len(prompt), lead + len(completion))
        ids[row, place], mask[row, place] = [*prompt, *completion], 1
    tokens, seen = torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)
    place_of = (seen.cumsum(dim=-1) - 1).clamp_(min=0)
    cache = DynamicCache(config=network.config) if tail > positions else None
    parts, start = [], 0
    for first in range(
        0, tail, positions
    ):  # the logits of column lead - 1 + k predict the k-th completion token
        last = min(first + positions, tail)
        stop = lead - 1 + last
        logits = network(
            input_ids=tokens[:, start:stop],
            attention_mask=seen[:, :stop],
            position_ids=place_of[:, start:stop],
            past_key_values=cache,
            use_cache=cache is not None,
            logits_to_keep=last - first,
        ).logits
        parts.append(_of_targets(logits, tokens[:, lead + first : lead + last]))
        start = stop
    scores = torch.cat(parts, dim=-1).cpu().numpy()
    return [scores[row, : len(completion)].copy() for row, (_, completion) in enumerate(pairs)]


def _of_targets(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Log-softmax in float32 at `targets` `[rows, t]` of `logits` `[rows, t, vocabulary]`."""
    loss = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1).float(), targets.flatten(), reduction="none"
    )
    return -loss.view(targets.shape)


@torch.inference_mode()
def sum_states(
    base: Any, device: torch.device, rows: Sequence[list[int]]
) -> list[NDArray[np.float64]]:
    """The sum of the last hidden states of each row; rows are padded behind."""
    ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
    mask = np.zeros_like(ids)
    for row, tokens in enumerate(rows):
        ids[row, : len(tokens)], mask[row, : len(tokens)] = tokens, 1
    seen = torch.from_numpy(mask).to(device)
    states = base(
        input_ids=torch.from_numpy(ids).to(device), attention_mask=seen, use_cache=False
    ).last_hidden_state
    sums = (states.float() * seen[:, :, None]).sum(dim=1)
    return list(sums.cpu().numpy().astype(np.float64))
