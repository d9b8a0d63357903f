"""What every model can do, whatever runs it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Literal, Unpack

import numpy as np
from numpy.typing import NDArray

from pomona.errors import PomonaError
from pomona.models.concurrency import wait_for
from pomona.models.flops import Shape, decode_flops, prefill_flops
from pomona.models.request import (
    Ask,
    Draw,
    Reply,
    ReplyPiece,
    Request,
    Sample,
    Spent,
    Token,
    prompt_tokens,
    wrong_request,
)
from pomona.models.sampling import SamplingOptions

Ability = Literal[
    "generate", "score", "embed", "options", "schema", "tools", "states", "train", "batches",
    "prefix", "check",
]  # fmt: skip
# Who has what is missing elsewhere: the remedy of every refusal.
HAVE: dict[Ability, str] = {
    "generate": "every model generates",
    "score": "score with torch: open the checkpoint as hf:PATH",
    "embed": "use a torch model (hf:PATH) or llama.cpp (gguf:PATH)",
    "options": "use a torch model (hf:PATH) or llama.cpp (gguf:PATH)",
    "schema": "use a torch model (hf:PATH) after pip install 'pomona[constrained]', llama.cpp "
    "(gguf:PATH), or a server that knows response_format",
    "tools": "use a model whose chat template knows tools",
    "states": "use a model that torch runs: hf:PATH, a folder, gguf:PATH or ui-s",
    "train": "use a model that torch runs: hf:PATH, a folder, gguf:PATH or ui-s",
    "batches": "use a model behind a server: http://HOST/v1#NAME",
    "prefix": "use a torch model (hf:PATH) or llama.cpp (gguf:PATH), or give the prompt as it is "
    "(--raw, /v1/completions)",
    "check": "tell it markers that can be measured on an answer, such as a length",
}


class Model:
    """Answers requests; `abilities` says what else it does. `identity` names weights or server for
    the store: equal identities give equal answers to equal requests.

    The asynchronous methods are the core. `generate`, `score`, `embed` and `count_tokens` are for
    programs that are not asynchronous: they take plain prompts (with `chat` each becomes one user
    message), and torch has a path of its own for them that batches a whole list.
    `local` models compute here, where by rounding an answer depends on those that are computed with
    it; `together` is for them.
    """

    name: str
    uri: str
    identity: str
    abilities: frozenset[Ability]
    chat: bool = False
    chat_template: bool = True  # without one the last user message is the prompt
    local: bool = False

    async def reply(self, request: Request, samples: Sequence[Draw]) -> list[Reply]:
        """One reply for each (sample index, temperature), in that order, the prompt read once where
        the model allows.

        A sample depends on request, seed and its index alone. Raises PomonaError when the request
        cannot succeed or all retries failed. A model defines this or `each`, and has the other.
        """
        replies = {
            (reply.index, reply.temperature): reply async for reply in self.each(request, samples)
        }
        return [replies[sample] for sample in samples]

    async def each(self, request: Request, samples: Sequence[Draw]) -> AsyncGenerator[Reply, None]:
        """The replies of `reply`, each as soon as it is there, in any order. An error comes last,
        after all that succeeded; a model that knows no other way gives them all at once.
        """
        if type(self).reply is Model.reply:  # made from this: it would ask itself for ever
            raise self.without("generate")
        for reply in await self.reply(request, samples):
            yield reply

    async def stream(
        self, request: Request, samples: Sequence[Draw]
    ) -> AsyncGenerator[ReplyPiece | Reply, None]:
        """Pieces of the samples as they come, mixed; the Reply of a sample follows its last piece.
        Indices differ.

        Closing it early stops the work.
        """
        async with aclosing(self.each(request, samples)) as replies:
            async for reply in replies:
                if reply.text:
                    yield ReplyPiece(reply.text, reply.index, reply.tokens)
                yield reply

    async def together(self, asks: Sequence[Ask]) -> list[list[Reply] | BaseException]:
        """What `reply` gives to each request, or its error. What is computed together is a function
        of `asks` alone; here one request after the other.
        """
        return [await self._reply_or_error(*ask) for ask in asks]

    async def logprobs(
        self, request: Request, completions: Sequence[str], *, end: bool = False
    ) -> tuple[list[NDArray[np.float32]], Spent]:
        """Natural-log probability of each token of each completion, with the ability "score", and
        what that cost; with `end` the end token's as the last one.
        """
        raise self.without("score")

    async def vectors(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], Spent]:
        """Unit vectors `[n, d]`, with the ability "embed", and what they cost."""
        raise self.without("embed")

    async def kept(self, texts: Sequence[str]) -> list[dict[str, int]]:
        """Of each text and each wish that it was told beside the prompt, with the ability "check":
        0 where the text is as wished, -1 where it has less, 1 where it has more or something else;
        nothing of what cannot be measured.
        """
        raise self.without("check")

    async def echo(self, request: Request) -> tuple[list[Token], Spent]:
        """The tokens of the prompt as `Reply.tokens` has those of an answer, with the ability
        "score", and what that cost; the first, which nothing predicts, has the logprob None.
        """
        raise self.without("score")

    async def spell(self, ids: Sequence[int]) -> str:
        """The text of token ids, special tokens among them; "" where no tokenizer is at hand. A
        ModelError for ids that the model has not.
        """
        return ""

    def tokens(self, request: Request) -> int:
        """Tokens of the prompt: counted where a tokenizer is at hand, else guessed from the text,
        rather too many.
        """
        return prompt_tokens(request)

    def cost(self, prompt: int, answer: int = 0, samples: int = 1) -> Spent:
        """What so many samples of `answer` tokens after one prompt of so many tokens cost, the
        prompt read once.

        A given answer costs as much to score, with its prompt, and a text to embed at most as much
        as to read.
        """
        return Spent(prompt, answer * samples, estimated=True)

    async def close(self) -> None:
        """Give back memory and connections."""

    def generate(
        self,
        prompts: Sequence[str],
        *,
        n: int = 1,
        max_new_tokens: int = 128,
        temperature: float | Sequence[float] = 0.0,
        seed: int = 0,
        **sampling: Unpack[SamplingOptions],
    ) -> list[list[Sample]]:
        """`n` samples a prompt, `[len(prompts)][n]`, in the order of the prompts. Temperature 0 is
        greedy; a sequence of n gives each sample its own. `sampling` are the fields of `Sampling`:
        top_p, top_k, penalties, stop.

        Waits for the asynchronous core, and all calls share one event loop. Samples of a model that
        torch does not run have no token ids and log-probabilities.
        """
        temperatures = (
            [temperature] * n if isinstance(temperature, int | float) else list(temperature)
        )
        if n < 1 or len(temperatures) != n:
            raise PomonaError(
                f"{len(temperatures)} temperatures for n={n} samples",
                remedy="ask for at least one sample, and give one number, or one a sample",
            )
        asks = [
            (
                Request(
                    messages=({"role": "user", "content": prompt},) if self.chat else (),
                    prompt=None if self.chat else prompt,
                    max_tokens=max_new_tokens,
                    seed=seed,
                    **sampling,
                ),
                list(enumerate(map(float, temperatures))),
            )
            for prompt in prompts
        ]
        return [[_sample(reply) for reply in replies] for replies in wait_for(self._pools(asks))]

    def score(
        self, prompts: Sequence[str], completions: Sequence[str], *, end: bool = False
    ) -> list[np.ndarray]:
        """Natural-log probability of each completion token, float32 `[t]` a pair; with `end` the
        end token's as the last one.
        """
        raise self.without("score")

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors `[n, d]`."""
        return wait_for(self.vectors(texts))[0]

    def count_tokens(self, prompts: Sequence[str]) -> np.ndarray:
        """Tokens of each prompt as it is read, int64 `[n]`; guessed where no tokenizer is at
        hand.
        """
        return np.array([self.tokens(Request(prompt=prompt)) for prompt in prompts], np.int64)

    def without(self, ability: Ability) -> PomonaError:
        """The error of a call that needs an ability this model has not."""
        return wrong_request(f'cannot "{ability}"', where=self.name, remedy=HAVE[ability])

    async def _pools(self, asks: Sequence[Ask]) -> list[list[Reply]]:
        if self.local:  # one after the other: side by side, rounding depends on who was faster
            pools = await self.together(asks)
            for pool in pools:
                if isinstance(pool, BaseException):
                    raise pool
            return [pool for pool in pools if not isinstance(pool, BaseException)]
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self.reply(*ask)) for ask in asks]
        except BaseExceptionGroup as failures:  # callers know errors, not groups of them
            first = failures.exceptions[0]
            raise first from first.__cause__
        return [task.result() for task in tasks]

    async def _reply_or_error(
        self, request: Request, samples: Sequence[Draw]
    ) -> list[Reply] | PomonaError:
        try:
            return await self.reply(request, samples)
        except PomonaError as error:
            return error


@dataclass(frozen=True)
class CostModel:
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
            flops = float(decode_flops(self.shape, context, completion_tokens))
            if prompt_tokens:
                flops += float(prefill_flops(self.shape, prompt_tokens))
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
            else sum(
                float(prefill_flops(shape, count)) - 2 * shape.output for count in texts if count
            )
        )
        return Spent(read, 0, flops, read * (self.price or (0.0, 0.0))[0] / 1e6, seconds, estimated)


def able(models: Iterable[Model | None], ability: Ability) -> Model | None:
    """The first model that has the ability, None without one."""
    return next(
        (model for model in models if model is not None and ability in model.abilities), None
    )


def _sample(reply: Reply) -> Sample:
    return Sample(
        reply.text,
        np.zeros(0, np.int32),
        np.zeros(0, np.float32),
        "length" if reply.finish_reason == "length" else "stop",
        reply.spent.prompt_tokens,
        reply.spent.completion_tokens,
    )
