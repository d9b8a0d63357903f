"""Pairs of answers of ui-xs, ui-s, ui-m and ui-l: does KL between two models say where they tie?

    python experiments/prioritize/systems.py [--items 120] [--pilots 20] [--out FILE]

The vote is the reference's: the answer with the higher chrF, and a tie within --band points. Every
measure is compared with both signs on all pairs, and P(tie) is learnt from a tenth of the prompts.
"""

from __future__ import annotations

import argparse
import json
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parents[1]))
from _shared import items_of

from pomona.arena import read_votes
from pomona.arena.prioritizing.likelihoods import ScoreStore, likelihoods
from pomona.arena.prioritizing.measures import Measures, change, measure
from pomona.arena.prioritizing.pairs import Observed, observed, read_pairs
from pomona.arena.prioritizing.run import measured
from pomona.arena.prioritizing.ties import design_of, p_tie
from pomona.models import load
from pomona.tasks import Chrf

NAMES = ("ui-xs", "ui-s", "ui-m", "ui-l")


def votes_of(count: int, band: float) -> pa.Table:
    """All pairs of the models' greedy answers to some test items, with the reference's verdict."""
    items = items_of("test")
    rng = np.random.default_rng(0)
    chosen = sorted(rng.permutation(len(items.prompts))[:count].tolist())
    prompts = [items.prompts[one] for one in chosen]
    references = [items.completions[one] for one in chosen]
    said, score = {}, {}
    metric = Chrf()
    for name in NAMES:
        model = load(name)
        said[name] = [of[0].text for of in model.generate(prompts, max_new_tokens=48)]
        score[name] = metric.aggregate(metric.statistics(said[name], references))
    rows = []
    for at, prompt in enumerate(prompts):
        for a, b in combinations(NAMES, 2):
            off = score[a][at] - score[b][at]
            winner = "tie" if abs(off) <= band else "model_a" if off > 0 else "model_b"
            rows.append(
                {"prompt": prompt, "model_a": a, "model_b": b, "winner": winner,
                 "completion_a": said[a][at], "completion_b": said[b][at]}
            )  # fmt: skip
    return pa.Table.from_pylist(rows)


def main() -> None:
    """Run it, and print or write what comes out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=120)
    parser.add_argument("--band", type=float, default=5.0)
    parser.add_argument("--pilots", type=int, default=20)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    table = votes_of(given.items, given.band)
    pairs = read_pairs(table)
    seen = observed(pairs, read_votes(table))
    texts = measure(pairs)
    store = ScoreStore(None)
    values, answers = likelihoods(pairs, None, {name: name for name in NAMES}, store)
    whole = Measures({**texts.values, **values}, {**texts.answers, **answers})
    kl = Measures({name: values[name] for name in ("kl", "cross")})
    told = {
        "all": design_of(pairs, whole),
        "texts": design_of(pairs, texts),
        "likelihoods": design_of(pairs, kl, "answers"),
        "prompts alone": design_of(pairs, whole, "prompt"),
    }
    found: dict[str, Any] = {
        "pairs": len(pairs),
        "ties": float(seen.ties.sum() / seen.votes.sum()),
        "measures": [one.to_json() for one in measured(whole, seen)],
        "learnt": {},
    }
    for share in (0.1, 0.3, 0.8):
        off: dict[str, list[float]] = {name: [] for name in told}
        for pilot in range(given.pilots):
            known = np.random.default_rng([pilot, 9]).random(len(pairs)) < share
            part = Observed(seen.pair, seen.votes * known, seen.ties * known)
            for name, design in told.items():
                said = p_tie(design, part, len(pairs.prompts))
                of = change(-said[~known], seen.votes[~known], seen.ties[~known])
                off[name].append(0.0 if of is None else of[0])
        found["learnt"][f"{share:.0%}"] = {
            name: [float(np.mean(of)), float(np.std(of, ddof=1))] for name, of in off.items()
        }
    text = json.dumps(found, indent=1)
    if given.out:
        given.out.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
