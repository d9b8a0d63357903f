"""From rows and wishes to a checked job, and its passes over all chunks that are not done yet. A
process loads a model once for all its chunks.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pyarrow as pa

from pomona.data.scores.job import ChunkRows, Layout, ScoringJob, Work, chunks, survey
from pomona.data.scores.passes import model_pass, settle, text_pass
from pomona.data.scores.registry import Chosen, ScoreContext, choose
from pomona.errors import PomonaError
from pomona.records import Input, Records, as_records, format_of, inputs_of, is_remote, read, spread


@dataclass(frozen=True)
class ScorePass:
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
    def of(cls, job: ScoringJob, uri: str | None, machine: dict[str, Any], *, dry: bool) -> Self:
        """A pass of `job` on this machine, or one like it."""
        asked = {name: job.options[name] for name in ("chat", "packed", "context", "dtype", "seed")}
        memorize = (job.options["memorize"][0], job.options["memorize"][1])
        return cls(
            uri, job.chosen.names, job.models, memorize=memorize, dry=dry, **asked, **machine
        )

    def load(self, uri: str) -> Any:
        """A model as this pass reads it."""
        from pomona.models import load

        settings = {"dtype": self.dtype, "device": self.device, "memory": self.memory}
        return load(uri, need={"score", "states"}, chat=self.chat, **settings)


@dataclass(frozen=True)
class ChunkPass:
    """A pass and a chunk."""

    score_pass: ScorePass
    rows: ChunkRows


def run_pass(task: ChunkPass) -> pa.Table:
    """The columns of a chunk, as `model_pass` and `text_pass` give them. Raises PomonaError as they
    do.
    """
    if task.score_pass not in _held:
        forget()
        _held[task.score_pass] = _runner(task.score_pass)
    return _held[task.score_pass](task.rows)


def forget() -> None:
    """Let go of the model that this process holds."""
    _held.clear()


_held: dict[ScorePass, Callable[[ChunkRows], pa.Table]] = {}


def _runner(score_pass: ScorePass) -> Callable[[ChunkRows], pa.Table]:
    chosen = choose(score_pass.scores, score_pass.models)
    if score_pass.uri is None:
        load, blank = functools.cache(score_pass.load), pa.table({})
        return lambda rows: (
            blank
            if score_pass.dry
            else text_pass(
                rows,
                chosen,
                lambda rows: ScoreContext(
                    score_pass.models, rows.langs, rows.groups, score_pass.seed, load
                ),
            )
        )
    from pomona.models.torch import Probe

    probe = Probe(score_pass.load(score_pass.uri))
    settings = settle(
        probe, chosen.of_models, score_pass.context, score_pass.packed, score_pass.memorize
    )
    return lambda rows: model_pass(probe, rows, chosen.of_models, settings, dry=score_pass.dry)


Inputs = str | Path | Sequence[str | Path] | Records | pa.Table
Progress = Callable[[int, int], None]


def opened(inputs: Any) -> tuple[Records, str]:
    """The rows and how errors name them."""
    if isinstance(inputs, Records | pa.Table):
        records = as_records(inputs).with_late_types()
        return records, records.source.where
    records = read(inputs).with_late_types()
    return records, records.source.where if isinstance(inputs, str | Path) else f"{inputs[0]} …"


def inputs_read(inputs: Any, source: str, rows: int, digest: str) -> tuple[Input, ...]:
    """The inputs of a card; `digest` is that of what is scored, for rows that are no file."""
    if isinstance(inputs, Records | pa.Table):
        return (Input(source, rows, digest),)
    paths = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    return inputs_of((path, rows if len(paths) == 1 else read(path).count()) for path in paths)


def prepare(
    records: Records,
    source: str,
    out: str | Path,
    layout: Layout,
    chosen: Chosen,
    models: tuple[str, ...],
    options: dict[str, Any],
) -> ScoringJob:
    """A job whose rows are looked at once and whose wishes go together. Raises PomonaError
    otherwise.
    """
    if is_remote(str(out)):
        raise PomonaError(
            "scores are written to local files",
            where=out,
            remedy="write beside the work folder, then copy",
        )
    format_of(str(out))
    if len(set(models)) < len(models):
        raise PomonaError(
            "a model is named twice", where="models", remedy="name each checkpoint once"
        )
    paired = layout.completion is not None or layout.of_chats
    if options["packed"] and (paired or "vog" in chosen.names):
        raise PomonaError(
            "packed goes with a text column and not with vog",
            remedy="leave packed out, or give column alone",
        )
    names = tuple(Path(uri).name for uri in models)
    labels = names if len(set(names)) == len(names) else models
    for name in chosen.columns(labels):
        if name in records.column_names:
            raise PomonaError(
                f'there is a column "{name}" already', where=source, remedy="drop it, or rename it"
            )
    return ScoringJob(
        records, source, layout, chosen, models, labels, options, survey(records, layout, source)
    )


def run(
    job: ScoringJob,
    work: Work | None,
    machine: dict[str, Any],
    engine: str | None,
    progress: Progress | None,
) -> Iterator[tuple[str, pa.Table]]:
    """Every pass over every chunk that is not in `work` yet; without `work` only what can be
    counted, model by model.

    A chunk is a job: batches are the same in every engine.
    """
    sizes, device = job.survey.chunks, machine["device"]
    total, done = sum(sizes) * len(job.passes), 0
    try:
        for step, uri in job.passes.items():
            left = [
                index for index in range(len(sizes)) if work is None or not work.has(step, index)
            ]
            score_pass = ScorePass.of(job, uri, machine, dry=work is None)
            accelerated = uri is not None and (device is None or device.startswith("cuda"))
            tables = spread(
                run_pass, _tasks(job, score_pass, left), engine, accelerated=accelerated
            )
            done += sum(sizes) - sum(sizes[index] for index in left)
            for index, table in zip(left, tables, strict=True):
                if work is not None:
                    work.save(step, index, table)
                yield step, table
                done += sizes[index]
                if progress is not None:
                    progress(done, total)
    finally:
        forget()


def _tasks(job: ScoringJob, score_pass: ScorePass, wanted: Sequence[int]) -> Iterator[ChunkPass]:
    left = set(wanted)
    return (
        (
            ChunkPass(score_pass, rows)
            for index, rows in enumerate(chunks(job.records, job.layout))
            if index in left
        )
        if left
        else iter(())
    )


def kept(job: ScoringJob, work: Work) -> Iterator[tuple[str, pa.Table]]:
    """What every pass found, chunk by chunk, when all are done."""
    for step in job.passes:
        for index in range(len(job.survey.chunks)):
            yield step, work.load(step, index)


def counts_of(
    job: ScoringJob, tables: Iterator[tuple[str, pa.Table]]
) -> dict[str, dict[str, float]]:
    """Tokens and floating-point operations of each model, by its URI."""
    counts: dict[str, dict[str, float]] = {}
    for step, table in tables:
        if "flops" in table.column_names:
            spent = counts.setdefault(step, {"tokens": 0, "flops": 0.0})
            spent["tokens"] += int(table["tokens"].to_numpy().sum())
            spent["flops"] += float(table["flops"].to_numpy().sum())
    return {uri: counts[step] for step, uri in job.passes.items() if uri is not None}
