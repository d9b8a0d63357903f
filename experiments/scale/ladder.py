"""The laws of the trainings of a run, by the part of its test items: what size and data buy warm, cold,
in the tail, near to the training data and far from it.

python experiments/scale/ladder.py RUN [--out experiments/scale/results/ladder.json]

RUN is the folder of `pomona run examples/scaling.yaml`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pomona.files import write_json
from pomona.scale import fit

PARTS = ("overall", "warm", "cold", "head", "tail", "near", "middle", "far")
FORMS = ("chinchilla", "data_constrained")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/ladder.json")
    given = parser.parse_args()
    found: dict[str, dict[str, Any]] = {part: {} for part in PARTS}
    for part in PARTS:
        for form in FORMS:
            every = part == "overall" and form == "chinchilla"
            law = fit(given.run, part=[part], form=form, multiverse=every)
            found[part][form] = law.to_json()
    write_json(given.out, found)


if __name__ == "__main__":
    main()
