"""What every model can do, whatever runs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np


@dataclass(frozen=True)
class Sample:
    """One generated answer.

    `token_ids` int32 `[t]` without the end token; `logprobs` float32 `[t]`, natural log under the
    model's own distribution (temperature 1, nothing cut off); `finish_reason` is "stop" when the
    model ended by itself, "length" when the limit did. `completion_tokens` counts what was
    computed: the end token too.
    """

    text: str
    token_ids: np.ndarray
    logprobs: np.ndarray
    finish_reason: Literal["stop", "length"]
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class Shape:
    """The sizes the cost model needs, in numbers of weights: `embedding` is the input table, `head`
    the output projection (0 when tied).
    """

    layers: int
    hidden: int
    attention: int  # heads × head dimension
    vocabulary: int
    body: int  # all weights outside embedding and head
    embedding: int
    head: int

    @property
    def parameters(self) -> int:
        """All stored weights, the way checkpoints are usually named."""
        return self.body + self.embedding + self.head


@runtime_checkable
class Model(Protocol):
    """Generates and scores text. Lists come back in the order of the prompts, whatever order the
    work was done in.
    """

    uri: str
    shape: Shape

    def generate(
        self,
        prompts: Sequence[str],
        *,
        n: int = 1,
        max_new_tokens: int = 128,
        temperature: float | Sequence[float] = 0.0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        seed: int = 0,
    ) -> list[list[Sample]]:
        """`n` samples a prompt, `[len(prompts)][n]`. Temperature 0 is greedy; a sequence of n gives
        each sample its own.
        """
        ...

    def score(
        self, prompts: Sequence[str], completions: Sequence[str], *, end: bool = False
    ) -> list[np.ndarray]:
        """Natural-log probability of each completion token, float32 `[t]` a pair; with `end` the
        end token's as the last one.
        """
        ...

    def count_tokens(self, prompts: Sequence[str]) -> np.ndarray:
        """Tokens of each prompt as it is read, int64 `[n]`."""
        ...
