"""Servers that speak OpenAI's API in ways of their own: which fields they take, which is
learned from their refusals, and which key.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import httpx

from pomona.errors import PomonaError
from pomona.models.request import ModelError

_log = logging.getLogger("pomona.models")
_OPENAI = "api.openai.com"
_KEY = "POMONA_API_KEY"
# Fields that a server need not know: by which name it knows them instead, and what is lost.
_RENAMED = {"max_tokens": "max_completion_tokens"}
_SPARED = {
    "seed": "equal seeds need not give equal answers",
    "temperature": "every answer is drawn at the model's own",
    "stream_options": "the tokens of streamed answers are counted here, or estimated",
    "n": "answers are asked one by one",
}
_REFUSED = (*_RENAMED, *_SPARED)
# What differs from prompt to prompt, or is refused for what a prompt is.
_OF_PROMPT = frozenset(
    ("model", "messages", "prompt", "input", "max_tokens", "max_completion_tokens", "stream")
)
_PLAIN = frozenset(("n", "seed", "stop", "tools"))  # words that a refusal may have by chance
_REFUSES = re.compile(
    r"\b(unsupported|not supported|does(n't| not) support|unrecogni[sz]ed|not permitted"
    r"|(unknown|unexpected) (keyword|field|parameter|argument|name|key)|was unexpected)\b",
    re.IGNORECASE,
)


class Dialect:
    """The fields of one server's model. Of the reasoning models of OpenAI, for one, `max_tokens`
    has another name, and there is no temperature.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._names: dict[str, str | None] = {}

    @property
    def learnt(self) -> tuple[str, ...]:
        """The fields that it refused so far, by their usual names."""
        return tuple(self._names)

    def recall(self, learnt: Iterable[str]) -> None:
        """Know again what was learnt before."""
        self._names |= {name: _RENAMED.get(name) for name in learnt if name in _REFUSED}

    def said(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """A body in the names that the server takes, without the fields that it refused."""
        if not self._names:
            return dict(body)
        named = ((self._names.get(name, name), value) for name, value in body.items())
        return {name: value for name, value in named if name is not None}

    def learns(
        self, refused: ModelError, sent: Mapping[str, Any], own: Collection[str] = ()
    ) -> bool:
        """Whether the same can be asked otherwise than it was `sent`: the server refused fields by
        their names that may go. `own` are the caller's, which are never left out.
        """
        if refused.upstream not in {400, 422} or not _REFUSES.search(refused.message):
            return False
        named = [
            name for name in _REFUSED if name in sent and name not in own and _names(refused, name)
        ]
        for name in named:
            self._learn(name)
        return bool(named)

    def refused_field(self, refused: ModelError, sent: Mapping[str, Any]) -> str | None:
        """The field of what was `sent` that was refused whatever the prompt is, as its server names
        it; None where that is none.
        """
        fields = {name for name in sent if name not in _OF_PROMPT}
        if refused.upstream not in {400, 422} or refused.param in _OF_PROMPT:
            return None
        if refused.param is not None and (told := re.split(r"[.\[]", refused.param)[0]) in fields:
            return told
        return next((one for one in sorted(fields - _PLAIN) if _names(refused, one)), None)

    def _learn(self, name: str) -> None:
        if name in self._names:  # another request was under way with it
            return
        self._names[name] = _RENAMED.get(name)
        if name in _SPARED:
            _log.warning("%s takes no %s: %s", self._where, name, _SPARED[name])


def _names(refused: ModelError, field: str) -> bool:
    return bool(re.search(rf"(?<![\w-]){re.escape(field)}(?![\w-])", refused.message))


_owners: dict[str, str] = {}  # the host that each value of POMONA_API_KEY went to


def key_for(address: str) -> str | None:
    """The API key of a server, from the environment: POMONA_API_KEY_HOST or, where several are on
    one host, POMONA_API_KEY_HOST_PORT, in capitals and with _ for other signs (empty for none);
    OPENAI_API_KEY for OpenAI's own; POMONA_API_KEY for one host alone.

    Raises PomonaError when POMONA_API_KEY has been another host's in this process.
    """
    url = httpx.URL(address)
    host = url.host if url.port is None else f"{url.host}:{url.port}"
    names = [f"{_KEY}_{re.sub('[^A-Za-z0-9]', '_', one).upper()}" for one in (host, url.host)]
    own = next((os.environ[name] for name in names if name in os.environ), None)
    if own is None and url.host == _OPENAI:
        own = os.environ.get("OPENAI_API_KEY")
    if own is not None:
        return own or None
    key = os.environ.get(_KEY)
    if not key:
        return None
    if (owner := _owners.setdefault(key, url.host)) != url.host:
        message = f"{_KEY} is the key of {owner}, and is sent to no other host"
        remedy = f"set {names[0]} to the key of {host}, or to nothing where it needs none"
        raise PomonaError(message, where=host, remedy=remedy)
    return key
