"""Do the intervals of `pomona arena fit` cover what they promise? Boards are drawn with known strengths;
votes on an item share its difficulty, those of a voter his taste, and pairs may be chosen by what earlier
votes say. What must be covered are the strengths that infinitely many votes on the same pairs would give
(Davidson's, also where effects make the model a wrong one); for adaptive choice those of pairs and items
drawn evenly. Of each design: the share of models inside their own interval, and of boards inside theirs.

    python experiments/arena/coverage.py --out experiments/arena/results/coverage.json

goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.arena.ratings.bradley_terry import Counts, Solution, solve
from pomona.arena.ratings.clusters import Clusters
from pomona.arena.ratings.intervals import Errors, critical, errors, simultaneous
from pomona.arena.ratings.resampling import refit, resampled
from pomona.files import write_json

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
from _machine import machine

LEVEL = 0.95
TIE = -0.3  # ln nu: 27 % ties between equals
SPREAD = 0.8  # of strengths, in log odds: 139 points of Elo
CHUNK = 100  # boards between two writes
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(21)
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Design:
    """Models, votes, and what hangs together.

    items: how many there are, each on one pair, and the deviation of what an item adds to a difference.
    voters: how many there are, each with a taste for each model of this deviation; `even` says whether
        they vote alike often, or as exponential numbers have it.
    prompts: how many there are, each with an advantage for each model of this deviation.
    rounds: of adaptive choice, 0 for none.
    """

    models: int = 20
    votes: int = 6000
    items: tuple[int, float] = (0, 0.0)
    voters: tuple[int, float] = (0, 0.0)
    even: bool = False
    prompts: tuple[int, float] = (0, 0.0)
    rounds: int = 0
    resamples: int = 0


DESIGNS = {
    "votes alone": Design(),
    "1,500 items of 4 votes": Design(items=(1500, 1.0), resamples=200),
    "8 models, 100 items of 4 votes": Design(models=8, votes=400, items=(100, 1.0)),
    "200 voters": Design(voters=(200, 0.5)),
    "25 voters": Design(voters=(25, 0.5)),
    "10 voters, alike often": Design(voters=(10, 0.5), even=True),
    "40 prompts": Design(prompts=(40, 0.5), even=True),
    "1,500 items, voters who are all alike": Design(items=(1500, 1.0), voters=(100, 0.0)),
    "1,500 items, 100 voters": Design(items=(1500, 1.0), voters=(100, 0.5)),
    "1,500 items, 25 voters": Design(items=(1500, 1.0), voters=(25, 0.5)),
    "items chosen by earlier votes": Design(items=(4000, 1.0), rounds=10),
}


@dataclass
class Board:
    """Votes [n] on pairs of all models, and the strengths that are right."""

    truth: Floats
    pair: Ints
    outcome: Ints
    units: dict[str, Ints] = field(default_factory=dict)
    weights: Floats | None = None


def probabilities(difference: Floats, tie: Floats | float = TIE) -> Floats:
    half, nu = np.exp(difference / 2), np.exp(tie)
    total = half + 1 / half + nu
    return np.stack([half / total, 1 / half / total, nu / total], -1)


def outcomes(rng: np.random.Generator, difference: Floats, tie: Floats | float = TIE) -> Ints:
    told = probabilities(difference, tie)
    drawn = rng.random(len(difference))
    return (drawn > told[:, 0]).astype(np.int64) + (drawn > told[:, 0] + told[:, 1])


def pairs(models: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    first, second = np.triu_indices(models, 1)
    return np.ascontiguousarray(first), np.ascontiguousarray(second)


def expected(models: int, shares: Floats, difference: Floats, deviation: Floats | float) -> Floats:
    """Strengths of infinitely many votes, with effects of this deviation integrated out."""
    told = sum(
        weight * probabilities(difference + deviation * node)
        for node, weight in zip(NODES, WEIGHTS / WEIGHTS.sum(), strict=True)
    )
    return solve(Counts(models, *pairs(models), shares[:, None] * told)).strengths


def drawn_board(design: Design, rng: np.random.Generator) -> Board:
    if design.rounds:
        return adaptive_board(design, rng)
    k, n = design.models, design.votes
    first, second = pairs(k)
    strengths = rng.normal(0, SPREAD, k)
    shares = rng.dirichlet(np.full(len(first), 2.0))
    difference = strengths[first] - strengths[second]
    units: dict[str, Ints] = {}
    pair, off, variance = rng.choice(len(first), n, p=shares), np.zeros(n), 0.0
    if (items := design.items[0]) > 0:
        units["item"] = np.repeat(np.arange(items), n // items)
        pair = rng.choice(len(first), items, p=shares)[units["item"]]
        off += rng.normal(0, design.items[1], items)[units["item"]]
        variance += design.items[1] ** 2
    for unit, (many, deviation) in (("voter", design.voters), ("prompt", design.prompts)):
        if many:
            often = np.full(many, 1 / many) if design.even else rng.dirichlet(np.ones(many))
            units[unit] = rng.choice(many, n, p=often)
            taste = rng.normal(0, deviation, (many, k))
            off += taste[units[unit], first[pair]] - taste[units[unit], second[pair]]
            variance += 2 * deviation**2
    truth = expected(k, shares, difference, variance**0.5)
    return Board(truth, pair, outcomes(rng, difference[pair] + off), units)


def adaptive_board(design: Design, rng: np.random.Generator) -> Board:
    """Items of two kinds, the second hard: there the best models are better, and ties rare. After each
    round nine votes of ten go to items of small expected gaps and few ties, the others are drawn evenly;
    each vote's weight is the inverse of its probability. Right are the strengths over all items evenly.
    """
    k, items = design.models, design.items[0]
    first, second = pairs(k)
    strengths = rng.normal(0, SPREAD, k)
    pair, hard = rng.integers(0, len(first), items), rng.random(items) < 0.5
    slope, tie = np.where(hard, 1.5, 0.7), np.where(hard, -1.2, 0.4)
    difference = strengths[first] - strengths[second]
    off = rng.normal(0, design.items[1], items)
    told = sum(
        weight * probabilities(side * difference + design.items[1] * node, log_nu) / 2
        for side, log_nu in ((1.5, -1.2), (0.7, 0.4))
        for node, weight in zip(NODES, WEIGHTS / WEIGHTS.sum(), strict=True)
    )
    truth = solve(Counts(k, first, second, told)).strengths
    size, believed = design.votes // design.rounds, np.zeros(k)
    shown, said, weights = [], [], []
    for number in range(design.rounds):
        gap = np.abs(believed[first] - believed[second])[pair]
        wanted = np.exp(-gap) * np.where(hard, 3.0, 1.0)
        chance = np.full(items, 1 / items)
        if number:
            chance = 0.1 / items + 0.9 * wanted / wanted.sum()
        item = rng.choice(items, size, p=chance)
        shown.append(item)
        said.append(outcomes(rng, slope[item] * difference[pair[item]] + off[item], tie[item]))
        weights.append(1 / (items * chance[item]))
        seen, heard = pair[np.concatenate(shown)], np.concatenate(said)
        table = np.bincount(3 * seen + heard, minlength=3 * len(first)).reshape(-1, 3)
        believed = solve(Counts(k, first, second, table + 0.02)).strengths
    item = np.concatenate(shown)
    made = Board(truth, pair[item], np.concatenate(said), {"item": item})
    made.weights = np.concatenate(weights)
    return made


def methods(board: Board, models: int) -> Mapping[str, tuple[Solution, Errors | None]]:
    """Strengths and errors by each kind of cluster, and by two together."""
    found: dict[str, tuple[Solution, Errors | None]] = {}
    first, second = pairs(models)
    for label, weights in (("", None), ("weighted ", board.weights)):
        if label and weights is None:
            continue
        n = np.ones(len(board.pair)) if weights is None else weights
        place = 3 * board.pair + board.outcome
        counts = Counts(models, first, second, np.bincount(place, n, 3 * len(first)).reshape(-1, 3))
        solution = solve(counts)
        whole: Any = n if weights is not None else np.ones(len(n), np.int64)
        kinds = {
            unit: Clusters(unit, np.unique(codes, return_inverse=True)[1], place, whole)
            for unit, codes in board.units.items()
        }
        if not label:
            found["vote"] = solution, errors(counts, solution)
        for unit, kind in kinds.items():
            found[label + unit] = solution, errors(counts, solution, kind)
            if not label:
                plain = errors(counts, solution, kind, leverage=False)
                found[f"{unit}, no leverage"] = solution, plain
        if len(kinds) > 1:
            found["+".join(kinds)] = solution, errors(counts, solution, list(kinds.values()))
    return found


def resampled_bounds(board: Board, models: int, resamples: int, seed: int) -> tuple[Floats, Floats]:
    """The bootstrap's percentiles over items."""
    first, second = pairs(models)
    place = 3 * board.pair + board.outcome
    table = np.bincount(place, minlength=3 * len(first)).reshape(-1, 3).astype(np.float64)
    counts = Counts(models, first, second, table)
    one = np.ones(len(place), np.int64)
    items = Clusters("item", board.units["item"], place, one)
    drawn = resampled(items, 3 * len(first), resamples, seed)
    strengths, _ = refit(counts, solve(counts), drawn)
    low, high = np.nanquantile(strengths, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=1)
    return low, high


def tried(name: str, design: Design, seed: int, number: int) -> dict[str, list[float]]:
    """Of one board the share of models inside and whether all are, by method."""
    rng = np.random.default_rng([seed, list(DESIGNS).index(name), number])
    board = drawn_board(design, rng)
    told: dict[str, list[float]] = {}
    for method, (solution, found) in methods(board, design.models).items():
        assert solution.converged and found is not None
        off = np.abs(solution.strengths - board.truth) / found.standard
        one, all_of_them = critical(found.degrees, LEVEL), simultaneous(found, LEVEL, number)
        told[method] = [float((off <= one).mean()), float((off <= all_of_them).all())]
    if design.resamples:
        low, high = resampled_bounds(board, design.models, design.resamples, number)
        inside = (low <= board.truth) & (board.truth <= high)
        told["item, bootstrap"] = [float(inside.mean()), float(inside.all())]
    return told


def summary(rows: list[dict[str, list[float]]]) -> dict[str, Any]:
    """Coverage with its standard error, by method."""
    told = {}
    for method in rows[0]:
        one, whole = np.array([row[method] for row in rows]).T
        told[method] = {
            "pointwise": float(one.mean()),
            "pointwise_error": float(one.std() / len(rows) ** 0.5),
            "simultaneous": float(whole.mean()),
            "simultaneous_error": float(whole.std() / len(rows) ** 0.5),
        }
    return told


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--boards", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--designs", nargs="*", default=list(DESIGNS))
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    kept = given.out.with_suffix(".partial.json")
    done: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    for name in given.designs:
        rows = done.setdefault(name, {"rows": [], "cpu_seconds": 0.0})
        while len(rows["rows"]) < given.boards:
            begun = time.process_time()
            start = len(rows["rows"])
            for number in range(start, min(start + CHUNK, given.boards)):
                rows["rows"].append(tried(name, DESIGNS[name], given.seed, number))
            rows["cpu_seconds"] += time.process_time() - begun
            write_json(kept, done)
        print(name, json.dumps(summary(rows["rows"])), rows["cpu_seconds"], flush=True)
    told = {
        "machine": machine(),
        "versions": {name: version(name) for name in ("pomona", "numpy")},
        "seed": given.seed,
        "level": LEVEL,
        "boards": given.boards,
        "designs": {
            name: {
                **vars(DESIGNS[name]),
                "coverage": summary(done[name]["rows"]),
                "cpu_seconds": done[name]["cpu_seconds"],
            }
            for name in given.designs
        },
    }
    write_json(given.out, told)
    kept.unlink()


if __name__ == "__main__":
    main()
