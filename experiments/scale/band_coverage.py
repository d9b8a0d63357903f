"""Do the bands of `pomona scale fit` cover what they promise? Laws are drawn at random; runs are those
of a table (sizes, tokens) or of a ladder, with the table's own residuals drawn anew, or with noise of
`--noise` where there is no table; the fifth of the runs with the most compute is predicted from the
others, and its share inside the bands of 95 % is counted, with and without the stretch by earlier runs.

python experiments/scale/band_coverage.py [TABLE] --laws 200 --out experiments/scale/results/band_coverage.json
"""

from __future__ import annotations

import argparse
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pomona.files import write_json
from pomona.scale import Law, fit, read_runs
from pomona.scale.laws.held_out import Procedure, fitted
from pomona.scale.laws.huber import Loss

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
from _machine import machine


def ladder(sizes: int, lengths: int, seeds: int) -> tuple[np.ndarray, np.ndarray]:
    """Sizes from 0.5 to 8 million parameters, each on 1 to 30 million tokens."""
    n, d = np.geomspace(5e5, 8e6, sizes), np.geomspace(1e6, 3e7, lengths)
    grid = np.meshgrid(n, d, np.arange(seeds), indexing="ij")
    return grid[0].ravel(), grid[1].ravel()


def drawn(rng: np.random.Generator, n: np.ndarray, d: np.ndarray) -> Law:
    """A law with a floor of 1 to 2.3 and exponents of .25 to .5, whose terms are .2 to .8 at the mean run."""
    alpha, beta = rng.uniform(0.25, 0.5, 2)
    terms = rng.uniform(0.2, 0.8, 2)
    at = np.exp([np.log(n).mean() * alpha, np.log(d).mean() * beta])
    return Law(float(rng.uniform(1, 2.3)), *map(float, terms * at), float(alpha), float(beta))


def covered(n: np.ndarray, d: np.ndarray, residuals: np.ndarray, laws: int) -> dict[str, Any]:
    """The share of held-out runs inside their bands, over so many laws."""
    procedure = Procedure("chinchilla", Loss(), 0.2, 1000, 0)
    shares, errors, inside, stretched = [], [], [], 0
    begun = time.process_time()
    for number in range(laws):
        rng = np.random.default_rng([number, 7])
        law = drawn(rng, n, d)
        loss = law.loss(n, d) * np.exp(rng.choice(residuals, len(n)))
        table = {"params": n, "tokens": d, "loss": loss, "run": list(range(len(n)))}
        found, held = fitted(procedure, read_runs(pa.table(table)), None)
        shares.append(held.coverage)
        errors.append(held.error)
        stretched += found.stretch > 1
        ends = found.interval(found.exponents())
        inside.append(ends is not None and ends[0] <= law.exponent <= ends[1])
    return {
        "runs": len(n),
        "laws": laws,
        "coverage": float(np.mean(shares)),
        "coverage_error": float(np.std(shares) / laws**0.5),
        "error": float(np.mean(errors)),
        "stretched": stretched / laws,
        "exponent_coverage": float(np.mean(inside)),
        "cpu_seconds_each": (time.process_time() - begun) / laws,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", nargs="?", type=Path)
    parser.add_argument("--params", default="params")
    parser.add_argument("--flops")
    parser.add_argument("--drop-highest", type=int, default=0)
    parser.add_argument("--laws", type=int, default=200)
    parser.add_argument("--noise", type=float, default=0.004)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    told: dict[str, Any] = {
        "machine": machine(),
        "versions": {p: version(p) for p in ("pomona", "numpy")},
    }
    noise = np.random.default_rng(0).normal(0, given.noise, 4000)
    designs = {
        "5 sizes, 4 lengths": ladder(5, 4, 1),
        "5 sizes, 3 lengths, 3 seeds": ladder(5, 3, 3),
    }
    if given.table:
        found = fit(
            given.table, params=given.params, flops=given.flops, drop_highest=given.drop_highest
        )
        noise = found.fitted.residuals
        told["table"] = {
            "name": given.table.name,
            "held_out": vars(found.held_out),
            "stretch": found.fitted.stretch,
        }
        designs = {
            f"{len(noise)} runs of {given.table.name}": (found.runs.params, found.runs.tokens),
            **designs,
        }
    told["noise"] = {
        "standard_deviation": float(noise.std()),
        "quantiles": np.quantile(noise, [0.01, 0.5, 0.99]).tolist(),
    }
    told["designs"] = {}
    for name, (n, d) in designs.items():
        told["designs"][name] = covered(n, d, noise, given.laws)
        print(name, told["designs"][name], flush=True)
        write_json(given.out, told)


if __name__ == "__main__":
    main()
