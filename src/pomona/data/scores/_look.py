"""One job of `score`: a chunk under one model, or its text alone. A process loads a model once for
all its chunks.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import pyarrow as pa

from pomona.data.scores._input import Rows
from pomona.data.scores._job import Job
from pomona.data.scores._passes import model_pass, settle, text_pass
from pomona.data.scores._registry import Context, choose


@dataclass(frozen=True)
class Look:
    """What a pass does with any chunk: `uri` is its model, None for the text alone; `dry` only
    counts.
    """

    uri: str | None
    scores: tuple[str, ...]
    models: tuple[str, ...]
    chat: bool
    packed: bool
    context: int | None
    memorize: tuple[int, int]
    dtype: str
    seed: int
    device: str | None
    memory: int | None
    dry: bool

    @classmethod
    def of(cls, job: Job, uri: str | None, machine: dict[str, Any], *, dry: bool) -> Self:
        """A pass of `job` on this machine, or one like it."""
        asked = {name: job.options[name] for name in ("chat", "packed", "context", "dtype", "seed")}
        memorize = (job.options["memorize"][0], job.options["memorize"][1])
        return cls(
            uri, job.chosen.names, job.models, memorize=memorize, dry=dry, **asked, **machine
        )

    def load(self, uri: str) -> Any:
        """A model as this pass reads it."""
        from pomona.models import load

        return load(uri, dtype=self.dtype, chat=self.chat, device=self.device, memory=self.memory)


@dataclass(frozen=True)
class Task:
    """A pass and a chunk."""

    look: Look
    rows: Rows


def look_at(task: Task) -> pa.Table:
    """The columns of a chunk, as `model_pass` and `text_pass` give them. Raises PomonaError as they
    do.
    """
    if task.look not in _held:
        forget()
        _held[task.look] = _looker(task.look)
    return _held[task.look](task.rows)


def forget() -> None:
    """Let go of the model that this process holds."""
    _held.clear()


_held: dict[Look, Callable[[Rows], pa.Table]] = {}


def _looker(look: Look) -> Callable[[Rows], pa.Table]:
    chosen = choose(look.scores, look.models)
    if look.uri is None:
        load, blank = functools.cache(look.load), pa.table({})
        return lambda rows: (
            blank
            if look.dry
            else text_pass(
                rows,
                chosen,
                lambda rows: Context(look.models, rows.langs, rows.groups, look.seed, load),
            )
        )
    from pomona.models._probe import Probe

    probe = Probe(look.load(look.uri))
    settings = settle(probe, chosen.of_models, look.context, look.packed, look.memorize)
    return lambda rows: model_pass(probe, rows, chosen.of_models, settings, dry=look.dry)
