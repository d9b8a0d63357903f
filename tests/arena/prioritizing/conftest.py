"""Small tables of pairs and votes with a known truth."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

MODELS = ["ant", "bee", "cat", "dog", "elk", "fox"]
STRENGTH = dict(zip(MODELS, np.linspace(-1.5, 1.5, len(MODELS)), strict=True))
WORDS = [
    "sun",
    "moon",
    "star",
    "tree",
    "leaf",
    "root",
    "bird",
    "fish",
    "stone",
    "river",
    "cloud",
    "rain",
    "snow",
    "wind",
    "fire",
]


@pytest.fixture(scope="session")
def table() -> pa.Table:
    """Votes, three on each of 12 prompts' 15 pairs of six models. On odd prompts most are ties;
    better models say more of what most say.
    """
    rng = np.random.default_rng(0)
    rows = []
    for prompt in range(12):
        core = [WORDS[one] for one in rng.permutation(len(WORDS))[:8]]
        said = {}
        for model in MODELS:
            share = 1 / (1 + np.exp(-STRENGTH[model]))
            words = [w if rng.random() < share else WORDS[rng.integers(15)] for w in core]
            said[model] = " ".join(words) + "."
        for i, a in enumerate(MODELS):
            for b in MODELS[i + 1 :]:
                for voter in range(3):
                    rows.append(_vote(rng, prompt, a, b, said, voter))
    return pa.Table.from_pylist(rows)


def _vote(rng: np.random.Generator, prompt: int, a: str, b: str, said: dict, voter: int) -> dict:
    if rng.random() < 0.5:
        a, b = b, a
    gap = STRENGTH[a] - STRENGTH[b]
    tie = 0.75 if prompt % 2 else 0.15
    wins = rng.random() < 1 / (1 + np.exp(-gap))
    winner = "tie" if rng.random() < tie else ("model_a" if wins else "model_b")
    return {
        "prompt": f"prompt {prompt}",
        "model_a": a,
        "model_b": b,
        "completion_a": said[a],
        "completion_b": said[b],
        "winner": winner,
        "voter": f"v{voter}",
    }


@pytest.fixture(scope="session")
def pilot(table: pa.Table) -> pa.Table:
    """The votes of a third of the pairs."""
    key = [
        (int(p.split()[1]) * 7 + ord(a[0]) + ord(b[0])) % 3
        for p, a, b in zip(
            table["prompt"].to_pylist(),
            table["model_a"].to_pylist(),
            table["model_b"].to_pylist(),
            strict=True,
        )
    ]
    return table.filter(pa.array([one == 0 for one in key]))
