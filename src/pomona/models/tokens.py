"""Tokens with their log-probabilities, as the OpenAI API has them: token, logprob, bytes,
top_logprobs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pomona.models.request import Token


def entry(raw: bytes, logprob: float, top: Sequence[tuple[bytes, float]] = ()) -> Token:
    """A token that spells `raw`; what is no whole character in it is shown as U+FFFD. `top` are its
    likeliest alternatives.
    """
    return {**_spelled(raw, logprob), "top_logprobs": [_spelled(*other) for other in top]}


def of_server(given: Any) -> list[Token]:
    """The tokens in the field `logprobs` of a choice, in the form of chats or of the older
    completions.
    """
    if not isinstance(given, dict):
        return []
    if isinstance(content := given.get("content"), list):
        return [
            token
            for token in content
            if isinstance(token, dict) and isinstance(token.get("logprob"), int | float)
        ]
    values = given.get("token_logprobs") or ()
    names = given.get("tokens") or [""] * len(values)
    tops = given.get("top_logprobs") or [None] * len(values)
    return [
        entry(name.encode(), value, [(other.encode(), log) for other, log in (top or {}).items()])
        for name, value, top in zip(names, values, tops, strict=False)
        if value is not None
    ]


def wanted(tokens: Sequence[Token], most: int | None) -> tuple[Token, ...]:
    """The tokens with at most so many alternatives each; none where they were not asked for."""
    if most is None:
        return ()
    return tuple(
        {**token, "top_logprobs": list(token.get("top_logprobs") or ())[:most]} for token in tokens
    )


def within(tokens: Sequence[Token], text: str) -> tuple[Token, ...]:
    """The tokens that begin within the text, which a stop string has cut."""
    size, before, found = len(text.encode()), 0, []
    for token in tokens:
        if before >= size:
            break
        found.append(token)
        before += len(token["bytes"])
    return tuple(found)


def _spelled(raw: bytes, logprob: float) -> dict[str, Any]:
    return {"token": raw.decode("utf-8", "replace"), "bytes": list(raw), "logprob": logprob}
