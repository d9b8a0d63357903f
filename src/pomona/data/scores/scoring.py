"""`score`: rows in, the same rows with score columns out, resumable. What each model saw of a row
becomes the row's scores: over checkpoints, within groups, among rows of like length.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pomona.data.scores.job import TEXT, Layout, ScoringJob, Work, chunks
from pomona.data.scores.registry import choose
from pomona.data.scores.run import (
    Inputs,
    Progress,
    counts_of,
    inputs_read,
    kept,
    opened,
    prepare,
    run,
)
from pomona.data.work import results_of
from pomona.errors import PomonaError
from pomona.models import Model
from pomona.records import Batches, Card, Derived, Filter, Records

Floats = NDArray[np.float64]


def vog(gradients: Sequence[pa.Array]) -> Floats:
    """Variance of gradients, float64 `[n]`: the std over checkpoints of each input token's gradient
    norm, mean over a row's tokens.

    `gradients`: for each checkpoint list<float> `[n]`. Agarwal, D'souza & Hooker 2022, §2, carried
        over to tokens; NaN for a row without.
    Raises PomonaError when the checkpoints have different tokenizers.
    """
    first = gradients[0]
    offsets = first.offsets.to_numpy()
    for other in gradients[1:]:
        if not np.array_equal(other.offsets.to_numpy(), offsets):
            raise PomonaError(
                "the models cut a text into different tokens",
                where="vog",
                remedy="use checkpoints with one tokenizer",
            )
    spread = np.std([part.values.to_numpy() for part in gradients], axis=0, dtype=np.float64)
    sizes = np.diff(offsets)
    totals = np.bincount(np.repeat(np.arange(len(sizes)), sizes), spread, len(sizes))
    return totals / np.where(sizes > 0, sizes, np.nan)


def cat_var(perplexities: NDArray[np.float64]) -> Floats:
    """Population variance of perplexity `[models, n]` over the checkpoints, `[n]`. Chimoto et al.
    2024; formula unconfirmed.
    """
    return np.var(perplexities, axis=0)


def cat_diff(perplexities: NDArray[np.float64]) -> Floats:
    """Perplexity `[models, n]` under the first checkpoint less that under the last, `[n]`. Chimoto
    et al. 2024; formula unconfirmed.
    """
    return perplexities[0] - perplexities[-1]


def within_group(values: Floats, groups: NDArray[np.int64]) -> Floats:
    """z-scores of `values` `[n]` within each group (codes from 0, `[n]`); 0 without spread. NaN
    stays and is not counted.
    """
    known = np.isfinite(values)
    count = np.maximum(np.bincount(groups, known), 1)
    filled = np.where(known, values, 0.0)
    mean = np.bincount(groups, filled) / count
    centred = np.where(known, values - mean[groups], np.nan)
    spread = np.sqrt(np.bincount(groups, np.where(known, centred, 0.0) ** 2) / count)
    scale = spread[groups]
    tiny = 1e-12 * np.maximum(1.0, np.abs(mean[groups]))
    return np.where(known & (scale <= tiny), 0.0, centred / np.where(scale > tiny, scale, 1.0))


def within_length(values: Floats, lengths: NDArray[np.int64], *, bins: int = 10) -> Floats:
    """The rank of each value, 0 to 1, among rows of like length: `bins` parts of equally many rows
    by length. `[n]` each.

    The length control for scores that favour long texts, as `cat_var` and `cat_diff` do. NaN stays;
    equal values share their mean rank. Raises PomonaError when `bins` is not positive.
    """
    if bins < 1:
        raise PomonaError(f"{bins} bins", where="length_bins", remedy="use 1 or more; 10 is usual")
    known = np.flatnonzero(np.isfinite(values))
    percentiles = np.full(len(values), np.nan)
    for part in np.array_split(known[np.argsort(lengths[known], kind="stable")], bins):
        if len(part):
            _, place, count = np.unique(values[part], return_inverse=True, return_counts=True)
            ranks = np.cumsum(count) - (count - 1) / 2  # from 1, mean of equals
            percentiles[part] = (ranks[place] - 0.5) / len(part)
    return percentiles


def columns_of(job: ScoringJob, work: Work) -> dict[str, Floats | pa.Array]:
    """Every score column, `[rows]`: float64, NaN where a row has no score; those of rules of
    quality as they are, null where one does not apply.
    """
    gathered: dict[str, list[Floats]] = {}
    ruled: dict[str, list[pa.Array]] = {}
    rules = set(job.chosen.columns(())) - set(job.chosen.names) | set(job.chosen.of_quality)
    groups: list[pa.Array] = []
    steps = [step for step in job.passes if step != TEXT]
    for index in range(len(job.survey.chunks)):
        tables = [work.load(step, index) for step in steps]
        for name in {"loss", "error", "recall"} & set(tables[0].column_names if tables else ()):
            gathered.setdefault(name, []).append(
                np.array([table[name].to_numpy() for table in tables])
            )
        if tables:
            gathered.setdefault("length", []).append(
                tables[0]["length"].to_numpy().astype(np.float64)
            )
        if "vog" in job.chosen.of_models:
            gathered.setdefault("vog", []).append(
                vog([table["gradient"].combine_chunks() for table in tables])
            )
        if TEXT in job.passes:
            text = work.load(TEXT, index)
            for name in text.column_names:
                if name in rules:
                    ruled.setdefault(name, []).append(text[name].combine_chunks())
                else:
                    gathered.setdefault(name, []).append(text[name].to_numpy())
    whole = {name: np.concatenate(parts, axis=-1) for name, parts in gathered.items()}
    if "vog" in whole and job.layout.group:
        for rows in chunks(job.records, job.layout):
            groups.append(pa.array(rows.groups))
        codes = (
            pa.chunked_array(groups)
            .combine_chunks()
            .dictionary_encode()
            .indices.to_numpy()
            .astype(np.int64)
        )
        whole["vog"] = within_group(whole["vog"], codes)
    of_models = _named(job, whole)
    of_rules = {name: pa.concat_arrays(parts) for name, parts in ruled.items()}
    return {name: ({**of_models, **of_rules})[name] for name in job.chosen.columns(job.labels)}


def _named(job: ScoringJob, whole: dict[str, Floats]) -> dict[str, Floats]:
    with np.errstate(over="ignore"):
        perplexities = np.exp(whole["loss"]) if "loss" in whole else np.zeros((0, 0))
    made: dict[str, Callable[[], Floats]] = {
        "el2n": lambda: whole["error"].mean(axis=0),
        "cat_var": lambda: _controlled(job, cat_var(perplexities), whole),
        "cat_diff": lambda: _controlled(job, cat_diff(perplexities), whole),
    }
    columns: dict[str, Floats] = {}
    for name in job.chosen.names:
        if name in ("perplexity", "memorization"):
            rows = perplexities if name == "perplexity" else whole["recall"]
            columns.update(
                {
                    f"{name}@{label}" if len(rows) > 1 else name: row
                    for label, row in zip(job.labels, rows, strict=True)
                }
            )
        elif name not in job.chosen.of_quality:
            columns[name] = made[name]() if name in made else whole[name]
    for name, values in columns.items():
        for row in np.flatnonzero(np.isinf(values))[:1]:
            where = job.records.row_name(int(row))
            raise PomonaError(
                f"{name} is too large for a float64",
                where=where,
                remedy="is this the right model for the data?",
            )
    return columns


def _controlled(job: ScoringJob, values: Floats, whole: dict[str, Floats]) -> Floats:
    bins = job.options["length_bins"]
    return (
        values
        if bins is None
        else within_length(values, whole["length"].astype(np.int64), bins=bins)
    )


@dataclass(frozen=True)
class Extended(Derived):
    """Records with columns beside them."""

    added: dict[str, pa.Array]

    @property
    def schema(self) -> pa.Schema:
        """See `Source`."""
        return pa.schema(
            [
                *self.records.schema,
                *(pa.field(name, values.type) for name, values in self.added.items()),
            ]
        )

    def stream(self, columns: Sequence[str], keep: Filter) -> Batches:
        """See `Source`."""
        done = 0
        for batch in self.records.batches():
            added = [values.slice(done, batch.num_rows) for values in self.added.values()]
            yield pa.record_batch([*batch.columns, *added], schema=self.schema)
            done += batch.num_rows


def summary(values: Floats | pa.Array) -> dict[str, float | int | None]:
    """Mean, quartiles and ends of a column, and how many rows have no value in it; of what is no
    number, how often each value is there.
    """
    if not isinstance(values, np.ndarray):
        if not pa.types.is_floating(values.type):
            counted = values.cast(pa.string()).drop_null().value_counts().to_pylist()
            counts = {one["values"]: one["counts"] for one in counted}
            return {**dict(sorted(counts.items())), "null": values.null_count}
        values = values.to_numpy(zero_copy_only=False)
    known = values[~np.isnan(values)]
    names = ("min", "lower_quartile", "median", "upper_quartile", "max")
    quantiles = np.quantile(known, (0, 0.25, 0.5, 0.75, 1)).tolist() if len(known) else [None] * 5
    return {
        "mean": float(known.mean()) if len(known) else None,
        **dict(zip(names, quantiles, strict=True)),
        "null": len(values) - len(known),
    }


@dataclass(frozen=True)
class Scored:
    """`perplexity` float64 `[n]` of each completion with its end token; int64 `[n]`: its `tokens`,
    and the prompt's.
    """

    perplexity: NDArray[np.float64]
    tokens: NDArray[np.int64]
    prompt_tokens: NDArray[np.int64]


def perplexity(model: Model, prompts: Sequence[str], completions: Sequence[str]) -> Scored:
    """PPL = exp(mean negative log-likelihood of the completion's tokens given the prompt). Marion
    et al. 2023, §3.1.
    """
    logprobs = model.score(prompts, completions, end=True)
    tokens = np.array([len(row) for row in logprobs], np.int64)
    means = np.array([float(np.mean(row, dtype=np.float64)) for row in logprobs])
    return Scored(
        perplexity=np.exp(-means), tokens=tokens, prompt_tokens=model.count_tokens(prompts)
    )


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

    Write every row of `inputs` to `out` with a float64 column for each score (rules of quality
    have several columns), and the card beside it.

    A row's text is `column`; or, with `prompt` and `completion` (columns or templates such as
    `"<|{lang}|>{english}<|to|>"`), the completion with its end token given the prompt; with `chat`
    the prompt is one user message in each model's chat template. With `chat` and a column of
    conversations it is the last answer of the assistant given what was said before.
    `models` are URIs of `pomona.models.load`, checkpoints from early to late. A text longer than
    `context` (default: the model's) is scored in windows without overlap, each token once. `packed`
    instead scores full contexts of texts end to end, and a row gets the token-weighted mean of its
    contexts; packing starts anew every 1,024 rows or 4 MiB. What a row is too short for is null
    (and counted in the card).

    scores: `perplexity` = exp(mean -ln p) and `memorization` (the share of `memorize[1]` tokens
        that greedy generation from the `memorize[0]` tokens before repeats; of a pair the
        completion's first tokens, from the prompt): a column `NAME@MODEL` each where several models
        are given. `el2n`: mean ‖p - onehot‖₂, over tokens and models. (Marion et al. 2023, §3)
        `cat_var`, `cat_diff`: variance, and first less last, of perplexity over models (Chimoto et
        al. 2024); with `length_bins` their rank among rows of like length. `vog`: variance of
        gradients over models (Agarwal et al. 2022), with `group` as z-scores within it. `length` in
        tokens of the first model, or in characters with `models=()`; `mtld` of the words;
        `language`: confidence that the text is in the row's `lang`. `gopher`, `c4` and `fineweb`
        are rules of quality without a model (`pomona.data.quality.rules` has sources and
        thresholds, which were chosen on English): the column says whether a text keeps all that
        apply to it, `NAME_reason` the first that it does not, and one for each rule has its
        number, null where it does not apply: words of texts without spaces, the stop words of
        English where `lang` says another language or none. Without such a column all is English.
        And any score of the entry-point group `pomona.scores`.
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
            language, gopher, c4, fineweb, or a score of another package.
        models: URIs of the models that score; checkpoints from early to late for scores
            over time.
        column: Text of a row: a column of strings or of conversations, a field (meta.text), what a
            role says (messages.user), or a template of these ("{prompt}\\n{completion}").
        prompt: Column or template of the prompt, when examples are pairs.
        completion: Column or template of the completion, whose tokens alone are scored.
        lang: Column of the language, for the score language and rules of quality.
        group: Column within which vog is standardised.
        chat: Prompts become user messages in the model's chat template; of conversations the
            last answer is scored, in the template, given the messages before it.
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
    records, source = opened(inputs)
    chosen = choose(scores, tuple(models))
    if chosen.of_quality and lang != "lang":
        records.require(lang)
    ruled = bool(chosen.of_quality) and lang in records.column_names
    claimed = lang if ruled or "language" in scores else None
    optional = "language" not in scores
    layout = Layout(column, prompt, completion, claimed, group, chat, optional)
    records = layout.complete(records)
    machine = {"device": device, "memory": memory}
    with results_of([records], {"out": out}, work=f"{out}.work", dry_run=dry_run) as results:
        job = prepare(records, source, out, layout, chosen, tuple(models), options)
        if dry_run:
            return _card(job, inputs, {}, counts_of(job, run(job, None, machine, engine, progress)))
        with (work := Work(Path(out), job.plan())).locked():
            for _ in run(job, work, machine, engine, progress):
                pass
            columns = columns_of(job, work)
            card = _card(job, inputs, columns, counts_of(job, kept(job, work)))
            new = {
                name: pa.array(values, from_pandas=True)
                if isinstance(values, np.ndarray)
                else values
                for name, values in columns.items()
            }
            results.write("out", Records.of(Extended(job.records, new)))
            card = results.publish(card)
            work.remove()
    return card


def _card(
    job: ScoringJob,
    inputs: Inputs,
    columns: Mapping[str, Floats | pa.Array],
    counts: dict[str, dict[str, float]],
) -> Card:
    parameters = {
        key: value
        for key, value in job.plan().items()
        if key not in ("rows", "chunks", "sha256", "version", "lang_may_lack")
    }
    if job.layout.completion is not None:
        parameters["column"] = None
    details = {
        "columns": {name: summary(values) for name, values in columns.items()},
        "models": counts,
    }
    groups = {name: (count, count) for name, count in job.survey.groups.items()}
    rows = job.survey.rows
    read_from = inputs_read(inputs, job.source, rows, job.survey.digest)
    left_out = job.records.rejected
    return Card(
        "score",
        parameters,
        read_from,
        rows,
        rows,
        groups=groups,
        details=details,
        left_out=left_out,
    )
