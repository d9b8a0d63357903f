"""Models that were trained with markers, asked with them: a list behind each prompt, and none in
what comes back.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.answers import Wrapper
from pomona.errors import PomonaError
from pomona.markers.chats import Conversation
from pomona.markers.lists import (
    CLOSE,
    END,
    OPEN,
    UNKNOWN,
    Form,
    attach,
    code,
    codes_of,
    escape,
    read_answer,
)
from pomona.markers.taxonomy import Marker, Taxonomy, Value
from pomona.markers.trained import Trained, names_markers, read_trained
from pomona.models import Ask, Draw, Model, Reply, ReplyPiece, Request, Spent, Token

_NUMBER = re.compile(r"[\d_.eE+-]*")
_NO_VALUE = re.compile(r"[~\n\r]|%(?![0-9A-F]{0,2}$|[0-9A-F]{2})")  # as values are written out
_LONGEST = 200  # characters of a value that is written out


@dataclass(frozen=True)
class MarkedReply(Reply):
    """A reply without its list. `markers` are those that the model inferred, None where it did not
    begin with a list; `cut` is the half of one that the answer ended in.
    """

    markers: Mapping[str, Value] | None = None
    cut: str | None = None

    @property
    def notes(self) -> dict[str, Any]:
        """What is told of it."""
        return {"inferred": self.markers, **({} if self.cut is None else {"cut": self.cut})}


class MarkedModel(Wrapper):
    """A model that was trained with markers, as one that knows of none: every request gets a list
    of `given` behind its prompt, and every reply loses the one that it begins with.

    A plain prompt has the list behind all of it, messages behind the last of the user; whatever is
    like a list in a text is escaped. Where answers are held to options they begin with no list, and
    none is given. The tokens of a list go with it; `Reply.logprob` and costs are of all that was
    generated. A store belongs behind it (`MarkedModel(CachedModel(…), …)`): one before it keeps
    texts, and not what was inferred.
    """

    def __init__(self, model: Model, trained: Trained, values: Mapping[str, Value]) -> None:
        super().__init__(model)
        self.trained, self.given = trained, trained.values(values)
        self.identity = f"{model.identity} {_identity(trained, self.given)}"

    async def reply(self, request: Request, samples: Sequence[Draw]) -> list[Reply]:
        """See the protocol."""
        replies = await self.model.reply(self.asked(request), samples)
        return [self._read(request, reply) for reply in replies]

    async def each(self, request: Request, samples: Sequence[Draw]) -> AsyncGenerator[Reply, None]:
        """See the protocol."""
        source: Any = self.model.each(self.asked(request), samples)
        async with aclosing(source) as replies:
            async for reply in replies:
                yield self._read(request, reply)

    async def together(self, asks: Sequence[Ask]) -> list[list[Reply] | BaseException]:
        """See the protocol."""
        pools = await self.model.together([(self.asked(one), samples) for one, samples in asks])
        return [
            pool if isinstance(pool, BaseException) else [self._read(one, reply) for reply in pool]
            for (one, _), pool in zip(asks, pools, strict=True)
        ]

    async def stream(
        self, request: Request, samples: Sequence[Draw]
    ) -> AsyncGenerator[ReplyPiece | Reply, None]:
        """See the protocol; a list is held back until it ends, and so is what may be one."""
        held = {index: _Held(self.trained, request.held) for index, _ in samples}
        source: Any = self.model.stream(self.asked(request), samples)
        async with aclosing(source) as coming:
            async for item in coming:
                if isinstance(item, Reply):
                    read = self._read(request, item)
                    if read.cut is None and (rest := held[item.index].rest(item.index)):
                        yield rest
                    yield read
                    continue
                if item.reasoning:
                    yield ReplyPiece("", item.index, (), item.reasoning)
                if piece := held[item.index].piece(item):
                    yield piece

    async def logprobs(
        self, request: Request, completions: Sequence[str], *, end: bool = False
    ) -> tuple[list[NDArray[np.float32]], Spent]:
        """The model's own of completions as they are, without lists."""
        return await self.model.logprobs(self.asked(request), completions, end=end)

    def tokens(self, request: Request) -> int:
        """The model's own, with the list."""
        return self.model.tokens(self.asked(request))

    async def close(self) -> None:
        """Close the model."""
        await self.model.close()

    def asked(self, request: Request) -> Request:
        """The request as the model was trained on it."""
        taxonomy: Taxonomy = self.trained.taxonomy
        form: Form = self.trained.form
        given = {} if request.held else self.given
        if request.prompt is not None:
            return replace(request, prompt=attach(request.prompt, given, taxonomy, form))
        behind = attach("", given, taxonomy, form)
        chat = Conversation.of(request.messages, alone=True)
        if given and chat.prompt is None:
            remedy = "give at least one user message, or a prompt"
            raise PomonaError("markers stand behind a user's message", remedy=remedy)
        changed = chat.prompted(lambda text: escape(text, form), lambda text: text + behind)
        return replace(request, messages=tuple(changed))

    def _read(self, request: Request, reply: Reply) -> MarkedReply:
        values = None if request.held else split_list(reply.text, self.trained)
        known = {name: getattr(reply, name) for name in Reply.__dataclass_fields__}
        if values is not None:
            inferred, rest = values
            dropped = len(reply.text[: len(reply.text) - len(rest)].encode())
            known |= {"text": rest, "tokens": _behind(reply.tokens, dropped)}
            return MarkedReply(**known, markers=inferred)
        ended = reply.finish_reason == "length" or (request.stop and reply.finish_reason == "stop")
        if ended and not request.held and reply.text and _may_be_list(reply.text, self.trained):
            return MarkedReply(**known | {"text": "", "tokens": ()}, cut=reply.text)
        return MarkedReply(**known)


class MarkersContext:
    """Markers as `pomona.sample.answer` takes them among its contexts.

    values: what the model is told, "auto" for the best quality that it knows; without any it infers
        all. Notes: `given`, and of each answer `inferred` (None where it began with no list).
    Raises PomonaError for a marker or a value that the model was not trained with.
    """

    name = "markers"

    def __init__(self, trained: Trained, values: Mapping[str, Value]) -> None:
        self.trained, self.given = trained, trained.values(values)
        self.identity = _identity(trained, self.given)

    def around(self, model: Model) -> MarkedModel:
        """The model as everybody shall see it."""
        return MarkedModel(model, self.trained, self.given)

    async def before(self, request: Request, model: Model) -> tuple[Request, Mapping[str, Any]]:
        """See the protocol; the list is put behind the prompt at the model."""
        return request, {"given": self.given}

    async def after(
        self, request: Request, reply: Reply, model: Model, notes: Mapping[str, Any]
    ) -> tuple[Reply, Mapping[str, Any]]:
        """See the protocol; the list was taken off at the model."""
        return reply, reply.notes if isinstance(reply, MarkedReply) else {"inferred": None}


def open_markers(
    markers: Sequence[str] | None = None,
    *,
    markers_from: str | Path | None = None,
    model: Sequence[str] = (),
) -> MarkersContext | None:
    """Markers by the names that a command line gives them, for models that were trained with them;
    None where nothing is given and the models' folders name none.

    Args:
        markers: MARKER=VALUE that models are told, as lang=de or quality=auto, the best that they
            know; without any, or as "inferred", they infer all. Lists never come with answers.
        markers_from: Folder or file of what the models were trained with, OUT.markers.json of
            `pomona markers apply`; their own folders when left out.
        model: Their URIs.

    Raises:
        PomonaError: a model was not trained with markers, or two with others; a marker or a value
            is none of these.
    """
    several = [markers_from] if markers_from is not None else list(model)
    if markers is None and markers_from is None and not any(map(names_markers, model)):
        return None
    found = [read_trained(one) for one in several]
    if other := next(
        (one for one, told in zip(several, found, strict=True) if told != found[0]), None
    ):
        remedy = f"ask it apart from {several[0]}"
        raise PomonaError("was trained with other markers", where=other, remedy=remedy)
    return MarkersContext(found[0], _given(markers or (), found[0].taxonomy))


def _given(markers: Sequence[str], taxonomy: Taxonomy) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for given in markers if list(markers) != ["inferred"] else ():
        name, equals, text = given.partition("=")
        if not equals or name in values:
            wrong = f'"{name}" is given twice' if equals else f'"{given}" gives no value'
            remedy = 'write MARKER=VALUE, or "inferred" alone'
            remedy = "give it once" if equals else remedy
            raise PomonaError(wrong, where="--markers", remedy=remedy)
        values[name] = _parsed(text, taxonomy.marker(name))
    return values


def _parsed(text: str, marker: Marker) -> Value:
    try:
        if marker.kind == "integer":
            return int(text)
        return float(text) if marker.kind == "float" else text
    except ValueError:
        return text  # which is said to be no number


def _identity(trained: Trained, given: Mapping[str, Value]) -> str:
    told = ",".join(f"{name}={value}" for name, value in given.items())
    return f"markers:{trained.form}:{trained.taxonomy.digest}:{told or 'inferred'}"


@dataclass
class _Held:
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
        if _may_be_list(self.text, self.trained):
            return None
        found = split_list(self.text, self.trained)
        return self._released(came.index, self.text if found is None else found[1])

    def rest(self, index: int) -> ReplyPiece | None:
        """What is held back at the end of an answer that is whole."""
        found = None if self.open else split_list(self.text, self.trained)
        return None if self.open else self._released(index, found[1] if found else self.text)

    def _released(self, index: int, text: str) -> ReplyPiece | None:
        dropped = len(self.text[: len(self.text) - len(text)].encode())
        tokens = _behind(self.tokens, dropped)
        self.open, self.text, self.tokens = True, "", []
        return ReplyPiece(text, index, tokens) if text or tokens else None


def split_list(text: str, trained: Trained) -> tuple[dict[str, Value], str] | None:
    """The list that a text begins with, and the rest. A stream decides the same before its end."""
    values, rest = read_answer(text, trained.taxonomy, trained.form)
    if values is None:
        return None
    told = text[: len(text) - len(rest)].removesuffix(END)
    fine = trained.form == "verbose" or _may_be_codes(told, trained.taxonomy)
    return (values, rest) if fine else None


def _behind(tokens: Sequence[Token], dropped: int) -> tuple[Token, ...]:
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


def _may_be_list(text: str, trained: Trained) -> bool:
    """Whether more text may make it begin with a list that has not ended yet."""
    if trained.form == "compact":
        return END not in text and _may_be_codes(text, trained.taxonomy)
    if not text.startswith(OPEN):
        return OPEN.startswith(text)
    at = text.find(CLOSE)
    return at < 0 or at + len(CLOSE) == len(text)  # the blank behind it belongs to the list


def _may_be_codes(text: str, taxonomy: Taxonomy) -> bool:
    """Whether a compact list may begin so. What is none stays none, whatever follows."""
    for marker in taxonomy.listed.values():
        if not text:
            return True
        letters = codes_of(marker)
        if letters is None:
            told, _, text = text.partition(";")
            if not _may_be_value(told, marker):
                return False
        else:
            if text[0] != UNKNOWN and text[0] not in letters.values():
                return False
            text = text[1:]
    return not text


def _may_be_value(text: str, marker: Marker) -> bool:
    if marker.kind in ("integer", "float"):
        return _NUMBER.fullmatch(text) is not None
    if marker.values:
        return any(code(marker, one).startswith(text) for one in marker.values)
    return len(text) <= _LONGEST and _NO_VALUE.search(text) is None
