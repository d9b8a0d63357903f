"""Prompt and completion pairs as token ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pomona.errors import PomonaError

if TYPE_CHECKING:
    from pomona.models import Codec


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
        return np.array(
            [(len(p), len(c)) for p, c in zip(self.prompts, self.completions, strict=True)],
            np.int64,
        ).reshape(-1, 2)


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
    weights = (
        np.ones(len(prompts), np.float32) if weights is None else np.asarray(weights, np.float32)
    )
    repeats = np.ones(len(prompts)) if repeats is None else np.asarray(repeats, np.float64)
    if not len(prompts) == len(completions) == len(weights):
        raise PomonaError(
            f"{len(prompts)} prompts, {len(completions)} completions and {len(weights)} "
            "weights: they must be as many"
        )
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        bad = int(np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))[0])
        raise PomonaError(
            f"weight {weights[bad]} is not a finite number ≥ 0",
            where=f"row {bad}",
            remedy="clean the weight column",
        )
    heads, tails = codec.prompts(prompts), codec.completions(completions, end=True)
    kept = [
        i
        for i, (p, c) in enumerate(zip(heads, tails, strict=True))
        if len(p) > 0 and len(p) + len(c) <= max_tokens
    ]
    if not kept:
        raise PomonaError(
            f"none of {len(prompts)} examples fits {max_tokens} tokens",
            remedy="raise max_tokens or check the input",
        )
    return Examples(
        prompts=[np.array(heads[i], np.int32) for i in kept],
        completions=[np.array(tails[i], np.int32) for i in kept],
        weights=weights[kept],
        repeats=repeats[kept],
        rows=np.array(kept, np.int64),
        too_long=len(prompts) - len(kept),
    )


def temperature_repeats(groups: Sequence[str], temperature: float) -> np.ndarray:
    """How often a pass shows each row so that a group of share p is drawn with share ∝
    p^(1/temperature); float64 `[n]`.

    The largest group is shown once a pass, smaller ones more often; temperature 1 keeps the natural
    shares (Arivazhagan et al. 2019, arXiv 1907.05019, §4.1).
    """
    _, inverse, counts = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    return (counts.max() / counts[inverse]) ** (1 - 1 / temperature)
