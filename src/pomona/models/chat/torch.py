"""Hugging Face checkpoints that answer messages: one worker thread batches what is asked at the same time."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from pomona.models._embed import embed
from pomona.models._load import load, locate
from pomona.models._torch import TorchModel
from pomona.models.chat._batch import run_batch, score
from pomona.models.chat._check import check
from pomona.models.chat._cost import Meter
from pomona.models.chat._identity import fingerprint
from pomona.models.chat._job import Job
from pomona.models.chat._template import Template
from pomona.models.chat.errors import ModelError, too_long
from pomona.models.chat.protocol import Ability, Reply, Request

Result = TypeVar("Result")


class TorchChat:
    """A checkpoint with its tokenizer's chat template. Without one the last user message alone is the prompt, as `ui-*` need it.

    Sampling is that of `pomona.models.load`: a sample depends on seed, prompt text, index and temperature, up to rounding. Requests that
    arrive while others run are answered together afterwards. `extra` is not read: this model knows no further parameters.
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
        self.identity = f"torch:{fingerprint(folder)}:{dtype or model.network.dtype}".replace("torch.", "")
        self._template = Template(model.codec)
        tools: frozenset[Ability] = frozenset({"tools"} if self._template.tools else ())
        self.abilities: frozenset[Ability] = frozenset[Ability]({"score", "embed", "options"}) | tools
        self._meter = Meter(model.shape, price)
        self._jobs: queue.SimpleQueue[Job | Callable[[], None] | None] = queue.SimpleQueue()
        self._closed = False
        self._worker = threading.Thread(target=self._work, args=(threads,), name=f"pomona {uri}", daemon=True)
        self._worker.start()

    async def reply(self, request: Request, samples: Sequence[tuple[int, float]]) -> list[Reply]:
        """See the protocol."""
        if not samples:
            return []
        job = self._job(request, samples, None)
        return await self._wait(job)

    async def stream(self, request: Request) -> AsyncIterator[str | Reply]:
        """See the protocol."""
        pieces: asyncio.Queue[str | None] = asyncio.Queue()
        job = self._job(request, [(0, request.temperature)], pieces.put_nowait)
        job.future.add_done_callback(lambda _: pieces.put_nowait(None))
        try:
            while (piece := await pieces.get()) is not None:
                yield piece
            yield (await job.future)[0]
        finally:
            job.cancelled = True

    async def score(self, request: Request, completions: Sequence[str]) -> list[NDArray[np.float32]]:
        """See the protocol."""
        _, ids = self._template.encode(request)
        return await self._run(partial(score, self.model, ids, list(completions)))

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See the protocol: the mean of the last hidden states, over its length."""
        if not texts:
            return np.zeros((0, self.model.shape.hidden), np.float32)
        vectors = await self._run(partial(embed, self.model, list(texts)))
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)

    async def close(self) -> None:
        """Let the worker finish what it has, then end it."""
        if not self._closed:
            self._closed = True
            self._jobs.put(None)
            await asyncio.to_thread(self._worker.join)

    def _job(self, request: Request, samples: Sequence[tuple[int, float]], told: Callable[[str], None] | None) -> Job:
        if self._closed:
            raise ModelError("is closed", status=502, where=self.name)
        check(request, samples)
        prompt, ids = self._template.encode(request)
        context = self.model._context
        if context is not None and len(ids) + 1 > context:
            raise too_long(len(ids), context, self.name)
        loop = asyncio.get_running_loop()
        job = Job(request, prompt, ids, tuple(samples), loop.create_future(), loop)
        if told is not None:
            job.told = lambda piece: job.tell(partial(told, piece))
        self._jobs.put(job)
        return job

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
                else:
                    item()
            self._answer(batch)

    def _answer(self, jobs: Sequence[Job]) -> None:
        """Every job gets its replies or its error; a batch that fails as a whole is tried job by job."""
        groups: dict[object, list[Job]] = {}
        for job in jobs:
            if not job.cancelled:
                key = (job.request.top_p, job.request.min_p, id(job) if job.request.options else None)
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
