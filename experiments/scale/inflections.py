"""Which metric of a ladder breaks: exact match, chrF and bits per byte of the same models, overall
and by group.

python experiments/scale/inflections.py RUN [RUN …] [--name scaling]

Runs are folders of `pomona run`. What it finds is in experiments/scale/results/inflections-NAME.json,
and of a run that lists its trainings also the losses of each number of tokens.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

from pomona.files import write_json
from pomona.recipe import measured_at
from pomona.scale import Inflection, inflection

RESULTS = Path(__file__).parent / "results"


def told(result: Inflection) -> dict[str, Any]:
    """The curves of all items whole; of groups how many have which verdict, and those that break."""
    of = Counter((one.metric, one.verdict) for one in result.curves if one.group != "overall")
    whole = result.to_json()
    kept = [c for c in whole["curves"] if c["group"] == "overall" or c["verdict"] == "broken"]
    groups = {f"{metric}: {verdict}": n for (metric, verdict), n in sorted(of.items())}
    return {**whole, "curves": kept, "groups": groups}


def main() -> None:
    """Write a JSON document, and print what it says in short."""
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--name", default="scaling")
    parser.add_argument("--simulations", type=int, default=999)
    asked = parser.parse_args()
    result = inflection(measured_at(asked.runs), simulations=asked.simulations)
    found: dict[str, Any] = {"runs": [Path(run).name for run in asked.runs], "items": told(result)}
    print(result.headline())
    trainings = [Path(run, "training-runs.csv") for run in asked.runs]
    if files := [path for path in trainings if path.is_file()]:
        losses = ["loss", "bits_per_byte"]
        for along in ("params", "tokens"):
            each = inflection(files, along=along, metric=losses, simulations=asked.simulations)
            found[f"losses along {along}"] = told(each)
            print(f"along {along}: {each.headline()}")
    RESULTS.mkdir(exist_ok=True)
    write_json(RESULTS / f"inflections-{asked.name}.json", found)


if __name__ == "__main__":
    main()
