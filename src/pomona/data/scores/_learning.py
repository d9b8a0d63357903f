"""In which order rows were learnt: their loss trajectories beside those of probes, and the probes."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pomona.errors import PomonaError

_BLOCK = 1024


def learning_order(losses: NDArray[np.float64], probes: Mapping[str, ArrayLike], *, k: int = 20) -> NDArray[np.str_]:
    """The kind of each row, `[n]`: that of most of its `k` nearest probes by Euclidean distance of loss trajectories.

    losses: float `[n, checkpoints]`, such as the logarithms of the `perplexity@MODEL` columns.
    probes: for each kind either rows of `losses` (integers `[m]`; a row is not its own neighbour) or trajectories (`[m, checkpoints]`).
        Give every kind as many, or the large ones win. Equal votes go to the kind that is nearer on average.
    Agarwal, D'souza & Hooker 2022, §4, with typical, atypical, corrupted and random-label probes, 250 a kind; `k` = 20 is unconfirmed.
    Raises PomonaError when a loss is not finite, a probe does not fit, or there are too few probes.
    """
    losses = np.asarray(losses, np.float64)
    if losses.ndim != 2:
        raise PomonaError(f"losses have the shape {losses.shape}", where="learning_order", remedy="rows are examples, columns checkpoints")
    kinds = list(probes)
    points, codes, owners = _points(losses, probes)
    for name, values in (("row", losses), ("probe", points)):
        bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if len(bad):
            raise PomonaError("a loss is not finite", where=f"{name} {bad[0]}", remedy="drop the row or score it again")
    if not 1 <= k <= len(points) - bool((owners >= 0).any()):
        raise PomonaError(f"k is {k} and there are {len(points)} probes", where="learning_order", remedy="give more probes or a smaller k")
    found = np.empty(len(losses), np.int64)
    for start in range(0, len(losses), _BLOCK):
        block = losses[start : start + _BLOCK]
        distance = np.sqrt(((block[:, None] - points[None]) ** 2).sum(axis=-1))
        distance[owners[None] == np.arange(start, start + len(block))[:, None]] = np.inf
        near = np.argsort(distance, axis=1, kind="stable")[:, :k]
        found[start : start + _BLOCK] = _votes(np.take_along_axis(distance, near, axis=1), codes[near], len(kinds))
    return np.array(kinds)[found]


def _points(
    losses: NDArray[np.float64], probes: Mapping[str, ArrayLike]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Trajectories of all probes `[p, checkpoints]`, the code of their kind `[p]`, and the row each is (-1 for none) `[p]`."""
    points, codes, owners = [], [], []
    for code, (kind, given) in enumerate(probes.items()):
        values = np.asarray(given)
        if values.ndim == 1 and np.issubdtype(values.dtype, np.integer):
            if len(values) and not (values.min() >= 0 and values.max() < len(losses)):
                raise PomonaError(f"there are {len(losses)} rows", where=f'probes "{kind}"', remedy="give row numbers from 0")
            rows, values = values.astype(np.int64), losses[values]
        else:
            rows = np.full(len(values), -1)
        if values.ndim != 2 or values.shape[1] != losses.shape[1]:
            message = f"a trajectory has the shape {values.shape[1:]}, not {losses.shape[1:]}"
            raise PomonaError(message, where=f'probes "{kind}"', remedy="give the loss at the same checkpoints, or row numbers")
        points.append(values)
        codes.append(np.full(len(values), code))
        owners.append(rows)
    if not points:
        raise PomonaError("there are no probes", where="learning_order", remedy="give some of each kind")
    return np.concatenate(points).astype(np.float64), np.concatenate(codes), np.concatenate(owners)


def _votes(distance: NDArray[np.float64], codes: NDArray[np.int64], kinds: int) -> NDArray[np.int64]:
    """The code with most votes of each row `[n]`, from distances and codes `[n, k]`; the smaller mean distance breaks ties."""
    mine = codes[:, :, None] == np.arange(kinds)
    votes = mine.sum(axis=1)
    mean = np.where(votes > 0, (distance[:, :, None] * mine).sum(axis=1) / np.maximum(votes, 1), np.inf)
    return np.where(votes == votes.max(axis=1, keepdims=True), mean, np.inf).argmin(axis=1)


@dataclass(frozen=True)
class Probes:
    """Spoilt copies of pairs: `rows` int64 `[m]` they were made from, ascending, with their `inputs` and `completions`."""

    rows: NDArray[np.int64]
    inputs: list[str]
    completions: list[str]


def make_probes(
    inputs: Sequence[str],
    completions: Sequence[str],
    *,
    n: int = 250,
    rate: float = 0.3,
    groups: Sequence[str] | None = None,
    seed: int = 0,
) -> dict[str, Probes]:
    """`n` pairs each whose input is "corrupted" and whose completion is a "random label"; no row is used twice.

    Corrupted: each letter, with probability `rate`, becomes another letter of the inputs. Random label: the completion of another row (of
    the same group, where `groups` `[rows]` are given) with another text. Give the raw text: a template is filled afterwards.
    Raises PomonaError when there are too few rows, or none with another text.
    """
    if 2 * n > len(inputs):
        raise PomonaError(f"{2 * n} probes of {len(inputs)} rows", where="make_probes", remedy="use a smaller n")
    draw = random.Random(seed)
    chosen = draw.sample(range(len(inputs)), 2 * n)
    first, second = sorted(chosen[:n]), sorted(chosen[n:])
    letters = sorted({letter for text in inputs for letter in text if letter.isalpha()})
    corrupted = [_corrupt(inputs[row], letters, rate, draw) for row in first]
    members: dict[str, list[int]] = {}
    for row in range(len(inputs)):
        members.setdefault(groups[row] if groups else "", []).append(row)
    labels = [_another(row, completions, members[groups[row] if groups else ""], draw) for row in second]
    return {
        "corrupted": Probes(np.array(first, np.int64), corrupted, [completions[row] for row in first]),
        "random label": Probes(np.array(second, np.int64), [inputs[row] for row in second], labels),
    }


def _corrupt(text: str, letters: Sequence[str], rate: float, draw: random.Random) -> str:
    def other(letter: str) -> str:
        while (found := draw.choice(letters)) == letter and len(letters) > 1:
            pass
        return found

    return "".join(other(letter) if letter.isalpha() and draw.random() < rate else letter for letter in text)


def _another(row: int, completions: Sequence[str], members: Sequence[int], draw: random.Random) -> str:
    for _ in range(20):
        found = completions[draw.choice(members)]
        if found != completions[row]:
            return found
    rest = [completions[member] for member in members if completions[member] != completions[row]]
    if not rest:
        raise PomonaError("no row of its group has another completion", where=f"row {row}", remedy="leave out groups with a single text")
    return draw.choice(rest)
