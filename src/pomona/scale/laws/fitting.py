"""A form fitted to runs, refitted to resamples of them, and what it predicts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pomona import stats
from pomona.errors import PomonaError, quantity
from pomona.scale.laws.forms import NAMES, Law, best_params, evaluate
from pomona.scale.laws.huber import Loss, minimise
from pomona.scale.laws.projection import starts
from pomona.scale.laws.residuals import HIGH, LOW, Fitting, Joint, Repeated, Terms
from pomona.scale.runs import FLOPS_EACH, Runs

Floats = NDArray[np.float64]
_POLISHED = 4  # nodes of the grid from which it is gone on
_FEWEST = 3  # runs that repeat, or sizes, or numbers of tokens, to tell what bends
_MORE = 2  # units than parameters, with which intervals hold what they promise
_NO_FLOOR = 1e-6  # of the loss: an E below is none
_BLOCK = 200  # refits at once


@dataclass(frozen=True)
class Fitted:
    """A law and the `draws` `[resamples, 7]` of laws fitted to resampled runs, in the order of
    `forms.NAMES`; `residuals` `[n]` are ln observed − ln predicted.

    free: number of fitted parameters.
    at_bound: those that the runs do not tell: an exponent at its bound, a floor of 0.
    resamples: what was resampled; `units` of it.
    largest, stretch: runs of more FLOPs than `largest` have bands so many times as wide.
    """

    law: Law
    draws: Floats
    residuals: Floats
    objective: float
    free: int
    at_bound: Sequence[str]
    resamples: stats.Resamples
    largest: float
    stretch: float = 1.0

    @property
    def widening(self) -> float | None:
        """How much wider than resamples say an interval must be over so few units, with so many
        parameters: Student's t and lost degrees of freedom. None with too few to know.
        """
        from scipy import special

        units = self.resamples.units
        if units < self.free + _MORE or not len(self.draws):
            return None
        left = units - self.free
        t = -float(special.stdtrit(left, 0.025))
        return t / 1.959964 * math.sqrt(units / left)

    def interval(self, drawn: Floats) -> tuple[float, float] | None:
        """The 95 % interval of anything, from its value in every refit `[resamples]`."""
        from scipy import special

        if self.widening is None or not np.isfinite(drawn).all():
            return None
        outside = float(special.ndtr(-1.959964 * self.widening))
        low, high = np.quantile(drawn, [outside, 1 - outside])
        return float(low), float(high)

    def exponents(self) -> Floats:
        """beta/(alpha+beta) in every refit."""
        return self.draws[:, 4] / (self.draws[:, 3] + self.draws[:, 4])

    def predict(
        self, params: ArrayLike, tokens: ArrayLike, unique_tokens: ArrayLike | None = None
    ) -> tuple[Floats, Floats | None, Floats | None]:
        """The loss at `[n]` runs and the ends of the 95 % band of one more training each; no ends
        with too few runs to know.
        """
        n, d = np.atleast_1d(params), np.atleast_1d(tokens)
        unique = None if unique_tokens is None else np.atleast_1d(unique_tokens)
        value = evaluate(self.law.form, self.law.values, n, d, unique)
        low, high = self.band(self.law.form, value, self.draws, n, d, unique)
        return value, low, high

    def band(
        self,
        form: str,
        value: Floats,
        laws: Floats,
        params: Floats,
        tokens: Floats,
        unique: Floats | None,
    ) -> tuple[Floats, Floats] | tuple[None, None]:
        """The ends of the band about `value` `[n]` of one more training at each of n runs, from
        what the refitted `laws` say there and a residual drawn beside it.
        """
        if self.widening is None:
            return None, None
        # Without Student's t, with which bands of few runs covered 98 % (experiments/scale)
        units = self.resamples.units
        wider = math.sqrt(units / (units - self.free))
        drawn = np.log(evaluate(form, laws, params, tokens, unique) / value)
        rng = np.random.default_rng([self.resamples.seed, 1])
        drawn = drawn + rng.choice(self.residuals, size=drawn.shape)
        low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
        beyond = FLOPS_EACH * params * tokens > self.largest
        wider = wider * np.where(beyond, self.stretch, 1.0)
        return value * np.exp(wider * low), value * np.exp(wider * high)


def fit_form(
    runs: Runs,
    form: str,
    loss: Loss,
    *,
    resamples: int,
    seed: int,
    clusters: Sequence[Any] | None = None,
) -> Fitted:
    """Fit a form to runs, and again to each of `resamples` resamples of them, or of clusters."""
    check_told(runs, form)
    problem = _problem(runs, form)
    best, value, begun = _best(problem, loss)
    if isinstance(problem, Repeated) and _excess(runs, problem.values(best[None])[0]):
        problem = problem.with_excess()
        best, value, begun = _best(problem, loss)
    law = problem.values(best[None])[0]
    draws = stats.Resamples(len(runs), resamples or stats.MINIMUM, seed, clusters)
    drawn = _refitted(problem, best, begun, draws, loss) if resamples else np.empty((0, 7))
    told = [None if math.isnan(one) else float(one) for one in law[5:]]
    return Fitted(
        Law(*map(float, law[:5]), *told, form=form),  # pyright: ignore[reportArgumentType]
        drawn,
        -problem.residuals(best[None])[0],
        value,
        problem.size,
        _at_bound(law, form, runs.loss),
        draws,
        float((FLOPS_EACH * runs.params * runs.tokens).max()),
    )


def _best(problem: Fitting, loss: Loss) -> tuple[Floats, float, tuple[Floats, Floats]]:
    """The parameters of the least loss, it, and the nodes of the grid with what each run costs."""
    begun = [starts(columns, loss) for columns in problem.columns()]
    nodes, costs = (np.concatenate(one) for one in zip(*begun, strict=True))
    first = np.argsort(costs.sum(1))[:_POLISHED]
    even = np.ones((len(first), costs.shape[1]))
    theta, value = minimise(problem, nodes[first], even, loss)
    return theta[value.argmin()], float(value.min()), (nodes, costs)


def _refitted(
    problem: Fitting,
    best: Floats,
    begun: tuple[Floats, Floats],
    draws: stats.Resamples,
    loss: Loss,
) -> Floats:
    """The laws of all resamples. Each starts at the best of all runs, and where a node of the grid
    costs less than what is reached from there, again at that node.
    """
    found, (nodes, costs) = list[Floats](), begun
    for counts in draws.counts():
        for start in range(0, len(counts), _BLOCK):
            weights = counts[start : start + _BLOCK].astype(np.float64)
            begin = np.repeat(best[None], len(weights), 0)
            theta, value = minimise(problem, begin, weights, loss)
            at_nodes = weights @ costs.T
            lower = np.flatnonzero(at_nodes.min(1) < value)
            if len(lower):
                other = nodes[at_nodes[lower].argmin(1)]
                theta[lower], _ = minimise(problem, other, weights[lower], loss)
            found.append(problem.values(theta))
    return np.concatenate(found)


def _at_bound(law: Floats, form: str, loss: Floats) -> list[str]:
    told = dict(zip(NAMES, law, strict=True))
    found = [name for name in ("alpha", "beta") if not LOW * 1.01 < told[name] < HIGH * 0.99]
    floor = form in ("chinchilla", "data_constrained")
    return (["E"] if floor and told["E"] < _NO_FLOOR * loss.min() else []) + found


def _problem(runs: Runs, form: str) -> Fitting:
    if form == "kaplan":
        return Joint(runs.params, runs.tokens, runs.loss)
    if form == "data_constrained":
        return Repeated(runs.params, runs.tokens, runs.loss, runs.more["unique_tokens"])
    return Terms(runs.params, runs.tokens, runs.loss, floor=form == "chinchilla")


def _excess(runs: Runs, law: Floats) -> bool:
    """Whether enough runs have more parameters than are best for their data to tell R_N."""
    unique = np.minimum(runs.more["unique_tokens"], runs.tokens)
    most = best_params((law[1], law[2]), law[3], law[4], unique)
    return int((runs.params > most).sum()) >= _FEWEST


def check_told(runs: Runs, form: str) -> None:
    """Raise PomonaError where the runs cannot tell the parameters of a form at all."""
    where = runs.places[0].rpartition(", row ")[0]
    sizes, lengths = len(set(runs.params.tolist())), len(set(runs.tokens.tolist()))
    floor = form in ("chinchilla", "data_constrained")
    needed, free = (_FEWEST, 5) if floor else (2, 4)
    free += 1 if form == "data_constrained" else 0
    for what, several in (("size", sizes), ("number of tokens", lengths)):
        if several < needed:
            told = f"all runs have one {what}" if several == 1 else f"runs have two {what}s"
            told = told.replace("number of tokenss", "numbers of tokens")
            remedy = f"train at {needed} or more" + (
                "" if floor else f", or fit another form than {form}"
            )
            raise PomonaError(f"{told}, which cannot tell a law", where=where, remedy=remedy)
    if len(runs) <= free:
        message = (
            f"{quantity(len(runs), 'run is', 'runs are')}"
            f" too few for the {free} parameters of {form}"
        )
        raise PomonaError(message, where=where, remedy=f"give {free + 1} or more")
    if form == "data_constrained":
        unique = runs.more.get("unique_tokens")
        if unique is None:
            remedy = "name it with --unique-tokens, or fit chinchilla"
            message = "unique_tokens are not known of all runs"
            raise PomonaError(message, where=where, remedy=remedy)
        repeats = int((runs.tokens > 1.001 * unique).sum())
        if repeats < _FEWEST:
            message = (
                f"{quantity(repeats, 'run repeats its', 'runs repeat their')}"
                " tokens, too few to tell what repetition is worth"
            )
            raise PomonaError(message, where=where, remedy="fit chinchilla")
