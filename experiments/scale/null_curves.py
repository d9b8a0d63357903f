"""How often a smooth curve is called broken, and how often a broken one is found: five of a hundred
at most, and more with every size.

python experiments/scale/null_curves.py [--curves 100] > experiments/scale/results/null_curves.json

Curves are drawn with errors of their own over three decades of sizes. Each counts as the only one of
its table: no p-value is corrected.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np
import pyarrow as pa

from pomona.scale import inflection

SIZES, NOISES, SIMULATIONS = (5, 8, 12), (0.01, 0.03), 99  # errors are parts of a curve's range
ALPHA = 0.05
Curve = Callable[[np.ndarray], np.ndarray]
SMOOTH: dict[str, Curve] = {
    "power law": lambda n: 1 + 3 * n**-0.3,
    "steep power law": lambda n: 1 + 3 * n**-1.0,
    "line in log N": np.log,
    "logistic": lambda n: 100 / (1 + np.exp(-1.2 * np.log(n / 30))),
    "nothing but noise": np.zeros_like,
}
BROKEN: dict[str, Curve] = {
    "kink": lambda n: np.maximum(0, np.log(n / 30)),
    "jump": lambda n: 0.2 * np.log(n) + (n > 30),
    "power law that bends": lambda n: 3 * n**-0.3 - 0.5 * np.maximum(0, np.log(n / 30)),
}
METRIC: dict[
    str, Curve
] = {  # smooth laws of a token's error, and answers that are right as a whole
    "exact match of 20 tokens, error N^-0.5": lambda n: 100 * np.exp(-20 * n**-0.5),
    "exact match of 400 tokens, error N^-1": lambda n: 100 * np.exp(-400 * n**-1.0),
}


def verdicts(curve: Curve, sizes: int, noise: float, curves: int, seed: int) -> dict[str, float]:
    """The share of each verdict."""
    rng = np.random.default_rng([seed, sizes, round(1000 * noise)])
    n = np.geomspace(1, 1000, sizes)
    truth = curve(n)
    errors = (noise * np.ptp(truth) or 1.0) * rng.normal(size=(curves, sizes))
    rows = [
        {"params": 1e6 * size, "score": value, "group": str(at)}
        for at, each in enumerate(truth + errors)
        for size, value in zip(n, each, strict=True)
    ]
    found = inflection(pa.Table.from_pylist(rows), simulations=SIMULATIONS, seed=seed).curves
    return {
        "broken": sum((c.difference or 0) > 0 and (c.p_value or 1) <= ALPHA for c in found)
        / curves,
        "smooth": sum(c.verdict == "smooth" for c in found) / curves,
    }


def main() -> None:
    """Print a JSON document."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--curves", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    told: dict[str, Any] = {"curves": asked.curves, "seed": asked.seed, "simulations": SIMULATIONS}
    told["pomona"] = version("pomona")
    for kind, shapes in (("smooth", SMOOTH), ("broken", BROKEN), ("metric", METRIC)):
        rows = told[kind] = []
        for name, curve in shapes.items():
            for noise in NOISES:
                for sizes in SIZES:
                    found = verdicts(curve, sizes, noise, asked.curves, asked.seed)
                    rows.append({"curve": name, "noise": noise, "sizes": sizes, **found})
                    print(kind, rows[-1], file=sys.stderr, flush=True)
    told["false alarms"] = {
        str(sizes): float(
            np.mean([row["broken"] for row in told["smooth"] if row["sizes"] == sizes])
        )
        for sizes in SIZES
    }
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
