"""Requests that no model could answer."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pomona.models.chat.errors import wrong_request
from pomona.models.chat.protocol import Request, Sample

_MOST_LOGPROBS = 20


def unsteerable(request: Request, name: str) -> None:
    """A ModelError of status 400 where a model is to be steered that cannot be."""
    if request.steer is not None:
        raise wrong_request(
            "cannot be steered",
            where=name,
            remedy="use a torch model (hf:PATH), or leave steering out",
        )


def check(request: Request, samples: Sequence[Sample]) -> None:
    """A ModelError of status 400 names the first argument out of range."""
    if request.max_tokens < 1:
        raise wrong_request(
            f"max_tokens is {request.max_tokens}", remedy="ask for at least one token"
        )
    if not 0 < request.top_p <= 1:
        raise wrong_request(
            f"top_p is {request.top_p}",
            remedy="use a number above 0 and up to 1; 1 keeps everything",
        )
    if not 0 <= request.min_p < 1:
        raise wrong_request(
            f"min_p is {request.min_p}", remedy="use a number from 0 to below 1; 0 keeps everything"
        )
    for index, temperature in samples:
        if index < 0:
            raise wrong_request(f"the sample index is {index}", remedy="count samples from 0")
        if not 0 <= temperature < math.inf:
            raise wrong_request(
                f"temperature is {temperature}",
                remedy="use 0 for the likeliest answer, or a positive number",
            )
    if request.prompt is None and not request.messages:
        raise wrong_request("no messages", remedy="give at least one message, or a prompt")
    if request.logprobs is not None and not 0 <= request.logprobs <= _MOST_LOGPROBS:
        raise wrong_request(
            f"logprobs is {request.logprobs}", remedy=f"use a number from 0 to {_MOST_LOGPROBS}"
        )
    if any(not option for option in request.options):
        raise wrong_request("an option is empty", remedy="give every option at least one character")
