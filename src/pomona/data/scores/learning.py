"""`order`: which kind of probe each pair was learnt like, by their loss trajectories over the
checkpoints of one training.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from pomona.data.scores.corrupt import Corrupted, Followed, corrupt_rows
from pomona.data.scores.job import Layout, ScoringJob, Work, flat
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
from pomona.data.scores.scoring import Extended, columns_of, summary
from pomona.data.work import results_of
from pomona.errors import PomonaError
from pomona.records import Card, Records

_BLOCK = 1024


def learning_order(
    losses: NDArray[np.float64], probes: Mapping[str, ArrayLike], *, k: int = 20
) -> NDArray[np.str_]:
    """The kind of each row, `[n]`: that of most of its `k` nearest probes by Euclidean distance of
    loss trajectories.

    losses: float `[n, checkpoints]`, such as the logarithms of the `perplexity@MODEL` columns.
    probes: for each kind either rows of `losses` (integers `[m]`; a row is not its own neighbour)
        or trajectories (`[m, checkpoints]`). Give every kind as many, or the large ones win. Equal
        votes go to the kind that is nearer on average.
    Siddiqui et al. 2022 (arXiv 2209.10015), with typical, atypical, corrupted and random-label
    probes, 250 a kind; `k` = 20 is unconfirmed. Raises PomonaError when a loss is not finite, a
    probe does not fit, or there are too few probes.
    """
    losses = np.asarray(losses, np.float64)
    if losses.ndim != 2:
        raise PomonaError(
            f"losses have the shape {losses.shape}",
            where="learning_order",
            remedy="rows are examples, columns checkpoints",
        )
    kinds = list(probes)
    points, codes, owners = _points(losses, probes)
    for name, values in (("row", losses), ("probe", points)):
        bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if len(bad):
            raise PomonaError(
                "a loss is not finite",
                where=f"{name} {bad[0] + 1}",
                remedy="drop the row or score it again",
            )
    if not 1 <= k <= len(points) - bool((owners >= 0).any()):
        raise PomonaError(
            f"k is {k} and there are {len(points)} probes",
            where="learning_order",
            remedy="give more probes or a smaller k",
        )
    choice = np.empty(len(losses), np.int64)
    for start in range(0, len(losses), _BLOCK):
        block = losses[start : start + _BLOCK]
        distance = np.sqrt(((block[:, None] - points[None]) ** 2).sum(axis=-1))
        distance[owners[None] == np.arange(start, start + len(block))[:, None]] = np.inf
        near = np.argsort(distance, axis=1, kind="stable")[:, :k]
        choice[start : start + _BLOCK] = _votes(
            np.take_along_axis(distance, near, axis=1), codes[near], len(kinds)
        )
    return np.array(kinds)[choice]


def _points(
    losses: NDArray[np.float64], probes: Mapping[str, ArrayLike]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Trajectories of all probes `[p, checkpoints]`, the code of their kind `[p]`, and the row each
    is (-1 for none) `[p]`.
    """
    points, codes, owners = [], [], []
    for code, (kind, given) in enumerate(probes.items()):
        values = np.asarray(given)
        if values.ndim == 1 and np.issubdtype(values.dtype, np.integer):
            if len(values) and not (values.min() >= 0 and values.max() < len(losses)):
                raise PomonaError(
                    f"there are {len(losses)} rows",
                    where=f'probes "{kind}"',
                    remedy="give row numbers from 0",
                )
            rows, values = values.astype(np.int64), losses[values]
        else:
            rows = np.full(len(values), -1)
        if values.ndim != 2 or values.shape[1] != losses.shape[1]:
            message = f"a trajectory has the shape {values.shape[1:]}, not {losses.shape[1:]}"
            raise PomonaError(
                message,
                where=f'probes "{kind}"',
                remedy="give the loss at the same checkpoints, or row numbers",
            )
        points.append(values)
        codes.append(np.full(len(values), code))
        owners.append(rows)
    if not points:
        raise PomonaError(
            "there are no probes", where="learning_order", remedy="give some of each kind"
        )
    return np.concatenate(points).astype(np.float64), np.concatenate(codes), np.concatenate(owners)


def _votes(
    distance: NDArray[np.float64], codes: NDArray[np.int64], kinds: int
) -> NDArray[np.int64]:
    """The code with most votes of each row `[n]`, from distances and codes `[n, k]`; the smaller
    mean distance breaks ties.
    """
    mine = codes[:, :, None] == np.arange(kinds)
    votes = mine.sum(axis=1)
    mean = np.where(
        votes > 0, (distance[:, :, None] * mine).sum(axis=1) / np.maximum(votes, 1), np.inf
    )
    return np.where(votes == votes.max(axis=1, keepdims=True), mean, np.inf).argmin(axis=1)


LEARNT = "learnt"
_KINDS = ("typical", "atypical", "corrupted", "random label")


def order(
    inputs: Inputs,
    out: str | Path,
    *,
    models: Sequence[str],
    prompt: str,
    completion: str,
    corrupt: str | None = None,
    group: str | None = None,
    n: int = 250,
    k: int = 20,
    chat: bool = False,
    context: int | None = None,
    device: str | None = None,
    dtype: str = "float32",
    memory: int | None = None,
    seed: int = 0,
    engine: str | None = "native",
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Card:
    """Say of each pair what it was learnt like: typical or atypical ones, or spoilt copies.

    Write every pair of `inputs` to `out` with `perplexity@MODEL`, `vog` and `learnt`: the kind
    of most of its `k` nearest probes.

    A pair's trajectory is its loss under `models`, the checkpoints of one training from early to
    late (two or more). There are `n` probes of each kind: "typical" and "atypical" are the pairs
    with the lowest and highest variance of gradients (within `group`), "corrupted" are copies with
    three letters in ten of the column `corrupt` (default: the only one of the prompt) exchanged,
    "random label" copies with the completion of another pair of the group. What is learnt like the
    last is worth a look; it is a tendency, not a verdict. Siddiqui et al. 2022 (arXiv 2209.10015);
    there typical and atypical probes are chosen otherwise, and `k` = 20 is unconfirmed.

    prompt, completion, chat, context, device, dtype, memory, engine: as for `score`. The completion
    is one column or field, such as `messages.assistant`, or a template of one.
    seed: which pairs are spoilt, and how. Chunks that are done stay in `OUT.work/` until the result
        is whole.

    Args:
        out: File of the rows with their scores and the column "learnt".
        models: URIs of two or more checkpoints of one training, from early to late.
        prompt: Column or template of the prompt.
        completion: Column of the completion.
        corrupt: Column of the prompt whose letters are exchanged in spoilt copies; the only
            one when left out.
        group: Column within which gradients are compared and completions exchanged, such as
            the language.
        n: Probes of each kind.
        k: Nearest probes that vote.
        chat: Prompts become user messages in the model's chat template.
        context: Tokens of a window; the model's when left out.
        device: cpu, cuda, ...
        dtype: float32 or bfloat16.
        seed: Seed.
        dry_run: Only count what there is to do.

    Raises:
        PomonaError: as for `score`; also fewer than 2 `n` rows, or several columns where one must
            be named.
        ResourceError: the disk is full.
    """
    records, source = opened(inputs)
    if LEARNT in records.column_names:
        raise PomonaError(
            f'there is a column "{LEARNT}" already', where=source, remedy="drop it, or rename it"
        )
    options: dict[str, Any] = {
        "chat": chat,
        "packed": False,
        "context": context,
        "memorize": [32, 32],
        "length_bins": None,
    }
    if prompt == completion:
        remedy = "name what is answered, such as messages.assistant"
        raise PomonaError("is the prompt too", where="completion", remedy=remedy)
    own = records.column_names
    records, asked = flat(records, prompt)
    records, told = flat(records, completion)
    if corrupt is not None:
        records, corrupt = flat(records, corrupt)
    within = None
    if group is not None:
        records, within = flat(records, group)
    layout, chosen = (
        Layout("", asked, told, None, within),
        choose(("perplexity", "vog"), tuple(models)),
    )
    records = layout.complete(records)
    with results_of([records], {"out": out}, work=f"{out}.work", dry_run=dry_run) as results:
        corrupted = corrupt_rows(records, layout, corrupt, n, seed)
        followed = Records.of(
            Followed(records.select(*corrupted.table.column_names), corrupted.table)
        )
        job = prepare(
            followed,
            source,
            out,
            layout,
            chosen,
            tuple(models),
            {**options, "dtype": dtype, "seed": seed},
        )
        machine = {"device": device, "memory": memory}
        parameters = {
            "models": list(models),
            "prompt": prompt,
            "completion": completion,
            "corrupt": corrupted.corrupt,
            "group": group,
            "n": n,
            "k": k,
            "chat": chat,
            "context": context,
            "dtype": dtype,
            "seed": seed,
        }
        groups = {name: (count, count) for name, count in corrupted.groups.items()}
        read_from = inputs_read(inputs, source, corrupted.rows, job.survey.digest)
        rows, left_out = corrupted.rows, records.rejected
        card = Card("order", parameters, read_from, rows, rows, groups=groups, left_out=left_out)
        if dry_run:
            return replace(
                card, details={"models": counts_of(job, run(job, None, machine, engine, progress))}
            )
        work = Work(Path(out), job.plan())
        with work.locked():
            for _ in run(job, work, machine, engine, progress):
                pass
            scores = columns_of(job, work)
            learnt = _learnt(job, scores, corrupted, n, k)
            columns = {name: values[: corrupted.rows] for name, values in scores.items()}
            new = {name: pa.array(values, from_pandas=True) for name, values in columns.items()}
            found = Extended(records.select(*own), {**new, LEARNT: learnt})
            results.write("out", Records.of(found))
            kinds = Counter(learnt.to_pylist())
            details = {
                "learnt": {kind: kinds[kind] for kind in _KINDS},
                "columns": {name: summary(values) for name, values in columns.items()},
            }
            card = replace(card, details={**details, "models": counts_of(job, kept(job, work))})
            card = results.publish(card)
            work.remove()
    return card


def _learnt(
    job: ScoringJob, columns: dict[str, NDArray[np.float64]], corrupted: Corrupted, n: int, k: int
) -> pa.Array:
    """The kind of each row, null where it has no loss under some model."""
    names = job.chosen.columns(job.labels)
    losses = np.log(
        np.stack([columns[name] for name in names if name.startswith("perplexity")], axis=1)
    )
    vog = columns["vog"][: corrupted.rows]
    known = np.flatnonzero(np.isfinite(losses[: corrupted.rows]).all(axis=1))
    varied = np.flatnonzero(np.isfinite(vog[known]))
    by_vog = varied[np.argsort(vog[known][varied], kind="stable")]
    if len(by_vog) < 2 * n:
        raise PomonaError(
            f"{2 * n} probes of {len(by_vog)} rows long enough for scores",
            where="order",
            remedy="use a smaller n",
        )
    probes: dict[str, Any] = {"typical": by_vog[:n], "atypical": by_vog[-n:]}
    at = corrupted.rows
    for kind, made in corrupted.kinds.items():
        part = losses[at : at + len(made.rows)]
        probes[kind] = part[np.isfinite(part).all(axis=1)]
        at += len(made.rows)
    kinds: list[str | None] = [None] * corrupted.rows
    for row, kind in zip(
        known.tolist(), learning_order(losses[known], probes, k=k).tolist(), strict=True
    ):
        kinds[row] = kind
    return pa.array(kinds, pa.string())
