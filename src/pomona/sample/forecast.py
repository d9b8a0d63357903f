"""The most that a request can cost, before it is made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

from pomona.models.chat._guess import prompt_tokens
from pomona.models.chat.protocol import ChatModel, Request, Spent, able
from pomona.sample.strategy import REWARDS, Strategy

_JUDGING = 120  # tokens of what a judge is told
_GRADES = 5  # that it gives
_PICK = 8  # tokens of what it answers


def forecast(model: ChatModel, request: Request, samples: int = 1) -> Spent:
    """What `samples` full-length answers to the request cost at most, the prompt read once; see
    `forecaster`.
    """
    return forecaster(model, request)(samples)


def forecaster(model: ChatModel, request: Request) -> Callable[[int], Spent]:
    """From a number of samples to what full-length answers cost.

    The prompt's tokens are counted where the tokenizer is at hand (torch), else guessed from its
    bytes, rather too high. FLOPs and money are 0 where the model has no shape or no price. A model
    that scores compares its options by scoring all of them.
    """
    prompt = cache(lambda: model.tokens(request))
    if request.options and "score" in model.abilities:
        price = scoring(model, request, end=1)
        return lambda _: sum(map(price, request.options), Spent())
    steering = request.steer.flops if request.steer else 0.0
    return lambda samples: (
        model.cost(prompt(), request.max_tokens, samples)
        + Spent(flops=steering * request.max_tokens * samples, estimated=True)
    )


def scoring(model: ChatModel, request: Request, *, end: int = 0) -> Callable[[str], Spent]:
    """From a completion, with so many end tokens, to what scoring it after the request costs."""
    prompt = cache(lambda: model.tokens(request))
    steering = request.steer.flops if request.steer else 0.0

    def price(completion: str) -> Spent:
        tokens = model.tokens(Request(prompt=completion)) + end
        return (
            model.cost(prompt(), tokens) + Spent(flops=steering * tokens) if completion else Spent()
        )

    return price


def reading(model: ChatModel) -> Callable[[str], Spent]:
    """From a text to what its embedding costs at most."""
    return lambda text: model.cost(model.tokens(Request(prompt=text)))


def forecast_answer(
    models: Sequence[ChatModel],
    request: Request,
    strategy: Strategy,
    judge: ChatModel | None = None,
) -> Spent:
    """The most that an answer by a strategy costs: its whole pool, further evidence, and what
    judges are asked, score and embed.
    """
    hands = [len(range(place, strategy.n, len(models))) for place in range(len(models))]
    pools = (
        forecast(model, request, count) for model, count in zip(models, hands, strict=True) if count
    )
    total = sum(pools, Spent())
    if strategy.select == "xmbr":
        total += forecast(models[0], request, strategy.evidence)
    return total + _choosing(
        [judge, *models], request, strategy, judge or models[0], judge is not None
    )


def _choosing(
    panel: Sequence[ChatModel | None],
    request: Request,
    strategy: Strategy,
    arbiter: ChatModel,
    judged: bool,
) -> Spent:
    """What the choice among full-length answers costs. Without a judge models tell
    log-probabilities with their answers.
    """
    asked, answer, n = prompt_tokens(request), request.max_tokens, strategy.n
    further = strategy.evidence if strategy.select == "xmbr" else 0
    if strategy.select == "chops":
        written = 40 * strategy.items
        return arbiter.cost(asked + _JUDGING, written) + _picking(
            arbiter, asked + n * answer + written + _JUDGING, n
        )
    if strategy.utility == "judge":
        pairs = n * (n - 1) // 2 + n * further
        return sum(
            (_picking(arbiter, asked + 2 * answer + _JUDGING, _GRADES) for _ in range(pairs)),
            Spent(),
        )
    if strategy.utility == "embedding" and (embedder := able(panel, "embed")) is not None:
        return sum((embedder.cost(answer) for _ in range(n + further)), Spent())
    if (
        strategy.select == "best"
        and strategy.reward in REWARDS
        and judged
        and (scorer := able(panel, "score")) is not None
    ):
        return sum((scorer.cost(scorer.tokens(request), answer) for _ in range(n)), Spent())
    return Spent()


def _picking(arbiter: ChatModel, prompt: int, options: int) -> Spent:
    """What it costs to pick one of several short options."""
    if "score" not in arbiter.abilities:
        return arbiter.cost(prompt, _PICK)
    return sum((arbiter.cost(prompt, _PICK) for _ in range(options)), Spent())
