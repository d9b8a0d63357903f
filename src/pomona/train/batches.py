"""The order of training: a pure function of the lengths, the seed and the budget, so that any step
can be reached again after a kill.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pomona.errors import PomonaError

MEGABATCH = 512  # batches sorted by length together: little padding, still mixed


def epoch_batches(
    lengths: np.ndarray, repeats: np.ndarray, batch_tokens: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """One shuffled pass as batches of indices, each at most `batch_tokens` padded tokens. `lengths`
    is `[n, 2]` (prompt, completion).

    A row with 2.3 `repeats` comes twice, and a third time with probability 0.3.
    """
    whole = np.floor(repeats)
    order = rng.permutation(
        np.repeat(
            np.arange(len(lengths)),
            (whole + (rng.random(len(lengths)) < repeats - whole)).astype(np.int64),
        )
    )
    share = max(1, MEGABATCH * batch_tokens // max(1, int(lengths.sum(1).mean())))
    batches: list[np.ndarray] = []
    for start in range(0, len(order), share):
        chunk = order[start : start + share]
        chunk = chunk[np.lexsort((lengths[chunk, 0], lengths[chunk].sum(1)))]
        batches.extend(_fill(chunk, lengths, batch_tokens))
    return [batches[i] for i in rng.permutation(len(batches))]


def _fill(chunk: np.ndarray, lengths: np.ndarray, batch_tokens: int) -> Iterator[np.ndarray]:
    first, widest = 0, np.zeros(2, np.int64)
    for i, index in enumerate(chunk):
        wider = np.maximum(widest, lengths[index])
        if i > first and wider.sum() * (i + 1 - first) > batch_tokens:
            yield chunk[first:i]
            first, wider = i, lengths[index]
        widest = wider
    yield chunk[first:]


def plan_batches(
    lengths: np.ndarray,
    *,
    batch_tokens: int,
    seed: int,
    tokens: int | None = None,
    epochs: float | None = None,
    repeats: np.ndarray | None = None,
) -> list[np.ndarray]:
    """Batches until `tokens` real tokens (padding not counted) or `epochs` passes are reached,
    whichever is given.

    `repeats`, `[n]`, is how often a pass shows each row (once when left out).

    Raises PomonaError when neither or both budgets are given, or when there is nothing to train on.
    """
    if (tokens is None) == (epochs is None):
        raise PomonaError("give a budget in tokens or in epochs, one of them")
    if len(lengths) == 0:
        raise PomonaError("nothing to train on: the set of examples is empty")
    repeats = np.ones(len(lengths)) if repeats is None else repeats
    total = lengths.sum(1)
    budget = tokens if tokens is not None else int((total * repeats).sum() * (epochs or 0))
    plan: list[np.ndarray] = []
    seen, epoch = 0, 0
    while seen < budget:
        for batch in epoch_batches(
            lengths, repeats, batch_tokens, np.random.default_rng([seed, epoch])
        ):
            if seen >= budget:
                break
            plan.append(batch)
            seen += int(total[batch].sum())
        epoch += 1
    return plan
