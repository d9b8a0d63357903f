"""The JSON objects of the OpenAI API."""

from __future__ import annotations

import base64
import json
import math
import secrets
import time
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pomona.models import ReplyPiece, Spent, Token
from pomona.serve.parsing import ParsedRequest
from pomona.serve.work import Drawn, Outcome, ResponseChoice


def encode(value: Any) -> bytes:
    """JSON without spaces; numbers that JSON has not become null."""
    try:
        return json.dumps(
            value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=str
        ).encode("utf-8", "replace")
    except ValueError:
        return encode(_finite(value))


def usage_of(spent: Spent) -> dict[str, int]:
    """All tokens, those of samples not chosen and of judges included."""
    prompt, completion = spent.prompt_tokens, spent.completion_tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


class Shape(Protocol):
    """How an answer is told, whole or as events."""

    def whole(self, outcome: Outcome) -> dict[str, Any]:
        """The object of the finished answer."""
        ...

    def of(self, item: ReplyPiece | Drawn | Outcome) -> list[dict[str, Any]]:
        """The events for what came of it."""
        ...


class Chunks:
    """A chat.completion or text_completion, and the chunks of a streamed one."""

    def __init__(self, parsed: ParsedRequest) -> None:
        self._parsed = parsed
        self._head = _head(parsed)
        self._begun: set[int] = set()
        self._told: dict[int, int] = {}

    def whole(self, outcome: Outcome) -> dict[str, Any]:
        """See `Shape`."""
        choices = [_choice(self._parsed, *numbered) for numbered in enumerate(outcome.choices)]
        kind = "chat.completion" if self._parsed.chat else "text_completion"
        usage = usage_of(outcome.spent)
        head = {**self._head, "object": kind}
        return {**head, "choices": choices, "usage": usage, "pomona": outcome.pomona}

    def of(self, item: ReplyPiece | Drawn | Outcome) -> list[dict[str, Any]]:
        """The chunks for what came; the first of a choice says who speaks."""
        if isinstance(item, Outcome):
            return self._end(item)
        if isinstance(item, ReplyPiece):
            return self._piece(item)
        # A chunk that adds nothing and says how far a strategy is.
        chunk = self._chunk(0, {} if self._parsed.chat else "")
        return [*self._begin(0), {**chunk, "pomona": {"drawn": item.count, "of": item.of}}]

    def _piece(self, piece: ReplyPiece) -> list[dict[str, Any]]:
        start = self._told.get(piece.index, 0)
        self._told[piece.index] = start + sum(map(_letters, piece.tokens))
        delta: Any = piece.text
        if self._parsed.chat:
            thought = {"reasoning_content": piece.reasoning} if piece.reasoning else {}
            delta = {**({"content": piece.text} if piece.text or not thought else {}), **thought}
        elif not piece.text and piece.reasoning:  # the older form has no field for it
            return []
        return [
            *self._begin(piece.index),
            self._chunk(piece.index, delta, logprobs=_logprobs(self._parsed, piece.tokens, start)),
        ]

    def _end(self, outcome: Outcome) -> list[dict[str, Any]]:
        """The chunks that end each choice, then the usage where it was asked for. `pomona` is in
        the last of them.
        """
        chunks: list[dict[str, Any]] = []
        for index, choice in enumerate(outcome.choices):
            chunks += self._begin(index)
            if self._parsed.chat and choice.refusal is not None:
                chunks.append(self._chunk(index, {"refusal": choice.refusal}))
            if self._parsed.chat and choice.calls:
                calls = [{"index": at, **call} for at, call in enumerate(choice.calls)]
                chunks.append(self._chunk(index, {"tool_calls": calls}))
            chunks.append(self._chunk(index, {} if self._parsed.chat else "", choice.finish))
        if self._parsed.include_usage:
            chunks.append({**self._head, "choices": [], "usage": usage_of(outcome.spent)})
        chunks[-1]["pomona"] = outcome.pomona
        return chunks

    def _begin(self, index: int) -> list[dict[str, Any]]:
        if index in self._begun or not self._parsed.chat:
            return []
        self._begun.add(index)
        return [self._chunk(index, {"role": "assistant", "content": ""})]

    def _chunk(
        self, index: int, delta: Any, finish: str | None = None, logprobs: Any = None
    ) -> dict[str, Any]:
        key = "delta" if self._parsed.chat else "text"
        choice = {"index": index, key: delta, "logprobs": logprobs, "finish_reason": finish}
        usage = {"usage": None} if self._parsed.include_usage else {}
        return {**self._head, "choices": [choice], **usage}


def embeddings(called: str, vectors: NDArray[np.float32], tokens: int, as_text: bool) -> bytes:
    """A list of embeddings as JSON; each is a list of numbers or, `as_text`, base64 of 32-bit
    floats.

    Written one by one: a single call for thousands would hold the interpreter, also in a thread.
    """
    written = []
    for at, row in enumerate(vectors):
        value = base64.b64encode(row.tobytes()).decode() if as_text else row.tolist()
        written.append(encode({"object": "embedding", "index": at, "embedding": value}))
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    head = encode({"object": "list", "model": called, "usage": usage})
    return head[:-1] + b',"data":[' + b",".join(written) + b"]}"


def _head(parsed: ParsedRequest) -> dict[str, Any]:
    name = ("chatcmpl-" if parsed.chat else "cmpl-") + secrets.token_hex(14)
    kind = "chat.completion.chunk" if parsed.chat else "text_completion"
    return {
        "id": name,
        "object": kind,
        "created": int(time.time()),
        "model": parsed.called,
        "system_fingerprint": parsed.served.fingerprint,
    }


def _choice(parsed: ParsedRequest, index: int, choice: ResponseChoice) -> dict[str, Any]:
    rest = {"logprobs": _logprobs(parsed, choice.tokens), "finish_reason": choice.finish}
    if not parsed.chat:
        return {"index": index, "text": choice.text, **rest}
    text = choice.text or (None if choice.calls else "")
    text = None if choice.refusal is not None and not text else text
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": choice.refusal}
    if choice.reasoning is not None:
        message["reasoning_content"] = choice.reasoning
    if choice.calls:
        message["tool_calls"] = [dict(call) for call in choice.calls]
    return {"index": index, "message": message, **rest}


def _logprobs(
    parsed: ParsedRequest, tokens: Sequence[Token], start: int = 0
) -> dict[str, Any] | None:
    """The field `logprobs` where it was asked for; the older form counts the characters before each
    token from `start`.
    """
    if not parsed.logprobs:
        return None
    if parsed.chat:
        return {"content": list(tokens), "refusal": None}
    offsets = accumulate(map(_letters, tokens), initial=start)
    return {
        "tokens": [_named(token) for token in tokens],
        "token_logprobs": [token["logprob"] for token in tokens],
        "top_logprobs": [
            None
            if token["logprob"] is None
            else {_named(one): one["logprob"] for one in (*token["top_logprobs"], token)}
            for token in tokens
        ],
        "text_offset": list(offsets)[:-1],
    }


def _named(token: Token) -> str:
    """A token as the older form names it: by its bytes where these are no whole characters."""
    text, spelled = token["token"], token.get("bytes")
    if not spelled or "\ufffd" not in text or bytes(spelled) == text.encode():
        return text
    return "bytes:" + "".join(f"\\x{byte:02x}" for byte in spelled)


def _letters(token: Token) -> int:
    """How many characters begin in a token."""
    return sum(byte & 0xC0 != 0x80 for byte in token.get("bytes") or token["token"].encode())


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
