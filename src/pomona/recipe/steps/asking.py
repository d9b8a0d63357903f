"""Models are asked one request at a time: every answer is kept as soon as it is there, so that none
is paid for twice, and servers are asked within the budget of the run.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

from pomona.answers import (
    Account,
    Answer,
    Budget,
    BudgetSpent,
    CachedModel,
    Exhausted,
    InStep,
    Lockstep,
    MeteredModel,
    Wrapper,
    forecaster,
    open_store,
    together,
)
from pomona.errors import PomonaError, ResourceError
from pomona.ledger import Meter
from pomona.models import (
    Draw,
    Model,
    ModelError,
    Rate,
    Reply,
    Request,
    Shape,
    Spent,
    load,
    wait_for,
)
from pomona.recipe.steps import Cost, StepContext, checkpoint
from pomona.recipe.steps.answering import write_answers
from pomona.recipe.steps.pools import Pools, distinct, drawing, read_pools, replies, write_pools
from pomona.recipe.steps.results import Serving, made_here, write_serving
from pomona.recipe.steps.tables import read_items
from pomona.sample import (
    SelectionContext,
    answer,
    choose,
    parse_strategy,
    temperatures,
)
from pomona.sample.context import Context, Index, open_contexts
from pomona.tasks import Items

Result = TypeVar("Result")
_OF_ITEM = frozenset({400, 413, 422})  # what a server says of a request, not of itself
_DONE = frozenset({"complete", "agreement"})
_PAID = """select coalesce(sum(money), 0.0), coalesce(sum(
    json_extract(reply, '$.spent.prompt_tokens') + json_extract(reply, '$.spent.completion_tokens')
), 0) from replies where model like 'http:%'"""


class Limited(Wrapper):
    """A model behind a server, asked as long as an account has room for it. `says` is what tells it
    from others at the same address.
    """

    def __init__(self, model: Model, account: Account, says: str) -> None:
        super().__init__(model)
        self._account = account
        self.identity = f"{model.identity} {says}" if says else model.identity

    async def each(self, request: Request, samples: Sequence[Draw]) -> AsyncGenerator[Reply, None]:
        """See the protocol. Exhausted when a limit is met. All samples go at once or not at all:
        a server draws others where they are asked for in parts, and results would depend on limits.
        """
        expected = forecaster(self.model, request)
        async with self._account.turn(lambda _: expected(len(samples))) as turn:
            replies = self.model.each(request, samples)
            async with aclosing(replies):
                async for reply in replies:
                    self._account.add(reply.spent, turn)
                    yield reply

    async def close(self) -> None:
        """Close the model."""
        await self.model.close()


@dataclass
class Asked:
    """The models of a step by their names, open, and what was paid before this step."""

    step: StepContext
    models: dict[str, Model]
    shapes: dict[str, Shape | None]
    steps: Lockstep
    account: Account
    context: Sequence[Context]

    @cached_property
    def _own(self) -> Mapping[str, Request]:
        """The requests of a task of lm-evaluation-harness, which say how each is asked."""
        tasks = self.step.runtime.tasks.values()
        asks = ((task.items.ids, task.requests()) for task in tasks)
        return {id_: ask[0] for ids, every in asks for id_, ask in zip(ids, every, strict=True)}

    @property
    def concurrency(self) -> int:
        """Items under way at once."""
        return next(iter(self.step.params["models"].values()))["concurrency"]

    @property
    def priced(self) -> bool:
        """Whether it is known what tokens cost."""
        return all(each["price"] is not None for each in self.step.params["models"].values())

    def request(self, items: Items, row: int) -> Request:
        """What an item is asked with."""
        p = self.step.params
        told = 0 if p.get("logprobs") else None
        settings: dict[str, Any] = {"max_tokens": p["max_new_tokens"]}
        if own := self._own.get(items.ids[row]):
            settings = {"max_tokens": own.max_tokens, "stop": own.stop}
        return items.request(row, chat=p["chat"], seed=p["seed"], logprobs=told, **settings)

    async def all(
        self, items: Items, one: Callable[[int, Request], Awaitable[Result]]
    ) -> list[Result]:
        """What `one` makes of each item: those whose models compute here in groups that go in step,
        else as many at once as go. After a failure nothing new is asked, and what is under way is
        waited for: it is paid.
        """
        turns, failed, done = asyncio.Semaphore(self.concurrency), list[Exception](), 0

        async def item(at: int) -> Result | None:
            nonlocal done
            async with turns:
                if failed:
                    return None
                try:
                    result = await one(at, self.request(items, at))
                except (PomonaError, Exhausted) as error:
                    failed.append(error)
                    return None
            done += 1
            self.step.advance(done, len(items))
            return result

        results: list[Result | None] = []
        if any(isinstance(model, InStep) for model in self.models.values()):
            for start in range(0, len(items), self.concurrency):
                group = range(start, min(start + self.concurrency, len(items)))
                results += await self.steps.run({at: partial(item, at) for at in group})
        else:
            results = await together([item(at) for at in range(len(items))])
        if failed:
            raise _ended(failed[0], f"{done:,} of {len(items):,} items are answered, and kept")
        return [result for result in results if result is not None]

    def spent(self, spent: Spent) -> dict[str, float | None]:
        """What is known of what was spent."""
        here = all(model.local for model in self.models.values())
        return {
            "tokens": spent.prompt_tokens + spent.completion_tokens,
            "flops": spent.flops if here else None,
            "money": spent.money if self.priced else None,
            "seconds": spent.seconds,
        }


def _ended(error: Exception, done: str) -> Exception:
    if isinstance(error, BudgetSpent | Exhausted):
        remedy = f"raise it and run again: {done}"
        return ResourceError("was spent", where=f"the budget of {error.limit}", remedy=remedy)
    if isinstance(error, ModelError) and error.status not in _OF_ITEM:
        remedy = f"run again when it answers: {done}"
        return ResourceError(error.message, where=error.where, remedy=remedy)
    return error


@asynccontextmanager
async def opened(step: StepContext) -> AsyncIterator[Asked]:
    """The models of a step, behind the store of their answers, and what their requests carry."""
    p, runtime = step.params, step.runtime
    paid = _paid(runtime.answers)
    limits: Any = dict(runtime.budget)
    account, steps = Account(Budget(**limits)), Lockstep(Account())
    account.add(paid)
    models: dict[str, Model] = {}
    shapes: dict[str, Shape | None] = {}
    options = dict(p["context"])
    if "index" in step.inputs:
        options["retrieve"] = step.inputs["index"] / "index"
    with ExitStack() as stack:
        context = stack.enter_context(open_contexts(**options))
        try:
            for name, settings in p["models"].items():
                model = _load(step, name, settings)
                shapes[name] = getattr(model, "shape", None)
                if model.local:
                    models[name] = InStep(model, runtime.answers, steps)
                else:
                    limited = Limited(model, account, step.served[name].says)
                    models[name] = CachedModel(limited, runtime.answers)
            yield Asked(step, models, shapes, steps, account, context)
        finally:
            for model in models.values():
                await model.close()


def _load(step: StepContext, name: str, settings: Mapping[str, Any]) -> Model:
    runtime, p = step.runtime, step.params
    more: dict[str, Any] = {
        "threads": runtime.threads,
        "device": runtime.device,
        "dtype": p["dtype"],
        "price": tuple(settings["price"]) if settings["price"] else None,
        "rate": Rate(settings["requests_per_minute"], settings["tokens_per_minute"]),
        **{one: settings[one] for one in ("concurrency", "timeout", "tokenizer", "context")},
    }
    if name in step.served:
        served = step.served[name]
        return load(served.uri, wait_for_server=served.wait, **more)
    path = step.inputs[name]
    if path.is_file():
        return load(f"gguf:{path}", **more)
    with made_here(path):
        return load(str(checkpoint(path)), **more)


def _paid(store: Path) -> Spent:
    """What servers were paid in this run so far."""
    database = open_store(store)
    try:
        with database.reading() as file:
            money, tokens = file.execute(_PAID).fetchone()
    finally:
        database.close()
    return Spent(int(tokens), 0, 0.0, float(money))


def draw_asked(step: StepContext) -> Cost:
    """A pool of answers to every item, with what its requests carry, as far as they go."""
    items, p = read_items(step.inputs["items"]), step.params
    strategy = parse_strategy({"name": p["pool"], "extract": p["extract"]})

    async def draw() -> tuple[list[Answer], Asked]:
        async with opened(step) as asked:

            async def one(_: int, request: Request) -> Answer:
                found = await answer(
                    request, asked.models["model"], strategy, budget=Account(),
                    context=asked.context,
                )  # fmt: skip
                if found.stopped_by not in _DONE:
                    raise Exhausted(asked.account.met or found.stopped_by)
                return found

            return await asked.all(items, one), asked

    with Meter() as meter:
        found, asked = wait_for(draw())
    columns: dict[str, list[Any]] = {
        "id": items.ids,
        "prompt_tokens": [each.candidates[0].spent.prompt_tokens for each in found],
        "answers": [[reply.text for reply in each.candidates] for each in found],
        "tokens": [[r.spent.completion_tokens for r in each.candidates] for each in found],
        "logprobs": [[reply.logprob for reply in each.candidates] for each in found],
        "temperatures": [[reply.temperature for reply in each.candidates] for each in found],
        "spent": [[asked.spent(spent) for spent in _shares(each)] for each in found],
    }
    shape, plan = asked.shapes["model"], temperatures(strategy, Request(prompt=""))
    write_pools(step.out, columns, Pools(distinct(columns["answers"]), shape, list(plan)))
    write_serving(step.out, Serving(0.0, seconds_per_item=0.0))  # whoever chooses says its share
    return _cost(asked, sum((each.spent for each in found), Spent()), meter)


def _shares(found: Answer) -> list[Spent]:
    """What each candidate cost; the first with what was spent beside all of them."""
    each = [reply.spent for reply in found.candidates]
    whole, known = found.spent, sum(each, Spent())
    beside = Spent(
        whole.prompt_tokens - known.prompt_tokens,
        whole.completion_tokens - known.completion_tokens,
        whole.flops - known.flops,
        whole.money - known.money,
        whole.seconds - known.seconds,
    )
    return [each[0] + beside, *each[1:]]


def judge(step: StepContext) -> Cost:
    """One of the first so many answers of each pool, by a strategy that asks a model."""
    items, p = read_items(step.inputs["items"]), step.params
    strategy = parse_strategy(p["strategy"])
    about, rows = read_pools(step.inputs["pools"], strategy.n)

    async def decide() -> tuple[list[tuple[int, Spent]], Asked]:
        async with opened(step) as asked:
            own, arbiter = asked.models.get("model"), asked.models.get("judge")
            panel = [model for model in (own, arbiter) if model is not None][:1]

            async def one(at: int, request: Request) -> tuple[int, Spent]:
                account = Account()
                first = MeteredModel(panel[0], account)
                for lever in asked.context:
                    request, _ = await lever.before(request, first)
                selection = SelectionContext(
                    request, strategy, panel, account, arbiter, seed=p["seed"]
                )
                choice = await choose(selection, replies(rows[at], about))
                if "fallback" in choice.notes:
                    raise Exhausted(asked.account.met or "money")
                return choice.chosen, selection.spent + first.spent

            return await asked.all(items, one), asked

    with Meter() as meter:
        found, asked = wait_for(decide())
    chosen = [row["answers"][pick] for row, (pick, _) in zip(rows, found, strict=True)]
    write_answers(step, items, chosen, about.shape)
    spent = sum((each for _, each in found), Spent())
    told, more = drawing(about, items, rows), asked.spent(spent)
    both = Serving(
        _sum(told.flops_per_item, more["flops"], len(items)),
        tokens_per_item=_sum(told.tokens_per_item, more["tokens"], len(items)),
        money_per_item=_sum(told.money_per_item, more["money"], len(items)),
        seconds_per_item=_sum(told.seconds_per_item, more["seconds"], len(items)),
    )
    write_serving(step.out, both)
    return _cost(asked, spent, meter)


def _sum(known: float | None, more: float | None, items: int) -> float | None:
    return None if known is None or more is None else known + more / items


def _cost(asked: Asked, spent: Spent, meter: Meter) -> Cost:
    told = asked.spent(spent)
    return Cost(
        told["flops"], int(told["tokens"] or 0), told["seconds"], meter.wall_seconds, told["money"]
    )


def index_passages(step: StepContext) -> Cost:
    """An index of passages, searched by words."""
    p = step.params
    sources = [str(step.inputs[name]) for name in sorted(step.inputs)]
    with Meter() as meter:
        Index.build(sources, p["column"], out=step.out / "index", source=p["source"])
    return Cost(cpu_seconds=meter.cpu_seconds, wall_seconds=meter.wall_seconds)
