"""Prompt and completion pairs as token ids, and the order of training: a pure function of the
lengths, the seed and the budget, so that any step can be reached again after a kill.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pomona.errors import PomonaError

if TYPE_CHECKING:
    from pomona.models import Codec

MEGABATCH = 512  # batches sorted by length together: little padding, still mixed


@dataclass(frozen=True)
class Examples:
    """Tokenised pairs: `prompts` and `completions` are lists of int32 `[t]` (completions with their
    end token), `weights` float32 `[n]`.

    `repeats`, float64 `[n]`, is how often a pass shows each pair, on average. `rows`, int64 `[n]`,
    is where each pair stood in the input. `too_long` counts the pairs left out because they exceed
    the context.
    """

    prompts: list[np.ndarray]
    completions: list[np.ndarray]
    weights: np.ndarray
    repeats: np.ndarray
    rows: np.ndarray
    too_long: int = 0

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def mean_context(self) -> float:
        """Positions a token attends to on average, itself included: (T + 1) / 2 over the tokens of
        pairs of T tokens, as often as shown.
        """
        total = self.lengths.sum(1).astype(np.float64)
        return float((self.repeats * total * (total + 1) / 2).sum() / (self.repeats * total).sum())

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each pair, int64 `[n, 2]`: prompt, completion."""
        pairs = zip(self.prompts, self.completions, strict=True)
        return np.array([(len(p), len(c)) for p, c in pairs], np.int64).reshape(-1, 2)


def encode(
    codec: Codec,
    prompts: Sequence[str],
    completions: Sequence[str],
    *,
    max_tokens: int,
    weights: np.ndarray | None = None,
    repeats: np.ndarray | None = None,
) -> Examples:
    """Tokenise pairs as the model reads and scores them; a completion ends with the end token.
    Pairs over `max_tokens` are counted.

    Raises PomonaError when nothing is left, when lengths differ, or when a weight is negative or
    not finite.
    """
    repeats = np.ones(len(prompts)) if repeats is None else np.asarray(repeats, np.float64)
    weights = np.ones(len(prompts)) if weights is None else weights
    weights = _checked(np.asarray(weights, np.float32), prompts, completions)
    heads, tails = codec.prompts(prompts), codec.completions(completions, end=True)
    pairs = enumerate(zip(heads, tails, strict=True))
    kept = [i for i, (p, c) in pairs if len(p) > 0 and len(p) + len(c) <= max_tokens]
    if not kept:
        message = f"none of {len(prompts)} examples fits {max_tokens} tokens"
        raise PomonaError(message, remedy="raise max_tokens or check the input")
    return Examples(
        prompts=[np.array(heads[i], np.int32) for i in kept],
        completions=[np.array(tails[i], np.int32) for i in kept],
        weights=weights[kept],
        repeats=repeats[kept],
        rows=np.array(kept, np.int64),
        too_long=len(prompts) - len(kept),
    )


def _checked(weights: np.ndarray, prompts: Sequence[str], completions: Sequence[str]) -> np.ndarray:
    if not len(prompts) == len(completions) == len(weights):
        raise PomonaError(
            f"{len(prompts)} prompts, {len(completions)} completions and {len(weights)} "
            "weights: they must be as many"
        )
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        bad = int(np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))[0])
        message = f"weight {weights[bad]} is not a finite number ≥ 0"
        raise PomonaError(message, where=f"row {bad + 1}", remedy="clean the weight column")
    return weights


def temperature_repeats(groups: Sequence[str], temperature: float) -> np.ndarray:
    """How often a pass shows each row so that a group of share p is drawn with share ∝
    p^(1/temperature); float64 `[n]`.

    The largest group is shown once a pass, smaller ones more often; temperature 1 keeps the natural
    shares (Arivazhagan et al. 2019, arXiv 1907.05019, §4.1).
    """
    _, inverse, counts = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    return (counts.max() / counts[inverse]) ** (1 - 1 / temperature)


def epoch_batches(
    lengths: np.ndarray, repeats: np.ndarray, batch_tokens: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """One shuffled pass as batches of indices, each at most `batch_tokens` padded tokens. `lengths`
    is `[n, 2]` (prompt, completion).

    A row with 2.3 `repeats` comes twice, and a third time with probability 0.3.
    """
    whole = np.floor(repeats)
    times = whole + (rng.random(len(lengths)) < repeats - whole)
    order = rng.permutation(np.repeat(np.arange(len(lengths)), times.astype(np.int64)))
    share = max(1, MEGABATCH * batch_tokens // max(1, int(lengths.sum(1).mean())))
    batches: list[np.ndarray] = []
    for start in range(0, len(order), share):
        chunk = order[start : start + share]
        # Like lengths together, so that little is padding; the batches are shuffled below.
        chunk = chunk[np.lexsort((lengths[chunk, 0], lengths[chunk].sum(1)))]
        batches.extend(fill_batches(chunk, lengths, batch_tokens))
    return [batches[i] for i in rng.permutation(len(batches))]


def fill_batches(chunk: np.ndarray, lengths: np.ndarray, batch_tokens: int) -> Iterator[np.ndarray]:
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
        rng = np.random.default_rng([seed, epoch])
        for batch in epoch_batches(lengths, repeats, batch_tokens, rng):
            if seen >= budget:
                break
            plan.append(batch)
            seen += int(total[batch].sum())
        epoch += 1
    return plan
