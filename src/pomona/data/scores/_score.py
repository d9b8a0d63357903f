"""`score`: rows in, the same rows with score columns out, resumable."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pomona.data.scores._assemble import Extended, columns_of, summary
from pomona.data.scores._input import Layout
from pomona.data.scores._job import Job
from pomona.data.scores._registry import choose
from pomona.data.scores._run import (
    Inputs,
    Progress,
    counts_of,
    inputs_read,
    kept,
    opened,
    prepare,
    run,
)
from pomona.data.scores._work import Work
from pomona.records import Card, Records

Floats = NDArray[np.float64]


def score(
    inputs: Inputs,
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
    length_bins: int | None = None,
    chat: bool = False,
    context: int | None = None,
    memorize: tuple[int, int] = (32, 32),
    device: str | None = None,
    dtype: str = "float32",
    memory: int | None = None,
    seed: int = 0,
    engine: str | None = "native",
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Card:
    """Write the rows with a column for each score.

    Write every row of `inputs` to `out` with a float64 column for each score, and the card
    beside it.

    A row's text is `column`; or, with `prompt` and `completion` (columns or templates such as
    `"<|{lang}|>{english}<|to|>"`), the completion with its end token given the prompt; with `chat`
    the prompt is one user message in each model's chat template. `models` are URIs of
    `pomona.models.load`, checkpoints from early to late. A text longer than `context` (default: the
    model's) is scored in windows without overlap, each token once. `packed` instead scores full
    contexts of texts end to end, and a row gets the token-weighted mean of its contexts; packing
    starts anew every 1,024 rows or 4 MiB. What a row is too short for is null (and counted in the
    card).

    scores: `perplexity` = exp(mean -ln p) and `memorization` (the share of `memorize[1]` tokens
        that greedy generation from the `memorize[0]` tokens before repeats; of a pair the
        completion's first tokens, from the prompt): a column `NAME@MODEL` each where several models
        are given. `el2n`: mean ‖p - onehot‖₂, over tokens and models. (Marion et al. 2023, §3)
        `cat_var`, `cat_diff`: variance, and first less last, of perplexity over models (Chimoto et
        al. 2024); with `length_bins` their rank among rows of like length. `vog`: variance of
        gradients over models (Agarwal et al. 2022), with `group` as z-scores within it. `length` in
        tokens of the first model, or in characters with `models=()`; `mtld` of the words;
        `language`: confidence that the text is in the row's `lang`; and any score of the
            entry-point group `pomona.scores`.
    device, dtype, memory: as for `pomona.models.load`; results depend on batches by rounding alone
    (1e-4 of a log-probability in float32).
    seed: handed to users' scores; the built-in ones draw nothing.

    engine: "native", or "ray": a job is a chunk, sent to a worker that keeps the model loaded; the
        GPUs of a cluster get one job each. The batches, and with them the scores, are those of the
        native engine, but for how another processor rounds.

    Chunks that are done stay in `OUT.work/` until the result is whole: the same call goes on after
    a kill, with either engine.

    Args:
        out: File of the scored rows.
        scores: perplexity, el2n, memorization, vog, cat_var, cat_diff, length, mtld,
            language, or a score of another package.
        models: URIs of the models that score; checkpoints from early to late for scores
            over time.
        column: Column of the text.
        prompt: Column or template of the prompt, when examples are pairs.
        completion: Column or template of the completion, whose tokens alone are scored.
        lang: Column of the language, for the score language.
        group: Column within which vog is standardised.
        chat: Prompts become user messages in the model's chat template.
        packed: Score full contexts of texts end to end.
        context: Tokens of a window; the model's when left out.
        length_bins: Rank cat_var and cat_diff among rows of like length, in this many bins.
        device: cpu, cuda, ...
        dtype: float32 or bfloat16.
        seed: Seed.
        dry_run: Only count what there is to do.

    Raises:
        PomonaError: an unknown score or model, a missing column, a null or an empty text (naming
            the row), a column that is there already, a model without a chat template for `chat`, a
            loss that is not finite, another scoring begun beside `out`.
        ResourceError: the disk is full.
    """
    options: dict[str, Any] = {
        "chat": chat,
        "packed": packed,
        "context": context,
        "memorize": list(memorize),
    }
    options |= {"length_bins": length_bins, "dtype": dtype, "seed": seed}
    layout = Layout(column, prompt, completion, lang if "language" in scores else None, group)
    job = prepare(
        *opened(inputs), out, layout, choose(scores, tuple(models)), tuple(models), options
    )
    machine = {"device": device, "memory": memory}
    if dry_run:
        return _card(job, inputs, {}, counts_of(job, run(job, None, machine, engine, progress)))
    work = Work(Path(out), job.plan())
    for _ in run(job, work, machine, engine, progress):
        pass
    columns = columns_of(job, work)
    card = _card(job, inputs, columns, counts_of(job, kept(job, work)))
    Records._of(
        Extended(
            job.records,
            {name: pa.array(values, from_pandas=True) for name, values in columns.items()},
        )
    ).write(out)
    card.write(out)
    work.remove()
    return card


def _card(
    job: Job, inputs: Inputs, columns: dict[str, Floats], counts: dict[str, dict[str, float]]
) -> Card:
    parameters = {
        key: value
        for key, value in job.plan().items()
        if key not in ("rows", "chunks", "sha256", "version")
    }
    if job.layout.completion is not None:
        parameters["column"] = None
    details = {
        "columns": {name: summary(values) for name, values in columns.items()},
        "models": counts,
    }
    groups = {name: (count, count) for name, count in job.found.groups.items()}
    rows = job.found.rows
    read_from = inputs_read(inputs, job.source, rows, job.found.digest)
    return Card("score", parameters, read_from, rows, rows, groups=groups, details=details)
