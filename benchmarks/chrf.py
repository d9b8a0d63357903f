"""CPU time of chrF between all pairs of one pool of candidates: Pomona against sacreBLEU, one
thread each, rounds interleaved.

Candidates are a random text with a fifth of its words replaced, as samples of one prompt resemble
one another.
    python benchmarks/chrf.py --rounds 3 --out benchmarks/results/chrf.json
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
from _machine import machine
from sacrebleu.metrics.chrf import CHRF

from pomona.files import write_json
from pomona.tasks import pairwise


def pool(size: int, words: int, seed: int) -> list[str]:
    """`size` variants of one text of `words` words of 2 to 9 letters, from a vocabulary of 2000."""
    draw = random.Random(seed)
    vocabulary = [
        "".join(draw.choices("etaoinshrdlucmfwypvbgkqjxz", range(26, 0, -1), k=draw.randint(2, 9)))
        for _ in range(2000)
    ]
    text = draw.choices(vocabulary, k=words)
    return [
        " ".join(draw.choice(vocabulary) if draw.random() < 0.2 else word for word in text)
        for _ in range(size)
    ]


def ours(candidates: list[str]) -> np.ndarray:
    return pairwise(candidates, candidates)


def theirs(candidates: list[str]) -> np.ndarray:
    """sacreBLEU's own functions at their fastest: each text's n-grams are extracted once
    (`sentence_score` does it for each pair).
    """
    metric = CHRF()
    grams = metric._extract_reference_info(candidates)["ref_ngrams"]
    matches = metric._get_match_statistics
    return np.array(
        [
            [
                metric._compute_f_score(
                    [x for h, r in zip(a, b, strict=True) for x in matches(h, r)]
                )
                for b in grams
            ]
            for a in grams
        ]
    )


def timed(
    function: Callable[[list[str]], np.ndarray], candidates: list[str], least: float = 0.05
) -> tuple[float, np.ndarray]:
    """CPU milliseconds of one call, the mean of as many as `least` seconds hold, and what it
    returned.
    """
    start, calls = time.process_time(), 1
    scores = function(candidates)
    while time.process_time() - start < least:
        function(candidates)
        calls += 1
    return 1000 * (time.process_time() - start) / calls, scores


def compare(size: int, words: int, rounds: int) -> dict[str, float]:
    """Median CPU milliseconds of both over interleaved rounds, and the largest difference between
    their scores.
    """
    candidates = pool(size, words, seed=size + words)
    times, difference = [], 0.0
    for _ in range(rounds):
        (our_time, our_scores), (their_time, their_scores) = (
            timed(ours, candidates),
            timed(theirs, candidates),
        )
        times.append((our_time, their_time))
        difference = max(difference, float(np.abs(our_scores - their_scores).max()))
    pomona, sacrebleu = (round(statistics.median(column), 3) for column in zip(*times, strict=True))
    row = {"candidates": size, "words": words, "pomona_ms": pomona, "sacrebleu_ms": sacrebleu}
    return {**row, "ratio": round(sacrebleu / pomona, 1), "largest_difference": difference}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[5, 32, 128])
    parser.add_argument("--words", type=int, nargs="+", default=[40, 300])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/chrf.json"))
    arguments = parser.parse_args()
    ours(["compile", "once"])
    rows = []
    for words in arguments.words:
        for size in arguments.sizes:
            rows.append(compare(size, words, arguments.rounds))
            print(rows[-1])
    versions = {name: version(name) for name in ("numba", "numpy", "sacrebleu")}
    about = {
        "unit": "CPU ms a pool, one thread",
        "rounds": arguments.rounds,
        "machine": machine(),
        "versions": versions,
    }
    write_json(arguments.out, {**about, "rows": rows})


if __name__ == "__main__":
    main()
