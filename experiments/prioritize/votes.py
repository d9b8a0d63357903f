"""Ties and rankings that a queue would have saved on LLMFAO's votes (Ustalov 2023).

    python experiments/prioritize/votes.py FOLDER [--pilots 20] [--rankings] [--out FILE]

FOLDER has crowd-comparisons.csv, pairs-crowd.jsonl and models.jsonl. For pilots of 10 % and 80 % of
the pairs: the change in ties among the fifth of the other pairs that are said to have fewest, by
what P(tie) is told from. With --rankings also votes for the same ranking (`pomona arena prioritize
replay`, which takes minutes).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pomona.arena import read_votes, replay
from pomona.arena.prioritizing.measures import Measures, change, measure
from pomona.arena.prioritizing.pairs import Observed, Pairs, observed, read_pairs
from pomona.arena.prioritizing.run import measured
from pomona.arena.prioritizing.ties import design_of, p_tie
from pomona.records import read

SURFACE = ("unigrams", "fourgrams", "chrf", "same", "length", "shorter", "length_ratio", "markdown",
           "markdown_gap")  # fmt: skip


def votes_of(folder: Path) -> pa.Table:
    """Votes with the texts of their prompts and answers."""
    pairs = {row["id"]: row for row in read(folder / "pairs-crowd.jsonl").to_table().to_pylist()}
    models = {
        row["id"]: row["name"] for row in read(folder / "models.jsonl").to_table().to_pylist()
    }
    rows = []
    for vote in read(folder / "crowd-comparisons.csv").to_table().to_pylist():
        pair = pairs[int(vote["id"])]
        said = {models[pair[f"model_{side}"]]: pair[f"result_{side}"] or "" for side in "xy"}
        a, b = vote["left"], vote["right"]
        rows.append(
            {"prompt": pair["text"], "model_a": a, "model_b": b, "winner": vote["winner"],
             "voter": vote["worker"], "item": vote["id"], "completion_a": said[a],
             "completion_b": said[b]}
        )  # fmt: skip
    return pa.Table.from_pylist(rows)


def designs(pairs: Pairs, measures: Measures) -> dict[str, Any]:
    """What P(tie) is told from, by name."""
    surface = Measures({name: measures.values[name] for name in SURFACE})
    return {
        "prompts and all measures": design_of(pairs, measures),
        "prompts and surface": design_of(pairs, surface),
        "prompts alone": design_of(pairs, measures, "prompt"),
        "all measures, no prompts": design_of(pairs, measures, "answers"),
        "surface alone": design_of(pairs, surface, "answers"),
    }


def ties(pairs: Pairs, seen: Observed, told: dict[str, Any], share: float, pilots: int) -> Any:
    """Change in ties by what P(tie) is told from, over random pilots."""
    found: dict[str, list[float]] = {name: [] for name in told}
    for pilot in range(pilots):
        chosen = np.zeros(len(pairs), bool)
        order = np.random.default_rng([pilot, 9]).permutation(len(pairs))
        chosen[order[: round(share * len(pairs))]] = True
        known = Observed(seen.pair, seen.votes * chosen, seen.ties * chosen)
        for name, design in told.items():
            said = p_tie(design, known, len(pairs.prompts))
            of = change(-said[~chosen], seen.votes[~chosen], seen.ties[~chosen])
            found[name].append(0.0 if of is None else of[0])
    prompts = np.array(found["prompts alone"])
    return {
        name: {
            "mean": float(np.mean(of)),
            "sd": float(np.std(of, ddof=1)),
            "low": float(np.quantile(of, 0.025)),
            "high": float(np.quantile(of, 0.975)),
            "against_prompts": [
                float(q) for q in np.quantile(np.array(of) - prompts, [0.025, 0.975])
            ],
            "better_than_prompts": int((np.array(of) < prompts).sum()),
        }
        for name, of in found.items()
    }


def main() -> None:
    """Run it, and print or write what comes out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pilots", type=int, default=20)
    parser.add_argument("--rankings", action="store_true")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    table = votes_of(given.folder)
    pairs, votes = read_pairs(table), read_votes(table)
    seen, measures = observed(pairs, votes), measure(pairs)
    told = designs(pairs, measures)
    found: dict[str, Any] = {
        "pilots": given.pilots,
        "ties": {
            f"{share:.0%}": ties(pairs, seen, told, share, given.pilots) for share in (0.1, 0.8)
        },
        "measures": [one.to_json() for one in measured(measures, seen)],
    }
    if given.rankings:
        found["replay"] = replay(votes, pilots=given.pilots).to_json()
    text = json.dumps(found, indent=1)
    if given.out:
        given.out.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
