"""Jobs through a torch network: generated together, or chosen among options by their
probability.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.models._batches import in_batches
from pomona.models._decode import Plan, Row, Settings, Step, decode
from pomona.models._sampling import Cut, row_keys, uniforms
from pomona.models._scoring import Pair, score_batch
from pomona.models._torch import TorchModel
from pomona.models.chat._cost import Meter
from pomona.models.chat._job import Growing, Job
from pomona.models.chat._template import Template, tool_calls
from pomona.models.chat._text import cut
from pomona.models.chat._tokens import Speller, entry, within
from pomona.models.chat.errors import too_long
from pomona.models.chat.protocol import Finish, Reply, Spent, Steer, Token

_Place = tuple[int, int]  # job, sample within it


def run_batch(
    model: TorchModel, template: Template, meter: Meter, name: str, jobs: Sequence[Job]
) -> None:
    """Answer jobs that share top-p, min-p and steering. One with options comes alone."""
    if jobs[0].request.options:
        jobs[0].finish(_choose(model, meter, name, jobs[0]))
        return
    for job in jobs:
        watched = job.request.stop or job.told
        growing = [
            Growing(model.codec.text, job.request.stop, job.told, index) for index, _ in job.samples
        ]
        job.growing = growing if watched else []
    order = sorted(range(len(jobs)), key=lambda at: -len(jobs[at].ids))
    places = [(at, sample) for at in order for sample in range(len(jobs[at].samples))]
    most = max(job.request.max_tokens for job in jobs)
    replies: list[list[Reply]] = [[] for _ in jobs]
    spell = Speller(model.codec.tokenizer)

    def run(batch: Sequence[_Place]) -> list[None]:
        started = time.perf_counter()
        rows = _decode(model, jobs, batch, most, spell)
        share = (time.perf_counter() - started) / len(batch)
        for (at, sample), row in zip(batch, rows, strict=True):
            replies[at].append(_reply(model, meter, name, jobs[at], sample, row, spell, share))
            if len(replies[at]) == len(jobs[at].samples):
                jobs[at].finish(replies[at])
        return [None] * len(batch)

    def size(place: _Place) -> int:
        return model._budget.decoding(len(jobs[place[0]].ids), most, len(jobs[place[0]].samples))

    in_batches(places, size, run, _unreported)


def score(
    model: TorchModel,
    meter: Meter,
    prompt: Sequence[int],
    completions: Sequence[str],
    steer: Steer | None,
) -> tuple[list[NDArray[np.float32]], Spent]:
    """Natural-log probability of each token of each completion after the prompt, without an end
    token, and what that cost.
    """
    started = time.perf_counter()
    ids = model.codec.completions(completions, end=False)
    with led(model, steer):
        found = _scored(model, prompt, ids)
    spent = meter.scored(len(prompt), list(map(len, ids)), time.perf_counter() - started)
    return found, _led_cost(spent, steer, sum(map(len, ids)))


@contextmanager
def led(model: TorchModel, steer: Steer | None) -> Iterator[None]:
    """What goes through the model's network meanwhile is steered. Only the thread that uses the
    network may do this.
    """
    if steer is None:
        yield
        return
    head: Any = model.network.get_output_embeddings()
    hook = head.register_forward_hook(lambda _, states, logits: steer(states[0], logits))
    try:
        yield
    finally:
        hook.remove()


def _led_cost(spent: Spent, steer: Steer | None, tokens: int) -> Spent:
    return spent if steer is None else replace(spent, flops=spent.flops + steer.flops * tokens)


def _scored(
    model: TorchModel, prompt: Sequence[int], completions: Sequence[list[int]]
) -> list[NDArray[np.float32]]:
    longest = len(prompt) + max(map(len, completions), default=0)
    if model._context is not None and longest > model._context:
        raise too_long(longest, model._context, model.uri)
    order = sorted(
        (at for at, ids in enumerate(completions) if ids), key=lambda at: -len(completions[at])
    )

    def run(batch: Sequence[int]) -> list[NDArray[np.float32]]:
        pairs: list[Pair] = [(list(prompt), completions[at]) for at in batch]
        with model._arithmetic:
            return score_batch(model.network, pairs, model._budget.window())

    def size(at: int) -> int:
        return model._budget.scoring(len(prompt) + len(completions[at]), len(completions[at]))

    scores = [np.zeros(0, np.float32) for _ in completions]
    for at, found in zip(order, in_batches(order, size, run, _unreported), strict=True):
        scores[at] = found
    return scores


def _unreported(done: int, total: int) -> None:
    """Nobody follows the batches of a job."""


def _decode(
    model: TorchModel, jobs: Sequence[Job], batch: Sequence[_Place], most: int, spell: Speller
) -> list[Row]:
    first = jobs[batch[0][0]].request
    used = {at: place for place, at in enumerate(dict.fromkeys(at for at, _ in batch))}
    plan = Plan(
        prompt=np.array([used[at] for at, _ in batch]),
        key=np.array([_key(jobs[at], sample) for at, sample in batch], np.uint64),
        temperature=np.array([jobs[at].samples[sample][1] for at, sample in batch]),
        limit=np.array([jobs[at].request.max_tokens for at, _ in batch]),
    )
    top = max(jobs[at].request.logprobs or 0 for at in used)
    settings = Settings(
        most, Cut(first.top_p, first.min_p), tuple(model.codec.stops), model._context, top
    )
    stops = set(model.codec.stops)

    def watch(step: Step) -> list[int]:
        ended = []
        for place, (row, token) in enumerate(
            zip(step.rows.tolist(), step.tokens.tolist(), strict=True)
        ):
            at, sample = batch[row]
            job = jobs[at]
            if job.growing and token not in stops:
                told = None
                if (most := job.request.logprobs) is not None:
                    told = _token(
                        spell,
                        most,
                        token,
                        step.logprobs[place],
                        step.top_ids[place],
                        step.top_logprobs[place],
                    )
                if job.growing[sample].add(token, told):
                    ended.append(row)
            if job.cancelled:
                ended.append(row)
        return ended

    with model._arithmetic, led(model, first.steer):
        return decode(model.network, [jobs[at].ids for at in used], plan, settings, watch)


def _key(job: Job, sample: int) -> np.uint64:
    index = job.samples[sample][0]
    return row_keys(job.request.seed, job.prompt, index + 1)[index]


def _token(
    spell: Speller, most: int, token: int, logprob: Any, top_ids: Any, top_logprobs: Any
) -> Token:
    """A token as it is told, with at most so many alternatives."""
    top = zip(top_ids[:most].tolist(), top_logprobs[:most].tolist(), strict=True)
    return entry(spell(token), float(logprob), [(spell(other), value) for other, value in top])


def _tokens(spell: Speller, most: int | None, row: Row) -> tuple[Token, ...]:
    if most is None:
        return ()
    steps = zip(row.token_ids.tolist(), row.logprobs, row.top_ids, row.top_logprobs, strict=True)
    return tuple(_token(spell, most, *step) for step in steps)


def _reply(
    model: TorchModel,
    meter: Meter,
    name: str,
    job: Job,
    sample: int,
    row: Row,
    spell: Speller,
    seconds: float,
) -> Reply:
    index, temperature = job.samples[sample]
    text, ended = cut(model.codec.text(row.token_ids), job.request.stop)
    finish: Finish = "stop" if row.stopped or ended else "length"
    tokens = _tokens(spell, job.request.logprobs, row)
    tokens = within(tokens, text) if ended else tokens
    if job.growing:
        job.growing[sample].end(text, tokens)
    calls = ()
    if job.request.tools:
        text, calls = tool_calls(text)
        finish, tokens = ("tool_calls", ()) if calls else (finish, tokens)
    spent = meter.spent(
        context=len(job.ids),
        prompt_tokens=0 if sample else len(job.ids),
        completion_tokens=len(row.token_ids) + row.stopped,
        seconds=seconds,
    )
    spent = _led_cost(spent, job.request.steer, spent.completion_tokens)
    return Reply(
        text,
        finish,
        spent,
        name,
        index,
        temperature,
        float(row.logprobs.sum(dtype=np.float64)),
        calls,
        tokens,
    )


def _choose(model: TorchModel, meter: Meter, name: str, job: Job) -> list[Reply]:
    """One of the options for each sample: the likeliest at temperature 0, else drawn with
    probability p(option, end)^(1/temperature).
    """
    started, spell = time.perf_counter(), Speller(model.codec.tokenizer)
    options = job.request.options
    ids = model.codec.completions(options, end=model.codec.end is not None)
    with led(model, job.request.steer):
        scored = _scored(model, job.ids, ids)
    logs = np.array([found.sum(dtype=np.float64) for found in scored])
    seconds = time.perf_counter() - started
    cost = _led_cost(
        meter.scored(len(job.ids), list(map(len, ids)), seconds),
        job.request.steer,
        sum(map(len, ids)),
    )
    replies = []
    for sample, (index, temperature) in enumerate(job.samples):
        at = _drawn(logs, temperature, _key(job, sample))
        spent = replace(Spent() if sample else cost, seconds=seconds / len(job.samples))
        spelled = (
            zip(ids[at], scored[at].tolist(), strict=True)
            if job.request.logprobs is not None
            else ()
        )
        tokens = tuple(
            entry(spell(token), log) for token, log in spelled if token != model.codec.end
        )
        replies.append(
            Reply(
                options[at], "stop", spent, name, index, temperature, float(logs[at]), tokens=tokens
            )
        )
    return replies


def _drawn(logs: NDArray[np.float64], temperature: float, key: np.uint64) -> int:
    if temperature == 0:
        return int(np.argmax(logs))
    weights = np.exp((logs - logs.max()) / temperature).cumsum()
    uniform = uniforms(np.array([key], np.uint64), 0, 1)[0, 0]
    return int(min(np.searchsorted(weights, uniform * weights[-1], side="right"), len(logs) - 1))
