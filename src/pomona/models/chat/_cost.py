"""What an answer cost, from its tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pomona.models.chat.protocol import Spent
from pomona.models.protocol import Shape


@dataclass(frozen=True)
class Meter:
    """Turns tokens into `Spent`: FLOPs where the shape is known, money where there is a price for a
    million tokens (prompt, answer).
    """

    shape: Shape | None = None
    price: tuple[float, float] | None = None

    def spent(
        self,
        *,
        context: int,
        prompt_tokens: int,
        completion_tokens: int,
        seconds: float = 0.0,
        estimated: bool = False,
    ) -> Spent:
        """The cost of one answer after `context` prompt tokens, of which it pays for reading
        `prompt_tokens` (0 where another did).
        """
        flops = 0.0
        if self.shape is not None:
            flops = _reading(self.shape, prompt_tokens) + _answering(
                self.shape, context, completion_tokens
            )
        prompt_price, answer_price = self.price or (0.0, 0.0)
        money = (prompt_tokens * prompt_price + completion_tokens * answer_price) / 1e6
        return Spent(prompt_tokens, completion_tokens, flops, money, seconds, estimated)

    def pool(self, prompt: int, answer: int, samples: int) -> Spent:
        """The cost of `samples` answers of so many tokens after one prompt, as a forecast."""
        first = self.spent(
            context=prompt, prompt_tokens=prompt, completion_tokens=answer, estimated=True
        )
        later = self.spent(context=prompt, prompt_tokens=0, completion_tokens=answer)
        more = samples - 1
        return first + Spent(
            0, later.completion_tokens * more, later.flops * more, later.money * more
        )

    def scored(self, prompt: int, completions: Sequence[int], seconds: float) -> Spent:
        """The cost of scoring completions of so many tokens, the prompt read with each: that of
        generating them.
        """
        each = (
            self.spent(context=prompt, prompt_tokens=prompt, completion_tokens=count)
            for count in completions
            if count
        )
        return sum(each, Spent(seconds=seconds))

    def embedded(self, texts: Sequence[int], seconds: float, *, estimated: bool = False) -> Spent:
        """The cost of the hidden states of texts of so many tokens; no output projection is
        computed.
        """
        read = sum(texts)
        shape = self.shape
        flops = (
            0.0
            if shape is None
            else sum(_reading(shape, count) - 2 * _output(shape) for count in texts if count)
        )
        return Spent(read, 0, flops, read * (self.price or (0.0, 0.0))[0] / 1e6, seconds, estimated)


def _reading(shape: Shape, prompt: int) -> float:
    """Reading a prompt up to the distribution of its first answer token: the formula of
    `pomona.ledger.prefill_flops`.
    """
    if prompt < 1:
        return 0.0
    return (
        2.0 * shape.body * prompt
        + 2 * _output(shape)
        + 4 * shape.layers * shape.attention * prompt * (prompt + 1) / 2
    )


def _answering(shape: Shape, prompt: int, completion: int) -> float:
    """Every answer token after the first, with cached keys and values: the formula of
    `pomona.ledger.decode_flops`.
    """
    steps = max(completion - 1, 0)
    contexts = steps * prompt + steps * (steps + 1) / 2
    return (
        2.0 * (shape.body + _output(shape)) * steps + 4 * shape.layers * shape.attention * contexts
    )


def _output(shape: Shape) -> int:
    return shape.head or shape.embedding
