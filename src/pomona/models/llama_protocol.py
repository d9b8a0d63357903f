"""What is posted to llama.cpp's own server, and what is read of its answers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pomona.models.http.choices import UpstreamChoice
from pomona.models.llama_library import one_of
from pomona.models.request import (
    Draw,
    Finish,
    ReplyPiece,
    Request,
    Token,
    content_of,
    tokens_within,
    wanted_tokens,
)

Prompt = str | list[int]  # as text, or as tokens where answers are begun with others
_NO_SEED = (1 << 32) - 1  # llama.cpp takes this one for "any"
_TOKEN = ("token", "logprob", "bytes", "top_logprobs")
_PENALISED = 1 << 17  # tokens that penalties look back


@dataclass
class GrowingRow:
    """One streamed sample so far. `last` is its final event, once that has come."""

    text: str = ""
    tokens: list[Token] = field(default_factory=list)
    last: Mapping[str, Any] | None = None
    _told: int = 0

    def by(self, event: Mapping[str, Any], index: int, most: int | None) -> ReplyPiece | None:
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
        return ReplyPiece(content, index, wanted_tokens(fresh, most))

    @property
    def row(self) -> dict[str, Any]:
        """The sample as the route gives it without streaming."""
        return {**(self.last or {}), "content": self.text, "completion_probabilities": self.tokens}


def groups(samples: Sequence[Draw], slots: int) -> list[tuple[float, list[int]]]:
    """(temperature, consecutive indices), at most `slots` each: what one request can ask, for its
    seeds count up from the first.
    """
    groups: list[tuple[float, list[int]]] = []
    for temperature, index in sorted({(temperature, index) for index, temperature in samples}):
        last = groups[-1] if groups else None
        if last and last[0] == temperature and last[1][-1] == index - 1 and len(last[1]) < slots:
            last[1].append(index)
        else:
            groups.append((temperature, [index]))
    return sorted(groups, key=lambda group: len(group[1]))


def body_of(
    request: Request, prompt: Prompt | None, temperature: float, indices: Sequence[int]
) -> dict[str, Any]:
    """What is posted for samples of consecutive indices; without a prompt it is for the chat route,
    which knows tools.
    """
    body: dict[str, Any] = {
        "n_predict": request.max_tokens,
        "temperature": temperature,
        "top_k": request.top_k,
        "top_p": request.top_p,
        "min_p": request.min_p,
        "samplers": [
            *(["penalties"] if request.penalised else []),
            *(["top_k"] if request.top_k else []),
            *("temperature", "top_p", "min_p"),
        ],
        "seed": _seed(request.seed, indices[0]),
        "cache_prompt": True,
        "return_tokens": True,
    }
    if request.penalised:
        body |= {
            "repeat_last_n": _PENALISED,
            "repeat_penalty": request.repetition_penalty,
            "frequency_penalty": request.frequency_penalty,
            "presence_penalty": request.presence_penalty,
        }
    if request.logit_bias:
        body["logit_bias"] = [list(pair) for pair in request.logit_bias.items()]
    if prompt is not None:
        body["prompt"] = prompt
    if len(indices) > 1:
        body["n_cmpl"] = len(indices)
    if request.stop:
        body["stop"] = list(request.stop)
    if request.options:
        body["grammar"] = one_of(request.options)
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
    tools = {"tools": [dict(tool) for tool in request.tools]} if request.tools else {}
    return {"messages": messages, **tools}


def _seed(seed: int, index: int) -> int:
    """llama.cpp adds 1 to the seed for each further sample of a request, so consecutive indices
    have consecutive seeds.
    """
    base = int.from_bytes(hashlib.sha256(f"llama:{seed}".encode()).digest()[:4], "little")
    return (base + index) % _NO_SEED


def choice_of(row: Mapping[str, Any]) -> tuple[UpstreamChoice, int]:
    """One choice and the tokens that were computed for it."""
    finish: Finish = "length" if row.get("stop_type") == "limit" else "stop"
    return UpstreamChoice(row["content"], finish, _shown(row, row["content"], _spelled(row))), int(
        row["tokens_predicted"]
    )


def _spelled(row: Mapping[str, Any]) -> list[Token]:
    return [
        {name: token[name] for name in _TOKEN if name in token}
        for token in row.get("completion_probabilities") or ()
    ]


def _shown(row: Mapping[str, Any], text: str, tokens: list[Token]) -> list[Token]:
    """The tokens without those of a stop string."""
    return list(tokens_within(tokens, text)) if row.get("stop_type") == "word" else tokens
