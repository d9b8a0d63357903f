"""One request, a pool of answers, one choice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any

from pomona.errors import PomonaError
from pomona.models.chat.protocol import ChatModel, Reply, Request, Spent
from pomona.sample.budget import Account, Budget, BudgetSpent, Exhausted
from pomona.sample.drawing import Accounted, deal
from pomona.sample.pool import temperatures
from pomona.sample.selection.choice import Choice, Desk, text_of
from pomona.sample.selection.choose import agreement, check, choose, needs_logprobs
from pomona.sample.strategy import Strategy

if TYPE_CHECKING:
    from pomona.sample.context.protocol import Context

Progress = Callable[[int, int], None]
_FEWEST = 3  # answers before agreement counts: two agree by chance too often


@dataclass(frozen=True)
class Answer:
    """The chosen text, its index among the candidates, and a score for each of them (what it means
    is the selection's).

    `spent` covers candidates, further evidence, and what judges are asked, score and embed.
    `stopped_by` is "complete", "agreement", or the limit that was met: "tokens", "flops", "money"
    or "seconds". `strategy` is its signature. `notes` has "selection" (what the selection tells),
    "pool" (distinct share and agreement), and one entry for each context by its name; all of it can
    be written as JSON.
    """

    text: str
    chosen: int
    candidates: tuple[Reply, ...]
    scores: tuple[float, ...]
    spent: Spent
    stopped_by: str
    strategy: str
    notes: Mapping[str, Any]

    @property
    def reply(self) -> Reply:
        """The chosen candidate."""
        return self.candidates[self.chosen]


async def answer(
    request: Request,
    models: ChatModel | Sequence[ChatModel],
    strategy: Strategy,
    *,
    budget: Budget | Account = Budget(),  # noqa: B008 - frozen
    context: Sequence[Context] = (),
    judge: ChatModel | None = None,
    seed: int | None = None,
    progress: Progress | None = None,
) -> Answer:
    """Draw a pool of answers by the strategy and choose one.

    models: one, or several among which the answers are dealt in turn. judge: for chops, judged
        utilities and log-probabilities; without
    one the first model. seed: of samples, shuffles and random choices; None takes the request's.
    budget: a hard stop. Nothing is asked once a limit is met, and the choice is among what was
        drawn; an Account shares one budget.
    context: their `before` in order, then for each candidate their `after` in reverse order, with
        the request that the model saw. Where the budget ends in an `after`, the candidate stays as
        it was and the notes say so.
    progress: called with (candidates that came, candidates of the whole pool) as they come.

    Raises:
        BudgetSpent: the budget was spent before the first answer.
        PomonaError: a model failed after all retries, or the request or strategy cannot work with
            these models.
    """
    panel = [models] if isinstance(models, ChatModel) else list(models)
    if not panel:
        raise PomonaError("there is no model", where="models", remedy="give at least one")
    account = budget if isinstance(budget, Account) else Account(budget)
    check(strategy, panel, judge)
    request = _asked(request, strategy, seed)
    if judge is None and request.logprobs is None and needs_logprobs(strategy, panel):
        request = replace(request, logprobs=0)
    plan = list(enumerate(temperatures(strategy, request, len(panel))))
    notes: dict[str, Any] = {}
    first = Accounted(panel[0], account)
    for lever in context:
        try:
            request, notes[lever.name] = await lever.before(request, first)
        except Exhausted as met:
            raise BudgetSpent(met.limit) from met
    drawn = _Pool(request, panel, strategy, account, context, notes, progress)
    stopped = await drawn.fill(plan)
    if not drawn.replies:
        raise BudgetSpent(stopped)
    desk = Desk(request, strategy, panel, account, judge, request.seed, _checklist(notes))
    choice = await choose(desk, drawn.replies)
    spent = reduce(add, (reply.spent for reply in drawn.replies), desk.spent + first.spent)
    for lever in context:
        notes[lever.name] = {**notes[lever.name], **drawn.told[choice.chosen].get(lever.name, {})}
    notes |= {"selection": dict(choice.notes), "pool": _described(strategy, drawn.replies)}
    return _answered(drawn.replies, choice, spent, stopped, strategy, notes)


class _Pool:
    """The answers to one request as they are drawn, each as the contexts left it."""

    def __init__(
        self,
        request: Request,
        models: Sequence[ChatModel],
        strategy: Strategy,
        account: Account,
        context: Sequence[Context],
        notes: Mapping[str, Any],
        progress: Progress | None,
    ) -> None:
        self.request, self.models, self.strategy, self.account = request, models, strategy, account
        self.context, self.notes, self.progress = context, notes, progress
        self.came = 0
        self.replies: list[Reply] = []
        self.told: list[dict[str, Any]] = []

    async def fill(self, plan: Sequence[tuple[int, float]]) -> str:
        """Draw the plan, in rounds where it may stop early. Returns what stopped it."""
        size = (
            len(plan) if self.strategy.stop is None else max(self.strategy.round, len(self.models))
        )
        for start in range(0, len(plan), size):
            dealt, met = await deal(
                self.models, self.request, plan[start : start + size], self.account, self._count
            )
            for reply, told in await asyncio.gather(
                *(self._finished(model, reply) for model, reply in dealt)
            ):
                self.replies.append(reply)
                self.told.append(told)
            if met is not None:
                return met
            if start + size < len(plan) and self._agrees():
                return "agreement"
        return "complete"

    def _count(self, reply: Reply) -> None:
        self.came += 1
        if self.progress is not None:
            self.progress(self.came, self.strategy.n)

    def _agrees(self) -> bool:
        stop = self.strategy.stop
        return (
            stop is not None
            and len(self.replies) >= _FEWEST
            and agreement(self.strategy, self.replies) >= stop - 1e-9
        )

    async def _finished(self, model: ChatModel, reply: Reply) -> tuple[Reply, dict[str, Any]]:
        told: dict[str, Any] = {}
        for lever in reversed(self.context):
            payer = Accounted(model, self.account)
            try:
                after, told[lever.name] = await lever.after(
                    self.request, reply, payer, self.notes[lever.name]
                )
            except Exhausted as met:
                after, told[lever.name] = (
                    replace(reply, spent=reply.spent + payer.spent),
                    {"stopped_by": met.limit},
                )
            self.account.add(_difference(after.spent, reply.spent + payer.spent))
            reply = (
                after if after.text == reply.text else replace(after, tokens=())
            )  # they are those of another text
        return reply, told


def _asked(request: Request, strategy: Strategy, seed: int | None) -> Request:
    changes = {"seed": seed, "top_p": strategy.top_p, "min_p": strategy.min_p}
    return replace(request, **{name: value for name, value in changes.items() if value is not None})


def _checklist(notes: Mapping[str, Any]) -> tuple[str, ...]:
    """What contexts want judged: the strings under "checklist" in their notes."""
    return tuple(str(item) for told in notes.values() for item in told.get("checklist", ()))


def _described(strategy: Strategy, replies: Sequence[Reply]) -> dict[str, Any]:
    texts = [text_of(reply) for reply in replies]
    return {
        "size": len(texts),
        "distinct": len(set(texts)) / len(texts),
        "agreement": agreement(strategy, replies),
    }


def _answered(
    replies: Sequence[Reply],
    choice: Choice,
    spent: Spent,
    stopped: str,
    strategy: Strategy,
    notes: Mapping[str, Any],
) -> Answer:
    text = replies[choice.chosen].text
    return Answer(
        text,
        choice.chosen,
        tuple(replies),
        choice.scores,
        spent,
        stopped,
        strategy.signature,
        notes,
    )


def _difference(after: Spent, before: Spent) -> Spent:
    numbers = {
        name: getattr(after, name) - getattr(before, name)
        for name in Spent.__dataclass_fields__
        if name != "estimated"
    }
    return Spent(**numbers, estimated=after.estimated)
