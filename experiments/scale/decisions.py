"""Does a small size rank levers as a large one does: decision accuracy, rank correlations and regret
of each smaller size, of extrapolated curves and of chance, by metric, overall and by group.

python experiments/scale/decisions.py RUN RUN [RUN …] [--name levers]

Runs are folders of `pomona run` with the same levers at several sizes, the smallest first. What it
finds is in experiments/scale/results/decisions-NAME.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from pomona.files import write_json
from pomona.recipe import measured_at
from pomona.scale import Decisions, decide

RESULTS = Path(__file__).parent / "results"


def by_group(result: Decisions) -> dict[str, Any]:
    """Of each metric and way to choose the mean accuracy and regret over groups, and the worst."""
    found: dict[str, Any] = {}
    for one in result.decisions:
        if one.group == "overall":
            continue
        for method in one.methods:
            if method.accuracy is None or method.regret is None:
                continue
            of = found.setdefault(f"{one.metric}, {method.name}", {"accuracy": {}, "regret": {}})
            of["accuracy"][one.group] = method.accuracy.value
            of["regret"][one.group] = method.regret.value
    for of in found.values():
        of["mean accuracy"] = float(np.mean(list(of["accuracy"].values())))
        of["mean regret"] = float(np.mean(list(of["regret"].values())))
        of["largest regret"] = max(of["regret"], key=of["regret"].__getitem__)
    return found


def main() -> None:
    """Write a JSON document, and print what it says in short."""
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--name", default="levers")
    asked = parser.parse_args()
    result = decide(measured_at(asked.runs))
    whole = result.to_json()
    whole["decisions"] = [one for one in whole["decisions"] if one["group"] == "overall"]
    print(result.headline())
    for one in result.decisions:
        if one.group != "overall":
            continue
        for method in one.methods:
            figures = [method.accuracy, method.kendall, method.regret]
            shown = ", ".join("unknown" if f is None else f.told() for f in figures)
            print(f"{one.metric}, by {method.name}: accuracy, tau, regret {shown} {method.note}")
    RESULTS.mkdir(exist_ok=True)
    document = {"runs": [Path(run).name for run in asked.runs], **whole, "groups": by_group(result)}
    write_json(RESULTS / f"decisions-{asked.name}.json", document)


if __name__ == "__main__":
    main()
