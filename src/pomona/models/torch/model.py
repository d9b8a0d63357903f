"""Hugging Face checkpoints that answer messages: one worker thread batches what is asked at the
same time.
"""

from __future__ import annotations

import asyncio
import queue
import secrets
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from pomona.errors import PomonaError
from pomona.models.checkpoint import fingerprint
from pomona.models.model import Ability, CostModel
from pomona.models.request import (
    Ask,
    Draw,
    ModelError,
    Reply,
    ReplyPiece,
    Request,
    Spent,
    Token,
    check,
    check_ids,
    prompt_tokens,
    too_long,
    wrong_request,
)
from pomona.models.schemas import Hold, described, hold_of, unfollowed
from pomona.models.torch.answering import DecodeJob, echo, run_batch, score
from pomona.models.torch.codec import Template
from pomona.models.torch.decode import cut_of
from pomona.models.torch.held import Grammars, constrains
from pomona.models.torch.native import NativeModel, mean_states

Result = TypeVar("Result")
_LONG = 4096  # tokens of a prompt, about, that take longer than ten milliseconds to count
_ABILITIES: frozenset[Ability] = frozenset(
    {"generate", "score", "embed", "options", "states", "train", "prefix"}
)


class TorchModel(NativeModel):
    """A checkpoint with its tokenizer's chat template. Without one the last user message alone is
    the prompt, as `ui-*` need it.

    Requests that arrive while others run are answered together afterwards; those of one call of
    `together` by themselves, so that they come out equal to the bit whenever it is repeated. All of
    them run in one thread of their own, which starts with the first; the blocking methods run in
    the thread that calls, so use one kind at a time. `extra` is not read: this model knows no
    further parameters.
    """

    local = True

    def __init__(
        self,
        uri: str,
        folder: Path,
        *,
        threads: int = 1,
        price: tuple[float, float] | None = None,
        **settings: Any,
    ) -> None:
        """`settings` are those of `NativeModel`."""
        super().__init__(uri, folder, **settings)
        self._folder, self._threads = folder, threads
        self._dtype = str(settings.get("dtype") or self.network.dtype).removeprefix("torch.")
        self._template = Template(self.codec)
        self.chat_template = self._template.chat
        tools: frozenset[Ability] = frozenset({"tools"} if self._template.tools else ())
        schema: frozenset[Ability] = frozenset({"schema"} if constrains(self.codec) else ())
        self.abilities = _ABILITIES | tools | schema
        self._grammars = Grammars(self.codec, self.shape.vocabulary)
        self._costs = CostModel(self.shape, price)
        self._jobs: queue.SimpleQueue[DecodeJob | list[DecodeJob] | Callable[[], None] | None] = (
            queue.SimpleQueue()
        )
        self._closed = False

    @cached_property
    def identity(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """By the content of the checkpoint: reading it takes as long as loading, so it is read when
        asked for.
        """
        return f"torch:{fingerprint(self._folder)}:{self._dtype}"

    def replace(self, tensors: Iterable[tuple[str, NDArray[Any]]]) -> None:
        """Put other weights of the same names and shapes into the network."""
        # Other weights than the folder's: nothing kept under its identity is theirs.
        name = f"torch:replaced:{secrets.token_hex(8)}"
        self.identity = name  # pyright: ignore[reportIncompatibleVariableOverride]
        super().replace(tensors)

    @cached_property
    def _worker(self) -> threading.Thread:
        worker = threading.Thread(target=self._work, name=f"pomona {self.uri}", daemon=True)
        worker.start()
        return worker

    def _put(self, work: DecodeJob | list[DecodeJob] | Callable[[], None]) -> None:
        self._jobs.put(work)
        _ = self._worker

    async def reply(self, request: Request, samples: Sequence[Draw]) -> list[Reply]:
        """See `Model`."""
        if not samples:
            return []
        job = await self._job(request, samples, None)
        self._put(job)
        return await self._kept(request, job)

    async def together(self, asks: Sequence[Ask]) -> list[list[Reply] | BaseException]:
        """See `Model`."""
        jobs_or_errors: list[Any] = [await self._job_or_error(*each) for each in asks]
        jobs = [job for job in jobs_or_errors if isinstance(job, DecodeJob)]
        self._put(jobs)
        kept = (
            self._kept(request, job)
            for (request, _), job in zip(asks, jobs_or_errors, strict=True)
            if isinstance(job, DecodeJob)
        )
        replies = iter(await asyncio.gather(*kept, return_exceptions=True))
        return [next(replies) if isinstance(each, DecodeJob) else each for each in jobs_or_errors]

    async def stream(
        self, request: Request, samples: Sequence[Draw]
    ) -> AsyncGenerator[ReplyPiece | Reply, None]:
        """See `Model`; with tools a sample comes in one piece."""
        if request.tools:
            async with aclosing(super().stream(request, samples)) as coming:
                async for item in coming:
                    yield item
            return
        pieces: asyncio.Queue[ReplyPiece | None] = asyncio.Queue()
        job = await self._job(request, samples, pieces.put_nowait)
        self._put(job)
        job.future.add_done_callback(lambda _: pieces.put_nowait(None))
        try:
            while (piece := await pieces.get()) is not None:
                yield piece
            for reply in await job.future:
                if job.hold is not None and not job.hold.kept(reply, narrow=True):
                    raise unfollowed(self.name)
                yield reply
        finally:
            job.cancelled = True

    async def logprobs(
        self, request: Request, completions: Sequence[str], *, end: bool = False
    ) -> tuple[list[NDArray[np.float32]], Spent]:
        """See `Model`."""
        self.check_steer(request.steer)
        _, ids = await self._encoded(request)
        return await self._run(
            partial(score, self, self._costs, ids, list(completions), request.steer, end=end)
        )

    async def echo(self, request: Request) -> tuple[list[Token], Spent]:
        """See `Model`."""
        _, ids = await self._encoded(request)
        if self.context is not None and len(ids) > self.context:
            raise too_long(len(ids), self.context, self.name)
        top = min(request.logprobs or 0, self.shape.vocabulary)
        return await self._run(partial(echo, self, self._costs, ids, top))

    async def vectors(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], Spent]:
        """See `Model`: the mean of the last hidden states, over its length."""
        if not texts:
            return np.zeros((0, self.shape.hidden), np.float32), Spent()
        started = time.perf_counter()

        def work() -> tuple[NDArray[np.float32], list[int]]:
            return mean_states(self, list(texts)), list(map(len, self.codec.plain(texts)))

        vectors, tokens = await self._run(work)
        spent = self._costs.embedded(tokens, time.perf_counter() - started)
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12), spent

    async def spell(self, ids: Sequence[int]) -> str:
        """See `Model`."""
        check_ids(ids, self.shape.vocabulary)
        return await asyncio.to_thread(self.codec.spell, ids)

    def tokens(self, request: Request) -> int:
        """See `Model`."""
        try:
            return len(self._template.encode(request)[1])
        except ModelError:  # whoever asks the model itself will hear it
            return prompt_tokens(request)

    def cost(self, prompt: int, answer: int = 0, samples: int = 1) -> Spent:
        """See `Model`."""
        return self._costs.pool(prompt, answer, samples)

    async def close(self) -> None:
        """Let the worker finish what it has, then end it."""
        if not self._closed:
            self._closed = True
            self._jobs.put(None)
            if "_worker" in vars(self):  # it starts with the first request
                await asyncio.to_thread(self._worker.join)

    async def _encoded(self, request: Request) -> tuple[str, list[int]]:
        """The prompt as text and as token ids. A long one takes seconds, in which others go on."""
        if prompt_tokens(request) > _LONG:
            return await asyncio.to_thread(self._template.encode, request)
        return self._template.encode(request)

    async def _job(
        self,
        request: Request,
        samples: Sequence[Draw],
        on_piece: Callable[[ReplyPiece], None] | None,
        *,
        narrow: bool = False,
    ) -> DecodeJob:
        if self._closed:
            raise ModelError("is closed", status=502, where=self.name)
        check(request, samples)
        check_ids(request.logit_bias, self.shape.vocabulary, "logit_bias")
        self.check_steer(request.steer)
        if request.options and request.logprobs:
            raise wrong_request(
                "options come without alternatives",
                where=self.name,
                remedy="ask for no top_logprobs",
            )
        hold = None
        if request.must_call or request.schema is not None:
            hold = await asyncio.to_thread(self._hold, request)
            request = request if "tools" in self.abilities else described(request)
        prompt, ids = await self._encoded(request)
        context = self.context
        if context is not None and len(ids) + 1 > context:
            raise too_long(len(ids), context, self.name)
        loop = asyncio.get_running_loop()
        job = DecodeJob(request, prompt, ids, tuple(samples), loop.create_future(), loop, hold=hold)
        if on_piece is not None:
            job.on_piece = lambda piece: job.tell(partial(on_piece, piece))
        if hold is not None:
            # What was told in pieces cannot be taken back.
            grammar = hold.narrower if hold.narrower and (narrow or on_piece) else hold.grammar
            room = request.max_tokens if context is None else context - len(ids)
            row = partial(self._grammars.row, grammar, min(request.max_tokens, room))
            job.held = [await asyncio.to_thread(row) for _ in samples]
        return job

    def _hold(self, request: Request) -> Hold | None:
        """What the answers to a request must follow."""
        if "schema" not in self.abilities:
            raise self.without("schema")
        return hold_of(request, self._grammars.check, tagged="tools" in self.abilities)

    async def _kept(self, request: Request, job: DecodeJob) -> list[Reply]:
        """The replies of a job; those that do not fulfil their schema are drawn once more, of what
        surely does.
        """
        replies: list[Reply] = await self._wait(job)
        bad = (
            []
            if job.hold is None
            else [at for at, one in enumerate(replies) if not job.hold.kept(one)]
        )
        if not bad:
            return replies
        again = await self._job(request, [job.samples[at] for at in bad], None, narrow=True)
        self._put([again])
        for at, reply in zip(bad, await self._wait(again), strict=True):
            if again.hold is None or not again.hold.kept(reply, narrow=True):
                raise unfollowed(self.name)
            replies[at] = replace(reply, spent=replies[at].spent + reply.spent)
        return replies

    async def _job_or_error(
        self, request: Request, samples: Sequence[Draw]
    ) -> DecodeJob | PomonaError:
        try:
            return await self._job(request, samples, None)
        except PomonaError as error:
            return error

    async def _wait(self, job: DecodeJob) -> Any:
        try:
            return await job.future
        except asyncio.CancelledError:
            job.cancelled = True
            raise

    async def _run(self, call: Callable[[], Result]) -> Result:
        """`call` in the worker, between batches."""
        if self._closed:
            raise ModelError("is closed", status=502, where=self.name)
        loop = asyncio.get_running_loop()
        job = DecodeJob(Request(), "", [], (), loop.create_future(), loop)

        def work() -> None:
            if job.future.cancelled():
                return
            try:
                job.finish(call())
            except BaseException as error:
                job.finish(error=error)

        self._put(work)
        return await job.future

    def _work(self) -> None:
        """Take what waits, answer it in batches of equal settings, until None comes."""
        torch.set_num_threads(self._threads)
        ended = False
        while not ended:
            batch: list[DecodeJob] = []
            # What came while the last batch ran goes together; lists of `together` by themselves,
            # because what is in a batch changes rounding.
            waiting = [self._jobs.get()]
            while not self._jobs.empty():
                waiting.append(self._jobs.get())
            for item in waiting:
                if item is None:
                    ended = True
                elif isinstance(item, DecodeJob):
                    batch.append(item)
                elif isinstance(item, list):
                    self._answer(item)
                else:
                    item()
            self._answer(batch)

    def _answer(self, jobs: Sequence[DecodeJob]) -> None:
        """Every job gets its replies or its error; a batch that fails as a whole is tried job by
        job.
        """
        groups: dict[object, list[DecodeJob]] = {}
        for job in jobs:
            try:
                alone = id(job) if job.request.options else None
                key = (cut_of(job.request), alone)
                if not job.cancelled:
                    groups.setdefault(key, []).append(job)
            except BaseException as error:
                job.finish(error=error)
        for group in groups.values():
            self._together(group)

    def _together(self, jobs: Sequence[DecodeJob]) -> None:
        try:
            run_batch(self, self._template, self._costs, self.name, jobs)
        except BaseException as error:
            if len(jobs) == 1 or any(job.growing for job in jobs):
                for job in jobs:
                    job.finish(error=error)
                return
            for job in jobs:
                self._together([job])
