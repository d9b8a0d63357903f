"""How the selector of a memory is learned: from rows that are not in it and whose answers are
known.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.answers import together
from pomona.errors import PomonaError
from pomona.memory.candidates import FEATURES
from pomona.memory.phrases import COMPOSED, EDITED
from pomona.memory.rows import RowMemory, filled_rows
from pomona.memory.selecting import SHORTLIST, MemorySelector, Shortlist
from pomona.memory.selector import Selector, cross_fitted
from pomona.models import Model, Request, load, wait_for
from pomona.places import check_outputs
from pomona.records import Where, files_at, read
from pomona.tasks import Metric, metric as metric_of

PENALTY = 0.003
_FOLDS = 5

Pools = Sequence[NDArray[np.float64]]


def learn_selector(
    inputs: Where,
    *,
    out: str | Path,
    memory: RowMemory | None = None,
    model: str | Model | None = None,
    raw: bool = False,
    drawn: str | None = None,
    neighbours: int = 0,
    shortlist: int = SHORTLIST,
    metric: str = "chrf",
    penalty: float = PENALTY,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> MemorySelector:
    """Learn which of all that a memory knows of a question is its answer, from rows that are not in
    the memory and whose answers are known.

    Such a file chooses in `pomona sample` and `pomona serve` (--memory-selector). `inputs` have the
    columns of the memory; rows near to those that it will answer teach most.

    Args:
        out: File to write (JSON).
        memory: Rows that were answered before.
        model: URI of the model that gives log-probabilities to the shortlist, such as ui-s; none is
            asked when left out.
        raw: Send the model the prompt as it is, without a chat template.
        drawn: Column of lists of answers that a model drew, as `pomona sample` writes `candidates`:
            the selector then chooses among what the strategy draws too.
        neighbours: So many answers of the nearest rows are candidates as they are.
        shortlist: So many candidates the model gives log-probabilities to.
        metric: What is to be high: chrf, chrf++, bleu, ter, exact_match or MODULE:FUNCTION.
        penalty: Of the squared weights of features of unit variance.
        seed: Of the folds by which is told what the selector is worth on rows that it has not seen.
        progress: Called with the rows done and all.

    Raises:
        PomonaError: there is no memory, a column is missing, a text is null or empty, no candidate
            is better than another, or the model gives no log-probabilities.
    """
    if memory is None:
        remedy = "name the rows that were answered before: --memory-table FILE"
        raise PomonaError("there is no memory", where="--memory-table", remedy=remedy)
    if neighbours < 0 or shortlist < 1:
        message = f"{neighbours} neighbours and a shortlist of {shortlist}"
        raise PomonaError(message, remedy="give neighbours from 0 and a shortlist from 1")
    check_outputs({"the selector": out}, [*files_at(inputs), *memory.paths])
    if os.path.isdir(out):  # noqa: PTH112 - it may be an address
        raise PomonaError("is a folder", where=out, remedy="name a file for the selector")
    if os.path.lexists(out):
        MemorySelector.load(out)  # only one of ours is replaced
    lead, rows = metric_of(metric, reads="text"), _rows(inputs, memory, drawn)
    counts: dict[str, Any] = {"neighbours": neighbours, "edited": EDITED, "composed": COMPOSED}
    pools = [_gathered(memory, row, counts, progress, at, len(rows)) for at, row in enumerate(rows)]
    first = _fitted(lead, rows, pools, penalty)
    chooses: dict[str, Any] = {"selector": first, "shortlist": shortlist}
    if model is not None:
        asking = MemorySelector(first, first, shortlist)
        pools = _scored(model, memory, rows, [asking.shortlisted(*pool) for pool in pools], raw)
        chooses |= {"first": first, "selector": _fitted(lead, rows, pools, penalty)}
    told: dict[str, Any] = {"metric": metric, "items": len(rows), "penalty": penalty, "seed": seed}
    told["model"] = model.name if isinstance(model, Model) else model
    told["unseen"] = _worth(lead, rows, pools, penalty, seed)
    found = MemorySelector(**chooses, **counts, draws=drawn is not None, learned=told)
    found.save(out)
    return found


@dataclass(frozen=True)
class _Row:
    source: str
    answer: str
    group: str
    drawn: list[str]


Gathered = tuple[list[str], NDArray[np.float64], float]


def _rows(inputs: Where, memory: RowMemory, drawn: str | None) -> list[_Row]:
    source, answer, group = memory.columns
    rows = []
    for row, where in filled_rows(inputs, [*memory.columns, drawn]):
        texts = [str(row[source]), str(row[answer])]
        given = [] if drawn is None else row[drawn]
        listed = isinstance(given, list) and all(isinstance(text, str) for text in given)
        if not all(text.strip() for text in texts) or not listed:
            message = "a text is empty" if listed else f'"{drawn}" has no list of texts'
            remedy = "fill it in, or leave the row out"
            raise PomonaError(message, where=where, remedy=remedy)
        of = str(row[group]) if group and memory.form.grouped else ""
        rows.append(_Row(texts[0], texts[1], of, given))
    if not rows:
        where = read(inputs).source.where
        raise PomonaError("has no rows", where=where, remedy="give rows to learn from")
    return rows


def _gathered(
    memory: RowMemory,
    row: _Row,
    counts: Mapping[str, int],
    progress: Callable[[int, int], None] | None,
    at: int,
    of: int,
) -> Gathered:
    if progress is not None and at % 20 == 0:
        progress(at, of)
    return memory.gathered(row.source, row.group, row.drawn, **counts)


def _utilities(lead: Metric, rows: Sequence[_Row], pools: Sequence[Gathered]) -> Pools:
    """What the metric gives to each candidate, turned so that more is better."""
    texts = [text for pool, _, _ in pools for text in pool]
    right = [row.answer for row, (pool, _, _) in zip(rows, pools, strict=True) for _ in pool]
    values = lead.aggregate(lead.statistics(texts, right)) * (1 if lead.higher_is_better else -1)
    return np.split(values, np.cumsum([len(pool) for pool, _, _ in pools])[:-1])


def _fitted(
    lead: Metric, rows: Sequence[_Row], pools: Sequence[Gathered], penalty: float
) -> Selector:
    known = [features for _, features, _ in pools]
    return Selector.fit(known, _utilities(lead, rows, pools), FEATURES, penalty=penalty)


def _scored(
    model: str | Model,
    memory: RowMemory,
    rows: Sequence[_Row],
    found: Sequence[Shortlist],
    raw: bool,
) -> list[Gathered]:
    """The shortlists with what the model gives to each of their texts."""
    opened = load(model, need=("score",)) if isinstance(model, str) else model
    prompts = [memory.asked(row.source, row.group) for row in rows]
    requests = [
        Request(prompt=text) if raw else Request(messages=({"role": "user", "content": text},))
        for text in prompts
    ]

    async def ask() -> list[Any]:
        asked = [
            opened.logprobs(request, each.texts, end=True)
            for request, each in zip(requests, found, strict=True)
        ]
        try:
            return await together(asked)
        finally:
            if opened is not model:
                await opened.close()

    pools = []
    for each, (logprobs, _) in zip(found, wait_for(ask()), strict=True):
        means = [float(np.mean(one)) for one in logprobs]
        pools.append((each.texts, each.with_logprobs(means), each.flops))
    return pools


def _worth(
    lead: Metric, rows: Sequence[_Row], pools: Sequence[Gathered], penalty: float, seed: int
) -> float | None:
    """The metric of what is chosen for rows whose sources the choice has not seen; None where
    there are too few sources to tell.
    """
    sources = [row.source for row in rows]
    folds = min(_FOLDS, len(set(sources)))
    if folds < 2:
        return None
    known, worth = [features for _, features, _ in pools], _utilities(lead, rows, pools)
    try:
        picks = cross_fitted(
            known, worth, FEATURES, sources, folds=folds, seed=seed, penalty=penalty
        )
    except PomonaError:  # a part of the rows in which no candidate is better than another
        return None
    texts = [pool[int(pick)] for (pool, _, _), pick in zip(pools, picks, strict=True)]
    sums = lead.statistics(texts, [row.answer for row in rows]).sum(0)
    return float(lead.aggregate(sums))
