"""`search`: candidates are proposed, merged in memory, scored and logged, each point at most
once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pomona.errors import PomonaError, ResourceError
from pomona.ledger.flops import Meter
from pomona.merge._plan import Plan
from pomona.merge.search.log import Log, Trial
from pomona.merge.search.propose import Point, proposals
from pomona.merge.search.space import Space

IMPOSSIBLE = 1e9  # loss of a candidate that cannot be merged
HOPELESS = (
    8  # candidates that could not be merged, and none that could, after which a search gives up
)
PATIENCE = 200  # proposals in a row that were all tried before, after which a search ends early


@dataclass(frozen=True)
class Score:
    """What a candidate is worth, and what scoring it took: floating-point operations and tokens
    read and written.
    """

    value: float
    flops: float = 0.0
    tokens: int = 0


class Objective(Protocol):
    """What a search goes by. `signature` names every choice a score depends on: a log made with
    another one is refused.
    """

    signature: str
    higher_is_better: bool

    def __call__(self, plan: Plan, /) -> Score:
        """Score the merge that `plan` describes, without writing it."""
        ...


@dataclass(frozen=True)
class Found:
    """The end of a search: the best trial and all of them, in the order they were made."""

    best: Trial
    trials: tuple[Trial, ...]
    higher_is_better: bool

    @property
    def flops(self) -> float:
        """Operations of all trials."""
        return sum(trial.flops for trial in self.trials)

    @property
    def tokens(self) -> int:
        """Tokens of all trials."""
        return sum(trial.tokens for trial in self.trials)

    @property
    def seconds(self) -> float:
        """CPU seconds of all trials."""
        return sum(trial.seconds for trial in self.trials)

    def so_far(self) -> list[float | None]:
        """The best score after each trial; None before the first that could be scored."""
        best: float | None = None
        found: list[float | None] = []
        for trial in self.trials:
            if trial.value is not None:
                pick = max if self.higher_is_better else min
                best = trial.value if best is None else pick(best, trial.value)
            found.append(best)
        return found


def search(
    plan_of: Callable[[Mapping[str, Any]], Plan],
    space: Space,
    objective: Objective,
    *,
    method: str = "cma",
    trials: int = 40,
    seed: int = 0,
    log: str | Path,
    about: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Found:
    """Find the values of `space` whose merge `objective` likes best, in at most `trials` different
    candidates.

    method: cma, optuna, random, grid or greedy (see `propose`).
    log: JSON lines. A killed search called again with the same arguments reads it, scores nothing
        twice and ends with the same result; with more `trials` it goes on from there. `about` is
        what a score depends on beside the objective: the recipe and its inputs.
    A candidate that cannot be merged (Σw = 0, say) counts as the worst there is, with the reason in
    the log. Raises PomonaError for an unknown method, a log of another search, and when no
    candidate, or none of the first eight, could be merged.
    """
    if trials < 1:
        raise PomonaError(
            f"{trials} trials find nothing", where="trials", remedy="allow at least one"
        )
    source = proposals(method, space, trials, seed)
    batch = _next(source, None)
    known = Log(
        Path(log), {"objective": objective.signature, "space": space.document(), **(about or {})}
    )
    done: dict[str, Trial] = {}
    idle = 0
    while batch is not None and idle < PATIENCE:
        losses: list[float] = []
        for point in batch:
            key = repr(sorted(point.items()))
            idle = idle + 1 if key in done else 0
            if key not in done:
                if len(done) == trials:
                    batch = None
                    break
                done[key] = known.find(point) or _tried(point, plan_of, objective, known)
                if len(done) == HOPELESS:
                    _found(list(done.values()), objective.higher_is_better)
                if progress is not None:
                    progress(len(done), trials)
            losses.append(_loss(done[key], objective.higher_is_better))
        if batch is not None:
            batch = _next(source, losses)
    return _found(list(done.values()), objective.higher_is_better)


def _next(source: Any, losses: list[float] | None) -> list[Point] | None:
    try:
        return next(source) if losses is None else source.send(losses)
    except StopIteration:
        return None


def _loss(trial: Trial, higher_is_better: bool) -> float:
    if trial.value is None:
        return IMPOSSIBLE
    return -trial.value if higher_is_better else trial.value


def _tried(
    point: Point, plan_of: Callable[[Mapping[str, Any]], Plan], objective: Objective, known: Log
) -> Trial:
    score, problem = None, ""
    with Meter() as meter:
        try:
            score = objective(plan_of(point))
            if not math.isfinite(score.value):
                problem, score = f"its score is {score.value}", None
        except ResourceError:
            raise
        except PomonaError as error:
            problem = str(error)
    cost = score or Score(0.0)
    trial = Trial(
        point, score.value if score else None, meter.cpu_seconds, cost.flops, cost.tokens, problem
    )
    known.add(trial)
    return trial


def _found(trials: list[Trial], higher_is_better: bool) -> Found:
    scored = [trial for trial in trials if trial.value is not None]
    if not scored:
        problem = trials[-1].problem
        raise PomonaError(
            f"none of {len(trials)} candidates could be merged and scored; the last: {problem}",
            remedy="correct the recipe",
        )
    best = min(scored, key=lambda trial: _loss(trial, higher_is_better))
    return Found(best, tuple(trials), higher_is_better)
