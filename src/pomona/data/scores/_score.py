"""`score`: rows in, the same rows with score columns out, resumable."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pomona.data.card import Card, Input, inputs_of
from pomona.data.scores._assemble import Extended, columns_of, summary
from pomona.data.scores._input import Layout, Rows, chunks, survey
from pomona.data.scores._job import Job
from pomona.data.scores._passes import model_pass, settle, text_pass
from pomona.data.scores._registry import Chosen, Context, choose
from pomona.data.scores._work import Work
from pomona.errors import PomonaError
from pomona.records import Records, read
from pomona.records._records import as_records
from pomona.records._store import format_of, is_remote

Floats = NDArray[np.float64]
Progress = Callable[[int, int], None]


def score(
    inputs: str | Path | Sequence[str | Path] | Records | pa.Table,
    out: str | Path,
    *,
    scores: Sequence[str] = ("perplexity",),
    models: Sequence[str] = ("ui-s",),
    column: str = "text",
    prompt: str | None = None,
    completion: str | None = None,
    lang: str = "lang",
    group: str | None = None,
    packed: bool = False,
    context: int | None = None,
    memorize: tuple[int, int] = (32, 32),
    length_bins: int | None = None,
    device: str | None = None,
    dtype: str = "float32",
    memory: int | None = None,
    seed: int = 0,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Card:
    """Write every row of `inputs` to `out` with a float64 column for each score, and the card beside it.

    A row's text is `column`; or, with `prompt` and `completion` (columns or templates such as `"<|{lang}|>{english}<|to|>"`), the
    completion with its end token given the prompt. `models` are URIs of `pomona.models.load`, checkpoints from early to late.
    A text longer than `context` (default: the model's) is scored in windows without overlap, each token once. `packed` instead
    scores full contexts of texts end to end, and a row gets the token-weighted mean of its contexts; packing starts anew every 1,024
    rows or 4 MiB. What a row is too short for is null (and counted in the card).

    scores: `perplexity` = exp(mean -ln p) and `memorization` (the share of `memorize[1]` tokens that greedy generation from the
        `memorize[0]` tokens before repeats; of a pair the completion's first tokens, from the prompt): a column `NAME@MODEL` each
        where several models are given. `el2n`: mean ‖p - onehot‖₂, over tokens and models. (Marion et al. 2023, §3)
        `cat_var`, `cat_diff`: variance, and first less last, of perplexity over models (Chimoto et al. 2024); with `length_bins`
        their rank among rows of like length. `vog`: variance of gradients over models (Agarwal et al. 2022), with `group` as
        z-scores within it. `length` in tokens of the first model, or in characters with `models=()`; `mtld` of the words;
        `language`: confidence that the text is in the row's `lang`; and any score of the entry-point group `pomona.scores`.
    device, dtype, memory: as for `pomona.models.load`; results depend on batches by rounding alone (1e-4 of a log-probability in float32).
    seed: handed to users' scores; the built-in ones draw nothing.

    Chunks that are done stay in `OUT.work/` until the result is whole: the same call goes on after a kill.

    Raises:
        PomonaError: an unknown score or model, a missing column, a null or an empty text (naming the row), a column that is there already,
            a loss that is not finite, another scoring begun beside `out`.
        GateFailed: the disk is full.
    """
    options = {"packed": packed, "context": context, "memorize": list(memorize), "length_bins": length_bins, "dtype": dtype, "seed": seed}
    layout = Layout(column, prompt, completion, lang if "language" in scores else None, group)
    job = _prepare(inputs, out, layout, choose(scores, tuple(models)), tuple(models), options)
    machine = {"device": device, "memory": memory}
    if dry_run:
        return _card(job, inputs, {}, _counts(_run(job, None, machine, progress)))
    work = Work(Path(out), job.plan())
    for _ in _run(job, work, machine, progress):
        pass
    columns = columns_of(job, work)
    card = _card(job, inputs, columns, _counts(_kept(job, work)))
    Records._of(Extended(job.records, columns)).write(out)
    card.write(out)
    work.remove()
    return card


def _prepare(inputs: Any, out: str | Path, layout: Layout, chosen: Chosen, models: tuple[str, ...], options: dict[str, Any]) -> Job:
    if is_remote(str(out)):
        raise PomonaError("scores are written to local files", where=out, remedy="write beside the work folder, then copy")
    format_of(str(out))
    if len(set(models)) < len(models):
        raise PomonaError("a model is named twice", where="models", remedy="name each checkpoint once")
    if options["packed"] and (layout.completion is not None or "vog" in chosen.names):
        raise PomonaError("packed goes with a text column and not with vog", remedy="leave packed out, or give column alone")
    records = as_records(inputs) if isinstance(inputs, Records | pa.Table) else read(inputs)
    source = records._source.where if isinstance(inputs, Records | pa.Table | str | Path) else str(inputs[0]) + " …"
    names = tuple(Path(uri).name for uri in models)
    labels = names if len(set(names)) == len(names) else models
    for name in chosen.columns(labels):
        if name in records.column_names:
            raise PomonaError(f'there is a column "{name}" already', where=source, remedy="drop it, or rename it")
    return Job(records, source, layout, chosen, models, labels, options, survey(records, layout, source))


def _run(job: Job, work: Work | None, machine: dict[str, Any], progress: Progress | None) -> Iterator[tuple[str, pa.Table]]:
    """Every pass over every chunk that is not in `work` yet; without `work` only what can be counted, model by model."""
    total, done = job.found.rows * len(job.passes), 0
    for step, uri in job.passes.items():
        look: Callable[[Rows], pa.Table] | None = None
        for index, rows in enumerate(chunks(job.records, job.layout, job.source)):
            if work is None or not work.has(step, index):
                look = look or _looker(job, uri, machine, work is None)
                table = look(rows)
                if work is not None:
                    work.save(step, index, table)
                yield step, table
            done += len(rows)
            if progress is not None:
                progress(done, total)


def _looker(job: Job, uri: str | None, machine: dict[str, Any], dry: bool) -> Callable[[Rows], pa.Table]:
    if uri is None:
        load = functools.cache(functools.partial(_load, job, machine))
        seed: int = job.options["seed"]
        blank = pa.table({})
        return lambda rows: (
            blank if dry else text_pass(rows, job.chosen, lambda rows: Context(job.models, rows.langs, rows.groups, seed, load))
        )
    from pomona.models._probe import Probe

    probe = Probe(_load(job, machine, uri))
    options, wanted = job.options, job.chosen.of_models
    settings = settle(probe, wanted, options["context"], options["packed"], tuple(options["memorize"]))
    return lambda rows: model_pass(probe, rows, wanted, settings, dry=dry)


def _load(job: Job, machine: dict[str, Any], uri: str) -> Any:
    from pomona.models import load

    return load(uri, dtype=job.options["dtype"], **machine)


def _kept(job: Job, work: Work) -> Iterator[tuple[str, pa.Table]]:
    for step in job.passes:
        for index in range(len(job.found.chunks)):
            yield step, work.load(step, index)


def _counts(tables: Iterator[tuple[str, pa.Table]]) -> dict[str, dict[str, float]]:
    """Tokens and floating-point operations of each model pass."""
    counts: dict[str, dict[str, float]] = {}
    for step, table in tables:
        if "flops" in table.column_names:
            found = counts.setdefault(step, {"tokens": 0, "flops": 0.0})
            found["tokens"] += int(table["tokens"].to_numpy().sum())
            found["flops"] += float(table["flops"].to_numpy().sum())
    return counts


def _card(job: Job, inputs: Any, columns: dict[str, Floats], counts: dict[str, dict[str, float]]) -> Card:
    if isinstance(inputs, Records | pa.Table):
        read_from: tuple[Input, ...] = (Input(job.source, job.found.rows, job.found.digest),)
    else:
        paths = [inputs] if isinstance(inputs, str | Path) else list(inputs)
        read_from = inputs_of((path, job.found.rows if len(paths) == 1 else read(path).count()) for path in paths)
    parameters = {key: value for key, value in job.plan().items() if key not in ("rows", "chunks", "sha256", "version")}
    if job.layout.completion is not None:
        parameters["column"] = None
    details = {
        "columns": {name: summary(values) for name, values in columns.items()},
        "models": {uri: counts[step] for step, uri in job.passes.items() if uri is not None},
    }
    groups = {name: (count, count) for name, count in job.found.groups.items()}
    rows = job.found.rows
    return Card("score", parameters, read_from, rows, rows, groups=groups, details=details)
