"""A law of training runs by `pomona.scale` and by the package `chinchilla` (PyPI): error on the runs of
the largest compute, which neither saw, and CPU seconds of a fit. The peer runs in an environment of its
own, by its default loss (asymmetric: over-estimates count ten times) and by Huber's of log residuals with
delta .001, as ours, from a grid of so many starts a parameter.

    python -m venv PEER && PEER/bin/pip install chinchilla==0.2.0
    python benchmarks/scaling_law.py TABLE --peer PEER/bin/python --out benchmarks/results/scaling_law.json
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from _machine import machine

from pomona.files import write_json
from pomona.scale import Law, Runs, read_runs
from pomona.scale.laws.fitting import fit_form
from pomona.scale.laws.huber import Loss
from pomona.scale.laws.multiverse import without_highest

PEER = """
import json, os, sys, time
from functools import partial
os.cpu_count = lambda: 1
import numpy as np
from chinchilla import Chinchilla
from chinchilla._metrics import log_huber
given = json.load(open(sys.argv[1]))
k = given["starts"]
grid = dict(E=np.linspace(1, 2, k), a=np.linspace(1, 10, k), b=np.linspace(1, 10, k),
            alpha=np.linspace(0.1, 0.7, k), beta=np.linspace(0.1, 0.7, k))
more = {"loss_fn": partial(log_huber, delta=1e-3)} if given["huber"] else {}
cc = Chinchilla(sys.argv[2], param_grid=grid, log_level=40, **more)
for n, d, loss in zip(*given["fit"]):
    cc.append(N=n, D=d, C=6 * n * d, loss=loss)
cc.visualizer.optim = lambda *a, **k: None
begun = time.process_time(), os.times()
cc.fit(parallel=True)
after = os.times()
spent = (after.user + after.children_user) - (begun[1].user + begun[1].children_user)
told = [float(cc.predict_loss(n, d)) for n, d in zip(*given["held_out"])]
law = {name: float(getattr(cc, name)) for name in ("E", "A", "B", "alpha", "beta")}
print("RESULT" + json.dumps({"predicted": told, "law": law, "cpu_seconds": spent}))
"""


def split(runs: Runs, share: float) -> tuple[Runs, Runs]:
    """The smaller runs and the largest share of them by compute."""
    fits = runs.flops <= np.quantile(runs.flops, 1 - share)
    return runs.take(fits), runs.take(~fits)


def error(predicted: Any, runs: Runs) -> float:
    """Mean relative error."""
    return float(np.abs(np.asarray(predicted) / runs.loss - 1).mean())


def ours(small: Runs, large: Runs, above: float) -> dict[str, Any]:
    """Error, law and the CPU seconds of the fit alone and of a thousand refits with it."""
    fit_form(small, "chinchilla", Loss(above=above), resamples=0, seed=0)
    spent = []
    for resamples in (0, 1000):
        begun = time.process_time()
        law = fit_form(small, "chinchilla", Loss(above=above), resamples=resamples, seed=0).law
        spent.append(time.process_time() - begun)
    told = {name: getattr(law, name) for name in ("E", "A", "B", "alpha", "beta")}
    predicted = law.loss(large.params, large.tokens)
    return {
        "held_out_error": error(predicted, large),
        "law": told,
        "cpu_seconds": spent[0],
        "cpu_seconds_with_1000_refits": spent[1],
    }


def peers(python: Path, small: Runs, large: Runs, starts: int, huber: bool) -> dict[str, Any]:
    """The same by the peer."""
    columns = ("params", "tokens", "loss")
    given = {
        "fit": [getattr(small, name).tolist() for name in columns],
        "huber": huber,
        "starts": starts,
    }
    given["held_out"] = [large.params.tolist(), large.tokens.tolist()]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "given.json"
        write_json(file, given)
        command = [str(python.absolute()), "-c", PEER, str(file), str(Path(folder) / "project")]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    if "RESULT" not in done.stdout:
        raise SystemExit(done.stderr)
    told = json.loads(done.stdout.rpartition("RESULT")[2])
    return {"starts": starts**5, "held_out_error": error(told.pop("predicted"), large), **told}


def paired(one: dict[str, float], other: dict[str, float], runs: Runs) -> dict[str, float]:
    """By how much the first law's error is larger, with the 95 % interval over resampled runs."""
    off = [
        np.abs(Law(**law).loss(runs.params, runs.tokens) / runs.loss - 1) for law in (one, other)
    ]
    difference = off[0] - off[1]
    drawn = np.random.default_rng(0).choice(difference, (10_000, len(runs))).mean(1)
    low, high = np.quantile(drawn, [0.025, 0.975]).tolist()
    return {"difference": float(difference.mean()), "low": low, "high": high}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", type=Path)
    parser.add_argument("--peer", type=Path, required=True)
    parser.add_argument("--params", default="params")
    parser.add_argument("--flops")
    parser.add_argument("--drop-highest", type=int, default=0)
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    runs = read_runs(given.table, {"params": given.params, "flops": given.flops})
    runs = runs.take(without_highest(runs, given.drop_highest))
    small, large = split(runs, 0.2)
    told: dict[str, Any] = {
        "machine": machine(),
        "versions": {"pomona": version("pomona"), "numpy": version("numpy"), "chinchilla": "0.2.0"},
        "table": given.table.name,
        "runs": {"fitted": len(small), "held_out": len(large)},
        "pomona, Huber": ours(small, large, 1.0),
        "pomona, over-estimates x10": ours(small, large, 10.0),
    }
    for name, huber in (("chinchilla, Huber", True), ("chinchilla, its default", False)):
        told[name] = peers(given.peer, small, large, given.starts, huber)
        told[name]["ours_less_this"] = {
            own: paired(told[own]["law"], told[name]["law"], large)
            for own in ("pomona, Huber", "pomona, over-estimates x10")
        }
        write_json(given.out, told)
        print(name, told[name], flush=True)


if __name__ == "__main__":
    main()
