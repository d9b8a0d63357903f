"""How often each audit of a leaderboard raises a false alarm, and how often it finds an effect of a
stated size, on simulated boards.

    python experiments/arena/audits.py --boards 1000

writes audits.json beside it. A board has 20 models, whose log odds have sd 0.5, on 1,500 items of 4
votes by 40 voters; items have effects of sd 1 on the log odds, and voters habits of sd 0.3 towards
a side. Under the null all audits are asked of the same boards; each effect is simulated alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pomona.arena import Votes, audit
from pomona.stats import wilson

MODELS, ITEMS, VOTES, VOTERS, PROVIDERS = 20, 1500, 4, 40, 5
ELO = 400 / np.log(10)
NAMES = tuple(f"model {place:02}" for place in range(MODELS))
TIE = 0.0  # ln nu of Davidson's model: 28 % ties of equal models on equal items


@dataclass
class Simulated:
    """What a board is drawn from; each effect is 0 under the null.

    position, length, repetition, drift, twins, retired: in Elo. length: of a doubling; repetition:
    towards the side taken before; drift: of one model from the first vote to the last; twins: of
    two names; retired: what the other models' votes against the retired ones say otherwise.
    voters, reversed: voters who answer at random, or the opposite. provider: times as often as
    others. items: how many.
    """

    position: float = 0
    length: float = 0
    repetition: float = 0
    drift: float = 0
    voters: int = 0
    reversed: int = 0
    provider: float = 1
    twins: float = 0
    retired: float = 0
    best: float = 0
    shared: bool = True
    items: int = ITEMS
    seed: int = 0
    rng: Any = field(init=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)

    def board(self) -> tuple[Votes, pa.Table]:
        """Votes, and the table of models."""
        rng = self.rng
        strengths = rng.normal(0, 0.5, MODELS)
        strengths[1] = strengths[0] + self.twins / ELO
        strengths[4:8] = strengths[4]  # variants
        strengths[5] += self.best / ELO
        weight = np.exp(rng.normal(0, 0.4, MODELS))
        owner = rng.permutation(np.repeat(np.arange(PROVIDERS), MODELS // PROVIDERS))
        weight[owner == 0] *= self.provider
        items = self.items if self.shared else self.items * VOTES
        a, b = (rng.choice(MODELS, 3 * items, p=weight / weight.sum()) for _ in range(2))
        differ = np.flatnonzero(a != b)[:items]
        a, b = a[differ], b[differ]
        longer = rng.normal(0, 0.7, items)
        item = np.repeat(np.arange(items), VOTES if self.shared else 1)
        x = (strengths[a] - strengths[b] + rng.normal(0, 1, items) + self.length / ELO * longer)[
            item
        ]
        if self.retired:  # half of the others do better against the retired than they are
            old, odd = (a >= 18) != (b >= 18), np.where(a >= 18, b, a) % 2 == 0
            x = x + ((np.where(b >= 18, 1, -1) * old * odd) * self.retired / ELO)[item]
        return self._votes(a[item], b[item], x, item, longer[item]), self._models(owner)

    def _votes(self, a: Any, b: Any, x: Any, item: Any, longer: Any) -> Votes:
        rng, n = self.rng, len(a)
        turned = rng.random(n) < 0.5
        a, b = np.where(turned, b, a), np.where(turned, a, b)
        x, longer = np.where(turned, -x, x), np.where(turned, -longer, longer)
        voter = np.argsort(rng.random((n // VOTES, VOTERS)), 1)[:, :VOTES].ravel()
        time = rng.permutation(n)
        x = x + self.position / ELO + rng.normal(0, 0.3, VOTERS)[voter]
        late = time / n - 0.5
        x = x + self.drift / ELO * late * ((a == 10).astype(float) - (b == 10))
        outcome = self._outcomes(x, voter, time)
        columns = pa.table(
            {
                "item": item,
                "voter": voter,
                "time": time,
                "length_a": 500 * 2.0 ** (longer / 2),
                "length_b": 500 * 2.0 ** (-longer / 2),
            }
        )
        models = NAMES
        one = np.ones(n, np.int64)
        return Votes(
            models, a.astype(np.int32), b.astype(np.int32), outcome, one, columns, "simulated"
        )

    def _outcomes(self, x: Any, voter: Any, time: Any) -> Any:
        rng, n = self.rng, len(x)
        drawn = rng.random(n)
        outcome = _outcome(x, drawn)
        if self.repetition:
            order = np.lexsort((time, voter))
            last, who = 0.0, -1
            for row in order:
                last = last if voter[row] == who else 0.0
                who = voter[row]
                pushed = x[row] + self.repetition / ELO * last
                outcome[row] = _outcome(pushed[None], drawn[row][None])[0]
                last = (1.0, -1.0, 0.0)[outcome[row]]
        random = voter < self.voters
        outcome[random] = _outcome(np.zeros(int(random.sum())), rng.random(int(random.sum())))
        against = voter < self.reversed
        outcome[against] = np.array([1, 0, 2], np.int8)[outcome[against]]
        return outcome

    def _models(self, owner: Any) -> pa.Table:
        checkpoint = [f"{max(place, 1)}" if place < 2 else None for place in range(MODELS)]
        family = ["variants" if 4 <= place < 8 else None for place in range(MODELS)]
        return pa.table(
            {
                "model": NAMES,
                "organization": [f"provider {one}" for one in owner],
                "checkpoint": checkpoint,
                "family": family,
                "retired": [str(place >= 18) for place in range(MODELS)],
            }
        )


def _outcome(x: Any, drawn: Any) -> Any:
    parts = np.stack([np.exp(x / 2), np.exp(-x / 2), np.full(x.shape, np.exp(TIE))])
    parts = np.cumsum(parts / parts.sum(0), 0)
    return (drawn[None] > parts[:2]).sum(0).astype(np.int8)


AUDITS: dict[str, Callable[[Any], bool | None]] = {
    **{
        name: (lambda found, name=name: name in found.alarms)
        for name in (
            "position", "length", "repetition", "drift", "voters", "providers", "twins", "retired"
        )
    },
    "best_of_n": lambda found: found.best_of_n.supported > 0,
}  # fmt: skip
EFFECTS: dict[str, dict[str, Any]] = {
    "position": {"position": 40},
    "length": {"length": 40},
    "repetition": {"repetition": 40},
    "drift": {"drift": 400},
    "voters": {"reversed": 1},
    "voters, at random, 150 votes each": {"voters": 2},
    "voters, at random, 300 votes each": {"voters": 2, "items": 3000},
    "voters, by the board": {"reversed": 1, "shared": False},
    "providers": {"provider": 3},
    "twins": {"twins": 120},
    "retired": {"retired": 400},
    "best_of_n": {"best": 150},
}


def rates(boards: int, seed: int = 0) -> dict[str, Any]:
    """False alarms and power of each audit, with 95 % intervals."""
    told: dict[str, Any] = {"boards": boards, "seed": seed, "null": {}, "power": {}}
    for shared in (True, False):
        alarms = dict.fromkeys(AUDITS, 0)
        for draw in range(boards):
            simulated = Simulated(seed=seed + draw, shared=shared)
            votes, models = simulated.board()
            found = audit(votes, models=models)
            for name, alarm in AUDITS.items():
                alarms[name] += bool(alarm(found))
        key = "items of four votes" if shared else "items of one vote"
        told["null"][key] = {name: _share(count, boards) for name, count in alarms.items()}
    for name, effect in EFFECTS.items():
        audit_name = name.split(",")[0]
        count = 0
        for draw in range(max(boards // 5, 1)):
            votes, models = Simulated(seed=seed + draw, **effect).board()
            count += bool(AUDITS[audit_name](audit(votes, models=models)))
        told["power"][name] = {"effect": effect, **_share(count, max(boards // 5, 1))}
    return told


def _share(count: int, n: int) -> dict[str, float]:
    low, high = wilson(count, n)
    return {
        "share": round(count / n, 4),
        "low": round(float(low), 4),
        "high": round(float(high), 4),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--boards", type=int, default=1000)
    given = parser.parse_args()
    result = rates(given.boards)
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
