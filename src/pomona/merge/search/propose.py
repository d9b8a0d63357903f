"""Where to look next: each way of searching is a generator that yields points and is sent their
losses (lower is better).

A generator depends on its arguments and on the losses alone, so sending it the losses of a log
brings it back to where it was.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import numpy as np

from pomona.errors import PomonaError, nearest
from pomona.merge.search.space import Space, Value

Point = dict[str, Value]
Proposals = Generator[list[Point], list[float], None]

SPREAD = 0.25  # first standard deviation of CMA-ES, as a share of each range


def proposals(method: str, space: Space, trials: int, seed: int) -> Proposals:
    """Points of `space` to score, batch by batch. Raises PomonaError for an unknown method and for
    too few trials for a grid.
    """
    if method not in METHODS:
        raise PomonaError(
            f'there is no way of searching called "{method}"', remedy=nearest(method, METHODS)
        )
    return METHODS[method](space, trials, seed)


def cma(space: Space, trials: int, seed: int) -> Proposals:
    """The middle, then CMA-ES on the unit cube (Hansen 2016, arXiv 1604.00772), which never sees
    the global random state.
    """
    module = _imported("cma")
    draw = np.random.default_rng(seed)
    options = {
        "bounds": [0, 1], "seed": math.nan, "randn": lambda *shape: draw.standard_normal(shape),
        "verbose": -9, "verb_log": 0, "verb_disp": 0,
    }  # fmt: skip
    yield [space.middle()]
    with _quiet():
        strategy = module.CMAEvolutionStrategy([0.5] * len(space.free), SPREAD, options)
    while True:
        with _quiet():
            asked = strategy.ask()
        losses = yield [space.at(units) for units in asked]
        with _quiet():
            strategy.tell(asked, losses)


def optuna(space: Space, trials: int, seed: int) -> Proposals:
    """The middle, then the tree-structured Parzen estimator over all parameters together (Bergstra
    et al. 2011; Falkner et al. 2018).
    """
    module = _imported("optuna")
    level = module.logging.get_verbosity()
    module.logging.set_verbosity(module.logging.ERROR)
    with _quiet():
        study = module.create_study(
            sampler=module.samplers.TPESampler(seed=seed, multivariate=True)
        )
        unit = {name: module.distributions.FloatDistribution(0, 1) for name in space.names}
        kinds = {
            f.name: module.distributions.CategoricalDistribution(range(len(f.choices)))
            for f in space.free
            if f.choices
        }
    module.logging.set_verbosity(level)
    yield [space.middle()]
    while True:
        with _quiet():
            trial = study.ask(unit | kinds)
        point = {
            f.name: f.choices[trial.params[f.name]] if f.choices else f.at(trial.params[f.name])
            for f in space.free
        }
        losses = yield [point]
        with _quiet():
            study.tell(trial, losses[0])


def random(space: Space, trials: int, seed: int) -> Proposals:
    """The middle, then points drawn evenly."""
    draw = np.random.default_rng(seed)
    yield [space.middle()]
    while True:
        yield [space.at(draw.random(len(space.free)).tolist())]


def grid(space: Space, trials: int, seed: int) -> Proposals:
    """Every choice with as many numbers of each range, at equal distances, as the trials allow."""
    ranges = sum(not free.choices for free in space.free)
    fixed = math.prod(len(free.choices) for free in space.free if free.choices)
    least = fixed * 2**ranges
    if trials < least:
        raise PomonaError(
            (
                f"a grid over {', '.join(space.names)} has at least {least} points, "
                f"and there are {trials} trials"
            ),
            where="trials",
            remedy=(f"allow {least} trials, or search by cma or optuna"),
        )
    points = 2
    while ranges and fixed * (points + 1) ** ranges <= trials:
        points += 1
    axes = [free.axis(points) for free in space.free]
    yield [dict(zip(space.names, values, strict=True)) for values in itertools.product(*axes)]


def greedy(space: Space, trials: int, seed: int) -> Proposals:
    """Greedy soup (Wortsman et al. 2022, recipe 1): each parameter is an expert, out at its lowest
    value and in at its highest.

    Every expert is scored by itself; from the best on, each is added in the order of those scores
    and kept unless it makes the merge worse.
    """
    ends = {
        free.name: (free.choices[0], free.choices[-1]) if free.choices else (free.low, free.high)
        for free in space.free
    }

    def merge(chosen: set[str]) -> Point:
        return {name: high if name in chosen else low for name, (low, high) in ends.items()}

    alone = yield [merge({name}) for name in ends]
    order = [name for _, name in sorted(zip(alone, ends, strict=True), key=lambda pair: pair[0])]
    chosen, best = {order[0]}, min(alone)
    for name in order[1:]:
        (loss,) = yield [merge(chosen | {name})]
        if loss <= best:
            chosen, best = chosen | {name}, loss


METHODS: dict[str, Callable[[Space, int, int], Proposals]] = {
    "cma": cma, "optuna": optuna, "grid": grid, "random": random, "greedy": greedy,
}  # fmt: skip


def _imported(name: str) -> Any:
    import importlib

    try:
        with _quiet():
            return importlib.import_module(name)
    except ImportError as error:
        raise PomonaError(
            f"searching by {name} needs the package {name}", remedy="pip install 'pomona[search]'"
        ) from error


@contextmanager
def _quiet() -> Any:
    """What the packages warn of — no plotting, flat scores — is no concern of the user's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
