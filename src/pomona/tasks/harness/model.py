"""A model as lm-eval asks one: text up to a stop string, and the log-likelihood of a text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from importlib import import_module
from itertools import groupby
from types import SimpleNamespace
from typing import Any

import numpy as np

from pomona.errors import PomonaError
from pomona.models import Ask, Model, Spent, wait_for
from pomona.tasks.harness.asking import Messages, messages_of, replies, request_of

_BASE: Any = import_module("lm_eval.api.model").TemplateLM  # whoever comes here has it
_utils: Any = import_module("lm_eval.utils")
_has_start: Any = import_module("lm_eval.models.utils").has_bos_prefix
_UNKNOWN_CONTEXT = 2048


class HarnessModel(_BASE):
    """See `harness_model`. Prompt and completion are tokenised together, as lm-eval's backend for
    transformers does it, and a prompt that is too long is cut in front.

    `greedy=False` leaves out whether a completion is the likeliest one (None): to know that costs
    as much again.
    """

    def __init__(self, model: Model, *, seed: int = 0, greedy: bool = True) -> None:
        super().__init__()
        self.model, self._seed, self._greedy = model, seed, greedy
        self.spent, self.cut = Spent(), 0

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """A text for each request. One that is there several times in a row is drawn as often;
        a greedy one is asked once.
        """
        asks: list[Ask] = []
        counts: list[int] = []
        for _, group in groupby(requests, key=id):
            same = list(group)
            context, settings, *_ = same[0].args
            asked, temperature = request_of(context, settings, self._seed)
            several = len(same) if temperature else 1
            asks.append((asked, [(index, temperature) for index in range(several)]))
            counts.append(len(same))
        texts: list[str] = []
        for pool, count in zip(wait_for(replies(self.model, asks)), counts, strict=True):
            self.spent += sum((reply.spent for reply in pool), Spent())
            drawn = [reply.text for reply in pool]
            texts += drawn if len(drawn) == count else drawn * count
        return texts

    def loglikelihood(
        self, requests: Sequence[Any], disable_tqdm: bool = False
    ) -> list[tuple[float, bool | None]]:
        """The natural-log probability of each continuation, and whether it is the likeliest."""
        pairs = [(self._rendered(each.args[0]), each.args[1]) for each in requests]
        return super().loglikelihood(
            [SimpleNamespace(args=pair) for pair in pairs], disable_tqdm=True
        )

    def loglikelihood_rolling(
        self, requests: Sequence[Any], disable_tqdm: bool = False
    ) -> list[float]:
        """The natural-log probability of each text, in windows of the context."""
        windows: list[tuple[None, list[int], list[int]]] = []
        ends: list[int] = []
        for each in requests:
            parts = _utils.get_rolling_token_windows(
                token_list=self.tok_encode(each.args[0]),
                prefix_token=self.prefix_token_id,
                max_seq_len=self._context,
                context_len=1,
            )
            windows += [(None, *_utils.make_disjoint_window(part)) for part in parts]
            ends.append(len(windows))
        sums = [value for value, _ in self._loglikelihood_tokens(windows, greedy=False)]
        starts = [0, *ends[:-1]]
        return [math.fsum(sums[a:b]) for a, b in zip(starts, ends, strict=True)]

    def _loglikelihood_tokens(
        self,
        requests: Sequence[tuple[Any, list[int], list[int]]],
        disable_tqdm: bool = False,
        greedy: bool | None = None,
    ) -> list[tuple[float, bool | None]]:
        from pomona.models.torch import Unit

        units: list[Unit] = []
        for _, context, continuation in requests:
            if not continuation:
                message = "a completion has no tokens, so it has no likelihood"
                raise PomonaError(message, where="doc_to_choice", remedy="give it some text")
            # The last token is never read, so one more than the context fits.
            ids = np.array([*context, *continuation], np.int32)[-(self._context + 1) :]
            self.cut += len(ids) < len(context) + len(continuation)
            first = len(ids) - len(continuation)
            if first < 1:
                message = f"a completion has {len(continuation):,} tokens"
                remedy = f"{self.model.name} takes {self._context:,}: shorten it"
                raise PomonaError(message, where="doc_to_choice", remedy=remedy)
            units.append(Unit(ids, first))
            cost = self.model.cost(first, len(continuation))
            self.spent += replace(cost, estimated=False)
        losses = [scores.loss for scores in self._probe.token_scores(units)]
        values = [-float(np.sum(loss, dtype=np.float64)) for loss in losses]
        if not (self._greedy if greedy is None else greedy):
            return [(value, None) for value in values]
        likeliest = self._likeliest(units, losses)
        return list(zip(values, likeliest, strict=True))

    def _likeliest(self, units: Sequence[Any], losses: Sequence[np.ndarray]) -> list[bool]:
        """Whether a greedy answer would be the scored tokens: only where none of them has less
        than its share of the vocabulary.
        """
        most = math.log(self._probe.shape.vocabulary) + 1e-3
        found = [False] * len(units)
        by_length: dict[int, list[int]] = {}
        for row, loss in enumerate(losses):
            if loss.max() <= most:
                by_length.setdefault(len(loss), []).append(row)
        for new, rows in by_length.items():
            prompts = [units[row].ids[: units[row].first] for row in rows]
            for row, said in zip(rows, self._probe.greedy(prompts, new), strict=True):
                found[row] = np.array_equal(said, units[row].ids[units[row].first :])
        return found

    @cached_property
    def _probe(self) -> Any:
        if "score" not in self.model.abilities:
            raise self.model.without("score")
        from pomona.models.torch import Probe, TorchModel

        if not isinstance(self.model, TorchModel):
            message = "stands behind a store or an account, where its tokens cannot be seen"
            raise PomonaError(message, where=self.model.name, remedy="give the model itself")
        return Probe(self.model)

    @property
    def _context(self) -> int:
        return self._probe.context or _UNKNOWN_CONTEXT

    @property
    def eot_token_id(self) -> int:
        return self._probe.codec.tokenizer.eos_token_id

    @property
    def prefix_token_id(self) -> int:
        start = self._probe.codec.tokenizer.bos_token_id
        return self.eot_token_id if start is None else start

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **_: Any
    ) -> list[int]:
        codec, special = self._probe.codec, add_special_tokens
        if special is None:  # a chat template may have written the start token already
            special = not _has_start(string, codec.tokenizer.decode(self.prefix_token_id))
        return codec.encode([string], special=special)[0]

    def apply_chat_template(
        self, chat_history: Sequence[Mapping[str, str]], add_generation_prompt: bool = True
    ) -> Messages:
        return messages_of(chat_history, add_generation_prompt)

    @property
    def tokenizer_name(self) -> str:
        return self.model.name

    def _rendered(self, context: str) -> str:
        if not isinstance(context, Messages):
            return context
        tokenizer = self._probe.codec.tokenizer
        if not tokenizer.chat_template:
            message, remedy = "has no chat template", "ask without chat"
            raise PomonaError(message, where=self.model.name, remedy=remedy)
        return tokenizer.apply_chat_template(
            [dict(turn) for turn in context.parsed()],
            tokenize=False,
            add_generation_prompt=True,
        )
