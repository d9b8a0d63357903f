"""A learned choice among what is known of a question from rows that were answered before, and what
a model draws.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pomona.answers import text_of
from pomona.errors import PomonaError
from pomona.models import Model, Reply, Request, Spent
from pomona.sample.context.messages import question
from pomona.sample.context.neighbours import AnswerMemory, Neighbours
from pomona.sample.selection.choice import Choice, SelectionContext, highest

Scoring = Callable[[list[str]], Awaitable[Sequence[NDArray[np.float32]]]]


class LearnedChoice(Protocol):
    """Whether it `draws`, so that it expects what a model drew, and how many candidates a model
    gives log-probabilities to.
    """

    @property
    def draws(self) -> bool: ...
    @property
    def scored(self) -> int: ...


class Shortlisted(Protocol):
    """The texts that come first, best first, how far each of the others is below the last of these,
    and the FLOPs of the search.
    """

    @property
    def texts(self) -> list[str]: ...
    @property
    def others(self) -> Mapping[str, float]: ...
    @property
    def flops(self) -> float: ...


class ChoosingMemory(AnswerMemory, Protocol):
    """A memory with a selector; `pomona.memory.RowMemory` is one where it was opened with one."""

    @property
    def selector(self) -> LearnedChoice | None: ...

    async def shortlist(self, question: str, drawn: Sequence[str], /) -> Any:
        """What comes first, as `Shortlisted`; None for what it cannot read."""
        ...

    def choose(self, found: Any, logprobs: Sequence[float] | None, /) -> list[float]:
        """A score for each text of a shortlist, by what a model gives to each token of it."""
        ...


@dataclass(frozen=True)
class Selected(Neighbours):
    """Chooses by the selector of a memory, of which `Neighbours` may use more before: what is
    looked up or copied is the answer, and rows are shown to the model that draws or is asked.

    A selector that was learned without answers of a model gives the answer before any is drawn; it
    asks the first model for the log-probabilities of its shortlist alone, or for nothing. Else it
    chooses in place of the strategy. What has not the memory's form is the strategy's to answer.
    Notes, beside those of `Neighbours`: `answer` or `question`.
    """

    memory: ChoosingMemory

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.memory.selector is None:
            remedy = "open the memory with one"
            raise PomonaError("there is no selector", where="memory", remedy=remedy)
        if self.phrases or self.candidates:
            remedy = "it weighs them by itself: leave them out"
            message = "a selector excludes phrases and neighbours"
            raise PomonaError(message, where="memory", remedy=remedy)

    @property
    def _learned(self) -> LearnedChoice:
        assert self.memory.selector is not None  # see above
        return self.memory.selector

    def asks(self, request: Request) -> tuple[bool, int]:
        """See `Neighbours`."""
        read = self.memory.reads(question(request))
        return self._learned.draws or not read, self._learned.scored if read else 0

    async def before(self, request: Request, model: Model) -> tuple[Request, Mapping[str, Any]]:
        """See the protocol."""
        if self._learned.scored and "score" not in model.abilities:
            raise model.without("score")
        asked = question(request)
        request, notes = await super().before(request, model)
        if "answer" in notes:
            return request, notes
        if self._learned.draws:
            return request, {**notes, "question": asked}

        async def score(texts: list[str]) -> Sequence[NDArray[np.float32]]:
            return (await model.logprobs(request, texts, end=True))[0]

        found = await self._chosen(asked, [], score)
        if found is None:
            return request, notes
        first, scores = found
        answer = first.texts[highest([scores[text] for text in first.texts])]
        told = {"answer": answer, "answered_by": "selector", "flops": notes["flops"] + first.flops}
        return request, {**notes, **told}

    async def choose(
        self, selection: SelectionContext, pool: Sequence[Reply], notes: Mapping[str, Any]
    ) -> Choice | None:
        """See `Chooser`: the pool, and beside it what comes first of what was not drawn. What does
        not come first has its score below those that do.
        """
        if "question" not in notes:  # it had its word before, and could not read what is asked
            return None
        model, drawn = selection.models[0], [text_of(reply) for reply in pool]

        async def score(texts: list[str]) -> Sequence[NDArray[np.float32]]:
            return await selection.score(model, selection.request, texts, end=True)

        found = await self._chosen(notes["question"], drawn, score)
        if found is None:
            return None
        first, scores = found
        selection.spent += Spent(flops=first.flops)
        selection.account.add(Spent(flops=first.flops))
        place = max((reply.index for reply in pool), default=-1) + 1
        beside = [text for text in first.texts if text not in drawn]
        every = [
            *pool,
            *(
                Reply(text, "stop", Spent(), "memory", place + at, 1.0)
                for at, text in enumerate(beside)
            ),
        ]
        least = min(scores.values()) - 1  # of what is empty, which is no candidate
        told = [scores.get(text, least) for text in [*drawn, *beside]]
        return Choice(highest(told), tuple(told), {"chosen_by": "selector"}, tuple(every))

    async def _chosen(
        self, asked: str, drawn: Sequence[str], score: Scoring
    ) -> tuple[Shortlisted, dict[str, float]] | None:
        """The shortlist, and the score of every candidate."""
        found = await self.memory.shortlist(asked, drawn)
        if found is None:
            return None
        told = None
        if self._learned.scored:
            told = [float(np.mean(each)) for each in await score(found.texts)]
        scores = dict(zip(found.texts, self.memory.choose(found, told), strict=True))
        least = min(scores.values())
        return found, scores | {text: least + below for text, below in found.others.items()}
