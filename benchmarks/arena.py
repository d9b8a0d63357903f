"""Ratings with intervals and resamples by `pomona.arena` and by FastChat, arena-rank and evalica: CPU
seconds from a Parquet file of votes, imports and compiled code apart, in turns; distance to a long Newton
run, in points; and errors against statsmodels. Votes are made: models that come and go, some shown far
more often than others, items of three votes that share their difficulty.

Peers run in environments of their own. FastChat's ratings on counts are not on PyPI (fschat 0.2.36 has
those that lay out every vote for scikit-learn): give its file fastchat/serve/monitor/rating_systems.py.
arena-rank's bootstrap is given some time to end. evalica is fitted once, and its bootstrap counted as so
many fits, which it is.

    python -m venv FAST && FAST/bin/pip install scipy pandas pyarrow tqdm
    python -m venv RANK && RANK/bin/pip install arena-rank==0.1.1 pyarrow
    python -m venv EVA && EVA/bin/pip install evalica==0.4.2 pyarrow
    python -m venv STATS && STATS/bin/pip install statsmodels==0.15.0 pyarrow
    python benchmarks/arena.py --fastchat FAST/bin/python rating_systems.py --arena-rank RANK/bin/python \\
        --evalica EVA/bin/python --statsmodels STATS/bin/python --out benchmarks/results/arena.json
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from _machine import compile_package, machine

from pomona.files import write_json

OUTCOMES = pa.array(["model_a", "model_b", "tie", "tie (bothbad)"])
BOARDS = {  # models, votes, votes an item (1: no column names any), resamples
    "211 models, 2,736,442 votes": (211, 2_736_442, 1, 100),
    "400 models, 6,000,000 votes in items": (400, 6_000_000, 3, 200),
}
PATIENCE = 90  # seconds for a bootstrap that may never end
ONE_THREAD = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}
START = """
import json, os, resource, sys
def cpu():
    t = os.times()
    return t.user + t.system + t.children_user + t.children_system
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
def told(**found):
    found.setdefault("peak_mib", peak())
    print("RESULT" + json.dumps(found))
file, resamples = sys.argv[1], int(sys.argv[2])
"""
OURS = """
import pyarrow as pa
from pomona.arena import fit, read_votes, LiveRatings
models = [[f"{i}" for i in range(4)][j % 4] for j in range(48)]
small = pa.table({"model_a": models, "model_b": models[1:] + models[:1], "item": [j // 2 for j in range(48)],
                  "winner": [("model_a", "model_b", "tie")[j // 4 % 3] for j in range(48)]})
fit(small, resamples=100)
begun = cpu()
found = fit(file, resamples=resamples)
spent, most = cpu() - begun, peak()
assert found.converged
ratings = {row.model: row.rating for row in found.rows}
votes = read_votes(file)
live = LiveRatings(votes)
one, other = votes.models[:2]
live.add(one, other, "model_a"), live.standings()
begun = cpu()
for number in range(100):
    live.add(one, other, "model_b" if number % 2 else "model_a")
    live.standings()
told(cpu_seconds=spent, peak_mib=most, ratings=ratings, signature=found.signature, one_vote_ms=10 * (cpu() - begun))
"""
FASTCHAT = """
import importlib.util, pandas as pd
spec = importlib.util.spec_from_file_location("rating_systems", sys.argv[3])
systems = importlib.util.module_from_spec(spec)
sys.modules["rating_systems"] = systems
spec.loader.exec_module(systems)
begun = cpu()
votes = pd.read_parquet(file)
ratings = systems.compute_bt(votes)
systems.compute_bootstrap_bt(votes, resamples, num_cpu=1)
told(cpu_seconds=cpu() - begun, ratings=ratings.to_dict())
"""
ARENA_RANK = """
import pandas as pd, numpy as np
from arena_rank.models.bradley_terry import BradleyTerry
from arena_rank.utils.data_utils import PairDataset
begun = cpu()
data = PairDataset.from_pandas(pd.read_parquet(file))
model = BradleyTerry(len(data.competitors))
method = dict(ci_method="bootstrap", num_bootstrap=resamples, n_jobs=1) if resamples else {}
found = model.compute_ratings_and_cis(data, **method)
ratings = dict(zip(found["competitors"], np.asarray(found["ratings"]).tolist()))
np.asarray(found["rating_upper"])
told(cpu_seconds=cpu() - begun, ratings=ratings)
"""
EVALICA = """
import evalica, numpy as np, pandas as pd
begun = cpu()
votes = pd.read_parquet(file)
kinds = {"model_a": evalica.Winner.X, "model_b": evalica.Winner.Y}
winners = [kinds.get(one, evalica.Winner.Draw) for one in votes["winner"]]
first, second = votes["model_a"].tolist(), votes["model_b"].tolist()
ready = cpu()
found = evalica.bradley_terry(first, second, winners)
one = cpu() - ready
ratings = (1000 + 400 * np.log10(found.scores)).to_dict()
told(cpu_seconds=ready - begun + (1 + resamples) * one, one_fit=one, ratings=ratings)
"""
STATSMODELS = """
import numpy as np, pandas as pd, statsmodels.api as sm
votes = pd.read_parquet(file)
models = sorted(set(votes["model_a"]) | set(votes["model_b"]))
x = np.zeros((len(votes), len(models)))
rows = np.arange(len(votes))
x[rows, [models.index(one) for one in votes["model_a"]]] = 1
x[rows, [models.index(one) for one in votes["model_b"]]] = -1
y = votes["winner"].map({"model_a": 1.0, "model_b": 0.0}).fillna(0.5)
found = sm.GLM(y, x[:, 1:], family=sm.families.Binomial()).fit(
    cov_type="cluster", cov_kwds={"groups": votes["item"]}, tol=1e-14, maxiter=200)
told(strengths=found.params.tolist(), errors=found.bse.tolist())
"""


def drawn(models: int, n: int, per_item: int, seed: int) -> pa.Table:
    """Votes of models that are there for some time, are liked unlike, and get better."""
    rng = np.random.default_rng(seed)
    born = np.sort(rng.uniform(0, 1, models) ** 0.8)
    gone = born + rng.lognormal(np.log(0.18), 0.8, models)
    liked, skill = rng.lognormal(0, 0.8, models), rng.normal(0, 0.75, models) + 1.2 * born
    items = n // per_item
    item = np.sort(rng.integers(0, items, n))
    first, second = np.empty(items, np.int32), np.empty(items, np.int32)
    for part in range(200):
        at = slice(items * part // 200, items * (part + 1) // 200)
        there = np.flatnonzero((born <= max((part + 1) / 200, born[8])) & (gone >= part / 200))
        share = liked[there] / liked[there].sum()
        one, other = rng.choice(there, (2, at.stop - at.start), p=share)
        while (same := one == other).any():
            other[same] = rng.choice(there, same.sum(), p=share)
        first[at], second[at] = one, other
    off, nu = rng.normal(0, 0.8, items), np.exp(rng.normal(-0.3, 0.5, items))
    half = np.exp((skill[first] - skill[second] + off) / 2)
    total = half + 1 / half + nu
    told = rng.random(n)
    won = told < (half / total)[item]
    tied = ~won & (told < ((half + nu) / total)[item])
    turned = rng.random(n) < 0.5
    outcome = np.where(tied, 2 + (rng.random(n) < 0.5), np.where(won != turned, 0, 1))
    a, b = np.where(turned, second[item], first[item]), np.where(turned, first[item], second[item])
    names = pa.array([f"organisation-{number % 23}/model-{number:03d}" for number in range(models)])
    table = pa.table(
        {
            "model_a": names.take(pa.array(a)),
            "model_b": names.take(pa.array(b)),
            "winner": OUTCOMES.take(pa.array(outcome)),
        }
    )
    return table if per_item == 1 else table.append_column("item", pa.array(item))


def run(python: str, code: str, *given: Any, seconds: float | None = None) -> dict[str, Any]:
    """What a program tells; that it did not end where it did not."""
    command = [python, "-c", START + code, *map(str, given)]
    environment = {**os.environ, **ONE_THREAD}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            return {"ended": False, "seconds_given": seconds}
    if "RESULT" not in out:
        raise SystemExit(err)
    return json.loads(out.rpartition("RESULT")[2])


def newton(file: Path, ties: str) -> dict[str, float]:
    """Ratings by Newton's method on whole matrices, to the last bit that it can move: by half wins or
    Davidson's model, written again.
    """
    table = pq.read_table(file)
    names = sorted(
        set(table["model_a"].unique().to_pylist() + table["model_b"].unique().to_pylist())
    )
    number = pa.array(names)
    a, b = (pa.compute.index_in(table[side], number).to_numpy() for side in ("model_a", "model_b"))
    said = pa.compute.index_in(table["winner"], OUTCOMES).to_numpy()
    k = len(names)
    wins, tied = np.zeros((2, k, k))
    np.add.at(wins, (a[said == 0], b[said == 0]), 1)
    np.add.at(wins, (b[said == 1], a[said == 1]), 1)
    np.add.at(tied, (a[said >= 2], b[said >= 2]), 1)
    tied = tied + tied.T
    n, theta, log_nu, free = wins + wins.T + tied, np.zeros(k), 0.0, ties == "davidson"
    for _ in range(60):
        d = theta[:, None] - theta[None]
        nu = np.exp(log_nu) if free else 0.0
        half = np.exp(d / 2)
        total = half + 1 / half + nu
        p, q, t = half / total, 1 / half / total, nu / total
        gradient = ((wins - wins.T) / 2 - n * (p - q) / 2).sum(1)
        weight = n * ((p + q) - (p - q) ** 2) / 4
        hessian = np.zeros((k + 1, k + 1))
        hessian[:k, :k] = np.diag(weight.sum(1)) - weight + weight.mean()
        across = -(n * (p - q) / 2 * t).sum(1)
        hessian[:k, k] = hessian[k, :k] = across if free else 0
        hessian[k, k] = (n * t * (1 - t)).sum() / 2 if free else 1
        last = (tied - n * t).sum() / 2 if free else 0.0
        step = np.linalg.solve(hessian, np.append(gradient, last))
        theta, log_nu = theta + step[:k] - step[:k].mean(), log_nu + step[k]
    return dict(
        zip(names, (1000 + 400 / np.log(10) * (theta - theta.mean())).tolist(), strict=True)
    )


def away(ratings: dict[str, float], right: dict[str, float]) -> float:
    """The largest difference of ratings about their means."""
    found = np.array([ratings[name] for name in right]), np.array(list(right.values()))
    return float(np.abs((found[0] - found[0].mean()) - (found[1] - found[1].mean())).max())


def errors_beside(python: str, folder: Path) -> dict[str, float]:
    """Strengths and clustered errors against statsmodels, the largest relative difference."""
    from pomona.arena import read_votes
    from pomona.arena.ratings.bradley_terry import counts_of, solve
    from pomona.arena.ratings.clusters import clustered
    from pomona.arena.ratings.intervals import errors

    file = folder / "small.parquet"
    pq.write_table(drawn(20, 6000, 4, 1), file)
    theirs = run(python, STATSMODELS, file, 0)
    votes = read_votes(file)
    counts = counts_of(votes)
    solution = solve(counts, "half")
    found = errors(counts, solution, clustered(votes, "item"), leverage=False)
    assert found is not None
    strengths = solution.strengths[1:] - solution.strengths[0]
    ours = np.array([found.of_difference(one, 0) for one in range(1, len(votes.models))])
    return {
        "strengths": float(np.abs(strengths / theirs["strengths"] - 1).max()),
        "errors": float(np.abs(ours / theirs["errors"] - 1).max()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fastchat", nargs=2, metavar=("PYTHON", "FILE"))
    for name in ("arena-rank", "evalica", "statsmodels"):
        parser.add_argument(f"--{name}", metavar="PYTHON")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    compile_package()
    told: dict[str, Any] = {
        "machine": machine(),
        "versions": {name: version(name) for name in ("pomona", "numpy", "pyarrow")},
        "boards": {},
    }
    peers = {
        "FastChat": (given.fastchat and given.fastchat[0], FASTCHAT),
        "arena-rank, no bootstrap": (given.arena_rank, ARENA_RANK),
        "evalica, extrapolated": (given.evalica, EVALICA),
    }
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        if given.statsmodels:
            told["statsmodels"] = errors_beside(given.statsmodels, folder)
        for name, (models, n, per_item, resamples) in BOARDS.items():
            file = folder / "votes.parquet"
            pq.write_table(drawn(models, n, per_item, 0), file)
            board = told["boards"].setdefault(name, {})
            right = {ties: newton(file, ties) for ties in ("davidson", "half")}
            for _ in range(given.rounds):
                found = run(sys.executable, OURS, file, resamples)
                _add(board, "pomona", found, right["davidson"])
                for peer, (python, code) in peers.items() if per_item == 1 else ():
                    if python:
                        extra = given.fastchat[1:] if peer == "FastChat" else []
                        many = 0 if peer.startswith("arena-rank") else resamples
                        found = run(python, code, file, many, *extra)
                        _add(board, peer, found, right["half"])
                write_json(given.out, told)
                print(name, json.dumps(board), flush=True)
            if given.arena_rank and per_item == 1:
                found = run(given.arena_rank, ARENA_RANK, file, resamples, seconds=PATIENCE)
                found.pop("ratings", None)
                board["arena-rank, bootstrap"] = found
            whole = [
                of for peer, of in board.items() if peer in ("FastChat", "evalica, extrapolated")
            ]
            if whole:
                best = min(float(np.median(of["cpu_seconds"])) for of in whole)
                board["times_the_best_peer"] = best / float(
                    np.median(board["pomona"]["cpu_seconds"])
                )
            write_json(given.out, told)


def _add(board: dict[str, Any], who: str, found: dict[str, Any], right: dict[str, float]) -> None:
    row = board.setdefault(who, {"cpu_seconds": []})
    row["cpu_seconds"].append(found.pop("cpu_seconds"))
    row["points_from_newton"] = away(found.pop("ratings"), right)
    row.update(found)


if __name__ == "__main__":
    main()
