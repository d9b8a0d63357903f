"""What published tables say of scale: small models against larger ones over time, what size and compute explain,
what a doubling buys with and without a shift, how fast sizes grow and who makes models, and arena ratings by size.

    python experiments/scale/published.py FOLDER [--out experiments/scale/results/published.json]

FOLDER holds open_llm_leaderboard_v1_min.csv, obsscaling_base_llm_benchmark_eval.csv, epoch_notable_models_min.csv,
leaderbot_chatbotarena_20240814_pairs.csv and timm/results-*.csv.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import csv

from pomona.scale import Columns, Estimate, Frontier, frontier, growth, returns

SHIFTS = {
    "ImageNet-ReaL": "real",
    "ImageNetV2": "imagenetv2-matched-frequency",
    "ImageNet-R": "r",
    "ImageNet-Sketch": "sketch",
    "ImageNet-A": "a",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    found = {
        "leaderboard": leaderboard(given.folder),
        "base_models": base_models(given.folder),
        "timm": shifts(given.folder / "timm"),
        "growth": grown(given.folder),
        "arena": arena(given.folder),
        "coverage": coverage(),
    }
    text = json.dumps(found, indent=1, ensure_ascii=False) + "\n"
    print(text)
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(text, encoding="utf-8")


def leaderboard(folder: Path) -> dict[str, Any]:
    """Four curves by month, with the flags, and how the answer moves with the limit of small."""
    table = folder / "open_llm_leaderboard_v1_min.csv"
    told = frontier(table, columns=Columns(not_merged="merged"))
    raw = frontier(table, keep=["contamination", "size"])
    kinds = [flag.kind for flag in told.flags]
    last = told.months[-1]
    limits = {
        limit: _last_shares(frontier(table, small=limit, dates=["2024-06"]))
        for limit in ("3B", "7B", "34B")
    }
    return {
        "months": {month.month: _shares(month.curves) for month in told.months},
        "with_hoaxes": {m.month: _shares(m.curves)["all"] for m in raw.months},
        "flags": {kind: kinds.count(kind) for kind in sorted(set(kinds))},
        "said_larger_than_the_limit": _said_larger(told),
        "overcome": {n: asdict(c.overcome) for n, c in last.curves.items() if c.overcome},
        "half": {n: asdict(c.half) for n, c in last.curves.items() if c.half},
        "r2_params": {
            month.month: {n: asdict(month.curves[n].r2["params"]) for n in ("all", "bases")}
            for month in told.months
        },
        "discordant": {n: _pairs(c.discordant) for n, c in last.curves.items()},
        "limits_2024-06": limits,
        "signature": told.signature,
    }


def _said_larger(told: Frontier) -> dict[str, int]:
    """Rows that are small by the column and larger by what the name says if experts shared nothing."""
    flags = [f for f in told.flags if f.kind in ("size", "experts")]
    out = sum(f.kind == "size" and "all" in f.left_out for f in flags)
    return {"contradictions": out, "experts_that_share": sum(f.kind == "experts" for f in flags)}


def _shares(curves: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: {
            "share": curve.share,
            "beaten": curve.beaten,
            "larger": curve.larger,
            "best": curve.best and curve.best.model,
        }
        for name, curve in curves.items()
    }


def _last_shares(told: Frontier) -> dict[str, Any]:
    return _shares(told.months[-1].curves)


def _pairs(shares: Mapping[str, Mapping[str, Estimate]]) -> dict[str, Any]:
    return {axis: {k: asdict(v) for k, v in each.items()} for axis, each in shares.items()}


def base_models(folder: Path) -> dict[str, Any]:
    """What explains scores of base models, and what a doubling buys them, in each benchmark."""
    table = folder / "obsscaling_base_llm_benchmark_eval.csv"
    found: dict[str, Any] = {}
    for metric in ("MMLU", "ARC-C", "HellaSwag", "Winograd", "GSM8K", "HumanEval"):
        columns = Columns(score=metric)
        curve = frontier(table, columns=columns).months[-1].curves["all"]
        bought = returns(table, columns=columns).metrics[0]
        found[metric] = {
            "r2": {name: asdict(one) for name, one in curve.r2.items()},
            "discordant": _pairs(curve.discordant),
            "share": curve.share,
            "best": curve.best and asdict(curve.best),
            "overall": asdict(bought.overall),
            "within": bought.within and asdict(bought.within),
        }
    return found


def shifts(folder: Path) -> dict[str, Any]:
    """Top-1 of the same models on ImageNet and under five shifts, by parameters."""
    table = csv.read_csv(folder / "results-imagenet.csv")
    joined = {_key(row): row for row in table.to_pylist()}
    rows = {
        key: {
            "model": row["model"],
            "params": str(row["param_count"]).replace(",", ""),
            "family": _family(row["model"]),
            "ImageNet": row["top1"],
        }
        for key, row in joined.items()
    }
    for name, file in SHIFTS.items():
        for row in csv.read_csv(folder / f"results-imagenet-{file}.csv" if file not in (
            "sketch", "imagenetv2-matched-frequency"
        ) else folder / f"results-{file}.csv").to_pylist():  # fmt: skip
            if _key(row) in rows:
                rows[_key(row)][name] = row["top1"]
    columns = Columns(
        params="params", score="ImageNet", params_unit="millions", score_unit="percent"
    )
    whole = pa.Table.from_pylist([{**row, "params": float(row["params"])} for row in rows.values()])
    told = returns(whole, columns=columns, beside=list(SHIFTS))
    return {
        "models": told.metrics[0].overall.n,
        "families": len({row["family"] for row in rows.values()}),
        "metrics": {
            one.metric: {
                "overall": asdict(one.overall),
                "within": one.within and asdict(one.within),
                "bands": {name: asdict(gain) for name, gain in one.bands.items()},
            }
            for one in told.metrics
        },
        "contrasts": [asdict(one) for one in told.contrasts],
        "steps": [asdict(step) for step in told.metrics[0].steps],
        "kornblith": _kornblith(),
        "signature": told.signature,
    }


def _key(row: Mapping[str, Any]) -> tuple[str, int]:
    return row["model"], row["img_size"]


def _family(model: str) -> str:
    """`resnet` of resnet50.a1_in1k, `tf_efficientnet` of tf_efficientnet_b4: letters before a size."""
    first, *others = model.split(".", maxsplit=1)[0].split("_")
    if first in ("tf", "legacy", "gluon", "seresnext", "test") and others:
        first = f"{first}_{others[0]}"
    return re.sub(r"\d+[a-z]*$", "", first) or first


def _kornblith() -> dict[str, Any]:
    """The rows of Kornblith et al. (2019) that are stated."""
    rows = [("Inception v1", 5.6, 69.8), ("Inception-ResNet v2", 54.3, 80.4)]
    rows.append(("NASNet-A Large", 84.7, 82.7))
    table = pa.table(list(zip(*rows, strict=True)), names=["model", "params", "top1"])
    columns = Columns(params_unit="millions")
    return {"steps": [asdict(s) for s in returns(table, columns=columns).metrics[0].steps]}


def grown(folder: Path) -> dict[str, Any]:
    """Doubling times in four windows, and who makes models."""
    table = folder / "epoch_notable_models_min.csv"
    windows = {"all": (None, None), "1950-2009": (None, "2009-12"), "2010-": ("2010-01", None)}
    windows |= {"2018-": ("2018-01", None)}
    found: dict[str, Any] = {}
    for name, (since, until) in windows.items():
        told = growth(table, since=since, until=until)
        found[name] = {quantity: asdict(one) for quantity, one in told.quantities.items()}
        found["makers"] = (
            [asdict(one) for one in told.makers] if name == "2010-" else found.get("makers")
        )
        found["notes"] = list(told.notes) if name == "2010-" else found.get("notes")
    return found


def arena(folder: Path) -> dict[str, Any]:
    """Ratings of Bradley and Terry from all votes, a tie as half of one, against sizes that names say."""
    votes = csv.read_csv(folder / "leaderbot_chatbotarena_20240814_pairs.csv").to_pylist()
    names = sorted({row[side] for row in votes for side in ("model_a", "model_b")})
    place = {name: i for i, name in enumerate(names)}
    wins = np.zeros((len(names), len(names)))
    for row in votes:
        a, b, tied = place[row["model_a"]], place[row["model_b"]], row["tie_1"] + row["tie_2"]
        wins[a, b] += row["win_a"] + tied / 2
        wins[b, a] += row["win_b"] + tied / 2
    met, won = wins + wins.T, wins.sum(1)
    strength = np.ones(len(names))
    for _ in range(5000):  # minorisation, Hunter 2004
        strength = won / (met / (strength[:, None] + strength[None])).sum(1)
        strength /= np.exp(np.log(strength).mean())
    ratings = 400 * np.log10(strength) + 1000
    rows = [
        {
            "model": name,
            "params": _size(name),
            "score": rating,
            "arena": rating,
            "family": _maker(name),
        }
        for name, rating in zip(names, ratings.tolist(), strict=True)
    ]
    told = frontier(pa.Table.from_pylist(rows), columns=Columns(score_unit="other"), small="13B")
    month = told.months[-1]
    curve = month.curves["all"]
    assert month.arena is not None
    return {
        "models": len(names),
        "votes": int(met.sum() / 2),
        **asdict(month.arena),
        "discordant": _pairs(curve.discordant),
        "overcome": curve.overcome and asdict(curve.overcome),
        "best_small": curve.best and asdict(curve.best),
        "share": curve.share,
        "larger": curve.larger,
    }


def _size(name: str) -> float | None:
    """Parameters that a name says, with all experts; None where it says none."""
    match = re.search(r"(?<![a-z0-9.])(?:(\d+)x)?(\d+(?:\.\d+)?)b(?![a-z0-9])", name.lower())
    return None if match is None else float(match[1] or 1) * float(match[2]) * 1e9


def _maker(name: str) -> str:
    return re.split(r"[-_.\d]", name.lower())[0] or name


def coverage(samples: int = 200) -> dict[str, float]:
    """How often intervals of a doubling time hold the true one: models of forty makers, of whom each has a level
    of its own, once resampled by makers and once as if all were apart."""
    held = np.zeros(2)
    for seed in range(samples):
        rng = np.random.default_rng([seed, 7])
        makers = rng.integers(0, 40, 300)
        days = rng.integers(0, 365 * 10, 300)
        level = rng.normal(0, 1.5, 40)[makers] + rng.normal(0, 1.5, 300)
        # Makers come and go: what is published together shares their level and their years.
        days = np.clip(0.5 * days + 0.5 * rng.integers(0, 365 * 10, 40)[makers], 0, None)
        size = 2 ** (20 + days / 365.25 * 2 + level)
        dates = (np.datetime64("2012-01-01", "D") + days.astype("timedelta64[D]")).astype(str)
        columns = {"model": [f"m{i}" for i in range(300)], "params": size, "date": dates}
        for place, owners in enumerate((makers.astype(str), None)):
            owned = columns if owners is None else {**columns, "family": owners}
            months = growth(pa.table(owned), seed=seed).quantities["params"].overall.months
            assert months.low is not None and months.high is not None
            held[place] += months.low <= 6 <= months.high
    return {"by_maker": held[0] / samples, "as_if_apart": held[1] / samples, "samples": samples}


if __name__ == "__main__":
    main()
