"""Pairs put before a judge in both orders: one by one for whoever has a model at hand, or as the
rows of a table, whose answers are kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from pomona.answers import Account, Answer, BudgetSpent, Exhausted, ask, forecaster, together
from pomona.arena.judging.prompting import JudgePrompt, judge_prompt, verdict_in
from pomona.models import Model, ModelError, Reply, Request, Spent, load, wait_for
from pomona.tasks import Metric

Flips = Literal["tie", "skip", "half"]
VALUES = {"A": 1.0, "B": 0.0, "C": 0.5}  # of the answer that is shown first
_SHOWN = 80  # letters of a reply that is no verdict
_OF_PAIR = frozenset({400, 413, 422})  # what a model says of a request, not of itself


@dataclass(frozen=True)
class PairVerdict:
    """What a judge says of two answers, as a value of ours: 1 it wins, 0.5 neither, 0 it loses.

    value: what counts; None is no vote: a verdict is missing, or the orders differ and are skipped.
    orders: the value with ours shown first, and with theirs; None where it could not be read.
    errors: why, None where it could. spent: of both orders.
    """

    value: float | None
    orders: tuple[float | None, float | None]
    errors: tuple[str | None, str | None]
    spent: Spent

    @property
    def flipped(self) -> bool | None:
        """Whether the orders differ; None where one is missing."""
        return None if None in self.orders else self.orders[0] != self.orders[1]


def combined(one: float | None, other: float | None, flips: Flips) -> float | None:
    """The value of a pair from those of its two orders. Where they differ: "tie" is 0.5, "skip" no
    vote, "half" the mean of both, and of one where the other is missing.
    """
    if flips == "half":
        known = [value for value in (one, other) if value is not None]
        return sum(known) / len(known) if known else None
    if one is None or other is None:
        return None
    if one == other:
        return one
    return 0.5 if flips == "tie" else None


@dataclass(frozen=True)
class PairJudge:
    """Answers rows of pairs by a verdict; see `pomona.answers.Answerer`. The judge is the first
    model.
    """

    prompt: JudgePrompt
    flips: Flips = "tie"
    operation = "arena judge"

    def parameters(self, models: Sequence[Model], judge: Model | None) -> dict[str, Any]:
        """See the protocol."""
        read = "reasons" if self.prompt.explain else "free" if self.prompt.free else "held"
        return {"judge": models[0].identity, "verdict": read, "flips": self.flips}

    async def answer(
        self, request: Request, models: Sequence[Model], judge: Model | None, account: Account
    ) -> Answer:
        """See the protocol. A ModelError of status 422 where the judge cannot be held to verdicts:
        it is one of the vote, not of the model.
        """
        try:
            reply = await asked(models[0], request, self.prompt, account)
        except Exhausted as met:
            raise BudgetSpent(met.limit) from met
        return Answer(reply.text, 0, (reply,), (), reply.spent, "complete", self.operation, {})

    def forecast(self, request: Request, models: Sequence[Model], judge: Model | None) -> Spent:
        """See the protocol."""
        return forecaster(models[0], _held(models[0], request, self.prompt))(1)


async def asked(model: Model, request: Request, prompt: JudgePrompt, account: Account) -> Reply:
    """The judge's reply, held to the verdicts where it can be. Exhausted when a limit is met."""
    try:
        return await ask(model, _held(model, request, prompt), account)
    except ModelError as error:
        if error.code != "no_option":
            raise
        remedy = "let it speak freely: --free, in a recipe free: true"
        raise ModelError(
            "is not held to verdicts", status=422, where=error.where, remedy=remedy
        ) from error


def _held(model: Model, request: Request, prompt: JudgePrompt) -> Request:
    return replace(request, options=prompt.options if "options" in model.abilities else ())


def read_verdict(reply: Reply) -> tuple[float | None, str | None]:
    """The value of the answer shown first, and why there is none."""
    if not reply.answered:
        return None, f"refused: {(reply.refusal or 'by a content filter')[:_SHOWN]}"
    return read_value(reply.text)


def read_value(said: str) -> tuple[float | None, str | None]:
    """The value of the answer shown first in what a judge says, and why there is none."""
    if verdict := verdict_in(said):
        return VALUES[verdict], None
    shown = " ".join(said.split())[:_SHOWN]
    return None, f'names no verdict: "{shown}"' if shown else "says nothing"


def pair_requests(
    prompt: str | Request, ours: str, theirs: str, **how: Any
) -> tuple[Request, Request]:
    """What `judge_pair` asks in the two orders, for forecasts."""
    return judge_prompt(**how).requests(prompt, ours, theirs)


async def judge_pair(
    model: Model,
    prompt: str | Request,
    ours: str,
    theirs: str,
    *,
    flips: Flips = "tie",
    account: Account | None = None,
    **how: Any,
) -> PairVerdict:
    """Ask a judge which of two answers to a request is better, in both orders.

    flips: what a pair is worth whose orders differ; see `PairVerdict.value`.
    account: what it is paid from.
    how: template, explain, free, max_tokens and seed, as `pomona.arena.judge` takes them.
    Raises PomonaError for a template that is none, ModelError where the model cannot answer, and
    Exhausted when a limit is met.
    """
    told = judge_prompt(**how)
    paid = account or Account()
    work = (asked(model, one, told, paid) for one in told.requests(prompt, ours, theirs))
    # Not a TaskGroup, which would cancel the other order: it is paid for.
    replies = await asyncio.gather(*work, return_exceptions=True)
    spent, values, errors = Spent(), [], []
    for reply in replies:
        if isinstance(reply, ModelError) and reply.status in _OF_PAIR and not reply.field:
            value, error = None, str(reply)
        elif isinstance(reply, BaseException):
            raise reply
        else:
            spent += reply.spent
            value, error = read_verdict(reply)
        values.append(value)
        errors.append(error)
    one, turned = values
    other = None if turned is None else 1 - turned
    return PairVerdict(combined(one, other, flips), (one, other), (errors[0], errors[1]), spent)


def judge_pairs(
    prompts: Sequence[str | Request],
    ours: Sequence[str],
    theirs: Sequence[str],
    judge: Model | str,
    *,
    flips: Flips = "tie",
    concurrency: int = 8,
    settings: Mapping[str, Any] | None = None,
    **how: Any,
) -> list[PairVerdict]:
    """`judge_pair` for lists, waited for; a URI is opened and closed. Keeps nothing: put a
    `pomona.answers.CachedModel` in front for that.
    """
    model = load(judge, **(settings or {})) if isinstance(judge, str) else judge
    turns = asyncio.Semaphore(1 if model.local else concurrency)

    async def one(*pair: Any) -> PairVerdict:
        async with turns:
            return await judge_pair(model, *pair, flips=flips, **how)

    async def all_() -> list[PairVerdict]:
        try:
            pairs = zip(prompts, ours, theirs, strict=True)
            return await together([one(*pair) for pair in pairs])
        finally:
            if isinstance(judge, str):
                await model.close()

    return wait_for(all_())


def metric_values(
    ours: Sequence[str],
    theirs: Sequence[str],
    references: Sequence[str],
    metric: Metric,
    band: float = 0.0,
) -> list[float | None]:
    """The value of each of ours by a metric of a task: 1 better, 0 worse, 0.5 where they differ by
    no more than `band`, in units of the metric; None where it is undefined.
    """
    values = [
        np.asarray(metric.aggregate(metric.statistics(texts, references)), np.float64)
        for texts in (ours, theirs)
    ]
    gain = (values[0] - values[1]) * (1 if metric.higher_is_better else -1)
    return [
        None if not np.isfinite(one) else 0.5 if abs(one) <= band + 1e-9 else float(one > 0)
        for one in gain
    ]
