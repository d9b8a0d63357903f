"""`order`: which kind of probe each pair was learnt like, over the checkpoints of one training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pomona.data.scores._assemble import Extended, columns_of, summary
from pomona.data.scores._input import Layout
from pomona.data.scores._job import Job
from pomona.data.scores._learning import learning_order
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
from pomona.data.scores._spoil import Followed, Spoilt, spoil
from pomona.data.scores._work import Work
from pomona.errors import PomonaError
from pomona.records import Card, Records

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
    is one column, or a template of one.
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
    layout, chosen = (
        Layout("", prompt, completion, None, group),
        choose(("perplexity", "vog"), tuple(models)),
    )
    layout.columns(records)
    spoilt = spoil(records, source, layout, corrupt, n, seed)
    followed = Records._of(Followed(records.select(*spoilt.table.column_names), spoilt.table))
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
        "corrupt": spoilt.corrupt,
        "group": group,
        "n": n,
        "k": k,
        "chat": chat,
        "context": context,
        "dtype": dtype,
        "seed": seed,
    }
    groups = {name: (count, count) for name, count in spoilt.groups.items()}
    read_from = inputs_read(inputs, source, spoilt.rows, job.found.digest)
    card = Card("order", parameters, read_from, spoilt.rows, spoilt.rows, groups=groups)
    if dry_run:
        return replace(
            card, details={"models": counts_of(job, run(job, None, machine, engine, progress))}
        )
    work = Work(Path(out), job.plan())
    for _ in run(job, work, machine, engine, progress):
        pass
    scores = columns_of(job, work)
    learnt = _learnt(job, scores, spoilt, n, k)
    columns = {name: values[: spoilt.rows] for name, values in scores.items()}
    Records._of(
        Extended(
            records,
            {
                **{name: pa.array(values, from_pandas=True) for name, values in columns.items()},
                LEARNT: learnt,
            },
        )
    ).write(out)
    found = Counter(learnt.to_pylist())
    details = {
        "learnt": {kind: found[kind] for kind in _KINDS},
        "columns": {name: summary(values) for name, values in columns.items()},
    }
    card = replace(card, details={**details, "models": counts_of(job, kept(job, work))})
    card.write(out)
    work.remove()
    return card


def _learnt(
    job: Job, columns: dict[str, NDArray[np.float64]], spoilt: Spoilt, n: int, k: int
) -> pa.Array:
    """The kind of each row, null where it has no loss under some model."""
    names = job.chosen.columns(job.labels)
    losses = np.log(
        np.stack([columns[name] for name in names if name.startswith("perplexity")], axis=1)
    )
    vog = columns["vog"][: spoilt.rows]
    known = np.flatnonzero(np.isfinite(losses[: spoilt.rows]).all(axis=1))
    varied = np.flatnonzero(np.isfinite(vog[known]))
    by_vog = varied[np.argsort(vog[known][varied], kind="stable")]
    if len(by_vog) < 2 * n:
        raise PomonaError(
            f"{2 * n} probes of {len(by_vog)} rows long enough for scores",
            where="order",
            remedy="use a smaller n",
        )
    probes: dict[str, Any] = {"typical": by_vog[:n], "atypical": by_vog[-n:]}
    at = spoilt.rows
    for kind, made in spoilt.kinds.items():
        part = losses[at : at + len(made.rows)]
        probes[kind] = part[np.isfinite(part).all(axis=1)]
        at += len(made.rows)
    found: list[str | None] = [None] * spoilt.rows
    for row, kind in zip(
        known.tolist(), learning_order(losses[known], probes, k=k).tolist(), strict=True
    ):
        found[row] = kind
    return pa.array(found, pa.string())
