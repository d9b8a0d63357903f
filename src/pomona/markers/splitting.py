"""Answers that begin with a list, as a whole and as they come: where the list ends."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from pomona.markers.lists import CLOSE, END, OPEN, places_in, places_of, read_answer
from pomona.markers.taxonomy import Value
from pomona.markers.trained import Trained
from pomona.models import ReplyPiece, Token

_NUMBER = re.compile(r"[\d_.eE+-]*")
_NO_VALUE = re.compile(r"[~\n\r]|%(?![0-9A-F]{0,2}$|[0-9A-F]{2})")  # as values are written out
_LONGEST = 200  # characters of a value that is written out


@dataclass
class Held:
    """What came of one sample until it is known whether it begins with a list."""

    trained: Trained
    open: bool = False  # nothing is held back any more
    text: str = ""
    tokens: list[Token] = field(default_factory=list)

    def piece(self, came: ReplyPiece) -> ReplyPiece | None:
        """What of it can go on."""
        if self.open:
            return replace(came, reasoning="") if came.text or came.tokens else None
        self.text += came.text
        self.tokens += came.tokens
        if may_be_list(self.text, self.trained):
            return None
        found = split_list(self.text, self.trained)
        return self._released(came.index, self.text if found is None else found[1])

    def rest(self, index: int) -> ReplyPiece | None:
        """What is held back at the end of an answer that is whole."""
        found = None if self.open else split_list(self.text, self.trained)
        return None if self.open else self._released(index, found[1] if found else self.text)

    def _released(self, index: int, text: str) -> ReplyPiece | None:
        dropped = len(self.text[: len(self.text) - len(text)].encode())
        tokens = behind(self.tokens, dropped)
        self.open, self.text, self.tokens = True, "", []
        return ReplyPiece(text, index, tokens) if text or tokens else None


def split_list(text: str, trained: Trained) -> tuple[dict[str, Value], str] | None:
    """The list that a text begins with, and the rest. A stream decides the same before its end."""
    values, rest = read_answer(text, trained.taxonomy, trained.form)
    if values is None:
        return None
    told = text[: len(text) - len(rest)].removesuffix(END)
    fine = trained.form == "verbose" or _may_be_places(told, trained)
    return (values, rest) if fine else None


def behind(tokens: Sequence[Token], dropped: int) -> tuple[Token, ...]:
    """The tokens behind the first bytes; of one that begins within them the rest, whose
    alternatives are not known.
    """
    left: list[Token] = []
    for token in tokens:
        spelled = bytes(token.get("bytes") or token["token"].encode())
        if not dropped:
            left.append(token)
        elif dropped < len(spelled):
            rest = spelled[dropped:]
            told = {"token": rest.decode("utf-8", "replace"), "bytes": list(rest)}
            left.append({**token, **told, "top_logprobs": []})
        dropped = max(0, dropped - len(spelled))
    return tuple(left)


def may_be_list(text: str, trained: Trained) -> bool:
    """Whether more text may make it begin with a list that has not ended yet."""
    if trained.form != "verbose":
        return END not in text and _may_be_places(text, trained)
    if not text.startswith(OPEN):
        return OPEN.startswith(text)
    at = text.find(CLOSE)
    return at < 0 or at + len(CLOSE) == len(text)  # the blank behind it belongs to the list


def _may_be_places(text: str, trained: Trained) -> bool:
    """Whether a compact list may begin so. What is none stays none, whatever follows."""
    try:
        places = list(places_of(text, trained.taxonomy, trained.form, whole=False))
    except ValueError:
        return False
    return all(
        _may_be_value(name, told, trained) for name, told, written in places if written and told
    )


def _may_be_value(name: str, text: str, trained: Trained) -> bool:
    marker = trained.taxonomy.markers[name]
    if marker.kind in ("integer", "float"):
        return _NUMBER.fullmatch(text) is not None
    if marker.values:
        place = places_in(trained.taxonomy, trained.form)
        return any(place(name, one).startswith(text) for one in marker.values)
    return len(text) <= _LONGEST and _NO_VALUE.search(text) is None
