"""Which queue saves most votes for the same ranking on LLMFAO's votes (Ustalov 2023).

    python experiments/prioritize/designs.py FOLDER --seed 1 [--splits 10] [--design NAME ...]
        [--out FILE]

Designs are named TELLS/WEIGHTS/PRIOR/POWER: what a vote is taken to tell (Fisher's information with
P(tie) from all measures, from prompts alone, or from ratings; or alike on all pairs), whether pairs
of models count as their order is in doubt or evenly, what planning believes of strengths before
votes (believed: as the answers suggest, or wide), and the power of what is gained in a draw. The
design "queue" is what `pomona arena prioritize` does. Choose by one seed, confirm by another.
Curves end at 60 % of the votes that may be drawn.
"""

from __future__ import annotations

import argparse
import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import kendalltau
from votes import votes_of

from pomona.arena import read_votes
from pomona.arena.prioritizing import queue
from pomona.arena.prioritizing.pairs import Observed
from pomona.arena.prioritizing.queue import Goal, State, draw
from pomona.arena.prioritizing.replay import _Past
from pomona.arena.prioritizing.strengths import Strengths
from pomona.arena.prioritizing.ties import p_tie

AXES = (
    ("all", "prompt", "ratings", "alike"),
    ("doubt", "even"),
    ("believed", "wide"),
    ("4", "16"),
)
WIDE = 0.05  # precision of strengths before votes, of a wide prior
STEPS = 6  # of a tenth of the votes that may be drawn, the pilot first


def state_of(past: _Past, design: str, seen: Observed, strengths: Strengths) -> State:
    """What a queue of this design begins with."""
    a, b = past.pairs.a, past.pairs.b
    if design == "queue":
        return State(strengths, a, b, None, Goal(), 1.0)
    tells, weights, prior, power = design.split("/")
    queue._SHARP["information"] = float(power)
    said = None
    if tells in ("all", "prompt"):
        said = p_tie(past.designs[tells], seen, len(past.pairs.prompts))
    if prior == "wide":
        ridge = np.eye(len(strengths.mean)) * (WIDE - strengths.sd**-2)
        strengths = replace(strengths, precision=strengths.precision + ridge)
    state = State(strengths, a, b, said, Goal(), 1.0)
    state.told = np.full(len(a), 0.1) if tells == "alike" else state.information
    if weights == "doubt":
        spread = queue._spread(state.covariance)
        gap = np.abs(state.mean[:, None] - state.mean[None])
        doubt = np.exp(-0.5 * (gap / spread) ** 2) / spread
        np.fill_diagonal(doubt, 0)
        state.weights = np.diag(doubt.sum(1)) - doubt
    return state


def curve(
    past: _Past, design: str, order: Any, reference: Any, seed: list[int]
) -> tuple[list[float], float]:
    """Kendall's tau to the reference after each tenth of the votes that may be drawn; and the share
    of ties among those after the pilot.
    """
    size = round(0.1 * len(order))
    taken, rest = order[:size].tolist(), order[size:]
    waiting: dict[int, list[int]] = {}
    for vote in rest.tolist():
        waiting.setdefault(int(past.on[vote]), []).append(vote)
    found = []
    while True:
        mean = past._believed(taken, prior=False).mean
        both: Any = kendalltau(mean, reference)
        found.append(float(both.statistic))
        if len(found) == STEPS:
            return found, float((past.votes.outcome[past.rows[taken[size:]]] >= 2).mean())
        if design == "random":
            taken = order[: size * (len(found) + 1)].tolist()
            continue
        on, tied = past.on[taken], past.votes.outcome[past.rows[taken]] >= 2
        n = len(past.pairs)
        shown = np.bincount(on, minlength=n).astype(np.float64)
        seen = Observed(on, shown, np.bincount(on, tied, n))
        left = np.zeros(n, np.int64)
        for pair, votes in waiting.items():
            left[pair] = len(votes)
        state = state_of(past, design, seen, past._believed(taken, prior=True))
        number = int(np.random.SeedSequence([*seed, len(taken)]).generate_state(1)[0])
        drawn = draw(
            state, None, Goal(budget=size), by="information", random=0.1, shown=shown,
            left=left, seed=number,
        )  # fmt: skip
        taken += [waiting[pair].pop(0) for pair in drawn.pair.tolist()]


def needed(tau: Any, random: Any) -> float:
    """Votes for the tau that half of the votes give at random, as a part of these; by mean curves
    [splits, steps], on straight lines between tenths. Infinite where the curve ends below it.
    """
    wanted, mean = float(random.mean(0)[4]), tau.mean(0)
    above = np.flatnonzero(mean >= wanted - 1e-12)
    if not len(above):
        return float("inf")
    at = int(above[0])
    if at == 0:
        return 0.2
    return (at + (wanted - mean[at - 1]) / (mean[at] - mean[at - 1])) / 5


def finite(value: float) -> float | None:
    """A number, None where it is infinite."""
    return float(value) if np.isfinite(value) else None


def told(tau: dict[str, Any], design: str) -> dict[str, Any]:
    """Votes needed with the range of 95 % of resampled splits, and tau less random's, averaged over
    the steps after the pilot, of all splits and its range over them.
    """
    of, random = np.array(tau[design]), np.array(tau["random"])
    rng = np.random.default_rng(6)
    draws = rng.integers(0, len(of), (1000, len(of)))
    ends = np.quantile([needed(of[d], random[d]) for d in draws], [0.025, 0.975],
                       method="inverted_cdf")  # fmt: skip
    gain = (of - random)[:, 1:].mean(1)
    return {
        "needed": finite(needed(of, random)),
        "range": [finite(end) for end in ends],
        "gain": float(gain.mean()),
        "gain_error": float(gain.std(ddof=1) / np.sqrt(len(gain))),
        "gain_range": [float(gain.min()), float(gain.max())],
    }


def main() -> None:
    """Run it, and print or write what comes out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument(
        "--design", nargs="*", default=["/".join(o) for o in itertools.product(*AXES)]
    )
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    past = _Past(read_votes(votes_of(given.folder)))
    tau: dict[str, list[list[float]]] = {one: [] for one in ("random", *given.design)}
    ties: dict[str, list[float]] = {one: [] for one in tau}
    for split in range(given.splits):
        rng = np.random.default_rng([given.seed, 4, split])
        out = (rng.random(len(past.pairs)) < 0.5)[past.on]
        reference = past._believed(np.flatnonzero(out), prior=False).mean
        order = rng.permutation(np.flatnonzero(~out))
        for design, of in tau.items():
            one, tied = curve(past, design, order, reference, [given.seed, 5, split])
            of.append(one)
            ties[design].append(tied)
    found = {one: told(tau, one) | {"ties": float(np.mean(ties[one]))} for one in tau}
    text = json.dumps({f"seed {given.seed}": found}, indent=1)
    if given.out:
        given.out.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
