"""What few votes of people and many verdicts of a judge are worth, and whether audits cry wolf.

    python experiments/arena/judges.py [--boards 500] [--llmfao FOLDER] [--seed 0]

Boards of eight models, 1,500 pairs, of which people voted on 200, are simulated with judges of five
kinds. Coverage is of the models' 95 % intervals: by people alone, by both (prediction-powered), and by
the judge alone. Audits are tried on a judge that prefers nothing (false alarms) and on one that
does (power). With the folder of LLMFAO, people's votes on a fifth of its pairs, drawn anew each
time, and the verdicts of GPT-3 or GPT-4 on all of them, are compared with everybody's ratings.
"""

from __future__ import annotations

import argparse
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pomona.arena import JudgeAudit, judge
from pomona.arena.judging.pairs import read_pairs, recorded
from pomona.arena.judging.powered import powered, rate
from pomona.arena.ratings.bradley_terry import ELO

MODELS, PAIRS, VOTED, TIES = 8, 1500, 200, 0.7
AUDITED = 600  # pairs of an audit
STRENGTHS = np.linspace(-1.2, 1.2, MODELS)
JUDGES = (
    "copies 80 %",
    "copies 50 %",
    "chance",
    "copies 70 %, else partial",
    "always the opposite",
)


def drawn(d: Any, rng: np.random.Generator) -> Any:
    """Outcomes at differences of strengths: a wins, b wins, tie."""
    odds = np.stack([np.exp(d / 2), np.exp(-d / 2), np.full(len(d), TIES)], 1)
    shares = (odds / odds.sum(1, keepdims=True)).cumsum(1)
    return (rng.random(len(d))[:, None] > shares).sum(1)


def verdicts(kind: str, people: Any, a: Any, b: Any, rng: np.random.Generator) -> Any:
    """What a judge says where people would say `people`."""
    chance = rng.integers(0, 3, len(people))
    if kind.startswith("copies"):
        share = float(kind.split()[1]) / 100
        other = np.where(a > b, 0, 1) if "partial" in kind else chance
        return np.where(rng.random(len(people)) < share, people, other)
    return chance if kind == "chance" else np.where(people < 2, 1 - people, 2)


def coverage(boards: int, seed: int, effect: float) -> None:
    """Coverage and width by kind of judge; an effect of items makes votes on one pair alike."""
    print(f"coverage of 95 % intervals, {boards} boards, standard deviation of items {effect:g}")
    for kind in JUDGES:
        inside: list[list[Any]] = [[], [], []]
        widths: list[list[Any]] = [[], [], []]
        weights = []
        for board in range(boards):
            rng = np.random.default_rng([seed, board, int(10 * effect), JUDGES.index(kind)])
            a = rng.integers(0, MODELS, PAIRS)
            b = (a + rng.integers(1, MODELS, PAIRS)) % MODELS
            truth = STRENGTHS if effect == 0 else shrunk(effect)
            off = rng.normal(0, effect, PAIRS) if effect else np.zeros(PAIRS)
            d = STRENGTHS[a] - STRENGTHS[b] + off
            votes = np.zeros((PAIRS, 3))
            for _ in range(1 if effect == 0 else 4):
                votes += np.eye(3)[drawn(d, rng)]
            one = drawn(d, rng) if effect else votes.argmax(1)
            judged = np.eye(3)[verdicts(kind, one, a, b, rng)]
            seen = rng.permutation(PAIRS) < VOTED
            few = np.where(seen[:, None], votes, 0)
            labels = [str(at) for at in range(PAIRS)]
            found = (
                rate(
                    MODELS, a[seen], b[seen], few[seen], [labels[at] for at in np.flatnonzero(seen)]
                ),
                powered(MODELS, a, b, few, judged, labels),
                rate(MODELS, a, b, judged, labels),
            )
            weights.append(found[1].weight)
            for place, one_ in enumerate(found):
                inside[place].append(np.abs(one_.points - 1000 - ELO * truth) <= one_.half_widths)
                widths[place].append(one_.half_widths)
        told = [f"{100 * np.mean(part):.1f} %" for part in inside]
        wide = [f"±{np.nanmedian(part):.0f}" for part in widths]
        print(
            f"  {kind:28} people {told[0]} {wide[0]}  both {told[1]} {wide[1]}  "
            f"judge {told[2]} {wide[2]}  weight {np.mean(weights):.2f}"
        )


@cache
def shrunk(effect: float, n: int = 200_000) -> Any:
    """The strengths that best describe votes whose items have effects: those of a huge board."""
    rng = np.random.default_rng(99)
    a = rng.integers(0, MODELS, n)
    b = (a + rng.integers(1, MODELS, n)) % MODELS
    d = STRENGTHS[a] - STRENGTHS[b] + rng.normal(0, effect, n)
    odds = np.stack([np.exp(d / 2), np.exp(-d / 2), np.full(n, TIES)], 1)
    found = rate(MODELS, a, b, odds / odds.sum(1, keepdims=True), [str(at) for at in range(n)])
    return (found.points - 1000) / ELO


def alarms(boards: int, seed: int) -> None:
    """Shares of audits that flag a judge without and with preferences."""
    told = f"{AUDITED} pairs in both orders, three votes each"
    print(f"share of {boards} audits that are flagged: {told}")
    for name, position, other in (
        ("none", 0.0, 0.0), ("first: 0.5 in log odds", 0.5, 0.0), ("longer and own: 0.5", 0.0, 0.5),
    ):  # fmt: skip
        flags: dict[str, list[bool]] = {"first": [], "longer": [], "own": []}
        for board in range(boards):
            rng = np.random.default_rng([seed, board, int(10 * position), int(10 * other)])
            votes, said = board_of(rng, position, other)
            found = judge(votes, verdicts=said, family="own")
            assert isinstance(found, JudgeAudit)
            for what, told in flags.items():
                one = found.preference(what)
                told.append(one is not None and one.flagged)
        shares = "  ".join(f"{what} {100 * np.mean(told):.1f} %" for what, told in flags.items())
        print(f"  prefers {name:24} {shares}")


def board_of(rng: np.random.Generator, position: float, other: float) -> tuple[Any, Any]:
    """Votes of people, and verdicts of a judge that adds its preferences to their log odds."""
    n = AUDITED
    a = rng.integers(0, MODELS, n)
    b = (a + rng.integers(1, MODELS, n)) % MODELS
    names = [f"own {at}" if at < 2 else f"model {at}" for at in range(MODELS)]
    lengths = rng.integers(1, 60, (n, 2))
    d = STRENGTHS[a] - STRENGTHS[b]
    more = other * (np.sign(lengths[:, 0] - lengths[:, 1]) + (a < 2) - (b < 2).astype(int))
    words = ("model_a", "model_b", "tie")
    votes, said = [], []
    for _ in range(3):
        for at, outcome in enumerate(drawn(d, rng)):
            votes.append(
                {
                    "item": str(at), "prompt": str(at), "model_a": names[a[at]],
                    "model_b": names[b[at]], "winner": words[outcome],
                    "completion_a": "x" * lengths[at, 0], "completion_b": "x" * lengths[at, 1],
                }
            )  # fmt: skip
    for turned in (False, True):
        sign = -1 if turned else 1
        for at, outcome in enumerate(drawn(sign * (d + more) + position, rng)):
            pair = (names[a[at]], names[b[at]])[::sign]
            row = {"item": str(at), "model_a": pair[0], "model_b": pair[1]}
            said.append({**row, "winner": words[outcome]})
    return pa.Table.from_pylist(votes), pa.Table.from_pylist(said)


def real(folder: Path, boards: int, seed: int) -> None:
    """LLMFAO: a fifth of people's pairs with all verdicts of GPT-3 and GPT-4, against all votes."""
    pairs = read_pairs(folder / "crowd-comparisons.csv")
    k, labels = len(pairs.models), pairs.items
    whole = rate(k, pairs.a, pairs.b, pairs.people, labels)
    for name in ("gpt3", "gpt4"):
        said = recorded(folder / f"{name}-crowd-comparisons.csv", pairs).outcomes("tie")
        alone = rate(k, pairs.a, pairs.b, said, labels)
        told: list[list[float]] = []
        for board in range(boards):
            rng = np.random.default_rng([seed, board])
            seen = rng.random(len(pairs)) < 0.2
            few = np.where(seen[:, None], pairs.people, 0)
            both = powered(k, pairs.a, pairs.b, few, said, labels)
            people = rate(k, pairs.a[seen], pairs.b[seen], few[seen],
                          [labels[at] for at in np.flatnonzero(seen)])  # fmt: skip
            known = np.isfinite(both.points) & np.isfinite(people.points)
            if known.sum() > 5:
                errors = [
                    np.sqrt(np.mean((one.points[known] - np.mean(one.points[known])
                                     - whole.points[known] + np.mean(whole.points[known])) ** 2))
                    for one in (people, both, alone)
                ]  # fmt: skip
                told.append([*errors, both.weight, float(known.sum())])
        middle = np.median(told, 0)
        print(
            f"  {name}: {len(told)} draws, {middle[4]:.0f} models; error against all votes (Elo): "
            f"people {middle[0]:.0f}, both {middle[1]:.0f}, judge {middle[2]:.0f}; "
            f"weight {middle[3]:.2f}"
        )


def main() -> None:
    """Print every table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--boards", type=int, default=500)
    parser.add_argument("--llmfao", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    told = parser.parse_args()
    coverage(told.boards, told.seed, 0.0)
    coverage(max(1, told.boards // 5), told.seed, 1.0)
    alarms(max(1, told.boards // 3), told.seed)
    if told.llmfao is not None:
        print("LLMFAO, people's votes on a fifth of the pairs")
        real(told.llmfao, max(1, told.boards // 25), told.seed)


if __name__ == "__main__":
    main()
