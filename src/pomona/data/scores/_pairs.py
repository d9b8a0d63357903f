"""Perplexity of prompt and completion pairs held in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pomona.models.protocol import Model


@dataclass(frozen=True)
class Scored:
    """`perplexity` float64 `[n]` of each completion with its end token; int64 `[n]`: its `tokens`,
    and the prompt's.
    """

    perplexity: NDArray[np.float64]
    tokens: NDArray[np.int64]
    prompt_tokens: NDArray[np.int64]


def perplexity(model: Model, prompts: Sequence[str], completions: Sequence[str]) -> Scored:
    """PPL = exp(mean negative log-likelihood of the completion's tokens given the prompt). Marion
    et al. 2023, §3.1.
    """
    logprobs = model.score(prompts, completions, end=True)
    tokens = np.array([len(row) for row in logprobs], np.int64)
    means = np.array([float(np.mean(row, dtype=np.float64)) for row in logprobs])
    return Scored(
        perplexity=np.exp(-means), tokens=tokens, prompt_tokens=model.count_tokens(prompts)
    )
