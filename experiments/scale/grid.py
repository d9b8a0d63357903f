"""The optimum of Chinchilla's law by L-BFGS-B from a grid of 4,500 starts, as Hoffmann et al. (2022, appendix D.3)
and Besiroglu et al. (2024) search it, beside that of `pomona.scale.fit`: the same objective, written anew.

python experiments/scale/grid.py TABLE --params "Model Size" --flops "Training FLOP" --drop-highest 5
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from pathlib import Path

import numpy as np
from scipy.optimize import minimize

from pomona import records
from pomona.scale import fit

DELTA = 1e-3
STARTS = [np.arange(-1, 1.1, 0.5), *[np.arange(0, 26, 5)] * 2, *[np.arange(0, 2.1, 0.5)] * 2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path)
    parser.add_argument("--params", default="params")
    parser.add_argument("--flops", default="flops")
    parser.add_argument("--drop-highest", type=int, default=0)
    given = parser.parse_args()
    table = records.read(given.table).to_table()
    params, flops, losses = (
        table[name].to_numpy().astype(float) for name in (given.params, given.flops, "loss")
    )
    kept = np.argsort(losses)[: len(losses) - given.drop_highest]
    n, d, loss = (np.log(values[kept]) for values in (params, flops / (6 * params), losses))

    def objective(at: np.ndarray) -> tuple[float, np.ndarray]:
        e, a, b, alpha, beta = at
        parts = np.stack([np.full_like(n, e), a - alpha * n, b - beta * d])
        told = np.logaddexp.reduce(parts)
        share, far = np.exp(parts - told), loss - told
        small = np.abs(far) <= DELTA
        each = np.where(small, far**2 / 2, DELTA * (np.abs(far) - DELTA / 2))
        slope = -np.where(small, far, DELTA * np.sign(far))
        e_, a_, b_ = (slope * one for one in share)
        gradient = [e_.sum(), a_.sum(), b_.sum(), -(a_ * n).sum(), -(b_ * d).sum()]
        return 1e3 * each.sum(), 1e3 * np.array(gradient)

    began = time.process_time()
    exact = {"maxiter": 2000, "ftol": 1e-15, "gtol": 1e-10}
    ends = (
        minimize(objective, start, jac=True, method="L-BFGS-B", options=exact)
        for start in itertools.product(*STARTS)
    )
    best = min(ends, key=lambda end: end.fun)
    seconds = time.process_time() - began
    ours = fit(
        given.table, params=given.params, flops=given.flops, drop_highest=given.drop_highest, resamples=0
    ).to_json()  # fmt: skip
    at = [np.log(ours["E"]), np.log(ours["A"]), np.log(ours["B"]), ours["alpha"], ours["beta"]]
    names = ("E", "A", "B", "alpha", "beta")
    grid = dict(zip(names, [*map(float, np.exp(best.x[:3])), *map(float, best.x[3:])], strict=True))
    told = {
        "grid": {**grid, "objective": float(best.fun), "cpu_seconds": round(seconds, 1)},
        "pomona": {**{k: ours[k] for k in names}, "objective": float(objective(np.array(at))[0])},
    }
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
