"""Text embeddings from a causal language model: the mean of its last hidden states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pomona.errors import PomonaError
from pomona.models._batches import in_batches
from pomona.models._torch import TorchModel

_UNKNOWN_CONTEXT = 2048


def embed(model: object, texts: Sequence[str]) -> NDArray[np.float32]:
    """The mean over all tokens of a text of the last hidden state, float32 `[n, hidden]`, in the
    order of the texts.

    A text longer than the context goes through in windows of that size. What else is in the call
    changes a value by rounding only. Raises PomonaError when the model gives no hidden states.
    """
    loaded, base = _opened(model)
    context = loaded._context or _UNKNOWN_CONTEXT
    windows: list[tuple[int, list[int]]] = []
    for text, ids in enumerate(loaded.codec.prompts(texts)):
        windows += [(text, ids[start : start + context]) for start in range(0, len(ids), context)]
    windows.sort(key=lambda window: (-len(window[1]), window[0]))

    def run(batch: Sequence[tuple[int, list[int]]]) -> list[NDArray[np.float64]]:
        with loaded._arithmetic:
            return _sums(base, loaded.network.device, [ids for _, ids in batch])

    def size(window: tuple[int, list[int]]) -> int:
        return loaded._budget.scoring(len(window[1]), 1)

    total = np.zeros((len(texts), loaded.shape.hidden), np.float64)
    tokens = np.zeros(len(texts), np.int64)
    for (text, ids), part in zip(
        windows, in_batches(windows, size, run, loaded._report), strict=True
    ):
        total[text] += part
        tokens[text] += len(ids)
    return (total / tokens[:, None]).astype(np.float32)


def _opened(model: object) -> tuple[TorchModel, Any]:
    """The model as the class it is, and its network without the output projection."""
    network = getattr(model, "network", None)
    base = getattr(network, "base_model", None)
    if not isinstance(model, TorchModel) or base is None or base is network:
        raise PomonaError(
            "gives no hidden states",
            where=getattr(model, "uri", model),
            remedy="use a torch model, such as ui-s or hf:PATH",
        )
    return model, base


@torch.inference_mode()
def _sums(base: Any, device: torch.device, rows: Sequence[list[int]]) -> list[NDArray[np.float64]]:
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
