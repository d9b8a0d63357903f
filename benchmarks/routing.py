"""What it costs to route a prompt: CPU microseconds of a learned router, alone and among others.

Prompts are sources of `ui` cut to a length, the router was learned from drawn worths of so many
teachers. The least of so many rounds counts.

    python benchmarks/routing.py
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from _machine import machine

from pomona import records
from pomona.files import write_json
from pomona.synth.routing import Form, Learned, Pool, learn_router
from pomona.synth.teachers import Assignment, Candidate, Lesson

RESULTS = Path(__file__).parent / "results" / "routing.json"


def policy_of(texts: list[str], teachers: int) -> Learned:
    """A policy that was learned from these texts and drawn worths."""
    rng, candidates = np.random.default_rng(0), []
    for at, text in enumerate(texts):
        row = Assignment(f"r{at}", text, "en", ("af", "be", "mk")[at % 3], "x", text)
        each = (Candidate(row, Lesson(row.id, "x", f"t{n}", None)) for n in range(teachers))
        candidates += each
    worths = rng.normal(size=len(candidates))
    return Learned(
        learn_router(Pool.of(candidates), worths, form=Form(temperatures=(1.0,), folds=3))
    )


def microseconds(policy: Learned, calls: list[list[Assignment]], rounds: int) -> float:
    """CPU of a row, the least of the rounds."""
    took = []
    for _ in range(rounds):
        start = time.process_time()
        for rows in calls:
            policy.ask(rows)
        took.append(time.process_time() - start)
    return round(min(took) / sum(map(len, calls)) * 1e6, 1)


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    sources = records.read("ui").where(lang="de", split="train").to_table()["english"]
    texts = list(dict.fromkeys(sources.to_pylist()))
    found: dict[str, Any] = {}
    for teachers in (3, 14):
        policy = policy_of(texts[:600], teachers)
        for length in (30, 100, 400):
            joined = [" ".join(texts[at : at + 60])[:length] for at in range(512)]
            rows = [Assignment(str(at), text, "en", "af") for at, text in enumerate(joined)]
            found[f"{teachers} teachers, {length} characters"] = {
                "alone": microseconds(policy, [[row] for row in rows], given.rounds),
                "among others": microseconds(policy, [rows], given.rounds),
            }
    write_json(given.out, {"machine": machine(), "rounds": given.rounds, "microseconds": found})
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
