"""How often an audit finds something where nothing was compressed, and what it finds where something
was: 5 of 100 audits, and more with every model.

python experiments/forget/null.py [--audits 2000]

Populations are drawn as noisy classifiers of their own; those that are called compressed are dense
models too, which were drawn like the others (apart), or made of them with a little noise (pairs).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import stdtrit

from pomona.files import write_json
from pomona.forget.auditing.exemplars import Labels, Pool, Scores
from pomona.forget.auditing.slices import normalised_welch
from pomona.stats import holm

ITEMS, LABELS, GROUPS = 120, 5, 10
PERMUTATIONS = 99
CASES = {
    "apart, 6 models": {"models": 6},
    "apart, 10 models": {"models": 10},
    "pairs, 10 models": {"models": 10, "paired": True},
    "apart, 10 models, scores": {"models": 10, "scores": True},
}
SHIFTS = (0.2, 0.4)


def drawn(
    rng: np.random.Generator,
    models: int,
    *,
    paired: bool = False,
    shift: float = 0,
    bias: float = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Logits `[2, models, items, labels]`, dense first, and the right labels; with a `shift` the
    compressed ones share an error of that size, with a `bias` each model likes labels by itself.
    """
    truth = rng.integers(0, LABELS, ITEMS)
    logits = rng.normal(size=(ITEMS, LABELS))
    logits[np.arange(ITEMS), truth] += 1.5
    own = rng.normal(size=(2, models, ITEMS, LABELS))
    if paired:  # both of a pair are a common part, and as much of their own
        own = (own + rng.normal(size=(1, models, ITEMS, LABELS))) / np.sqrt(2)
    noisy = logits + 0.8 * own
    noisy[1] += shift * rng.normal(size=(ITEMS, LABELS))
    return noisy + bias * rng.normal(size=(2, models, 1, LABELS)), truth


def one(
    seed: int, models: int, *, paired: bool = False, scores: bool = False, shift: float = 0
) -> dict[str, Any]:
    """The p-values of one audit."""
    rng = np.random.default_rng([seed, models, paired, scores, round(100 * shift)])
    logits, truth = drawn(rng, models, paired=paired, shift=shift)
    labels = logits.argmax(-1)
    right = (labels == truth).astype(np.float64)
    if scores:
        votes = Scores(logits[..., 0].reshape(2 * models, -1))
    else:
        votes = Labels(labels.reshape(2 * models, -1).astype(np.int32))
    members = np.ones((ITEMS, 1))
    excess = Pool(votes, models, members, paired=paired).excess(PERMUTATIONS, seed)
    assert excess is not None
    groups = (np.arange(ITEMS)[:, None] % GROUPS == np.arange(GROUPS)).astype(np.float64)
    p = normalised_welch(right[0], right[1], groups)[1]
    p = np.nan_to_num(p, nan=1.0)
    return {
        "excess": float(excess.p_value[0, 0]),
        "taxicab": float(excess.p_value[-1, 0]),
        "published": float((p <= 0.05).mean()),
        "any, as published": bool((p <= 0.05).any()),
        "any, Holm": bool((holm(p) <= 0.05).any()),
        "size": float(excess.excess[0, 0]),
        "floor": float(excess.floor[0, 0]),
    }


def summed(audits: int, **case: Any) -> dict[str, Any]:
    """Shares of audits that call something affected, in percent."""
    found = [one(seed, **case) for seed in range(audits)]
    share = {
        name: 100 * float(np.mean([told[name] <= 0.05 for told in found]))
        for name in ("excess", "taxicab")
    }
    for name in ("published", "any, as published", "any, Holm"):
        share[name] = 100 * float(np.mean([told[name] for told in found]))
    error = 100 * float(np.sqrt(0.05 * 0.95 / audits))
    means = {name: float(np.mean([told[name] for told in found])) for name in ("size", "floor")}
    return {"audits": audits, "percent": share, "standard_error": error, **means}


def covered(audits: int, **case: Any) -> dict[str, float]:
    """The share of audits with 10 models, in percent, whose interval of the excess holds the mean
    of all audits; and the standard deviation of the excess.
    """
    values, widths = [], []
    for seed in range(audits):
        rng = np.random.default_rng([seed, 7])
        labels = drawn(rng, 10, **case)[0].argmax(-1).reshape(20, -1).astype(np.int32)
        pool = Pool(Labels(labels), 10, np.ones((ITEMS, 1)), paired=case.get("paired", False))
        excess = pool.excess(49, seed)
        assert excess is not None
        values.append(excess.excess[0, 0])
        variance = excess.items.var(ddof=1) / ITEMS + excess.shared[0]
        widths.append(stdtrit(ITEMS - 1, 0.975) * np.sqrt(variance))
    found = np.array(values)
    inside = np.abs(found - found.mean()) <= widths
    return {
        "percent": 100 * float(inside.mean()),
        "excess": float(found.mean()),
        "standard_deviation": float(found.std()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--audits", type=int, default=2000)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).with_name("results") / "null.json"
    )
    arguments = parser.parse_args()
    result: dict[str, Any] = {"permutations": PERMUTATIONS, "coverage": {}, "null": {}, "power": {}}
    for shift in (0, 0.4):
        for more in ({}, {"paired": True}, {"bias": 0.6}):
            name = f"shift {shift}, {more or 'apart'}"
            result["coverage"][name] = covered(arguments.audits // 4, shift=shift, **more)
            print(name, result["coverage"][name], flush=True)
    for name, case in CASES.items():
        result["null"][name] = summed(arguments.audits, **case)
        print(name, result["null"][name], flush=True)
    for shift in SHIFTS:
        for models in (4, 6, 10, 20):
            told = summed(arguments.audits // 10, models=models, shift=shift)
            result["power"][f"shift {shift}, {models} models"] = told
            print(shift, models, told, flush=True)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(arguments.out, result)


if __name__ == "__main__":
    main()
