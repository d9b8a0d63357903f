"""What training, answering and scoring cost: floating-point operations of the matrix products a
decoder-only transformer needs.

A weight that takes part in a matrix product costs 2 operations a token forward and 4 backward
(Kaplan et al. 2020, §2.1; Hoffmann et al. 2022, appendix F). Those weights are the body and the
output projection: `head`, or `embedding` where the two are tied. Looking a token up in the input
table is free. The body's normalisation weights count as if they were multiplied: less than 1 % of
it.

Attention to c positions (the token itself included) costs 2·c·attention operations a layer for the
scores and as many for the weighted sum. With c = context/2 for a causal model this is Kaplan's
2·layers·context·attention; Hoffmann counts the masked half too, as an implementation without a
causal kernel computes it. Softmax, normalisation, rotary angles, padding and recomputation are left
out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pomona.errors import PomonaError


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

    @property
    def output(self) -> int:
        """Weights of the output projection, `embedding` where the two are tied."""
        return self.head or self.embedding


def forward_flops(shape: Shape, mean_context: float) -> float:
    """One token forward that attends to `mean_context` positions on average, with the output
    projection.
    """
    return 2 * (shape.body + shape.output) + _attention(shape) * mean_context


def training_flops(shape: Shape, tokens: float, mean_context: float) -> float:
    """Forward and backward of `tokens` tokens that attend to `mean_context` positions on average:
    (T + 1) / 2 for sequences of T tokens.

    Every token is counted with the output projection, also where the loss leaves it out.
    """
    if tokens < 0 or mean_context < 0:
        raise PomonaError(
            f"{tokens} tokens with a context of {mean_context}",
            where="training_flops",
            remedy="neither can be negative",
        )
    return 3 * tokens * forward_flops(shape, mean_context)


def prefill_flops(shape: Shape, prompt_tokens: ArrayLike) -> NDArray[np.float64]:
    """Reading prompts, up to the distribution of their first answer token: the body on every token,
    the output projection on the last.

    `prompt_tokens` `[...]` counts the start token; the result is `[...]`. Raises PomonaError for a
    prompt without a token.
    """
    prompt = np.asarray(prompt_tokens, dtype=np.float64)
    if np.any(prompt < 1):
        raise PomonaError(
            "a prompt has no tokens",
            where="prompt_tokens",
            remedy="count the start token: every prompt has at least one",
        )
    return (
        2 * shape.body * prompt + 2 * shape.output + _attention(shape) * prompt * (prompt + 1) / 2
    )


def decode_flops(
    shape: Shape, prompt_tokens: ArrayLike, completion_tokens: ArrayLike
) -> NDArray[np.float64]:
    """Answering after `prefill_flops`, with cached keys and values: the first token is paid for,
    each later one needs one more step.

    Shapes broadcast, so `(prompt[:, None], completion[items, samples])` gives `[items, samples]`.
    `completion_tokens` counts the end token.
    """
    prompt, completion = (
        np.asarray(prompt_tokens, dtype=np.float64),
        np.asarray(completion_tokens, dtype=np.float64),
    )
    if np.any(completion < 0):
        raise PomonaError(
            "a completion has fewer than 0 tokens", where="completion_tokens", remedy="give counts"
        )
    steps = np.maximum(completion - 1, 0)
    contexts = steps * prompt + steps * (steps + 1) / 2
    return 2 * (shape.body + shape.output) * steps + _attention(shape) * contexts


def inference_flops(
    shape: Shape, prompt_tokens: ArrayLike, completion_tokens: ArrayLike, samples: int = 1
) -> NDArray[np.float64]:
    """`samples` answers of `completion_tokens` tokens to each prompt, the prompt read once for all
    of them.

    Shapes broadcast. For samples of different lengths add `prefill_flops` and the `decode_flops` of
    each.
    """
    return prefill_flops(shape, prompt_tokens) + samples * decode_flops(
        shape, prompt_tokens, completion_tokens
    )


def scoring_flops(
    shape: Shape, prompt_tokens: ArrayLike, completion_tokens: ArrayLike
) -> NDArray[np.float64]:
    """The log-probabilities of given completions, in one pass: the products are those of generating
    them once.
    """
    return inference_flops(shape, prompt_tokens, completion_tokens)


def _attention(shape: Shape) -> int:
    """Operations forward for one token and each position it attends to."""
    return 4 * shape.layers * shape.attention


def gguf_shape(metadata: dict[str, Any], tensors: dict[str, int]) -> Shape | None:
    """The sizes that a GGUF file states; None where it does not say."""
    kind = metadata.get("general.architecture")
    layers, hidden = metadata.get(f"{kind}.block_count"), metadata.get(f"{kind}.embedding_length")
    heads, embedding = (
        metadata.get(f"{kind}.attention.head_count"),
        tensors.get("token_embd.weight"),
    )
    if not (
        isinstance(layers, int) and isinstance(hidden, int) and isinstance(heads, int) and embedding
    ):
        return None
    if min(layers, hidden, heads) < 1:
        return None
    width = metadata.get(f"{kind}.attention.key_length") or hidden // heads
    head = tensors.get("output.weight", 0)
    return Shape(
        layers,
        hidden,
        heads * width,
        embedding // hidden,
        sum(tensors.values()) - embedding - head,
        embedding,
        head,
    )
