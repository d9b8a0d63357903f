"""Hugging Face checkpoints that answer messages: one worker thread batches what is asked at the
same time.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from pomona.errors import PomonaError
from pomona.models._embed import embed
from pomona.models._load import load, locate
from pomona.models._torch import TorchModel
from pomona.models.chat._batch import run_batch, score
from pomona.models.chat._check import check
from pomona.models.chat._cost import Meter
from pomona.models.chat._guess import prompt_tokens
from pomona.models.chat._identity import fingerprint
from pomona.models.chat._job import Job
from pomona.models.chat._template import Template
from pomona.models.chat.errors import ModelError, too_long, wrong_request
from pomona.models.chat.protocol import Ability, Asked, Piece, Reply, Request, Sample, Spent

Result = TypeVar("Result")


class TorchChat:
    """A checkpoint with its tokenizer's chat template. Without one the last user message alone is
    the prompt, as `ui-*` need it.

    Sampling is that of `pomona.models.load`: a sample depends on seed, prompt text, index and
    temperature, up to rounding. Requests that arrive while others run are answered together
    afterwards; those of one call of `together` by themselves, so that they come out equal to the
    bit whenever it is repeated. `extra` is not read: this model knows no further parameters.
    """

    def __init__(
        self,
        uri: str,
        *,
        device: str | None = None,
        dtype: str | None = None,
        threads: int = 1,
        memory: int | None = None,
        price: tuple[float, float] | None = None,
    ) -> None:
        folder = locate(uri)
        model = load(uri, device=device, dtype=dtype, memory=memory)
        assert isinstance(model, TorchModel)
        self.model, self.name = model, uri
        self.identity = f"torch:{fingerprint(folder)}:{dtype or model.network.dtype}".replace(
            "torch.", ""
        )
        self._template = Template(model.codec)
        tools: frozenset[Ability] = frozenset({"tools"} if self._template.tools else ())
        self.abilities: frozenset[Ability] = (
            frozenset[Ability]({"score", "embed", "options"}) | tools
        )
        self._meter = Meter(model.shape, price)
        self._jobs: queue.SimpleQueue[Job | list[Job] | Callable[[], None] | None] = (
            queue.SimpleQueue()
        )
        self._closed = False
        self._worker = threading.Thread(
            target=self._work, args=(threads,), name=f"pomona {uri}", daemon=True
        )
        self._worker.start()

    async def reply(self, request: Request, samples: Sequence[Sample]) -> list[Reply]:
        """See the protocol."""
        if not samples:
            return []
        job = self._job(request, samples, None)
        self._jobs.put(job)
        return await self._wait(job)

    async def together(self, asked: Sequence[Asked]) -> list[list[Reply] | BaseException]:
        """See the protocol."""
        found: list[Any] = [self._job_or_error(*each) for each in asked]
        jobs = [job for job in found if isinstance(job, Job)]
        self._jobs.put(jobs)
        replies = iter(await asyncio.gather(*map(self._wait, jobs), return_exceptions=True))
        return [next(replies) if isinstance(each, Job) else each for each in found]

    async def stream(
        self, request: Request, samples: Sequence[Sample]
    ) -> AsyncIterator[Piece | Reply]:
        """See the protocol."""
        pieces: asyncio.Queue[Piece | None] = asyncio.Queue()
        job = self._job(request, samples, pieces.put_nowait)
        self._jobs.put(job)
        job.future.add_done_callback(lambda _: pieces.put_nowait(None))
        try:
            while (piece := await pieces.get()) is not None:
                yield piece
            for reply in await job.future:
                yield reply
        finally:
            job.cancelled = True

    async def score(
        self, request: Request, completions: Sequence[str]
    ) -> tuple[list[NDArray[np.float32]], Spent]:
        """See the protocol."""
        self._check_steer(request)
        _, ids = self._template.encode(request)
        return await self._run(
            partial(score, self.model, self._meter, ids, list(completions), request.steer)
        )

    async def embed(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], Spent]:
        """See the protocol: the mean of the last hidden states, over its length."""
        if not texts:
            return np.zeros((0, self.model.shape.hidden), np.float32), Spent()
        started = time.perf_counter()
        vectors = await self._run(partial(embed, self.model, list(texts)))
        spent = self._meter.embedded(
            list(map(len, self.model.codec.prompts(list(texts)))), time.perf_counter() - started
        )
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12), spent

    def tokens(self, request: Request) -> int:
        """See the protocol."""
        try:
            return len(self._template.encode(request)[1])
        except ModelError:  # whoever asks the model itself will hear it
            return prompt_tokens(request)

    def cost(self, prompt: int, answer: int = 0, samples: int = 1) -> Spent:
        """See the protocol."""
        return self._meter.pool(prompt, answer, samples)

    async def close(self) -> None:
        """Let the worker finish what it has, then end it."""
        if not self._closed:
            self._closed = True
            self._jobs.put(None)
            await asyncio.to_thread(self._worker.join)

    def _job(
        self, request: Request, samples: Sequence[Sample], told: Callable[[Piece], None] | None
    ) -> Job:
        if self._closed:
            raise ModelError("is closed", status=502, where=self.name)
        check(request, samples)
        self._check_steer(request)
        if request.options and request.logprobs:
            raise wrong_request(
                "options come without alternatives",
                where=self.name,
                remedy="ask for no top_logprobs",
            )
        prompt, ids = self._template.encode(request)
        context = self.model._context
        if context is not None and len(ids) + 1 > context:
            raise too_long(len(ids), context, self.name)
        loop = asyncio.get_running_loop()
        job = Job(request, prompt, ids, tuple(samples), loop.create_future(), loop)
        if told is not None:
            job.told = lambda piece: job.tell(partial(told, piece))
        return job

    def _job_or_error(self, request: Request, samples: Sequence[Sample]) -> Job | PomonaError:
        try:
            return self._job(request, samples, None)
        except PomonaError as error:
            return error

    def _check_steer(self, request: Request) -> None:
        if request.steer is not None and request.steer.model != self.identity:
            raise wrong_request(
                "the datastores are from another model",
                where=self.name,
                remedy="build them with this one",
            )

    async def _wait(self, job: Job) -> Any:
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
        job = Job(Request(), "", [], (), loop.create_future(), loop)

        def work() -> None:
            if job.future.cancelled():
                return
            try:
                job.finish(call())
            except Exception as error:
                job.finish(error=error)

        self._jobs.put(work)
        return await job.future

    def _work(self, threads: int) -> None:
        """Take what waits, answer it in batches of equal settings, until None comes."""
        torch.set_num_threads(threads)
        ended = False
        while not ended:
            batch: list[Job] = []
            waiting = [self._jobs.get()]
            while not self._jobs.empty():
                waiting.append(self._jobs.get())
            for item in waiting:
                if item is None:
                    ended = True
                elif isinstance(item, Job):
                    batch.append(item)
                elif isinstance(item, list):
                    self._answer(item)
                else:
                    item()
            self._answer(batch)

    def _answer(self, jobs: Sequence[Job]) -> None:
        """Every job gets its replies or its error; a batch that fails as a whole is tried job by
        job.
        """
        groups: dict[object, list[Job]] = {}
        for job in jobs:
            if not job.cancelled:
                steer = job.request.steer.identity if job.request.steer else None
                key = (
                    job.request.top_p,
                    job.request.min_p,
                    steer,
                    id(job) if job.request.options else None,
                )
                groups.setdefault(key, []).append(job)
        for group in groups.values():
            self._together(group)

    def _together(self, jobs: Sequence[Job]) -> None:
        try:
            run_batch(self.model, self._template, self._meter, self.name, jobs)
        except Exception as error:
            if len(jobs) == 1 or any(job.growing for job in jobs):
                for job in jobs:
                    job.finish(error=error)
                return
            for job in jobs:
                self._together([job])
