"""Tokens with their log-probabilities, as the OpenAI API has them: token, logprob, bytes,
top_logprobs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from pomona.models.chat.protocol import Token

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


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


class Speller:
    """What each token of a tokenizer spells, for byte-level vocabularies and those that mark spaces
    with U+2581.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._byte_level = "ByteLevel" in str(
            getattr(getattr(tokenizer, "backend_tokenizer", None), "decoder", "")
        )
        self._special = frozenset(
            token for token, added in tokenizer.added_tokens_decoder.items() if added.special
        )

    def __call__(self, token: int) -> bytes:
        """The bytes of a token; special tokens spell nothing."""
        name = self._tokenizer.convert_ids_to_tokens(token)
        if name is None or token in self._special:
            return b""
        if self._byte_level:
            letters = _letters()
            return (
                bytes(letters[letter] for letter in name)
                if all(letter in letters for letter in name)
                else name.encode()
            )
        found = _BYTE.fullmatch(name)
        return bytes([int(found[1], 16)]) if found else name.replace("\u2581", " ").encode()


@cache
def _letters() -> Mapping[str, int]:
    """The byte that each letter of a byte-level vocabulary stands for. Radford et al. 2019,
    `bytes_to_unicode`.
    """
    plain = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {
        chr(256 + at): byte for at, byte in enumerate(others)
    }


def _spelled(raw: bytes, logprob: float) -> dict[str, Any]:
    return {"token": raw.decode("utf-8", "replace"), "bytes": list(raw), "logprob": logprob}
