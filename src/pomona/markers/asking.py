"""Models that were trained with markers, asked with them: a list behind each prompt, and none in
what comes back.
"""

from __future__ import annotations

import asyncio
from collections import deque
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
from pomona.markers.kept import Wishes
from pomona.markers.lists import CLOSE, END, Form, attach, begin, escape
from pomona.markers.splitting import Held, behind, may_be_list, split_list
from pomona.markers.taxonomy import Marker, Taxonomy, Value
from pomona.markers.trained import Trained, names_markers, read_trained
from pomona.models import (
    HAVE,
    Ability,
    Ask,
    Draw,
    Model,
    ModelError,
    Reply,
    ReplyPiece,
    Request,
    Spent,
)

_ONCE: Sequence[Draw] = ((0, 0.0),)
_CHECKS: frozenset[Ability] = frozenset({"check"})
_REMEMBERED = 32  # lists that were inferred: of the answers that are under way
_UNFORCED = "cannot go on with an answer that is begun, and so no list can be forced"


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


@dataclass(eq=False)
class _First:
    """What is asked for a list alone, its answer once it is there, and what of that is not paid."""

    asked: Request
    reply: Reply | None = None
    owed: Spent = field(default_factory=Spent)
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    def pay(self) -> Spent:
        """What it cost: once, for whoever comes first with an answer."""
        owed, self.owed = self.owed, Spent()
        return owed


@dataclass(frozen=True)
class _Wanted:
    """What a model is asked in place of a request. Where its answers are begun with a list: what it
    inferred of the markers that are not given, None where it began with no list.
    """

    request: Request
    begun: bool = False
    inferred: Mapping[str, Value] | None = None
    first: _First | None = None


class MarkedModel(Wrapper):
    """A model that was trained with markers, as one that knows of none: every request gets a list
    of `given` behind its prompt, and every reply loses the one that it begins with.

    A plain prompt has the list behind all of it, messages behind the last of the user; whatever is
    like a list in a text is escaped. Where answers are held to options they begin with no list, and
    none is given. The tokens of a list go with it; `Reply.logprob` and costs are of all that was
    generated. A store belongs behind it (`MarkedModel(CachedModel(…), …)`): one before it keeps
    texts, and not what was inferred.

    forced: the model is asked for its list first, greedily, and goes on from the same list with
        what is given in it, so that no answer contradicts it. That is two requests, and one for
        each further call with the same; the first reply has the cost of both. ModelError where the
        model cannot go on with an answer.
    """

    def __init__(
        self, model: Model, trained: Trained, values: Mapping[str, Value], *, forced: bool = False
    ) -> None:
        super().__init__(model)
        self.trained, self.given = trained, trained.values(values)
        self.forced = forced and bool(self.given)
        self._wishes = Wishes(trained.taxonomy, self.given)
        if self._wishes.values:
            self.abilities = model.abilities.union(_CHECKS)
        self._firsts: deque[_First] = deque(maxlen=_REMEMBERED)
        self.identity = f"{model.identity} {_identity(trained, self.given, self.forced)}"

    @property
    def told(self) -> dict[str, Any]:
        """What all its answers were told."""
        return _told(self.given, self.forced)

    async def reply(self, request: Request, samples: Sequence[Draw]) -> list[Reply]:
        """See the protocol."""
        wanted = await self._wanted(request)
        return self._all(request, wanted, await self.model.reply(wanted.request, samples))

    async def each(self, request: Request, samples: Sequence[Draw]) -> AsyncGenerator[Reply, None]:
        """See the protocol."""
        wanted = await self._wanted(request)
        source: Any = self.model.each(wanted.request, samples)
        async with aclosing(source) as replies:
            async for reply in replies:
                yield self._read(request, wanted, reply)

    async def together(self, asks: Sequence[Ask]) -> list[list[Reply] | BaseException]:
        """See the protocol."""
        if self.forced:  # one after the other: each is asked twice
            return await super().together(asks)
        wanted = [_Wanted(self.asked(request)) for request, _ in asks]
        pools = await self.model.together(
            [(one.request, samples) for one, (_, samples) in zip(wanted, asks, strict=True)]
        )
        return [
            pool if isinstance(pool, BaseException) else self._all(request, one, pool)
            for (request, _), one, pool in zip(asks, wanted, pools, strict=True)
        ]

    async def stream(
        self, request: Request, samples: Sequence[Draw]
    ) -> AsyncGenerator[ReplyPiece | Reply, None]:
        """See the protocol; a list is held back until it ends, and so is what may be one."""
        wanted = await self._wanted(request)
        bare = wanted.begun or request.held
        held = {index: Held(self.trained, bare) for index, _ in samples}
        source: Any = self.model.stream(wanted.request, samples)
        async with aclosing(source) as coming:
            async for item in coming:
                if isinstance(item, Reply):
                    read = self._read(request, wanted, item)
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

    async def kept(self, texts: Sequence[str]) -> list[dict[str, int]]:
        """See the protocol: of what is given."""
        return await asyncio.to_thread(lambda: [self._wishes.kept(text) for text in texts])

    def tokens(self, request: Request) -> int:
        """The model's own, with the list."""
        return self.model.tokens(self.asked(request))

    def cost(self, prompt: int, answer: int = 0, samples: int = 1) -> Spent:
        """The model's own; where lists are forced, that of asking for one too."""
        first = self.model.cost(prompt, answer) if self.forced and answer else Spent()
        return self.model.cost(prompt, answer, samples) + first

    async def close(self) -> None:
        """Close the model."""
        await self.model.close()

    def asked(self, request: Request) -> Request:
        """The request as the model was trained on it."""
        given = {} if request.held else self.given
        taxonomy: Taxonomy = self.trained.taxonomy
        form: Form = self.trained.form
        if request.prompt is not None:
            return replace(request, prompt=attach(request.prompt, given, taxonomy, form))
        behind = attach("", given, taxonomy, form)
        chat = Conversation.of(request.messages, alone=True)
        if given and chat.prompt is None:
            remedy = "give at least one user message, or a prompt"
            raise PomonaError("markers stand behind a user's message", remedy=remedy)
        changed = chat.prompted(lambda text: escape(text, form), lambda text: text + behind)
        return replace(request, messages=tuple(changed))

    def _begins(self, request: Request) -> bool:
        """Whether answers to a request are begun with a list."""
        if not self.forced or request.held:
            return False
        if request.prompt is None and "prefix" not in self.abilities:
            raise ModelError(_UNFORCED, status=400, where=self.name, remedy=HAVE["prefix"])
        return True

    def _first(self, request: Request) -> Request | None:
        """What the model is asked to infer what is not given; None where nothing is to be."""
        if not self._begins(request) or self.given.keys() == self.trained.taxonomy.listed.keys():
            return None
        return replace(self.asked(request), stop=(_end(self.trained.form),), logprobs=None)

    def _after(self, request: Request, first: _First | None) -> _Wanted:
        """What it is asked once it inferred the rest."""
        if not self._begins(request):
            return _Wanted(self.asked(request))
        form: Form = self.trained.form
        found, said = None, None if first is None else first.reply
        if said is not None and said.finish_reason == "stop":
            found = split_list(said.text + _end(form), self.trained)
        own = found[0] if found else {}
        prefix = begin("", {**own, **self.given}, self.trained.taxonomy, form)
        inferred = {name: value for name, value in own.items() if name not in self.given}
        return _Wanted(
            replace(self.asked(request), prefix=prefix),
            begun=True,
            inferred=inferred if found or first is None else None,
            first=first,
        )

    async def _wanted(self, request: Request) -> _Wanted:
        asked, first = self._first(request), None
        if asked is not None:
            first = next((one for one in self._firsts if one.asked == asked), None)
            if first is None:
                self._firsts.append(first := _First(asked))
            async with first.asking:
                if first.reply is None:
                    (first.reply,) = await self.model.reply(asked, _ONCE)
                    first.owed = first.reply.spent
        return self._after(request, first)

    def _all(self, request: Request, wanted: _Wanted, replies: Sequence[Reply]) -> list[Reply]:
        return [self._read(request, wanted, reply) for reply in replies]

    def _read(self, request: Request, wanted: _Wanted, reply: Reply) -> MarkedReply:
        known = {name: getattr(reply, name) for name in Reply.__dataclass_fields__}
        if wanted.begun:
            known["spent"] = (wanted.first.pay() if wanted.first else Spent()) + reply.spent
            return MarkedReply(**known, markers=wanted.inferred)
        values = None if request.held else split_list(reply.text, self.trained)
        if values is not None:
            inferred, rest = values
            dropped = len(reply.text[: len(reply.text) - len(rest)].encode())
            known |= {"text": rest, "tokens": behind(reply.tokens, dropped)}
            return MarkedReply(**known, markers=inferred)
        ended = reply.finish_reason == "length" or (request.stop and reply.finish_reason == "stop")
        if ended and not request.held and reply.text and may_be_list(reply.text, self.trained):
            return MarkedReply(**known | {"text": "", "tokens": ()}, cut=reply.text)
        return MarkedReply(**known)


class MarkersContext:
    """Markers as `pomona.sample.answer` takes them among its contexts.

    values: what the model is told, "auto" for the best quality that it knows; without any it infers
        all. Notes: `given`, and of each answer `inferred` (None where it began with no list).
    forced: begin its answers with them, and not only its prompts' ends; see `MarkedModel`. Noted.
    Raises PomonaError for a marker or a value that the model was not trained with.
    """

    name = "markers"

    def __init__(
        self, trained: Trained, values: Mapping[str, Value], *, forced: bool = False
    ) -> None:
        self.trained, self.given, self.forced = trained, trained.values(values), forced
        self.identity = _identity(trained, self.given, forced)

    def around(self, model: Model) -> MarkedModel:
        """The model as everybody shall see it."""
        return MarkedModel(model, self.trained, self.given, forced=self.forced)

    async def before(self, request: Request, model: Model) -> tuple[Request, Mapping[str, Any]]:
        """See the protocol; the list is put behind the prompt at the model."""
        return request, _told(self.given, self.forced)

    async def after(
        self, request: Request, reply: Reply, model: Model, notes: Mapping[str, Any]
    ) -> tuple[Reply, Mapping[str, Any]]:
        """See the protocol; the list was taken off at the model."""
        return reply, reply.notes if isinstance(reply, MarkedReply) else {"inferred": None}


def open_markers(
    markers: Sequence[str] | None = None,
    *,
    markers_from: str | Path | None = None,
    markers_forced: bool = False,
    model: Sequence[str] = (),
    raw: bool = False,
) -> MarkersContext | None:
    """Markers by the names that a command line gives them, for models that were trained with them;
    None where nothing is given and the models' folders name none.

    Args:
        markers: MARKER=VALUE that models are told, as lang=de or quality=auto, the best that they
            know; without any, or as "inferred", they infer all. Lists never come with answers.
        markers_from: Folder or file of what the models were trained with, OUT.markers.json of
            `pomona markers apply`; their own folders when left out.
        markers_forced: Begin each answer with what is given, and with what the model inferred of
            the rest before: two requests for each row.
        model: Their URIs.
        raw: Whether prompts are sent as they are, without a chat template.

    Raises:
        PomonaError: nothing is given that could be forced, or a server cannot go on with an answer;
            a model was not trained with markers, or two with others; a marker or a value is none of
            these.
    """
    if markers_forced and (not markers or list(markers) == ["inferred"]):
        remedy = "give what answers are to begin with: --markers MARKER=VALUE"
        raise PomonaError("there is nothing to force", where="--markers-forced", remedy=remedy)
    served = [one for one in model if one.startswith(("http:", "https:"))]
    if markers_forced and served and not raw:
        raise PomonaError(_UNFORCED, where=served[0], remedy=HAVE["prefix"])
    several = [markers_from] if markers_from is not None else list(model)
    if markers is None and markers_from is None and not any(map(names_markers, model)):
        return None
    found = [read_trained(one) for one in several]
    if other := next(
        (one for one, told in zip(several, found, strict=True) if told != found[0]), None
    ):
        remedy = f"ask it apart from {several[0]}"
        raise PomonaError("was trained with other markers", where=other, remedy=remedy)
    given = _given(markers or (), found[0].taxonomy)
    return MarkersContext(found[0], given, forced=markers_forced)


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


def _told(given: Mapping[str, Value], forced: bool) -> dict[str, Any]:
    return {"given": given} | ({"forced": True} if forced else {})


def _identity(trained: Trained, given: Mapping[str, Value], forced: bool) -> str:
    told = ",".join(f"{name}={value}" for name, value in given.items())
    how = ":forced" if forced and given else ""
    return f"markers:{trained.form}:{trained.taxonomy.digest}{how}:{told or 'inferred'}"


def _end(form: Form) -> str:
    return CLOSE if form == "verbose" else END
