"""CPU time of choosing one of n candidates by chrF-MBR: Pomona against mbrs 0.1.8 and serial
sacreBLEU, rounds interleaved.

mbrs runs as it comes (8 processes), with one process, and with its Rust kernel `fastchrf`; CPU time
is that of the process and the children it waited for. mbrs computes in float32, so its scores are
compared to 1e-3 only; sacreBLEU's to 1e-9. Candidates are those of `chrf.py`. mbrs wants an
environment of its own: python -m venv PEER; PEER/bin/pip install mbrs==0.1.8 and this package; then
    PEER/bin/python benchmarks/mbr.py --rounds 3 --out benchmarks/results/mbr.json
Its neural metrics are not imported: they need old releases of other packages.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from _machine import machine
from chrf import pool, theirs

from pomona.files import write_json
from pomona.sample import chrf_mbr
from pomona.tasks import pairwise

Scorer = Callable[[list[str]], np.ndarray]
ONE_PROCESS_UP_TO = (
    32  # candidates; above it mbrs' eight processes start fast enough to make no difference
)
LEAST = 0.05  # seconds of CPU that a measurement fills with calls


def part_of(package: str, *modules: str) -> None:
    """Import some modules of a package without its `__init__`, and make their names the
    package's.
    """
    parent, _, name = package.rpartition(".")
    whole: Any = ModuleType(package)
    whole.__path__ = [str(Path(str(import_module(parent).__file__)).parent / name)]
    sys.modules[package] = whole
    for module in modules:
        whole.__dict__.update(
            {
                key: value
                for key, value in vars(import_module(f"{package}.{module}")).items()
                if not key.startswith("__")
            }
        )


def peers() -> dict[str, Scorer]:
    """Each peer's scores of all pairs, of which it takes the candidate with the highest mean."""
    part_of("mbrs.metrics", "base", "chrf")
    from mbrs.metrics import MetricChrF

    def of(**options: Any) -> Scorer:
        metric = MetricChrF(MetricChrF.Config(**options))
        return lambda candidates: metric.pairwise_scores(candidates, candidates).numpy()

    return {
        "sacrebleu": theirs,
        "mbrs": of(),
        "mbrs_1_process": of(num_workers=1),
        "mbrs_fastchrf": of(fastchrf=True),
    }


def cpu() -> float:
    """Seconds of this process and of children that ended."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def choice(scores: np.ndarray) -> int:
    return int(np.argmax(np.round(scores.mean(axis=1), 9)))


def timed(score: Scorer, candidates: list[str]) -> tuple[float, np.ndarray]:
    """CPU milliseconds of one choice, the mean of as many as `LEAST` seconds hold, and the
    scores.
    """
    start, calls = cpu(), 1
    scores = score(candidates)
    choice(scores)
    while cpu() - start < LEAST:
        choice(score(candidates))
        calls += 1
    return 1000 * (cpu() - start) / calls, scores


def compare(size: int, words: int, rounds: int, others: dict[str, Scorer]) -> dict[str, Any]:
    """Median CPU milliseconds of all over interleaved rounds, largest differences of scores, and
    who chooses as Pomona does.
    """
    candidates = pool(size, words, seed=size + words)
    scorers: dict[str, Scorer] = {"pomona": lambda texts: pairwise(texts, texts)}
    scorers |= {
        name: score
        for name, score in others.items()
        if name != "mbrs_1_process" or size <= ONE_PROCESS_UP_TO
    }
    times: dict[str, list[float]] = {name: [] for name in scorers}
    scores: dict[str, np.ndarray] = {}
    for _ in range(rounds):
        for name, score in scorers.items():
            spent, scores[name] = timed(score, candidates)
            times[name].append(spent)
    median = {name: statistics.median(column) for name, column in times.items()}
    row: dict[str, Any] = {
        "candidates": size,
        "words": words,
        **{f"{name}_ms": round(value, 3) for name, value in median.items()},
    }
    for name in list(scorers)[1:]:
        row[f"times_{name}"] = round(median[name] / median["pomona"], 1)
        row[f"difference_{name}"] = float(np.abs(scores["pomona"] - scores[name]).max())
    row["same_choice"] = sorted(
        name for name, found in scores.items() if choice(found) == chrf_mbr(candidates)
    )
    assert row["difference_sacrebleu"] < 1e-9
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[5, 32, 128])
    parser.add_argument("--words", type=int, nargs="+", default=[40, 300])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/mbr.json"))
    arguments = parser.parse_args()
    others = peers()
    chrf_mbr(["compile", "once"])
    versions = {name: version(name) for name in ("numba", "numpy", "sacrebleu", "mbrs", "fastchrf")}
    about = {
        "unit": "CPU ms a choice, processes included",
        "rounds": arguments.rounds,
        "machine": machine(),
        "versions": versions,
    }
    rows = []
    for words in arguments.words:
        for size in arguments.sizes:
            rows.append(compare(size, words, arguments.rounds, others))
            print(rows[-1], flush=True)
            write_json(arguments.out, {**about, "rows": rows})


if __name__ == "__main__":
    main()
