"""How likely a tie is, learnt from a pilot of votes, and how far that can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pomona.arena.prioritizing.logistic import (
    Coefficients,
    Design,
    fit,
    standard,
    standard_within,
)
from pomona.arena.prioritizing.measures import ONE_WAY, Measures, change
from pomona.arena.prioritizing.pairs import Floats, Observed, Pairs
from pomona.stats import wilson

_FOLDS = 5
_LEAST = 30  # votes of a bin of the reliability
_SLOPE = 0.25  # prior standard deviation of the slope about 1
Change = tuple[float, float, float]


@dataclass(frozen=True)
class Bin:
    """Votes on pairs with about the same probability of a tie: what was said, and what came."""

    votes: int
    said: float
    came: float
    ci_low: float
    ci_high: float


@dataclass(frozen=True)
class Learnt:
    """What a pilot said of ties.

    p_tie: float64 [n pairs].
    slope, slope_low, slope_high: of the log odds of held-out pairs, 1 where they are as extreme as
        they should be; the log odds are multiplied by it.
    reliability: held-out votes by what was said of them.
    loss, plain_loss: log loss a held-out vote in nats, and with the share of ties alone.
    fewest: change in ties among the fifth of held-out pairs where they are least likely, with its
        interval: of the whole, and of what knows prompts only or answers only.
    """

    p_tie: Floats
    slope: float
    slope_low: float
    slope_high: float
    reliability: list[Bin]
    loss: float
    plain_loss: float
    fewest: dict[str, Change | None]


def design_of(pairs: Pairs, measures: Measures, kind: str = "all") -> Design:
    """What ties are told from: an effect of each prompt; measures, as they are and within their
    prompt; and of the latter, how much more each says for one prompt than for another.

    kind: all of it, "prompt" for the effect alone, or "answers" for no effects of prompts.
    """
    columns = [
        values
        for name, values in measures.values.items()
        if name not in ONE_WAY and np.nanmax(values) > np.nanmin(values)
    ]
    n, ones = len(pairs), np.ones((len(pairs), 1))
    if kind == "prompt" or not columns:
        return Design(ones, np.array([-1]), ones, np.array([0]), pairs.prompt)
    told, size = standard(columns), len(columns)
    if kind == "answers":
        group = np.array([-1] + [0] * size)
        return Design(
            np.hstack([ones, told]), group, np.zeros((n, 0)), np.zeros(0, np.int64), pairs.prompt
        )
    within = standard_within(columns, pairs.prompt)
    group = np.array([-1] + [0] * size + [1] * size)
    return Design(
        np.hstack([ones, told, within]),
        group,
        np.hstack([ones, within]),
        np.array([2] + [3] * size),
        pairs.prompt,
    )


def learn(pairs: Pairs, measures: Measures, seen: Observed, seed: int = 0) -> Learnt:
    """P(tie) of every pair from the votes there are, checked on pairs that were held out."""
    designs = {kind: design_of(pairs, measures, kind) for kind in ("all", "prompt", "answers")}
    prompts = len(pairs.prompts)
    whole = fit(designs["all"], seen.votes, seen.ties, prompts)
    folds = _folds(seen, seed)
    held = {
        kind: _held_out(design, seen, prompts, folds, whole if kind == "all" else None)
        for kind, design in designs.items()
    }
    there = seen.votes > 0
    logits, votes, ties = held["all"][there], seen.votes[there], seen.ties[there]
    shift, slope, error = _calibrated(logits, votes, ties)
    said = _logistic(shift + slope * logits)
    share = (ties.sum() + 0.5) / (votes.sum() + 1)
    return Learnt(
        _logistic(shift + slope * whole.logits(designs["all"])),
        slope,
        slope - 1.96 * error,
        slope + 1.96 * error,
        _reliability(said, votes, ties),
        _loss(said, votes, ties),
        _loss(np.full(len(votes), share), votes, ties),
        {kind: change(-of[there], votes, ties) for kind, of in held.items()},
    )


def p_tie(design: Design, seen: Observed, prompts: int) -> Floats:
    """P(tie) of every row of a design, without any check: for a replay's many fits."""
    return _logistic(fit(design, seen.votes, seen.ties, prompts).logits(design))


def _folds(seen: Observed, seed: int) -> np.ndarray:
    rng = np.random.default_rng([seed, 1])
    fold = np.zeros(len(seen.votes), np.int64)
    there = np.flatnonzero(seen.votes > 0)
    fold[there] = rng.permutation(len(there)) % min(_FOLDS, max(len(there), 1))
    return fold


def _held_out(
    design: Design, seen: Observed, prompts: int, folds: np.ndarray, whole: Coefficients | None
) -> Floats:
    """Log odds of each pair with votes by a fit to the other folds. How far coefficients shrink is
    found once, since a fifth of the votes hardly changes it.
    """
    whole = whole or fit(design, seen.votes, seen.ties, prompts)
    found = np.zeros(len(folds))
    for fold in range(int(folds.max()) + 1):
        kept = np.where(folds == fold, 0.0, seen.votes)
        part = fit(design, kept, seen.ties, prompts, whole.precision)
        out = folds == fold
        found[out] = part.logits(design)[out]
    return found


def _calibrated(logits: Floats, votes: Floats, ties: Floats) -> tuple[float, float, float]:
    """Shift and slope of the log odds (Platt 1999), and the slope's error; the slope is near 1
    unless the votes say otherwise.
    """
    x = np.stack([np.ones(len(logits)), logits], 1)
    ridge, found = np.diag([_SLOPE**-2 / 100, _SLOPE**-2]), np.array([0.0, 1.0])
    hessian = ridge
    for _ in range(30):
        mean = _logistic(x @ found)
        slope = x.T @ (ties - votes * mean) - ridge @ (found - [0, 1])
        hessian = (x.T * (votes * mean * (1 - mean))) @ x + ridge
        step = np.linalg.solve(hessian, slope)
        found = found + step
        if np.abs(step).max() < 1e-8:
            break
    return float(found[0]), float(found[1]), float(np.sqrt(np.linalg.inv(hessian)[1, 1]))


def _reliability(said: Floats, votes: Floats, ties: Floats) -> list[Bin]:
    order = np.argsort(said, kind="stable")
    reach = np.cumsum(votes[order])
    many = int(np.clip(reach[-1] // _LEAST, 1, 10))
    bins: list[Bin] = []
    for rows in _cut(order, reach, many):
        n, k = float(votes[rows].sum()), float(ties[rows].sum())
        low, high = wilson(k, n)
        told = float(said[rows] @ votes[rows] / n)
        bins.append(Bin(int(n), told, k / n, float(low), float(high)))
    return bins


def _cut(order: np.ndarray, reach: Floats, many: int) -> Sequence[np.ndarray]:
    edges = np.searchsorted(reach, reach[-1] * np.arange(1, many) / many)
    return [rows for rows in np.split(order, edges) if len(rows)]


def _loss(said: Floats, votes: Floats, ties: Floats) -> float:
    said = np.clip(said, 1e-9, 1 - 1e-9)
    return float(-(ties @ np.log(said) + (votes - ties) @ np.log1p(-said)) / votes.sum())


def _logistic(x: Floats) -> Floats:
    return 1 / (1 + np.exp(-np.clip(x, -30, 30)))
