"""What answers are worth that a memory's phrases are put together to, and what a learned selector
adds, without a model and with its log-probabilities: validation items of projects that were trained
on, each chosen for by a selector that has not seen its source (only the shortlist
is made by one that has).

python experiments/composing.py [--model ui-s] [--items 20] [--shortlist 4]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
from memory import items_of
from numpy.typing import NDArray

from pomona import models, tasks
from pomona.memory import (
    FEATURES,
    Candidate,
    Phrases,
    Selector,
    cross_fitted,
    features,
    find,
    gather,
    usual_length,
)
from pomona.stats import Resamples, compare, rows_of
from pomona.tasks import Items

CHRF = tasks.Chrf()
SECOND = (tasks.Chrf(beta=1), tasks.metric("bleu"), tasks.metric("exact_match"))
NEIGHBOURS, EDITED, COMPOSED, SHOWN = 16, 10, 3, 5
PENALTY = 0.003


def gathered(
    items: Items, rows: Items
) -> tuple[list[list[Candidate]], list[dict[str, object]], float]:
    """The candidates of each item without a model, what else `features` wants, and FLOPs."""
    found = find(rows.sources, rows.groups, items.sources, items.groups, NEIGHBOURS)
    pools: list[list[Candidate]] = [[] for _ in items.ids]
    about: list[dict[str, object]] = [{} for _ in items.ids]
    stored, flops = rows_of(rows.groups), found.flops_once
    for group, asked in rows_of(items.groups).items():
        own = [int(row) for row in stored[group]]
        place = {row: at for at, row in enumerate(own)}
        sources, answers = [rows.sources[i] for i in own], [rows.completions[i] for i in own]
        phrases, usual = Phrases(sources, answers), usual_length(sources, answers)
        flops += phrases.flops
        for i in map(int, asked):
            near, like = [place[int(row)] for row in found.rows[i]], found.similarity[i]
            made = phrases.candidates(
                items.sources[i], near, like, edited=EDITED, composed=COMPOSED
            )
            shown = [answers[at] for at in near[:SHOWN]]
            pools[i] = gather(items.sources[i], made, shown, like[:SHOWN].tolist(), [])
            about[i] = {"nearest": float(like[0]) if len(like) else 0.0, "usual": usual}
    return pools, about, flops


def known(items: Items, pools: Sequence[Sequence[Candidate]], about: Sequence[dict]) -> list:
    tables = []
    for source, pool, more in zip(items.sources, pools, about, strict=True):
        texts = [one.text for one in pool]
        tables.append(features(source, pool, tasks.pairwise(texts, texts) / 100, **more))
    return tables


def tell(name: str, answers: Sequence[str], items: Items, base: NDArray | None = None) -> NDArray:
    statistics = CHRF.statistics(answers, items.completions)
    line = f"{name:28} chrF {CHRF.aggregate(statistics.sum(0)):.2f}"
    for other in SECOND:
        value = other.aggregate(other.statistics(list(answers), items.completions).sum(0))
        line += f"  {other.name} {value:.2f}"
    if base is not None:
        draws = Resamples(len(items), 2000, 0, items.sources)
        seen = compare(CHRF, statistics, base, draws)
        line += f"  {seen.delta:+.2f} [{seen.ci_low:.2f}, {seen.ci_high:.2f}]"
    print(line, flush=True)
    return statistics


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="ui-s")
    parser.add_argument("--items", type=int, default=20, help="of each language")
    parser.add_argument("--shortlist", type=int, default=4, help="candidates the model scores")
    given = parser.parse_args()
    items, rows = items_of("valid", given.items), items_of("train")
    pools, about, flops = gathered(items, rows)
    print(f"{len(items)} items, {len(set(items.sources))} sources, {flops:.3g} FLOPs to learn")
    tables = known(items, pools, about)
    worth = [tasks.pairwise([c.text for c in p], [r])[:, 0]
             for p, r in zip(pools, items.completions, strict=True)]  # fmt: skip
    tell("copying", items.sources, items)
    tell("composed", [pool[0].text for pool in pools], items)
    picks = cross_fitted(tables, worth, FEATURES, items.sources, penalty=PENALTY)
    base = tell(
        "selector without a model", [p[k].text for p, k in zip(pools, picks, strict=True)], items
    )
    ranked = Selector.fit(tables, worth, FEATURES, penalty=PENALTY).scores(tables)
    short = [np.argsort(-s, kind="stable")[: given.shortlist] for s in ranked]
    model = models.load(given.model)
    pairs = [(i, int(k)) for i, shortlist in enumerate(short) for k in shortlist]
    scores = model.score(
        [items.prompts[i] for i, _ in pairs], [pools[i][k].text for i, k in pairs], end=True
    )
    for (i, k), logprobs in zip(pairs, scores, strict=True):
        tables[i][k, FEATURES.index("logprob")] = logprobs.mean()
    fewer = [table[at] for table, at in zip(tables, short, strict=True)]
    best = [values[at] for values, at in zip(worth, short, strict=True)]
    picks = cross_fitted(fewer, best, FEATURES, items.sources, penalty=PENALTY)
    answers = [p[at[k]].text for p, at, k in zip(pools, short, picks, strict=True)]
    tell(f"and {given.model}", answers, items, base)
    tell(
        "the best of all",
        [p[int(np.argmax(v))].text for p, v in zip(pools, worth, strict=True)],
        items,
    )


if __name__ == "__main__":
    main()
