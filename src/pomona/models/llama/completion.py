"""Between our requests and the JSON of llama.cpp's own completion route."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pomona.models.http.choices import Choice
from pomona.models.request import Draw, Finish, Piece, Request, Token, content_of
from pomona.models.tokens import wanted, within

_NO_SEED = (1 << 32) - 1  # llama.cpp takes this one for "any"
_TOKEN = ("token", "logprob", "bytes", "top_logprobs")


@dataclass
class GrowingRow:
    """One streamed sample so far. `last` is its final event, once that has come."""

    text: str = ""
    tokens: list[Token] = field(default_factory=list)
    last: Mapping[str, Any] | None = None
    _told: int = 0

    def by(self, event: Mapping[str, Any], index: int, most: int | None) -> Piece | None:
        """What an event adds, None where that is nothing; tokens of text that is held back wait for
        it.
        """
        content = event.get("content") or ""
        self.text += content
        self.tokens += _spelled(event)
        if event.get("stop"):
            self.last, self.tokens = event, _shown(event, self.text, self.tokens)
        if not content and (self.last is None or self._told >= len(self.tokens)):
            return None
        fresh, self._told = self.tokens[self._told :], len(self.tokens)
        return Piece(content, index, wanted(fresh, most))

    @property
    def row(self) -> dict[str, Any]:
        """The sample as the route gives it without streaming."""
        return {**(self.last or {}), "content": self.text, "completion_probabilities": self.tokens}


def groups(samples: Sequence[Draw], slots: int) -> list[tuple[float, list[int]]]:
    """(temperature, consecutive indices), at most `slots` each: what one request can ask, for its
    seeds count up from the first.
    """
    found: list[tuple[float, list[int]]] = []
    for temperature, index in sorted({(temperature, index) for index, temperature in samples}):
        last = found[-1] if found else None
        if last and last[0] == temperature and last[1][-1] == index - 1 and len(last[1]) < slots:
            last[1].append(index)
        else:
            found.append((temperature, [index]))
    return sorted(found, key=lambda group: len(group[1]))


def body_of(
    request: Request, prompt: str | None, temperature: float, indices: Sequence[int]
) -> dict[str, Any]:
    """What is posted for samples of consecutive indices; without a prompt it is for the chat route,
    which knows tools.
    """
    body: dict[str, Any] = {
        "n_predict": request.max_tokens,
        "temperature": temperature,
        "top_k": 0,
        "top_p": request.top_p,
        "min_p": request.min_p,
        "samplers": ["temperature", "top_p", "min_p"],
        "seed": _seed(request.seed, indices[0]),
        "cache_prompt": True,
    }
    if prompt is not None:
        body["prompt"] = prompt
    if len(indices) > 1:
        body["n_cmpl"] = len(indices)
    if request.stop:
        body["stop"] = list(request.stop)
    if request.options:
        body["grammar"] = "root ::= " + " | ".join(map(_literal, request.options))
    if request.logprobs is not None:
        known = {"n_probs": max(1, request.logprobs)}  # of the chat route: its own names for it
        body |= (
            known
            if prompt is not None
            else {"logprobs": True, "top_logprobs": max(1, request.logprobs)}
        )
    return {**body, **request.extra}


def messages_of(request: Request) -> dict[str, Any]:
    """The messages and tools of a request."""
    messages = [{**message, "content": content_of(message)} for message in request.messages]
    return (
        {"messages": messages, "tools": [dict(tool) for tool in request.tools]}
        if request.tools
        else {"messages": messages}
    )


def _seed(seed: int, index: int) -> int:
    """llama.cpp adds 1 to the seed for each further sample of a request, so consecutive indices
    have consecutive seeds.
    """
    base = int.from_bytes(hashlib.sha256(f"llama:{seed}".encode()).digest()[:4], "little")
    return (base + index) % _NO_SEED


def choice_of(row: Mapping[str, Any]) -> tuple[Choice, int]:
    """One choice and the tokens that were computed for it."""
    finish: Finish = "length" if row.get("stop_type") == "limit" else "stop"
    return Choice(row["content"], finish, _shown(row, row["content"], _spelled(row))), int(
        row["tokens_predicted"]
    )


def _spelled(row: Mapping[str, Any]) -> list[Token]:
    return [
        {name: token[name] for name in _TOKEN if name in token}
        for token in row.get("completion_probabilities") or ()
    ]


def _shown(row: Mapping[str, Any], text: str, tokens: list[Token]) -> list[Token]:
    """The tokens without those of a stop string."""
    return list(within(tokens, text)) if row.get("stop_type") == "word" else tokens


def _literal(text: str) -> str:
    """A string as GBNF writes it."""
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return '"' + "".join(escapes.get(letter, letter) for letter in text) + '"'
