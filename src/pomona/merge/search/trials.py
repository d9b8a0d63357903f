"""`search`: candidates are proposed, merged in memory, scored and logged, each point at most once.
Every scored one is a line of JSON, on disk before the next is tried.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from pomona.documents import parse_json
from pomona.errors import PomonaError, ResourceError
from pomona.ledger import Meter
from pomona.merge.plan import MergePlan
from pomona.merge.search.propose import Point, proposals
from pomona.merge.search.space import Space
from pomona.workspace import disk_guard


@dataclass(frozen=True)
class Trial:
    """A candidate and what it scored. `value` is None when it could not be merged, and `problem`
    says why.

    `seconds` are CPU seconds of merging and scoring it, `flops` the operations of scoring, `tokens`
    what the model read and wrote.
    """

    values: Mapping[str, float | bool]
    value: float | None
    seconds: float = 0.0
    flops: float = 0.0
    tokens: int = 0
    problem: str = ""


class Log:
    """Trials by their values, in `path`. The first line says what a score depends on.

    A line cut short by a kill is dropped. Raises PomonaError when the file is of another search,
    and ResourceError when the disk is full.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self.path = path
        self._known: dict[str, Trial] = {}
        head = {"pomona_search": 1, **json.loads(json.dumps(about))}
        whole = self._whole_lines()
        if whole:
            self._check(parse_json(whole[0], path), head)
        for place, line in enumerate(whole[1:], 2):
            where = f"{path}, line {place}"
            try:
                trial = Trial(**parse_json(line, where))
                self._known[_key(trial.values)] = trial
            except (TypeError, AttributeError):
                remedy = "delete the file to begin anew"
                raise PomonaError("is no trial", where=where, remedy=remedy) from None
        if not whole:
            self._append(head)

    def _whole_lines(self) -> list[bytes]:
        if not self.path.is_file():
            return []
        text = self.path.read_bytes()
        end = text.rfind(b"\n") + 1
        if end < len(text):  # a kill cut the last line; the next one must not follow it
            os.truncate(self.path, end)
        return text[:end].splitlines()

    def _check(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        if old != new:
            names = ", ".join(
                sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
            )
            raise PomonaError(
                f"holds the beginning of another search ({names} differ)",
                where=self.path,
                remedy="go on with the settings of that one, or delete the file",
            )

    def find(self, values: Mapping[str, Any]) -> Trial | None:
        """The trial with these values, when there was one."""
        return self._known.get(_key(values))

    def add(self, trial: Trial) -> None:
        """Keep a trial; it is on disk when this returns."""
        self._append(asdict(trial))
        self._known[_key(trial.values)] = trial

    def _append(self, row: Mapping[str, Any]) -> None:
        with disk_guard(str(self.path)):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as stream:
                stream.write(json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n")
                stream.flush()
                os.fsync(stream.fileno())


def _key(values: Mapping[str, Any]) -> str:
    return json.dumps(dict(values), sort_keys=True)


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

    def __call__(self, plan: MergePlan, /) -> Score:
        """Score the merge that `plan` describes, without writing it."""
        ...


@dataclass(frozen=True)
class Optimum:
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
        bests: list[float | None] = []
        for trial in self.trials:
            if trial.value is not None:
                pick = max if self.higher_is_better else min
                best = trial.value if best is None else pick(best, trial.value)
            bests.append(best)
        return bests


def search(
    plan_of: Callable[[Mapping[str, Any]], MergePlan],
    space: Space,
    objective: Objective,
    *,
    method: str = "cma",
    trials: int = 40,
    seed: int = 0,
    log: str | Path,
    about: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Optimum:
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
    point: Point,
    plan_of: Callable[[Mapping[str, Any]], MergePlan],
    objective: Objective,
    known: Log,
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


def _found(trials: list[Trial], higher_is_better: bool) -> Optimum:
    scored = [trial for trial in trials if trial.value is not None]
    if not scored:
        problem = trials[-1].problem
        raise PomonaError(
            f"none of {len(trials)} candidates could be merged and scored; the last: {problem}",
            remedy="correct the recipe",
        )
    best = min(scored, key=lambda trial: _loss(trial, higher_is_better))
    return Optimum(best, tuple(trials), higher_is_better)
