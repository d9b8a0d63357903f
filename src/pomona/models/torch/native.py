"""Whole lists of prompts through a torch network, batched and given back in order."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
from numpy.typing import NDArray

from pomona.errors import PomonaError
from pomona.models.model import Model
from pomona.models.request import ReplyPiece, Sample, Steer, Token, check_ids, wrong_request
from pomona.models.sampling import Sampling, SamplingOptions, check_sampling
from pomona.models.torch.batches import Pair, budget_of, in_batches, score_batch, sum_states
from pomona.models.torch.codec import Codec
from pomona.models.torch.decode import (
    DecodedRow,
    DecodeSettings,
    DecodeStep,
    Penalties,
    Plan,
    cut_of,
    decode,
    row_keys,
)
from pomona.models.torch.network import (
    MIXED,
    blank_network,
    open_network,
    pick_device,
    pick_dtype,
    replace_weights,
    shape_of,
)

_UNKNOWN_CONTEXT = 2048
# tokens before a stop string that are read again, so that characters split over tokens come out
# whole
_MARGIN = 16


class NativeModel(Model):
    """The blocking half of `TorchModel`: any causal language model that transformers loads.
    `network` and `codec.tokenizer` are the loaded parts. It runs in the thread that calls.

    Reproducible: the random numbers of a sample depend on seed, prompt text, sample index and step
    alone. So the same seed gives the same samples whatever other prompts are in the call, in
    whatever order and batch size. What remains is rounding: padding and batch size change float32
    log-probabilities by less than 1e-4 (bfloat16: about 1e-1), and a draw changes only where its
    uniform number lies that close to a boundary. The same prompt given twice gets the same samples
    twice. `progress`, when set, is called with the number of prompts done and in all after each
    batch. With `blank` only configuration and tokenizer are read from `folder`, and `replace` must
    set the weights before anything is asked.
    """

    def __init__(
        self,
        uri: str,
        folder: Path,
        *,
        device: str | None = None,
        dtype: str | None = None,
        memory: int | None = None,
        chat: bool = False,
        progress: Callable[[int, int], None] | None = None,
        blank: bool = False,
    ) -> None:
        if memory is not None and memory < 1:
            raise PomonaError(
                f"memory is {memory} bytes",
                remedy="give a positive number of bytes, or leave it out",
            )
        place = pick_device(device)
        self.name = self.uri = uri
        self.chat = chat
        self.network = (blank_network if blank else open_network)(
            folder, place, pick_dtype(dtype, place)
        )
        self.codec = Codec(folder, self.network, chat=chat)
        self.shape = shape_of(self.network)
        self.progress = progress
        self.arithmetic = torch.autocast(place.type, torch.bfloat16, enabled=dtype == MIXED)
        self.budget = budget_of(self.network, memory)
        config = self.network.config.get_text_config(decoder=True)
        self.context: int | None = getattr(config, "max_position_embeddings", None)

    def replace(self, tensors: Iterable[tuple[str, NDArray[Any]]]) -> None:
        """Take other weights, in place: (name, array) pairs as in a checkpoint of the same
        architecture, bfloat16 as uint16.

        Of tied weights one name is enough. A PomonaError when a name is unknown or missing or a
        shape differs; the weights are then partly replaced, and the model is of no use before
        another `replace`.
        """
        replace_weights(self.network, tensors)

    # Pyright takes the options of the base for ones that steers may be among.
    def generate(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        prompts: Sequence[str],
        *,
        n: int = 1,
        max_new_tokens: int = 128,
        temperature: float | Sequence[float] = 0.0,
        seed: int = 0,
        steers: Sequence[Steer | None] | None = None,
        prefixes: Sequence[str] | None = None,
        **sampling: Unpack[SamplingOptions],
    ) -> list[list[Sample]]:
        """`n` samples a prompt, `[len(prompts)][n]`; see `Model`, and the class for what makes
        samples reproducible. `steers` has for each prompt what leads its answers, and `prefixes`
        what these begin with already, in tokens of its own; samples have what follows it.

        A prompt shares one prefill among its samples, so a pool of one greedy and n - 1 sampled
        answers (`temperature=[0, .8, .8]`) is one call. Generation that meets the context limit
        finishes with "length". A PomonaError when an argument is out of range or a prompt fills the
        context already.
        """
        temperatures, drawn = _check(n, max_new_tokens, temperature), Sampling(**sampling)
        check_sampling(drawn)
        check_ids(drawn.logit_bias, self.shape.vocabulary, "logit_bias")
        steers = [None] * len(prompts) if steers is None else steers
        if len(steers) != len(prompts):
            message = f"{len(prompts)} prompts but {len(steers)} to lead them"
            raise PomonaError(message, remedy="give one of steers a prompt, or None for it")
        for steer in {id(steer): steer for steer in steers}.values():
            self.check_steer(steer)
        encoded = self.codec.prompts(prompts)
        if prefixes is not None:
            begun = self.codec.encode(prefixes, special=False)
            encoded = [[*one, *two] for one, two in zip(encoded, begun, strict=True)]
        self._check_room([len(ids) + 1 for ids in encoded])
        settings = DecodeSettings(
            max_new_tokens, cut_of(drawn), tuple(self.codec.stops), self.context
        )
        keys = [row_keys(seed, prompt, n) for prompt in prompts]
        order, longest = self._order(encoded, steers)
        rows = [(index, sample) for index in order for sample in range(n)]

        def run(batch: Sequence[tuple[int, int]]) -> list[DecodedRow]:
            place = {
                index: at for at, index in enumerate(dict.fromkeys(index for index, _ in batch))
            }
            plan = Plan(
                prompt=np.array([place[index] for index, _ in batch]),
                key=np.array([keys[index][sample] for index, sample in batch]),
                temperature=np.array([temperatures[sample] for _, sample in batch]),
            )
            ids = [encoded[index] for index in place]
            watch = StopWatch(self.codec, drawn.stop, len(batch)) if drawn.stop else None
            bent = drawn.penalised or drawn.logit_bias
            bends = [Penalties(drawn, encoded[index]) if bent else None for index, _ in batch]
            with self.arithmetic:
                led = [steers[index] for index in place]
                return decode(self.network, ids, plan, settings, watch, led, bends)

        def size(row: tuple[int, int]) -> int:
            return self.budget.decoding(longest[row[0]], max_new_tokens, n)

        done = in_batches(rows, size, run, lambda now, total: self.report(now // n, total // n))
        samples: list[list[Sample]] = [[] for _ in prompts]
        for (index, _), row in zip(rows, done, strict=True):
            samples[index].append(self._sample(row, len(encoded[index]), drawn.stop))
        return samples

    def score(
        self, prompts: Sequence[str], completions: Sequence[str], *, end: bool = False
    ) -> list[np.ndarray]:
        """Natural-log probability of each completion token, float32 `[t]` a pair; with `end` the
        end token's as the last one.

        Prompt and completion are tokenised apart, then joined: the prompt with the tokenizer's
        start token or chat template, the completion bare. An empty completion gives an empty array;
        an empty prompt counts as the start token. A PomonaError when the lengths differ, an empty
        prompt has no start token to stand for it, or a pair is longer than the context.
        """
        if len(prompts) != len(completions):
            raise PomonaError(
                f"{len(prompts)} prompts but {len(completions)} completions",
                remedy="give one completion a prompt",
            )
        pairs: list[Pair] = list(
            zip(
                self.codec.prompts(prompts),
                self.codec.completions(completions, end=end),
                strict=True,
            )
        )
        self._check_room([len(prompt) + len(completion) for prompt, completion in pairs])
        return self.score_pairs(pairs, self.report)

    def score_pairs(
        self,
        pairs: Sequence[Pair],
        report: Callable[[int, int], None] | None = None,
        steer: Steer | None = None,
    ) -> list[np.ndarray]:
        """`score` of token ids, none longer than the context, led by `steer`; empty completions
        give empty arrays.
        """
        order = sorted(
            (index for index, (_, completion) in enumerate(pairs) if completion),
            key=lambda index: (-sum(map(len, pairs[index])), len(pairs[index][0])),
        )

        def run(batch: Sequence[int]) -> list[np.ndarray]:
            with self.arithmetic:
                return score_batch(
                    self.network, [pairs[index] for index in batch], self.budget.window(), steer
                )

        def size(index: int) -> int:
            return self.budget.scoring(sum(map(len, pairs[index])), len(pairs[index][1]))

        scores = [np.zeros(0, dtype=np.float32) for _ in pairs]
        for index, score in zip(order, in_batches(order, size, run, report), strict=True):
            scores[index] = score
        return scores

    def _order(
        self, encoded: Sequence[Sequence[int]], steers: Sequence[Steer | None]
    ) -> tuple[list[int], dict[int, int]]:
        """The prompts in the order in which they are answered, and for each the most tokens that
        one of those has which may be in a batch with it.
        """
        # Those that are led alike stand together: what leads them may have much to read, each step.
        place = {id(steer): at for at, steer in reversed(list(enumerate(steers)))}
        order = sorted(
            range(len(encoded)), key=lambda index: (place[id(steers[index])], -len(encoded[index]))
        )
        sizes, most = [len(encoded[index]) for index in order], self.budget.most_rows
        return order, {index: max(sizes[at : at + most]) for at, index in enumerate(order)}

    def check_steer(self, steer: Steer | None) -> None:
        """Raise ModelError for what was made for another model."""
        if steer is not None and steer.model != self.identity:
            raise wrong_request(
                "the datastores are from another model",
                where=self.name,
                remedy="build them with this one",
            )

    def count_tokens(self, prompts: Sequence[str]) -> np.ndarray:
        """Tokens of each prompt as it is read, start token and chat template included, int64
        `[n]`.
        """
        return np.array([len(ids) for ids in self.codec.prompts(prompts)], np.int64)

    def _sample(self, row: DecodedRow, prompt_tokens: int, stops: Sequence[str]) -> Sample:
        text, ended = cut(self.codec.text(row.token_ids), stops)
        return Sample(
            text=text,
            token_ids=row.token_ids,
            logprobs=row.logprobs,
            finish_reason="stop" if row.stopped or ended else "length",
            prompt_tokens=prompt_tokens,
            completion_tokens=len(row.token_ids) + row.stopped,
        )

    def report(self, done: int, total: int) -> None:
        """Tell `progress`, where there is one."""
        if self.progress is not None:
            self.progress(done, total)

    def _check_room(self, lengths: Sequence[int]) -> None:
        for index, length in enumerate(lengths):
            if self.context is not None and length > self.context:
                raise PomonaError(
                    f"needs {length:,} tokens, and {self.uri} takes {self.context:,}",
                    where=f"prompt {index + 1}",
                    remedy="shorten it, or use a model with a longer context",
                )


class Growing:
    """One answer that grows token by token: says when a stop string has come, and tells the text
    that is stable_prefix, as sample `index`.
    """

    def __init__(
        self,
        text_of: Callable[[np.ndarray], str],
        stops: Sequence[str],
        on_piece: Callable[[ReplyPiece], None] | None,
        index: int,
    ) -> None:
        self._text_of, self._stops, self._on_piece, self._index = text_of, stops, on_piece, index
        self._window = max((len(stop.encode()) for stop in stops), default=0) + _MARGIN
        self._ids: list[int] = []
        self._waiting: deque[Token] = deque()
        self._given = self._given_bytes = self._given_tokens = 0

    def add(self, id: int, token: Token | None) -> bool:
        """Take one token, with what is to be told of it where that was asked for; True when the
        answer ends with it.
        """
        self._ids.append(id)
        if token is not None:
            self._waiting.append(token)
        if self._on_piece is None:
            return cut(self._text_of(np.array(self._ids[-self._window :])), self._stops)[1]
        text, ended = cut(self._text_of(np.array(self._ids)), self._stops)
        if not ended:
            text = stable_prefix(text, self._stops)
        if len(text) > self._given:
            self._give(text, self._spelled(text))
        return ended

    def end(self, text: str, tokens: Sequence[Token]) -> None:
        """Tell what is left of the whole text and of its tokens."""
        if len(text) > self._given or len(tokens) > self._given_tokens:
            self._give(text, tokens[self._given_tokens :])

    def _spelled(self, text: str) -> list[Token]:
        """The tokens not yet told that end within the text."""
        spelled: list[Token] = []
        size = len(text.encode()) if self._waiting else 0
        while self._waiting and (end := self._given_bytes + len(self._waiting[0]["bytes"])) <= size:
            spelled.append(self._waiting.popleft())
            self._given_bytes = end
        return spelled

    def _give(self, text: str, tokens: Sequence[Token]) -> None:
        if self._on_piece is not None:
            self._on_piece(ReplyPiece(text[self._given :], self._index, tuple(tokens)))
        self._given, self._given_tokens = len(text), self._given_tokens + len(tokens)


class StopWatch:
    """Ends each of so many rows where a stop string has come; see `Watch`."""

    def __init__(self, codec: Codec, stops: Sequence[str], rows: int) -> None:
        self._ends = set(codec.stops)
        self._rows = [Growing(codec.text, stops, None, row) for row in range(rows)]

    def __call__(self, step: DecodeStep) -> list[int]:
        """The rows that end with this step."""
        told = zip(step.rows.tolist(), step.tokens.tolist(), strict=True)
        return [
            row
            for row, token in told
            if token not in self._ends and self._rows[row].add(token, None)
        ]


def _check(n: int, max_new_tokens: int, temperature: float | Sequence[float]) -> tuple[float, ...]:
    """The temperature of each sample; a PomonaError for an argument out of range."""
    if n < 1:
        raise PomonaError(f"n is {n}", remedy="ask for at least one sample a prompt")
    if max_new_tokens < 1:
        raise PomonaError(
            f"max_new_tokens is {max_new_tokens}", remedy="ask for at least one token"
        )
    temperatures = (
        (float(temperature),) * n
        if isinstance(temperature, (int, float))
        else tuple(map(float, temperature))
    )
    if len(temperatures) != n:
        raise PomonaError(
            f"{len(temperatures)} temperatures for n={n} samples",
            remedy="give one number, or one a sample",
        )
    for value in temperatures:
        if not 0 <= value < math.inf:
            raise PomonaError(
                f"temperature is {value}",
                remedy="use 0 for the likeliest answer, or a positive number",
            )
    return temperatures


def mean_states(model: object, texts: Sequence[str]) -> NDArray[np.float32]:
    """The mean over all tokens of a text of the last hidden state, float32 `[n, hidden]`, in the
    order of the texts.

    A text longer than the context goes through in windows of that size. What else is in the call
    changes a value by rounding only. Raises PomonaError when the model gives no hidden states.
    """
    loaded, base = _opened(model)
    context = loaded.context or _UNKNOWN_CONTEXT
    windows: list[tuple[int, list[int]]] = []
    for text, ids in enumerate(loaded.codec.plain(texts)):
        windows += [(text, ids[start : start + context]) for start in range(0, len(ids), context)]
    windows.sort(key=lambda window: (-len(window[1]), window[0]))

    def run(batch: Sequence[tuple[int, list[int]]]) -> list[NDArray[np.float64]]:
        with loaded.arithmetic:
            return sum_states(base, loaded.network.device, [ids for _, ids in batch])

    def size(window: tuple[int, list[int]]) -> int:
        return loaded.budget.scoring(len(window[1]), 1)

    total = np.zeros((len(texts), loaded.shape.hidden), np.float64)
    tokens = np.zeros(len(texts), np.int64)
    for (text, ids), part in zip(
        windows, in_batches(windows, size, run, loaded.report), strict=True
    ):
        total[text] += part
        tokens[text] += len(ids)
    return (total / tokens[:, None]).astype(np.float32)


def _opened(model: object) -> tuple[NativeModel, Any]:
    """The model as the class it is, and its network without the output projection."""
    network = getattr(model, "network", None)
    base = getattr(network, "base_model", None)
    if not isinstance(model, NativeModel) or base is None or base is network:
        raise PomonaError(
            "gives no hidden states",
            where=getattr(model, "uri", model),
            remedy="use a torch model, such as ui-s or hf:PATH",
        )
    return model, base


def cut(text: str, stops: Sequence[str]) -> tuple[str, bool]:
    """The text before the first stop string, and whether there was one."""
    places = [place for stop in stops if stop and (place := text.find(stop)) >= 0]
    return (text[: min(places)], True) if places else (text, False)


def stable_prefix(text: str, stops: Sequence[str]) -> str:
    """The part of an unfinished text that no later token changes: no half character at its end, nor
    what may become a stop string.
    """
    text = text.rstrip("\ufffd")
    for size in range(min(len(text), max((len(stop) for stop in stops), default=0)), 0, -1):
        if any(stop.startswith(text[-size:]) for stop in stops):
            return text[:-size]
    return text
