"""Requests through a network: generated together, or chosen among options by probability."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.errors import reason_of
from pomona.models.model import CostModel
from pomona.models.request import (
    Draw,
    Finish,
    ModelError,
    Reply,
    ReplyPiece,
    Request,
    Spent,
    Steer,
    Token,
    token_entry,
    tokens_within,
    too_long,
)
from pomona.models.schemas import Hold, called, unheld
from pomona.models.torch.batches import in_batches, read_prompt
from pomona.models.torch.codec import Template, TokenDecoder, tool_calls
from pomona.models.torch.decode import (
    Bend,
    DecodedRow,
    DecodeSettings,
    DecodeStep,
    Penalties,
    Plan,
    cut_of,
    decode,
    row_keys,
    uniforms,
)
from pomona.models.torch.held import HeldRow
from pomona.models.torch.native import Growing, NativeModel, cut


@dataclass
class DecodeJob:
    """A request as token ids, the samples wanted of it, and where the answer goes. Only the worker
    touches `growing`. `held` has a row of its grammar for each sample, where there is one.
    """

    request: Request
    prompt: str
    ids: list[int]
    samples: Sequence[Draw]
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop
    on_piece: Callable[[ReplyPiece], None] | None = None
    cancelled: bool = False
    growing: list[Growing] = field(default_factory=list)
    hold: Hold | None = None
    held: Sequence[HeldRow] = ()

    def finish(self, result: object = None, error: BaseException | None = None) -> None:
        """Give the result or the error to whoever waits, unless that is gone."""
        if isinstance(error, StopIteration) or not isinstance(error, Exception | None):
            # No future takes the one, and an event loop ends by others: a library's panic is one.
            error = ModelError(f"failed: {reason_of(error)}", status=500)

        def settle() -> None:
            if not self.future.done():
                if error is not None:
                    self.future.set_exception(error)
                else:
                    self.future.set_result(result)

        self.tell(settle)

    def tell(self, call: Callable[[], None]) -> None:
        """Run `call` in the event loop of whoever waits; a loop that is closed wants nothing any
        more.
        """
        try:
            self.loop.call_soon_threadsafe(call)
        except RuntimeError:
            self.cancelled = True


_Place = tuple[int, int]  # job, sample within it


def run_batch(
    model: NativeModel, template: Template, costs: CostModel, name: str, jobs: Sequence[DecodeJob]
) -> None:
    """Answer jobs that share what is left out. One with options comes alone."""
    if jobs[0].request.options:
        jobs[0].finish(_choose(model, costs, name, jobs[0]))
        return
    for job in jobs:
        watched = job.request.stop or job.on_piece
        growing = [
            Growing(model.codec.text, job.request.stop, job.on_piece, index)
            for index, _ in job.samples
        ]
        job.growing = growing if watched else []
    order = sorted(range(len(jobs)), key=lambda at: -len(jobs[at].ids))
    places = [(at, sample) for at in order for sample in range(len(jobs[at].samples))]
    most = max(job.request.max_tokens for job in jobs)
    replies: list[list[Reply]] = [[] for _ in jobs]
    decoder = TokenDecoder(model.codec.tokenizer)

    def run(batch: Sequence[_Place]) -> list[None]:
        """Answer a batch, and put each reply in its place."""
        started = time.perf_counter()
        rows = _decode(model, jobs, batch, most, decoder)
        share = (time.perf_counter() - started) / len(batch)
        for (at, sample), row in zip(batch, rows, strict=True):
            replies[at].append(_reply(model, costs, name, jobs[at], sample, row, decoder, share))
            if len(replies[at]) == len(jobs[at].samples):
                jobs[at].finish(replies[at], _unheld(jobs[at]))
        return [None] * len(batch)

    def size(place: _Place) -> int:
        return model.budget.decoding(len(jobs[place[0]].ids), most, len(jobs[place[0]].samples))

    in_batches(places, size, run)


def score(
    model: NativeModel,
    costs: CostModel,
    prompt: Sequence[int],
    completions: Sequence[str],
    steer: Steer | None,
    *,
    end: bool = False,
) -> tuple[list[NDArray[np.float32]], Spent]:
    """Natural-log probability of each token of each completion after the prompt, and what that
    cost; with `end` the end token's as the last one.
    """
    started = time.perf_counter()
    ids = model.codec.completions(completions, end=end)
    scored = _scored(model, prompt, ids, steer)
    spent = costs.scored(len(prompt), list(map(len, ids)), time.perf_counter() - started)
    return scored, _steered_cost(spent, steer, sum(map(len, ids)))


def echo(
    model: NativeModel, costs: CostModel, ids: Sequence[int], top: int
) -> tuple[list[Token], Spent]:
    """The tokens of a prompt with their log-probabilities, the first without, and what that cost
    beside reading it for an answer.
    """
    started, decoder = time.perf_counter(), TokenDecoder(model.codec.tokenizer)
    with model.arithmetic:
        own, which, likeliest = read_prompt(model.network, ids, model.budget.window(), top)
    first: Token = {**token_entry(decoder(ids[0]), 0.0), "logprob": None}
    rows = zip(ids[1:], own, which, likeliest, strict=True)
    tokens = [_token(decoder, top, *row) for row in rows]
    spent = costs.scored(1, [len(ids) - 1], time.perf_counter() - started)
    return [first, *tokens], replace(spent, prompt_tokens=0, completion_tokens=0)


def _steered_cost(spent: Spent, steer: Steer | None, tokens: int) -> Spent:
    return spent if steer is None else replace(spent, flops=spent.flops + steer.flops * tokens)


def _scored(
    model: NativeModel,
    prompt: Sequence[int],
    completions: Sequence[list[int]],
    steer: Steer | None,
) -> list[NDArray[np.float32]]:
    longest = len(prompt) + max(map(len, completions), default=0)
    if model.context is not None and longest > model.context:
        raise too_long(longest, model.context, model.uri)
    return model.score_pairs([(prompt, ids) for ids in completions], steer=steer)


def _decode(
    model: NativeModel,
    jobs: Sequence[DecodeJob],
    batch: Sequence[_Place],
    most: int,
    decoder: TokenDecoder,
) -> list[DecodedRow]:
    first = jobs[batch[0][0]].request
    used = {at: place for place, at in enumerate(dict.fromkeys(at for at, _ in batch))}
    plan = Plan(
        prompt=np.array([used[at] for at, _ in batch]),
        key=np.array([_key(jobs[at], sample) for at, sample in batch], np.uint64),
        temperature=np.array([jobs[at].samples[sample][1] for at, sample in batch]),
        limit=np.array([jobs[at].request.max_tokens for at, _ in batch]),
    )
    top = max(jobs[at].request.logprobs or 0 for at in used)
    settings = DecodeSettings(most, cut_of(first), tuple(model.codec.stops), model.context, top)
    stops = set(model.codec.stops)

    def watch(step: DecodeStep) -> list[int]:
        ended = []
        for place, (row, token) in enumerate(
            zip(step.rows.tolist(), step.tokens.tolist(), strict=True)
        ):
            at, sample = batch[row]
            job = jobs[at]
            if job.growing and token not in stops:
                shown = None
                if (most := job.request.logprobs) is not None:
                    shown = _token(
                        decoder,
                        most,
                        token,
                        step.logprobs[place],
                        step.top_ids[place],
                        step.top_logprobs[place],
                    )
                if job.growing[sample].add(token, shown):
                    ended.append(row)
            if job.cancelled or (job.held and job.held[sample].failed):
                ended.append(row)
        return ended

    with model.arithmetic:
        ids, steers = [jobs[at].ids for at in used], [jobs[at].request.steer for at in used]
        bends = [_bend(jobs[at], sample) for at, sample in batch]
        return decode(model.network, ids, plan, settings, watch, steers, bends)


def _bend(job: DecodeJob, sample: int) -> Bend | None:
    held = job.held[sample] if job.held else None
    if job.request.penalised or job.request.logit_bias:
        return Penalties(job.request, job.ids, held)
    return held


def _unheld(job: DecodeJob) -> ModelError | None:
    """The error of a request of which a sample could not follow its grammar to an end."""
    reason = next((row.failed for row in job.held if row.failed), None)
    return None if reason is None else unheld(reason.partition("\n")[0][:200])


def _key(job: DecodeJob, sample: int) -> np.uint64:
    index = job.samples[sample][0]
    return row_keys(job.request.seed, job.prompt, index + 1)[index]


def _token(
    decoder: TokenDecoder, most: int, token: int, logprob: Any, top_ids: Any, top_logprobs: Any
) -> Token:
    """A token as it is told, with at most so many alternatives."""
    top = zip(top_ids[:most].tolist(), top_logprobs[:most].tolist(), strict=True)
    return token_entry(
        decoder(token), float(logprob), [(decoder(other), value) for other, value in top]
    )


def _tokens(decoder: TokenDecoder, most: int | None, row: DecodedRow) -> tuple[Token, ...]:
    if most is None:
        return ()
    steps = zip(row.token_ids.tolist(), row.logprobs, row.top_ids, row.top_logprobs, strict=True)
    return tuple(_token(decoder, most, *step) for step in steps)


def _reply(
    model: NativeModel,
    costs: CostModel,
    name: str,
    job: DecodeJob,
    sample: int,
    row: DecodedRow,
    decoder: TokenDecoder,
    seconds: float,
) -> Reply:
    index, temperature = job.samples[sample]
    text, ended = cut(model.codec.text(row.token_ids), job.request.stop)
    whole = row.stopped and not (job.held and job.held[sample].shortened)
    finish: Finish = "stop" if whole or ended else "length"
    tokens = _tokens(decoder, job.request.logprobs, row)
    tokens = tokens_within(tokens, text) if ended else tokens
    if job.growing:
        job.growing[sample].end(text, tokens)
    calls = ()
    if job.request.must_call:
        calls, text, tokens = called(text), "", ()
        finish = "tool_calls" if calls and finish == "stop" else finish
    elif job.request.tools:
        text, calls = tool_calls(text)
        finish, tokens = ("tool_calls", ()) if calls else (finish, tokens)
    spent = costs.spent(
        context=len(job.ids),
        prompt_tokens=0 if sample else len(job.ids),
        completion_tokens=len(row.token_ids) + row.stopped,
        seconds=seconds,
    )
    spent = _steered_cost(spent, job.request.steer, spent.completion_tokens)
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


def _choose(model: NativeModel, costs: CostModel, name: str, job: DecodeJob) -> list[Reply]:
    """One of the options for each sample: the likeliest at temperature 0, else drawn with
    probability p(option, end)^(1/temperature).
    """
    started, decoder = time.perf_counter(), TokenDecoder(model.codec.tokenizer)
    options = job.request.options
    ids = model.codec.completions(options, end=model.codec.end is not None)
    scored = _scored(model, job.ids, ids, job.request.steer)
    logs = np.array([option.sum(dtype=np.float64) for option in scored])
    seconds = time.perf_counter() - started
    cost = _steered_cost(
        costs.scored(len(job.ids), list(map(len, ids)), seconds),
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
            token_entry(decoder(token), log) for token, log in spelled if token != model.codec.end
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
