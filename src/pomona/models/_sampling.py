"""One token from logits: what may be drawn, and the uniform number that decides."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


@dataclass(frozen=True)
class Cut:
    """What sampling leaves out: see `kept`."""

    top_p: float = 1.0
    min_p: float = 0.0


def row_keys(seed: int, prompt: str, n: int) -> np.ndarray:
    """One uint64 `[n]` for each sample of a prompt, from seed, prompt text and sample index
    alone.
    """
    prompt_hash = hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).digest()
    base = hashlib.sha256(f"{seed}:".encode() + prompt_hash).digest()
    return _splitmix(
        np.frombuffer(base[:8], dtype="<u8") ^ _splitmix(np.arange(n, dtype=np.uint64))
    )


def uniforms(keys: np.ndarray, first_step: int, steps: int) -> np.ndarray:
    """Uniform numbers in [0, 1), float64 `[steps, rows]`, multiples of 2⁻³²: the generator of each
    row is splitmix64 started at its key.

    Source: Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators", section 4.
    """
    count = np.arange(first_step, first_step + steps, dtype=np.uint64)[:, None]
    return (_splitmix(keys[None, :] + count * _GOLDEN) >> np.uint64(32)).astype(
        np.float64
    ) * 2.0**-32


def _splitmix(state: np.ndarray) -> np.ndarray:
    state = state + _GOLDEN
    state = (state ^ (state >> np.uint64(30))) * _MIX[0]
    state = (state ^ (state >> np.uint64(27))) * _MIX[1]
    return state ^ (state >> np.uint64(31))


def kept(scaled: torch.Tensor, cut: Cut) -> torch.Tensor:
    """Probabilities `[rows, vocabulary]` with what is left out at 0, not renormalised, from logits
    already divided by the temperature.

    First top-p keeps the smallest set of likeliest tokens that holds `top_p` (Holtzman et al. 2020,
    section 3.1), then min-p what has at least `min_p` times the probability of the likeliest
    (Nguyen et al. 2024, section 3); both as transformers defines and orders them.
    """
    probabilities = torch.softmax(scaled, dim=-1)
    if cut.top_p < 1.0:
        ordered, index = torch.sort(scaled, dim=-1)
        left_out = torch.softmax(ordered, dim=-1).cumsum(dim=-1) <= 1 - cut.top_p
        left_out[:, -1] = False
        probabilities = probabilities.masked_fill(left_out.scatter(1, index, left_out), 0.0)
    if cut.min_p > 0.0:
        least = cut.min_p * probabilities.amax(dim=-1, keepdim=True)
        probabilities = probabilities.masked_fill(probabilities < least, 0.0)
    return probabilities


def draw(probabilities: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Inverse of the cumulative distribution: token ids int64 `[rows]` from weights
    `[rows, vocabulary]` and uniforms float64 `[rows]`.
    """
    cumulative = probabilities.cumsum(dim=-1, dtype=torch.float64)
    return torch.searchsorted(cumulative, uniform[:, None] * cumulative[:, -1:], right=True)[:, 0]


def choose(
    logits: torch.Tensor, temperature: torch.Tensor | None, cut: Cut, uniform: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The next token int64 `[rows]` and its log-probability float32 `[rows]` under the model's own
    distribution.

    logits: float32 `[rows, vocabulary]`. temperature: `[rows]`, 0 for the likeliest token; None
        when every row is greedy.
    """
    if temperature is None or uniform is None:
        token = logits.argmax(dim=-1)
    else:
        greedy = temperature == 0
        scaled = logits / torch.where(greedy, 1.0, temperature)[:, None]
        token = torch.where(greedy, logits.argmax(dim=-1), draw(kept(scaled, cut), uniform))
    return token, logits.gather(1, token[:, None])[:, 0] - logits.logsumexp(dim=-1)
