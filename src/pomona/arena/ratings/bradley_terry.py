"""Bradley-Terry models with ties, fitted by Newton's method to counts of pairs and outcomes.

Strengths are in natural units of the log odds, and sum to 0. With d the difference of two, w the
logistic function, and outcomes a, b and tie:

- half: a tie is half a win of each; P(a) = w(d).
- drop: ties do not count.
- davidson (Davidson 1970): P(a) : P(b) : P(tie) = exp(d / 2) : exp(-d / 2) : nu.
- rao_kupper (Rao & Kupper 1967): P(a) = w(d - ln eta), P(b) = w(-d - ln eta), eta ≥ 1.

All are concave in strengths and ln nu, or ln eta. Scores and Hessians of single cells are there for
sandwich errors, influence, and votes with weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from pomona.arena.votes import Votes
from pomona.errors import PomonaError

Ties: TypeAlias = Literal["davidson", "half", "rao_kupper", "drop"]
TIES = get_args(Ties)
ELO = 400 / np.log(10)  # points a natural unit of the log odds
MEAN = 1000.0  # points of the mean strength where no model is the anchor
_STEPS = 100  # of Newton's method; what converges takes less than ten
_TOLERANCE = 1e-10  # largest entry of the gradient, a vote of the model
_LONGEST = 5.0  # of one step, in log odds: what is infinite is approached, not overflown
_LARGEST = 20.0  # strengths that are as good as infinite: odds of 10^8
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Counts:
    """Votes by pair and outcome, which may be weights.

    models: how many there are.
    first, second: intp [p] the pairs that have votes, first < second, each once, in order.
    outcomes: float64 [p, 3] wins of the first, wins of the second, ties.
    """

    models: int
    first: NDArray[np.intp]
    second: NDArray[np.intp]
    outcomes: Floats

    @property
    def wins(self) -> Floats:
        """[k, k] how often the row's model beat the column's."""
        return self._square(self.outcomes[:, 0], self.outcomes[:, 1])

    @property
    def ties(self) -> Floats:
        """[k, k], symmetric: each tie stands twice."""
        return self._square(self.outcomes[:, 2], self.outcomes[:, 2])

    def _square(self, above: Floats, below: Floats) -> Floats:
        square = np.zeros((self.models, self.models))
        square[self.first, self.second], square[self.second, self.first] = above, below
        return square

    def with_outcomes(self, outcomes: Floats) -> Counts:
        """The same pairs with other counts [p, 3], such as those of a resample."""
        return Counts(self.models, self.first, self.second, outcomes)


def sums(index: NDArray[Any], weights: NDArray[Any], size: int) -> Floats:
    """Sums of weights by index, float64 [size]."""
    return np.bincount(index, weights, size).astype(np.float64, copy=False)


def counts_of(votes: Votes, weights: Floats | None = None) -> Counts:
    """The votes by pair and outcome; `weights` [n] of rows multiply their counts."""
    place, first, second = votes.cells
    if weights is None:
        cells = votes.totals.copy()
    else:
        cells = sums(place, votes.count * weights, 3 * len(first))
    return Counts(len(votes.models), first, second, cells.reshape(-1, 3))


def pairs_of(votes: Votes) -> tuple[NDArray[np.int64], NDArray[np.bool_], Any, Any]:
    """The pair of each vote as an index [n], whether its second model stands first there [n], and
    the two models of each pair, first < second [p].
    """
    place, first, second = votes.cells
    return place // 3, votes.a > votes.b, first, second


def counts_from(wins: Floats, ties: Floats | None = None) -> Counts:
    """Counts of matrices [k, k]: how often the row's model beat the column's, and ties, each in
    both places or in one above the diagonal.
    """
    k = len(wins)
    wins = np.asarray(wins, np.float64)
    tied = np.zeros((k, k)) if ties is None else np.asarray(ties, np.float64)
    tied = np.maximum(tied, tied.T)
    first, second = np.nonzero(np.triu((wins != 0) | (wins.T != 0) | (tied != 0), 1))
    columns = (wins[first, second], wins[second, first], tied[first, second])
    return Counts(k, first, second, np.stack(columns, 1))


@dataclass(frozen=True)
class Cells:
    """Log-likelihood of one vote, its score and minus its second derivatives, each `[..., 3]` by
    outcome, in the difference d of strengths and in the parameter t of ties (ln nu or ln eta).
    """

    logs: Floats
    d: Floats
    t: Floats
    dd: Floats
    dt: Floats
    tt: Floats


def cells(difference: Floats, ties: Ties, tie: float = 0.0) -> Cells:
    """What one vote says at a difference of strengths [...], for each outcome.

    tie: ln nu or ln eta, of the models that have one.
    """
    d = np.asarray(difference, np.float64)
    if ties == "davidson":
        return _davidson(d, tie)
    if ties == "rao_kupper":
        return _rao_kupper(d, tie)
    first, second = _log_logistic(d), _log_logistic(-d)
    p = np.exp(first)
    zero = np.zeros_like(d)
    tied = (0.5 * (first + second), 0.5 - p, p * (1 - p)) if ties == "half" else (zero, zero, zero)
    stacked = [
        np.stack(parts, -1)
        for parts in zip((first, 1 - p, p * (1 - p)), (second, -p, p * (1 - p)), tied, strict=True)
    ]
    none = np.zeros((*d.shape, 3))
    return Cells(stacked[0], stacked[1], none, stacked[2], none, none)


def _log_logistic(x: Floats) -> Floats:
    return -np.logaddexp(0, -x)


def _davidson(d: Floats, tie: float) -> Cells:
    largest = np.maximum(np.abs(d) / 2, tie)
    parts = np.stack([d / 2, -d / 2, np.broadcast_to(tie, d.shape)], -1)
    logs = parts - largest[..., None]
    total = np.exp(logs).sum(-1)
    logs = logs - np.log(total)[..., None]
    p = np.exp(logs)
    mean = (p[..., 0] - p[..., 1]) / 2
    tied = p[..., 2]
    unit = np.array([0.5, -0.5, 0.0])
    shape = (*d.shape, 3)
    return Cells(
        logs,
        unit - mean[..., None],
        np.array([0.0, 0.0, 1.0]) - tied[..., None],
        np.broadcast_to(((1 - tied) / 4 - mean**2)[..., None], shape),
        np.broadcast_to((-mean * tied)[..., None], shape),
        np.broadcast_to((tied * (1 - tied))[..., None], shape),
    )


def _rao_kupper(d: Floats, tie: float) -> Cells:
    first, second = _log_logistic(d - tie), _log_logistic(-d - tie)
    x, y = np.exp(first), np.exp(second)
    over = 2 / np.expm1(2 * tie) if tie > 0 else np.inf
    dx, dy = x * (1 - x), y * (1 - y)
    log_tie = np.log(-np.expm1(-2 * tie)) if tie > 0 else -np.inf
    tied = log_tie + _log_logistic(tie - d) + _log_logistic(tie + d)
    return Cells(
        np.stack([first, second, tied], -1),
        np.stack([1 - x, y - 1, y - x], -1),
        np.stack([x - 1, y - 1, x + y + over], -1),
        np.stack([dx, dy, dx + dy], -1),
        np.stack([-dx, dy, dy - dx], -1),
        np.stack([dx, dy, dx + dy + over * (over + 2)], -1),
    )


@dataclass(frozen=True)
class Solution:
    """Strengths [k] that make the votes most likely, in natural units, with sum 0.

    tie: ln nu or ln eta; None where the model of ties has none, or there are no ties.
    gradient_norm: the largest entry of the gradient, a vote of the model.
    """

    strengths: Floats
    ties: Ties
    tie: float | None
    log_likelihood: float
    gradient_norm: float
    converged: bool
    steps: int

    def cells(self, difference: Floats) -> Cells:
        """`cells` at these parameters of ties."""
        return cells(difference, *self.model)

    @property
    def model(self) -> tuple[Ties, float]:
        """The model of ties that is left where there are none, and its parameter."""
        if self.tie is None and self.ties != "half":
            return "drop", 0.0
        return self.ties, self.tie or 0.0

    def probabilities(self, difference: Floats) -> Floats:
        """P of a win of the first, of the second, and of a tie `[..., 3]`; of half and drop, which
        have no ties, the first two sum to 1.
        """
        found = np.exp(self.cells(np.asarray(difference, np.float64)).logs)
        if self.tie is None:
            found[..., 2] = 0
        return found


def solve(counts: Counts, ties: Ties = "davidson", start: Solution | None = None) -> Solution:
    """The most likely strengths by Newton's method with a rank-1 term for the sum, which nothing
    else fixes; `start` from a fit of nearly the same votes takes one or two steps.

    Every two models must be connected by votes (see `check_connected`), and each must be able to
    reach each other by wins or ties (see `rated`): the strengths of others are infinite, and what
    is returned for them has not converged.
    """
    n = counts.outcomes if ties != "drop" else counts.outcomes * np.array([1.0, 1.0, 0.0])
    total = n.sum(0)
    free = ties in ("davidson", "rao_kupper") and total[2] > 0
    model: Ties = ties if free or ties == "half" else "drop"
    k = counts.models
    theta = np.zeros(k) if start is None else start.strengths - start.strengths.mean()
    tie = _first_tie(total, model) if start is None or start.tie is None else start.tie
    problem = _Problem(counts, n, model, free)
    value, gradient, hessian = problem.at(theta, tie)
    norm, steps = problem.norm(gradient), 0
    while norm > _TOLERANCE and steps < _STEPS and np.abs(theta).max() < _LARGEST:
        move = newton_step(hessian, gradient, k)
        move *= min(1.0, _LONGEST / max(float(np.abs(move).max()), 1e-300))
        steps += 1
        for _ in range(30):
            moved, tied = theta + move[:k], tie + (move[k] if free else 0.0)
            if model != "rao_kupper" or tied > 0:
                found = problem.at(moved, tied)
                if found[0] >= value - 1e-12 * abs(value):
                    break
            move = move / 2
        else:
            break
        theta, tie, (value, gradient, hessian) = moved - moved.mean(), tied, found
        norm = problem.norm(gradient)
    converged = norm <= _TOLERANCE and bool(np.abs(theta).max() < _LARGEST)
    return Solution(theta, ties, tie if free else None, value, norm, converged, steps)


def _first_tie(total: Floats, model: Ties) -> float:
    share = total[2] / max(float(total.sum()), 1e-300)
    odds = share / max(1 - share, 1e-9)
    if model == "davidson":
        return float(np.log(max(2 * odds, 1e-9)))
    return float(np.log1p(2 * odds)) if model == "rao_kupper" else 0.0


def newton_step(hessian: Floats, gradient: Floats, k: int) -> Floats:
    """Where Newton's method goes: the sum of the first k parameters, the strengths, stays."""
    from scipy.linalg import LinAlgError, cho_factor, cho_solve

    gauged = hessian.copy()
    gauged[:k, :k] += _gauge(hessian, k)
    try:
        return cho_solve(cho_factor(gauged, check_finite=False), gradient, check_finite=False)
    except LinAlgError:  # what is nearly infinite has no curvature left
        return np.asarray(np.linalg.lstsq(gauged, gradient, rcond=1e-12)[0], np.float64)


def _gauge(hessian: Floats, k: int) -> float:
    """How much of ones to add to the Hessian: it changes nothing but the sum of the strengths."""
    return max(float(np.trace(hessian[:k, :k])) / k**2, 1e-300)


class _Problem:
    def __init__(self, counts: Counts, n: Floats, model: Ties, free: bool) -> None:
        self.counts, self.n, self.free = counts, n, free
        self.model: Ties = model
        votes, k = np.abs(n).sum(1), counts.models
        of = sums(counts.first, votes, k) + sums(counts.second, votes, k)
        self.votes = np.maximum(np.append(of, votes.sum())[: k + free], 1e-300)

    def norm(self, gradient: Floats) -> float:
        return float(np.abs(gradient / self.votes).max())

    def at(self, theta: Floats, tie: float) -> tuple[float, Floats, Floats]:
        """Log-likelihood, its gradient and minus its Hessian."""
        found = cells(theta[self.counts.first] - theta[self.counts.second], self.model, tie)
        with np.errstate(invalid="ignore"):
            value = float(np.where(self.n != 0, self.n * found.logs, 0.0).sum())
        gradient = _gradient(self.counts, self.n, found, self.free)
        return value, gradient, _hessian(self.counts, self.n, found, self.free)


def _gradient(counts: Counts, n: Floats, found: Cells, free: bool) -> Floats:
    k = counts.models
    along = _total(n, found.d)
    gradient = np.zeros(k + free)
    gradient[:k] = sums(counts.first, along, k) - sums(counts.second, along, k)
    if free:
        gradient[k] = _total(n, found.t).sum()
    return gradient


def _hessian(counts: Counts, n: Floats, found: Cells, free: bool) -> Floats:
    k, first, second = counts.models, counts.first, counts.second
    hessian = np.zeros((k + free, k + free))
    weight = _total(n, found.dd)
    hessian[first, second] = hessian[second, first] = -weight
    hessian[np.arange(k), np.arange(k)] = sums(first, weight, k) + sums(second, weight, k)
    if free:
        across = _total(n, found.dt)
        column = sums(first, across, k) - sums(second, across, k)
        hessian[:k, k] = hessian[k, :k] = column
        hessian[k, k] = _total(n, found.tt).sum()
    return hessian


def _total(n: Floats, of: Floats) -> Floats:
    """Sums over outcomes `[p]`; where nothing is counted an infinite derivative is none."""
    return np.einsum("pj,pj->p", n, np.where(n != 0, of, 0.0))


def hessian(counts: Counts, solution: Solution) -> Floats:
    """Minus the second derivatives of the log-likelihood, [k, k], with a last row and column for
    the parameter of ties where the solution has one. Its rows of strengths sum to 0.
    """
    found = solution.cells(solution.strengths[counts.first] - solution.strengths[counts.second])
    return _hessian(counts, _counted(counts, solution), found, solution.tie is not None)


def gradient(counts: Counts, solution: Solution) -> Floats:
    """Derivatives of the log-likelihood by strengths [k], and by the parameter of ties [1] where
    the solution has one: near 0 for the counts that it was fitted to.
    """
    d = solution.strengths[counts.first] - solution.strengths[counts.second]
    n, k, free = _counted(counts, solution), counts.models, solution.tie is not None
    if solution.model[0] == "rao_kupper":
        return _gradient(counts, n, solution.cells(d), free)
    # Of the others the expected outcome is all that counts, which is quicker than whole cells.
    votes, tied = n[:, 0] + n[:, 1] + n[:, 2], n[:, 2]
    if free:
        half, nu = np.exp(solution.strengths / 2), np.exp(solution.model[1])
        up = half[counts.first] / half[counts.second]
        shares = votes / (up + 1 / up + nu)
        along = (n[:, 0] - n[:, 1] - shares * (up - 1 / up)) / 2
        rest = [tied.sum() - nu * shares.sum()]
    else:
        along, rest = n[:, 0] + tied / 2 - votes / (1 + np.exp(-d)), []
    slope = sums(counts.first, along, k) - sums(counts.second, along, k)
    return np.append(slope, rest)


def _counted(counts: Counts, solution: Solution) -> Floats:
    dropped = solution.ties == "drop"
    return counts.outcomes * np.array([1.0, 1.0, 0.0]) if dropped else counts.outcomes


def inverse(hessian: Floats, k: int) -> Floats:
    """The inverse of a Hessian among strengths of sum 0 (and the parameter of ties): the bread of a
    sandwich, and the covariance of strengths where votes are independent and the model is right.
    """
    from scipy.linalg import cho_factor, cho_solve

    gauged = hessian.copy()
    gauge = _gauge(hessian, k)
    gauged[:k, :k] += gauge
    found = cho_solve(cho_factor(gauged, check_finite=False), np.eye(len(gauged)))
    found[:k, :k] -= 1 / (gauge * k**2)
    return (found + found.T) / 2


def scores(votes: Votes, solution: Solution) -> tuple[Floats, Floats]:
    """The score of one vote of each row [n]: its derivative by the strength of a (minus that by the
    strength of b), and by the parameter of ties, 0 where there is none.
    """
    difference = solution.strengths[votes.a] - solution.strengths[votes.b]
    outcome = np.minimum(votes.outcome, 2)[:, None].astype(np.intp)
    found = solution.cells(difference)
    along = np.take_along_axis(found.d, outcome, -1)[:, 0]
    return along, np.take_along_axis(found.t, outcome, -1)[:, 0]


def components(counts: Counts, *, strong: bool = False, ties: Ties = "davidson") -> NDArray[Any]:
    """Which component each model is in [k], 0 the one with most models: connected by votes that
    count, or (strong) by wins and ties in both directions, so that no strength is infinite.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    won = counts.outcomes > 0
    if ties == "drop":
        won = won & np.array([True, True, False])
    if not strong:
        won = np.repeat(won.any(1, keepdims=True), 3, 1)
    down, up = won[:, 0] | won[:, 2], won[:, 1] | won[:, 2]
    rows = np.concatenate([counts.first[down], counts.second[up]])
    columns = np.concatenate([counts.second[down], counts.first[up]])
    graph = coo_matrix((np.ones(len(rows)), (rows, columns)), (counts.models, counts.models))
    kind = "strong" if strong else "weak"
    told: Any = connected_components(graph, directed=True, connection=kind)
    found = told[1]
    order = np.argsort(-np.bincount(found), kind="stable")
    return np.asarray(np.argsort(order))[found]


def check_connected(
    counts: Counts, models: Sequence[str], where: str, ties: Ties = "davidson"
) -> None:
    """Raise PomonaError naming the components where no chain of votes connects all models."""
    found = components(counts, ties=ties)
    if (many := int(found.max()) + 1) == 1:
        return
    told = []
    for component in range(min(many, 4)):
        names = [models[int(index)] for index in np.flatnonzero(found == component)]
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        told.append(", ".join(name[:60] for name in names[:5]) + more)
    more = f"; and {many - 4} more" if many > 4 else ""
    message = f"{many} groups of models have no votes between them: {'; '.join(told)}{more}"
    remedy = "add votes between them, or rate each by itself"
    raise PomonaError(message, where=where, remedy=remedy)


def rated(counts: Counts, ties: Ties = "davidson") -> NDArray[np.bool_]:
    """Which models [k] have a finite strength: those of the largest component in which each reaches
    each other by wins or ties (Ford 1957). The others lost all, or won all, against some.
    """
    return components(counts, strong=True, ties=ties) == 0


def check_ties(counts: Counts, where: str, ties: Ties) -> None:
    """Raise PomonaError where the votes of rated models do not tell the parameter of ties."""
    if not counts.outcomes[:, :2].any():
        message, remedy = "all votes are ties", "collect votes until some are none"
        raise PomonaError(message, where=where, remedy=remedy)
    if not tells_ties(counts, ties):
        message = "the votes are too few to tell how often there is a tie"
        raise PomonaError(message, where=where, remedy="collect more votes, or give --ties half")


def tells_ties(counts: Counts, ties: Ties) -> bool:
    """Whether the parameter of ties, and with it the strengths of models that are all rated, is
    finite, or there is none.

    With more ties and farther strengths the votes would become ever more likely unless some cycle
    of models has more wins, each over the next, than ties: the condition under which a difference
    of 1 to every win and of at most 1 to every tie cannot be had.
    """
    wins, losses, tied = counts.outcomes.T > 0
    if ties not in ("davidson", "rao_kupper") or not tied.any() or (wins & losses).any():
        return True
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import NegativeCycleError, bellman_ford

    first, second = counts.first, counts.second
    # Where a pair has both, the win binds: its edge is the shorter one.
    rows = np.concatenate(
        [first[wins], second[losses], first[tied & ~wins], second[tied & ~losses]]
    )
    columns = np.concatenate(
        [second[wins], first[losses], second[tied & ~wins], first[tied & ~losses]]
    )
    weights = np.where(np.arange(len(rows)) < wins.sum() + losses.sum(), -1.0, 1.0)
    graph = coo_matrix((weights, (rows, columns)), (counts.models, counts.models)).tocsr()
    try:
        bellman_ford(graph, indices=0)
    except NegativeCycleError:
        return True
    return False


def points(strengths: Floats, anchor: tuple[int, float] | None = None) -> Floats:
    """Strengths on the scale of Elo, 400 points to a factor of ten in the odds: their mean is 1000,
    or the model of that index has that rating.
    """
    place, rating = (
        (strengths.mean(), MEAN) if anchor is None else (strengths[anchor[0]], anchor[1])
    )
    return (strengths - place) * ELO + rating
