"""One request, a pool of answers by a strategy, one choice; and the most that this can cost."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, cast

import pyarrow as pa

from pomona.answers import (
    Account,
    Answer,
    Budget,
    BudgetSpent,
    Exhausted,
    MeteredModel,
    ModelOrUri,
    RowOptions,
    answer_rows,
    deal,
    forecaster,
    text_of,
)
from pomona.errors import PomonaError
from pomona.models import Model, Reply, Request, Spent, able, prompt_tokens, wait_for
from pomona.places import check_outputs
from pomona.records import Card, Records
from pomona.sample.selection.choice import SelectionContext
from pomona.sample.selection.choosing import agreement, check, choose, needs_logprobs, rewards
from pomona.sample.selection.mbr import beside
from pomona.sample.strategy import REWARDS, Strategy, parse_strategy, temperatures

if TYPE_CHECKING:
    from pomona.sample.context.neighbours import Neighbours
    from pomona.sample.context.protocol import Around, Chooser, Context
    from pomona.sample.context.selected import ChoosingMemory


Progress = Callable[[int, int], None]
_FEWEST = 3  # answers before agreement counts: two agree by chance too often
_JUDGING = 120  # tokens of what a judge is told
_GRADES = 5  # that it gives
_PICK = 8  # tokens of what it answers


async def answer(
    request: Request,
    models: Model | Sequence[Model],
    strategy: Strategy,
    *,
    budget: Budget | Account = Budget(),  # noqa: B008 - frozen
    context: Sequence[Context] = (),
    judge: Model | None = None,
    seed: int | None = None,
    progress: Progress | None = None,
) -> Answer:
    """Draw a pool of answers by the strategy and choose one.

    models: one, or several among which the answers are dealt in turn. judge: for chops, judged
        utilities and log-probabilities; without
    one the first model. seed: of samples, shuffles and random choices; None takes the request's.
    budget: a hard stop. Nothing is asked once a limit is met, and the choice is among what was
        drawn; an Account shares one budget.
    Answers that a model refused, or a filter took away, are paid for and counted in the notes, but
    not among the candidates, unless there are no others.
    context: their `before` in order, then for each candidate their `after` in reverse order, with
        the request that the model saw. Where the budget ends in an `after`, the candidate stays as
        it was and the notes say so.
        One that stands around the models changes all that they are asked.
    A note `answer` is the answer, and no model is asked; notes `candidates` stand beside the
        pool, each with its weight as evidence for mbr, which is then the only choice. A context
        that is a `Chooser` chooses in place of mbr.
    progress: called with (candidates that came, candidates of the whole pool) as they come.

    Raises:
        BudgetSpent: the budget was spent before the first answer.
        PomonaError: a model failed after all retries, or the request or strategy cannot work with
            these models.
    """
    panel = around([models] if isinstance(models, Model) else models, context)
    if not panel:
        raise PomonaError("there is no model", where="models", remedy="give at least one")
    account = budget if isinstance(budget, Account) else Account(budget)
    check(strategy, panel, judge)
    chooser = _chooser(context, strategy)
    request = replace(request, **strategy.sampling)
    request = request if seed is None else replace(request, seed=seed)
    if judge is None and request.logprobs is None and needs_logprobs(strategy, panel):
        request = replace(request, logprobs=0)
    plan = list(enumerate(temperatures(strategy, request, len(panel))))
    notes: dict[str, Any] = {}
    first = MeteredModel(panel[0], account)
    for lever in context:
        try:
            request, notes[lever.name] = await lever.before(request, first)
        except Exhausted as met:
            raise BudgetSpent(met.limit) from met
        account.add(Spent(flops=notes[lever.name].get("flops", 0.0)))
        if "answer" in notes[lever.name]:
            return _known(notes[lever.name], strategy, first.spent, notes)
    known: dict[str, float] = {}  # rewards
    drawn = _Pool(request, panel, strategy, account, context, notes, progress, known)
    stopped = await drawn.fill(plan)
    if not drawn.replies:
        raise BudgetSpent(stopped)
    places = [at for at, reply in enumerate(drawn.replies) if reply.answered]
    places = places or list(range(len(drawn.replies)))  # all refused, and one of them says why
    own = [drawn.replies[at] for at in places]
    pool, weights = _beside(own, notes, strategy)
    # What contexts want judged.
    items = tuple(str(item) for noted in notes.values() for item in noted.get("checklist", ()))
    selection = SelectionContext(
        request, strategy, panel, account, judge, request.seed, items, weights, rewards=known
    )
    before = None
    if chooser is not None:
        before = partial(chooser.choose, selection, pool, notes[chooser.name])
    choice = await choose(selection, pool, before)
    pool = list(choice.candidates) or pool
    searched = Spent(flops=sum(noted.get("flops", 0.0) for noted in notes.values()))
    spent = sum((one.spent for one in drawn.replies), selection.spent + first.spent + searched)
    for lever in context:
        chosen = drawn.notes_of[places[choice.chosen]] if choice.chosen < len(own) else {}
        after = chosen.get(lever.name, {})
        notes[lever.name] = {**notes[lever.name], **after}
    # What had no time for its choice has none for this either.
    hurried = "fallback" in choice.notes and account.budget.seconds is not None
    about = partial(_described, strategy, own, hurried)
    described = about() if hurried else await beside(about)
    refused = sum(not reply.answered for reply in drawn.replies)
    notes |= {
        "selection": dict(choice.notes),
        "pool": {**described, **({"refused": refused} if refused else {})},
    }
    return Answer(
        pool[choice.chosen].text,
        choice.chosen,
        tuple(pool),
        choice.scores,
        spent,
        stopped,
        strategy.signature,
        notes,
    )


def around(models: Sequence[Model], context: Sequence[Context]) -> list[Model]:
    """The models as contexts that stand around them make them."""
    panel = list(models)
    for lever in context:
        if hasattr(lever, "around"):
            panel = [cast("Around", lever).around(model) for model in panel]
    return panel


def _chooser(context: Sequence[Context], strategy: Strategy) -> Chooser | None:
    """The context that chooses in place of the strategy."""
    for lever in context:
        if hasattr(lever, "choose"):
            if strategy.select not in ("first", "mbr"):
                message = f"{lever.name} chooses, and so would {strategy.select}"
                remedy = f"draw by {strategy.pool}{strategy.n}, or leave one of the two out"
                raise PomonaError(message, where=f'strategy "{strategy.name}"', remedy=remedy)
            return cast("Chooser", lever)
    return None


def _known(
    said: Mapping[str, Any], strategy: Strategy, spent: Spent, notes: Mapping[str, Any]
) -> Answer:
    """The answer that a context knows, without any of a model."""
    spent += Spent(flops=said.get("flops", 0.0))
    reply, signature = Reply(said["answer"], "stop", spent, "memory"), strategy.signature
    return Answer(reply.text, 0, (reply,), (1.0,), spent, said["answered_by"], signature, notes)


def _beside(
    own: list[Reply], notes: Mapping[str, Any], strategy: Strategy
) -> tuple[list[Reply], tuple[float, ...]]:
    """The pool with the candidates that contexts know, and the weight of each as evidence; no
    weights where there are none of these. Temperature 1: nothing is greedy about them.
    """
    known = [one for noted in notes.values() for one in noted.get("candidates", ())]
    if known and strategy.select not in ("mbr", "xmbr"):
        message, where = "neighbours are candidates of mbr alone", f'strategy "{strategy.name}"'
        raise PomonaError(message, where=where, remedy="choose by mbr, or leave them out")
    first = max((reply.index for reply in own), default=-1) + 1
    replies = [
        Reply(one["text"], "stop", Spent(), "memory", first + at, 1.0)
        for at, one in enumerate(known)
    ]
    weights = (*[1.0] * len(own), *(one["weight"] for one in known)) if known else ()
    return [*own, *replies], weights


@dataclass
class _Pool:
    """The answers to one request as they are drawn, each as the contexts left it."""

    request: Request
    models: Sequence[Model]
    strategy: Strategy
    account: Account
    context: Sequence[Context]
    notes: Mapping[str, Any]
    progress: Progress | None
    rewards: dict[str, float] = field(default_factory=dict)
    came: int = 0
    replies: list[Reply] = field(default_factory=list)
    notes_of: list[dict[str, Any]] = field(default_factory=list)

    async def fill(self, plan: Sequence[tuple[int, float]]) -> str:
        """Draw the plan, in rounds where it may stop early. Returns what stopped it."""
        size = max(self.strategy.round, len(self.models))
        if self.strategy.stop is None:
            size = len(plan)
        for start in range(0, len(plan), size):
            part = plan[start : start + size]
            dealt, met = await deal(self.models, self.request, part, self.account, self._count)
            finishing = (self._finished(model, reply) for model, reply in dealt)
            for reply, notes in await asyncio.gather(*finishing):
                self.replies.append(reply)
                self.notes_of.append(notes)
            if met is not None:
                return met
            if start + size < len(plan) and await self._agrees():
                return "reward" if self.strategy.checked else "agreement"
        return "complete"

    def _count(self, reply: Reply) -> None:
        self.came += 1
        if self.progress is not None:
            self.progress(self.came, self.strategy.n)

    async def _agrees(self) -> bool:
        stop, pool = self.strategy.stop, [reply for reply in self.replies if reply.answered]
        if stop is not None and self.strategy.checked:
            told = (self.request, self.strategy, self.models, self.account)
            selection = SelectionContext(*told, rewards=self.rewards)
            try:
                async with asyncio.timeout(self.account.left):
                    found = await rewards(selection, [text_of(reply) for reply in pool])
            except TimeoutError:  # whatever is drawn next meets the budget of time
                return False
            return max(found, default=-math.inf) >= stop - 1e-9
        if stop is None or len(pool) < _FEWEST:
            return False
        return await beside(partial(agreement, self.strategy, pool)) >= stop - 1e-9

    async def _finished(self, model: Model, reply: Reply) -> tuple[Reply, dict[str, Any]]:
        notes: dict[str, Any] = {}
        # The last lever changed the request last, so it is the first to undo it in the reply.
        for lever in reversed(self.context):
            payer, before = MeteredModel(model, self.account), self.notes[lever.name]
            try:
                after, notes[lever.name] = await lever.after(self.request, reply, payer, before)
            except Exhausted as met:
                after = replace(reply, spent=reply.spent + payer.spent)
                notes[lever.name] = {"stopped_by": met.limit}
            self.account.add(_difference(after.spent, reply.spent + payer.spent))
            # The tokens are those of another text, where a lever changed it.
            reply = after if after.text == reply.text else replace(after, tokens=())
        return reply, notes


def _described(strategy: Strategy, replies: Sequence[Reply], hurried: bool) -> dict[str, Any]:
    texts = [text_of(reply) for reply in replies]
    return {
        "size": len(texts),
        "distinct": len(set(texts)) / len(texts),
        "agreement": None if hurried else agreement(strategy, replies),
    }


def _difference(after: Spent, before: Spent) -> Spent:
    *numbers, estimated = astuple(after)
    less = (one - other for one, other in zip(numbers, astuple(before), strict=False))
    return Spent(*less, estimated=estimated)


def forecast_answer(
    models: Sequence[Model], request: Request, strategy: Strategy, judge: Model | None = None
) -> Spent:
    """The most that an answer by a strategy costs: its whole pool, further evidence, and what
    judges are asked, score and embed.
    """
    total = Spent()
    for place, model in enumerate(models):
        if count := len(range(place, strategy.n, len(models))):
            total += forecaster(model, request)(count)
    if strategy.select == "xmbr":
        total += forecaster(models[0], request)(strategy.evidence)
    return total + _choosing(models, request, strategy, judge)


def _choosing(
    models: Sequence[Model], request: Request, strategy: Strategy, judge: Model | None
) -> Spent:
    """What the choice among full-length answers costs. Without a judge models tell
    log-probabilities with their answers.
    """
    asked, answer, n = prompt_tokens(request), request.max_tokens, strategy.n
    panel, arbiter = (judge, *models), judge or models[0]
    further = strategy.evidence if strategy.select == "xmbr" else 0
    if strategy.select == "chops":
        written = 40 * strategy.items
        picking = _picking(arbiter, asked + n * answer + written + _JUDGING, n)
        return arbiter.cost(asked + _JUDGING, written) + picking
    if strategy.utility == "judge":
        grade = _picking(arbiter, asked + 2 * answer + _JUDGING, _GRADES)
        return _times(grade, n * (n - 1) // 2 + n * further)
    if strategy.utility == "embedding" and (embedder := able(panel, "embed")) is not None:
        return _times(embedder.cost(answer), n + further)
    likely = judge is not None and strategy.select == "best" and strategy.reward in REWARDS
    if likely and (scorer := able(panel, "score")) is not None:
        return _times(scorer.cost(scorer.tokens(request), answer), n)
    return Spent()


def _times(spent: Spent, count: int) -> Spent:
    return sum([spent] * count, Spent())


def _picking(arbiter: Model, prompt: int, options: int) -> Spent:
    """What it costs to pick one of several short options."""
    return _times(arbiter.cost(prompt, _PICK), options if "score" in arbiter.abilities else 1)


def answer_now(
    request: Request, models: Model | Sequence[Model], strategy: Strategy, **options: Any
) -> Answer:
    """`answer`, waited for. Works in notebooks too: all calls share one event loop in a thread of
    its own, and so may share models.
    """
    return wait_for(answer(request, models, strategy, **options))


@dataclass(frozen=True)
class StrategyAnswerer:
    """Answers rows by a strategy, with what contexts add; see `pomona.answers.Answerer`."""

    strategy: Strategy
    context: Sequence[Context] = ()
    memory: Neighbours | None = None
    noted: tuple[str, ...] = ()  # notes that are written in columns of their own
    operation = "sample"

    @property
    def extract(self) -> str | None:
        """What of an answer counts where answers vote."""
        return self.strategy.extract if self.strategy.select == "vote" else None

    def parameters(self, models: Sequence[Model], judge: Model | None) -> dict[str, Any]:
        """See the protocol."""
        return {
            "strategy": self.strategy.signature,
            "models": ",".join(model.identity for model in models),
            "judge": judge.identity if judge else None,
            "context": ",".join(map(_called, self.context)) or None,
            **({} if self.memory is None else {"memory": self.memory.identity}),
        }

    async def answer(
        self, request: Request, models: Sequence[Model], judge: Model | None, account: Account
    ) -> Answer:
        """See the protocol."""
        context = [*([] if self.memory is None else [self.memory]), *self.context]
        return await answer(
            request, models, self.strategy, budget=account, context=context, judge=judge
        )

    def forecast(self, request: Request, models: Sequence[Model], judge: Model | None) -> Spent:
        """See the protocol."""
        models = around(models, self.context)
        draws, scored = (True, 0) if self.memory is None else self.memory.asks(request)
        drawn = forecast_answer(models, request, self.strategy, judge) if draws else Spent()
        if not scored:
            return drawn
        prompt = models[0].tokens(request)
        return drawn + _times(models[0].cost(prompt, request.max_tokens), scored)


def _called(lever: Context) -> str:
    return cast("Around", lever).identity if hasattr(lever, "around") else lever.name


def answer_all(
    inputs: str | Path | Sequence[str | Path] | Records | pa.Table,
    out: str | Path,
    *,
    model: ModelOrUri | Sequence[ModelOrUri],
    strategy: str | Strategy | dict[str, Any] = "hedged5-mbr",
    reward: str | None = None,
    extract: str | None = None,
    language: str | None = None,
    context: Sequence[Context] = (),
    markers: Context | None = None,
    memory: ChoosingMemory | None = None,
    lookup: float | None = None,
    copy: float | None = None,
    examples: int = 0,
    neighbours: int = 0,
    phrases: bool = False,
    **options: Unpack[RowOptions],
) -> Card:
    """Answer every row of a table: several answers each, and a choice among them.

    Everything generated is kept at once beside OUT; the same command goes on after an interruption
    and pays nothing twice. The exit code is 1 when a budget ended or a model failed before all rows
    had an answer.

    The rows are written with `answer`, `chosen`, `candidates`, `scores`, cost and `error` added,
    `answer_extracted` (what of the answer is compared, where that is a part of it),
    `answer_tool_calls` and `answer_notes` (what passages, tools and the choice did), both as JSON.
    The options, and what is raised, as `pomona.answers.answer_rows`.

    Args:
        out: File of the rows with their answers; the card is written beside it.
        model: URI of a model: ui-s, smollm2, hf:PATH_OR_ID, gguf:PATH or http://HOST/v1#NAME.
            Given several times, the models share each pool.
        strategy: Such as greedy, hedged5-mbr, hedged5-chops, sample16-vote-stop0.6,
            ladder5-best-t1.2.
        reward: best: mean, sum, kept, within, MODULE:FUNCTION or http://HOST/PATH.
        extract: vote: answer, number, boxed, text, regex:PATTERN or MODULE:FUNCTION.
        language: xmbr: language of the further evidence.
        context: What the models see beside the prompt.
        markers: What models that were trained with markers are told; the column `markers` then says
            what was given and inferred, as JSON. `pomona.markers.open_markers` opens it.
        memory: Rows that were answered before; `pomona.memory.open_memory` opens some.
        lookup: From this similarity on, from 0 to 1, the nearest row of the memory is the answer.
        copy: Below this similarity to every row, what is asked about is the answer, as it is.
        examples: So many of the nearest rows are shown before the question.
        neighbours: So many of the nearest rows' answers are candidates, and evidence, for mbr.
        phrases: What is put together from pieces of the memory's answers is the answer; no model is
            asked.
    """
    details = {"reward": reward, "extract": extract, "language": language}
    plan = _planned(strategy, {name: one for name, one in details.items() if one is not None})
    near = _neighbours(memory, lookup, copy, examples, neighbours, phrases)
    check_outputs({"the answers": out}, () if memory is None else memory.paths)
    told = () if markers is None else (markers,)
    noted = tuple(lever.name for lever in told)
    answerer = StrategyAnswerer(plan, [*context, *told], near, noted)
    return answer_rows(inputs, out, answerer, model=model, **options)


def _neighbours(memory: ChoosingMemory | None, *uses: Any) -> Neighbours | None:
    """The memory as it is used: for a lookup, a copy, examples, candidates, phrases, and by its
    selector where it has one.
    """
    lookup, copy, examples, neighbours, phrases = uses
    chosen = memory is not None and memory.selector is not None
    near = lookup is not None or copy is not None or examples > 0 or neighbours > 0
    if (chosen or near or phrases) != (memory is not None):
        message = "the memory is not used" if memory else "there is no memory to use"
        remedy = "give a memory, and lookup, copy, examples, neighbours, phrases or its selector"
        raise PomonaError(message, where="memory", remedy=remedy)
    if memory is None:
        return None
    from pomona.sample import context

    return context.Selected(memory, *uses) if chosen else context.Neighbours(memory, *uses)


def _planned(given: str | Strategy | Mapping[str, Any], details: Mapping[str, Any]) -> Strategy:
    if isinstance(given, Strategy):
        return replace(given, **details)
    if details:
        given = {**({"name": given} if isinstance(given, str) else given), **details}
    return parse_strategy(given, trusted=True)
