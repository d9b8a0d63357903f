"""Rows that follow a grammar, by llguidance: which tokens it allows next, and how an answer ends
within the tokens that are left.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pomona.models.torch.codec import Codec

_GRAMMARS = 64  # compiled ones that are kept for a model
_FARTHEST = 1024  # tokens of an ending that is looked for
_NEAR = 512  # tokens left, at least, from which on one is looked for
_AGAIN = 16  # steps after which an ending is looked for again where none was found
_BRACKETS, _QUOTES, _MARKS, _DIGITS = b"}]", b'"', b",:", b"0123456789"
_PARTS = b"@.-:/"  # what a text may have to have
_INSIDE = b"ghijklmopqsuvwxyz"  # what begins no value, so that it stands in a text
_NEVER = np.iinfo(np.int64).max
_WORDS = 64  # tokens of letters alone that are tried, the longest


def constrains(codec: Codec) -> bool:
    """Whether answers over these tokens can be held to a grammar."""
    return (
        find_spec("llguidance") is not None
        and bool(codec.stops)
        and getattr(codec.tokenizer, "is_fast", False)
    )


class Grammars:
    """Compiled grammars over the tokens of one model, the latest of them kept; for any thread."""

    def __init__(self, codec: Codec, width: int) -> None:
        self._codec, self._width = codec, width
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Any] = OrderedDict()

    @cached_property
    def _tokens(self) -> Any:
        """Made when it is first asked for: it takes up to a second for a large vocabulary."""
        from llguidance.hf import from_tokenizer

        size = max(len(self._codec.tokenizer), self._width)
        return from_tokenizer(
            self._codec.tokenizer, n_vocab=size, eos_token=list(self._codec.stops)
        )

    @cached_property
    def _endings(self) -> Endings:
        return Endings(self._tokens, self._codec.stops, self._width)

    @cached_property
    def _limits(self) -> Any:
        from llguidance import LLParserLimits

        return LLParserLimits(verbose_errors=False)

    def check(self, grammar: str) -> str:
        """Why a grammar cannot be followed, "" where it can."""
        from llguidance import LLMatcher

        with self._lock:
            if grammar in self._known:
                return ""
            tokens = self._tokens
        failed, told = LLMatcher.validate_grammar_with_warnings(
            grammar, tokens, limits=self._limits
        )
        return told[0] if failed else ""

    def row(self, grammar: str, most: int) -> HeldRow:
        """A row of at most so many tokens at the beginning of a grammar that was checked."""
        from llguidance import LLMatcher

        with self._lock:
            tokens, matcher, endings = self._tokens, self._known.get(grammar), self._endings
        if matcher is None:
            matcher = LLMatcher(tokens, grammar, log_level=0, limits=self._limits)
        with self._lock:
            self._known[grammar] = matcher
            self._known.move_to_end(grammar)
            while len(self._known) > _GRAMMARS:
                self._known.popitem(last=False)
            return HeldRow(matcher.deep_copy(), endings, most)


class _Order(NamedTuple):
    """Tokens in the order in which a search for an ending prefers them, and which of them are
    brackets or commas, or begin with a quote. One of the others that was taken `period` times comes
    after all that were not.
    """

    ids: NDArray[np.int64]
    bracket: NDArray[np.bool_]
    quote: NDArray[np.bool_]
    period: int


class Endings:
    """Short ways to the end of an answer, over the tokens of one model: quotes and brackets that
    close, then whatever leads on. A search may miss the shortest.
    """

    def __init__(self, tokens: Any, stops: Sequence[int], width: int) -> None:
        self.tokens, self.stops, self.width = tokens, list(stops), width
        spelled = {
            id: text
            for id in range(min(width, tokens.vocab_size))
            if id not in self.stops
            and not tokens.is_special_token(id)
            and (text := bytes(tokens.decode_bytes([id])))
        }
        one = {text[0]: id for id, text in spelled.items() if len(text) == 1}
        plain = [id for id, text in spelled.items() if text.isalpha() and text.islower()]
        words = sorted(plain, key=lambda id: -len(spelled[id]))[:_WORDS]
        ends = [id for id, text in spelled.items() if not text.strip(_BRACKETS + _QUOTES)]
        ends.sort(key=lambda id: -len(spelled[id]))
        brackets = [id for id in ends if spelled[id][:1] not in _QUOTES]
        quotes = [id for id in ends if spelled[id][:1] in _QUOTES]
        rest = [one[byte] for byte in sorted(one)]
        digits, shut, quote, marks, parts, inside = (
            [one[byte] for byte in some if byte in one]
            for some in (_DIGITS, _BRACKETS, _QUOTES, _MARKS, _PARTS, _INSIDE)
        )
        self._inside = np.array(inside, np.int64)
        orders = (
            ([*brackets, *quotes, *marks, *words, *digits, *rest], 8),
            ([*shut, *marks, *digits, *quote, *reversed(rest)], 8),
            ([*shut, *quote, *parts, *rest], 1),
        )
        self._orders = [
            _Order(
                np.array(ids := list(dict.fromkeys(some)), np.int64),
                np.isin(ids, [*brackets, *marks] if period > 1 else brackets),
                np.isin(ids, quotes),
                period,
            )
            for some, period in orders
        ]

    def of(self, matcher: Any, most: int) -> list[int] | None:
        """At most so many tokens that end the answer, none of them a stop; None where none were
        found.
        """
        for order in self._orders:
            # Bit by bit it has more tokens than its text needs.
            ids = self._tried(matcher.deep_copy(), order, 2 * most)
            if ids is not None and len(ids) > most:
                ids = self._as(ids) if self.keeps(matcher, self._as(ids)) else None
            if ids is not None and len(ids) <= most:
                return ids
        return None

    def keeps(self, matcher: Any, ids: Sequence[int]) -> bool:
        """Whether these tokens end the answer."""
        return matcher.validate_tokens([*ids, self.stops[0]]) > len(ids)

    def without(self, ids: Sequence[int], token: int) -> list[int]:
        """What is left of these tokens' text after the token, where that is its beginning; else the
        same tokens.
        """
        if ids and ids[0] == token:
            return list(ids[1:])
        text, begun = (self._spelled(some) for some in (ids, [token]))
        return self.tokens.tokenize_bytes(text[len(begun) :]) if text.startswith(begun) else [*ids]

    def _as(self, ids: Sequence[int]) -> list[int]:
        """The same text in as few tokens as its tokenizer takes."""
        return self.tokens.tokenize_bytes(self._spelled(ids))

    def _spelled(self, ids: Sequence[int]) -> bytes:
        return bytes(self.tokens.decode_bytes(list(ids)))

    def _tried(self, matcher: Any, order: _Order, most: int) -> list[int] | None:
        ids: list[int] = []
        taken = np.zeros(len(order.ids), np.int64)
        while len(ids) <= most and not matcher.is_error():
            if matcher.is_accepting():
                return ids
            if not (forced := matcher.compute_ff_tokens()):
                place = self._place(
                    np.frombuffer(matcher.compute_bitmask(), np.uint8), order, taken
                )
                if place is None:
                    return None
                taken[place] += not (order.bracket | order.quote)[place]
                forced = [int(order.ids[place])]
            if matcher.try_consume_tokens(forced) < len(forced):
                return None
            ids += forced
        return None

    def _place(
        self, bits: NDArray[np.uint8], order: _Order, taken: NDArray[np.int64]
    ) -> int | None:
        """Which token of the order comes next, of those that the bits allow."""
        allowed = _set(bits, order.ids)
        if _set(bits, self._inside).any():  # a quote ends it, and brackets are some of it
            wanted = allowed & order.quote if (allowed & order.quote).any() else ~order.bracket
            allowed &= wanted if (allowed & wanted).any() else True
        late = taken // order.period * len(order.ids) + np.arange(len(order.ids))
        late[~allowed] = _NEVER
        place = int(late.argmin())
        return place if allowed[place] else None


def _set(bits: NDArray[np.uint8], ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of these tokens a mask allows."""
    return (bits[ids >> 3] >> (ids & 7) & 1).astype(bool)


class HeldRow:
    """One row of at most `most` tokens that follows a grammar; `failed` says why it could not go
    on, and is else empty.

    Near its limit it knows an ending at each token. A token after which none would fit any more is
    not taken: the ending known before is begun instead, and the row is `shortened`.
    """

    def __init__(self, matcher: Any, endings: Endings, most: int) -> None:
        self._matcher, self._endings, self._left = matcher, endings, most
        self._ending: list[int] | None = None
        self._sought = False
        self.failed, self.shortened = "", False

    @cached_property
    def _near(self) -> int:
        """The tokens left from which on endings are looked for: room for two whole answers."""
        whole = self._endings.of(self._matcher, _FARTHEST) if self._left > _NEAR else []
        return _FARTHEST if whole is None else max(_NEAR, 2 * len(whole))

    def __call__(self, logits: torch.Tensor) -> torch.Tensor:
        """The logits `[vocabulary]` with what the grammar does not allow next at -inf."""
        width = self._endings.width
        allowed = np.zeros(width, np.uint8)
        if not self.failed:
            bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
            bits = np.unpackbits(bits, bitorder="little")[:width]
            allowed[: len(bits)] = bits
            if self._matcher.is_error() or not allowed.any():
                self.failed = self._matcher.get_error() or "nothing can follow"
        if self.failed:
            allowed[:] = 0
            allowed[self._endings.stops] = 1
        return logits.masked_fill(torch.from_numpy(allowed == 0).to(logits.device), -torch.inf)

    def take(self, token: int) -> int:
        """Go on with a token that was allowed, or with another; see `Bend`."""
        if self.failed:
            return token
        known, due = self._ending, self._left < _AGAIN or not self._left % _AGAIN
        if known is None and self._left <= self._near and (due or not self._sought):
            known, self._sought = self._found(self._left), True
        if not self._consumed(token):
            return token
        self._left -= 1
        if token in self._endings.stops or self._matcher.is_stopped():
            return token
        self._ending = None if known is None else self._after(known, token)
        if self._ending is not None or known is None or self._left > _FARTHEST:
            return token
        self._matcher.rollback(1)
        token, *self._ending = known or [self._endings.stops[0]]
        self._consumed(token)
        self.shortened = True
        return token

    def _after(self, known: list[int], token: int) -> list[int] | None:
        """An ending behind the token that was taken, by the one known before it."""
        ids = self._endings.without(known, token)
        if len(ids) <= self._left and self._endings.keeps(self._matcher, ids):
            return ids
        return self._found(self._left)

    def _found(self, left: int) -> list[int] | None:
        return self._endings.of(self._matcher, min(left, _FARTHEST))

    def _consumed(self, token: int) -> bool:
        if not self._matcher.consume_token(token):
            self.failed = self._matcher.get_error() or "nothing can follow"
        return not self.failed
