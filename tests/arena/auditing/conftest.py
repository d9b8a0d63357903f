"""Simulated votes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from pomona.arena import Votes


@pytest.fixture(scope="session")
def board() -> Callable[..., Votes]:
    """Votes on `items` of four votes each between equal models, by Davidson's model; `push` moves
    the log odds of each vote towards the left by what its columns say.
    """

    def made(
        push: Callable[..., np.ndarray] | None = None,
        *,
        models: int = 6,
        items: int = 300,
        voters: int = 30,
        seed: int = 0,
    ) -> Votes:
        rng = np.random.default_rng(seed)
        item = np.repeat(np.arange(items), 4)
        first = rng.integers(0, models, items)
        second = (first + rng.integers(1, models, items)) % models
        turned = rng.random(len(item)) < 0.5
        a, b = (
            np.where(turned, second[item], first[item]),
            np.where(turned, first[item], second[item]),
        )
        voter = np.argsort(rng.random((items, voters)), 1)[:, :4].ravel()
        time = rng.permutation(len(item))
        columns = {"item": item, "voter": voter, "time": time}
        strengths = np.linspace(0.5, -0.5, models)
        x = strengths[a] - strengths[b]
        if push is not None:
            x = x + push(a=a, b=b, **columns)
        odds = np.cumsum(np.exp(np.stack([x / 2, -x / 2, np.zeros(len(x))])), 0)
        outcome = (rng.random(len(x)) > odds[:2] / odds[2]).sum(0).astype(np.int8)
        return Votes(
            tuple(f"m{one}" for one in range(models)),
            a.astype(np.int32),
            b.astype(np.int32),
            outcome,
            np.ones(len(x), np.int64),
            pa.table(columns),
            "simulated",
        )

    return made
