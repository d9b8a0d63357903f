"""What an answer cost, from its tokens."""

from __future__ import annotations

from dataclasses import dataclass

from pomona.models.chat.protocol import Spent
from pomona.models.protocol import Shape


@dataclass(frozen=True)
class Meter:
    """Turns tokens into `Spent`: FLOPs where the shape is known, money where there is a price for a million tokens (prompt, answer)."""

    shape: Shape | None = None
    price: tuple[float, float] | None = None

    def spent(self, *, context: int, prompt_tokens: int, completion_tokens: int, seconds: float = 0.0, estimated: bool = False) -> Spent:
        """The cost of one answer after `context` prompt tokens, of which it pays for reading `prompt_tokens` (0 where another did)."""
        flops = 0.0
        if self.shape is not None:
            flops = _reading(self.shape, prompt_tokens) + _answering(self.shape, context, completion_tokens)
        prompt_price, answer_price = self.price or (0.0, 0.0)
        money = (prompt_tokens * prompt_price + completion_tokens * answer_price) / 1e6
        return Spent(prompt_tokens, completion_tokens, flops, money, seconds, estimated)


def _reading(shape: Shape, prompt: int) -> float:
    """Reading a prompt up to the distribution of its first answer token: the formula of `pomona.ledger.prefill_flops`."""
    if prompt < 1:
        return 0.0
    return 2.0 * shape.body * prompt + 2 * _output(shape) + 4 * shape.layers * shape.attention * prompt * (prompt + 1) / 2


def _answering(shape: Shape, prompt: int, completion: int) -> float:
    """Every answer token after the first, with cached keys and values: the formula of `pomona.ledger.decode_flops`."""
    steps = max(completion - 1, 0)
    contexts = steps * prompt + steps * (steps + 1) / 2
    return 2.0 * (shape.body + _output(shape)) * steps + 4 * shape.layers * shape.attention * contexts


def _output(shape: Shape) -> int:
    return shape.head or shape.embedding
