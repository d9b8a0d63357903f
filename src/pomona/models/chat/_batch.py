"""Jobs through a torch network: generated together, or chosen among options by their probability."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pomona.models._batches import in_batches
from pomona.models._decode import Plan, Row, Settings, decode
from pomona.models._sampling import Cut, row_keys, uniforms
from pomona.models._scoring import Pair, score_batch
from pomona.models._torch import TorchModel
from pomona.models.chat._cost import Meter
from pomona.models.chat._job import Growing, Job
from pomona.models.chat._template import Template, tool_calls
from pomona.models.chat._text import cut
from pomona.models.chat.errors import too_long
from pomona.models.chat.protocol import Finish, Reply

_Place = tuple[int, int]  # job, sample within it


def run_batch(model: TorchModel, template: Template, meter: Meter, name: str, jobs: Sequence[Job]) -> None:
    """Answer jobs that share top-p and min-p. One with options comes alone."""
    if jobs[0].request.options:
        jobs[0].finish(_choose(model, meter, name, jobs[0]))
        return
    for job in jobs:
        watched = job.request.stop or job.told
        job.growing = [Growing(model.codec.text, job.request.stop, job.told) for _ in job.samples] if watched else []
    order = sorted(range(len(jobs)), key=lambda at: -len(jobs[at].ids))
    places = [(at, sample) for at in order for sample in range(len(jobs[at].samples))]
    most = max(job.request.max_tokens for job in jobs)
    replies: list[list[Reply]] = [[] for _ in jobs]

    def run(batch: Sequence[_Place]) -> list[None]:
        started = time.perf_counter()
        rows = _decode(model, jobs, batch, most)
        share = (time.perf_counter() - started) / len(batch)
        for (at, sample), row in zip(batch, rows, strict=True):
            replies[at].append(_reply(model, meter, name, jobs[at], sample, row, share))
            if len(replies[at]) == len(jobs[at].samples):
                jobs[at].finish(replies[at])
        return [None] * len(batch)

    def size(place: _Place) -> int:
        return model._budget.decoding(len(jobs[place[0]].ids), most, len(jobs[place[0]].samples))

    in_batches(places, size, run, _unreported)


def score(model: TorchModel, prompt: Sequence[int], completions: Sequence[str]) -> list[NDArray[np.float32]]:
    """Natural-log probability of each token of each completion after the prompt, without an end token."""
    return _scored(model, prompt, model.codec.completions(completions, end=False))


def _scored(model: TorchModel, prompt: Sequence[int], completions: Sequence[list[int]]) -> list[NDArray[np.float32]]:
    longest = len(prompt) + max(map(len, completions), default=0)
    if model._context is not None and longest > model._context:
        raise too_long(longest, model._context, model.uri)
    order = sorted((at for at, ids in enumerate(completions) if ids), key=lambda at: -len(completions[at]))

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


def _decode(model: TorchModel, jobs: Sequence[Job], batch: Sequence[_Place], most: int) -> list[Row]:
    first = jobs[batch[0][0]].request
    used = {at: place for place, at in enumerate(dict.fromkeys(at for at, _ in batch))}
    plan = Plan(
        prompt=np.array([used[at] for at, _ in batch]),
        key=np.array([_key(jobs[at], sample) for at, sample in batch], np.uint64),
        temperature=np.array([jobs[at].samples[sample][1] for at, sample in batch]),
        limit=np.array([jobs[at].request.max_tokens for at, _ in batch]),
    )
    settings = Settings(most, Cut(first.top_p, first.min_p), tuple(model.codec.stops), model._context)
    stops = set(model.codec.stops)

    def watch(step: int, live: np.ndarray, tokens: np.ndarray) -> list[int]:
        ended = []
        for row, token in zip(live.tolist(), tokens.tolist(), strict=True):
            at, sample = batch[row]
            job = jobs[at]
            if job.cancelled or (job.growing and token not in stops and job.growing[sample].add(token)):
                ended.append(row)
        return ended

    with model._arithmetic:
        return decode(model.network, [jobs[at].ids for at in used], plan, settings, watch)


def _key(job: Job, sample: int) -> np.uint64:
    index = job.samples[sample][0]
    return row_keys(job.request.seed, job.prompt, index + 1)[index]


def _reply(model: TorchModel, meter: Meter, name: str, job: Job, sample: int, row: Row, seconds: float) -> Reply:
    index, temperature = job.samples[sample]
    text, ended = cut(model.codec.text(row.token_ids), job.request.stop)
    finish: Finish = "stop" if row.stopped or ended else "length"
    if job.growing:
        job.growing[sample].end(text)
    calls = ()
    if job.request.tools:
        text, calls = tool_calls(text)
        finish = "tool_calls" if calls else finish
    spent = meter.spent(
        context=len(job.ids),
        prompt_tokens=0 if sample else len(job.ids),
        completion_tokens=len(row.token_ids) + row.stopped,
        seconds=seconds,
    )
    return Reply(text, finish, spent, name, index, temperature, float(row.logprobs.sum(dtype=np.float64)), calls)


def _choose(model: TorchModel, meter: Meter, name: str, job: Job) -> list[Reply]:
    """One of the options for each sample: the likeliest at temperature 0, else drawn with probability p(option, end)^(1/temperature)."""
    started = time.perf_counter()
    options = job.request.options
    ids = model.codec.completions(options, end=model.codec.end is not None)
    logs = np.array([found.sum(dtype=np.float64) for found in _scored(model, job.ids, ids)])
    seconds = time.perf_counter() - started
    replies = []
    for sample, (index, temperature) in enumerate(job.samples):
        at = _drawn(logs, temperature, _key(job, sample))
        spent = meter.spent(
            context=len(job.ids),
            prompt_tokens=0 if sample else len(job.ids),
            completion_tokens=0 if sample else sum(map(len, ids)),
            seconds=seconds / len(job.samples),
        )
        replies.append(Reply(options[at], "stop", spent, name, index, temperature, float(logs[at])))
    return replies


def _drawn(logs: NDArray[np.float64], temperature: float, key: np.uint64) -> int:
    if temperature == 0:
        return int(np.argmax(logs))
    weights = np.exp((logs - logs.max()) / temperature).cumsum()
    uniform = uniforms(np.array([key], np.uint64), 0, 1)[0, 0]
    return int(min(np.searchsorted(weights, uniform * weights[-1], side="right"), len(logs) - 1))
