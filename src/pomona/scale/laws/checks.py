"""What speaks against a law: runs that are worse than they could be, a loss that bends otherwise,
and families with exponents of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pomona import stats
from pomona.errors import PomonaError
from pomona.scale.laws.fitting import Fitted
from pomona.scale.laws.forms import evaluate
from pomona.scale.laws.held_out import Procedure
from pomona.scale.runs import Runs

Floats = NDArray[np.float64]
_FAR = 4.0  # standard deviations above the law
_CLEAR = 2.0  # standard deviations between two runs
_SHUFFLES = 999


@dataclass(frozen=True)
class Untuned:
    """A run whose loss is higher than its size and tokens allow: `place` is its row."""

    place: str
    params: float
    tokens: float
    loss: float
    predicted: float
    reason: str


@dataclass(frozen=True)
class LackOfFit:
    """The p-value that the loss bends as the law says; None where that cannot be tested."""

    p_value: float | None
    test: str
    note: str | None = None


@dataclass(frozen=True)
class FamilyLaw:
    """The exponents of one family, with 95 % intervals; None where it has too few runs."""

    n: int
    alpha: float | None
    beta: float | None
    exponent: float | None
    intervals: Mapping[str, tuple[float, float] | None]
    held_apart: str | None = None


@dataclass(frozen=True)
class Families:
    """Exponents by family. p_alpha_beta: that all have the same alpha and beta, by a chi-squared
    test with the covariances of their resamples; p_exponent: the same beta/(alpha+beta).
    """

    laws: Mapping[str, FamilyLaw]
    p_alpha_beta: float | None
    p_exponent: float | None
    note: str | None = None


def spread(law: Fitted) -> float:
    """The standard deviation of log residuals, from their median size."""
    lost = len(law.residuals) / max(1, len(law.residuals) - law.free)
    return float(1.4826 * np.median(np.abs(law.residuals)) * lost**0.5)


def untuned(runs: Runs, law: Fitted) -> list[tuple[int, Untuned]]:
    """Runs that a smaller and shorter one beats, or that are far above the law: rows with what is
    said of them.
    """
    noise = max(spread(law), 1e-12)
    predicted = runs.loss / np.exp(law.residuals)
    families = np.array(runs.labels.get("family", [""] * len(runs)), dtype=object)
    unique = runs.more.get("unique_tokens", runs.tokens)
    found = []
    for row in range(len(runs)):
        smaller = (families == families[row]) & (unique <= unique[row])
        smaller &= (runs.params <= runs.params[row]) & (runs.tokens <= runs.tokens[row])
        smaller &= (runs.params < runs.params[row]) | (runs.tokens < runs.tokens[row])
        better = smaller & (np.log(runs.loss[row] / runs.loss) > _CLEAR * noise)
        above = law.residuals[row] / noise
        reason = ""
        if better.any():
            least = int(np.flatnonzero(better)[runs.loss[better].argmin()])
            (where, _, there), (here, _, _) = (
                runs.places[at].rpartition(", ") for at in (least, row)
            )
            place = there if where == here else runs.places[least]
            reason = f"a run of no more parameters and tokens is better: {place}"
        elif above > _FAR:
            reason = (
                f"{np.expm1(law.residuals[row]):.1%} above the law, {above:.0f} times the spread"
            )
        if reason:
            n, d = float(runs.params[row]), float(runs.tokens[row])
            losses = float(runs.loss[row]), float(predicted[row])
            found.append((row, Untuned(runs.places[row], n, d, *losses, reason)))
    return found


def lack_of_fit(runs: Runs, law: Fitted, seed: int) -> LackOfFit:
    """Whether residuals still depend on size and tokens: beside what trainings of one size and
    length differ by, where there are such; else by squares and the product of both logarithms,
    against shuffled residuals.
    """
    from scipy import special

    tangent = _tangent(runs, law)
    left = law.residuals - tangent @ (tangent.T @ law.residuals)
    _, member = np.unique(
        np.array(runs.keys("params", "tokens", "unique_tokens", "family")), axis=0,
        return_inverse=True,
    )  # fmt: skip
    sets = int(member.max()) + 1
    free, pure = sets - law.free, len(runs) - sets
    if free > 0 and pure >= max(3, free // 2):
        means = np.bincount(member, left) / np.bincount(member)
        within = float(((left - means[member]) ** 2).sum())
        between = float((left**2).sum()) - within
        ratio = (between / free) / max(within / pure, 1e-300)
        told = f"F({free}, {pure}) of sets of runs of one size and length against within them"
        return LackOfFit(float(special.fdtrc(free, pure, ratio)), told)
    n, d = (np.log(one) - np.log(one).mean() for one in (runs.params, runs.tokens))
    test = "squares and product of ln params and ln tokens, against shuffled residuals"
    if len(runs) < law.free + 6:
        return LackOfFit(None, test, "too few runs to tell whether the law fits")
    bends = np.stack([n * n, d * d, n * d], 1)
    bends -= tangent @ (tangent.T @ bends)
    basis, singular, _ = np.linalg.svd(bends, full_matrices=False)
    basis = basis[:, singular > 1e-6 * np.linalg.norm(n * n)]
    shuffled = np.random.default_rng([seed, 2]).permuted(np.tile(left, (_SHUFFLES, 1)), axis=1)
    shuffled -= shuffled @ tangent @ tangent.T
    explained = [((x @ basis) ** 2).sum(-1) / (x**2).sum(-1) for x in (left, shuffled)]
    return LackOfFit(float(stats.permutation(*explained)), test)


def _tangent(runs: Runs, law: Fitted) -> Floats:
    """A basis `[n, k]` of what small changes of the law's numbers could explain."""
    values, unique, slopes = law.law.values, runs.more.get("unique_tokens"), []
    for place in np.flatnonzero(np.isfinite(values) & (values != 0)):
        ends = []
        for step in (1e-5, -1e-5):
            moved = values.copy()
            moved[place] *= 1 + step
            ends.append(np.log(evaluate(law.law.form, moved, runs.params, runs.tokens, unique)))
        slopes.append(ends[0] - ends[1])
    basis, singular, _ = np.linalg.svd(np.stack(slopes, 1), full_matrices=False)
    return basis[:, singular > 1e-9 * singular.max()]


def families(runs: Runs, procedure: Procedure) -> Families | None:
    """Each family's exponents, and whether they are the same; None without a column family."""
    if "family" not in runs.labels:
        return None
    of = {name: runs.take(rows) for name, rows in stats.rows_of(runs.labels["family"]).items()}
    return _compared(of, procedure, paired=False)


def parts(runs: Mapping[str, Runs], procedure: Procedure) -> Families:
    """The exponents of the same trainings on several parts of the test items: resamples draw the
    same trainings for all, so that what parts share is no difference. Raises PomonaError where the
    parts are not of the same trainings.
    """
    first, *others = runs.values()
    for other in others:
        if other.trainings() != first.trainings():
            message = "the parts are not of the same trainings"
            where = other.places[0].rpartition(", row ")[0]
            raise PomonaError(message, where=where, remedy="compare parts of one table")
    return _compared(runs, procedure, paired=True)


def _compared(of: Mapping[str, Runs], procedure: Procedure, *, paired: bool) -> Families:
    told: dict[str, FamilyLaw] = {}
    fits: list[Fitted] = []
    for name, runs in of.items():
        try:
            law = procedure.fit(runs, runs.clusters())
        except PomonaError as error:
            told[name] = FamilyLaw(len(runs), None, None, None, {}, error.message)
            continue
        fits.append(law)
        told[name] = _family(len(runs), law)
    known = [law for law in fits if law.widening is not None and not _lost(law)]
    if len(told) < 2:
        return Families(told, None, None, "there is one family: nothing to compare")
    if not procedure.resamples:
        return Families(told, None, None, "without resamples nothing tells families apart")
    if len(known) < 2:
        return Families(told, None, None, "fewer than two families tell their exponents")
    units = min(law.resamples.units - law.free for law in known)
    if paired and 2 * (len(known) - 1) > units:
        note = f"{len(known)} families are too many to compare over so few trainings"
        return Families(told, None, None, note)
    at = np.log(np.stack([law.law.values[3:5] for law in known]))
    drawn = np.log(np.stack([law.draws[:, 3:5] for law in known], 1))
    drawn = at + (drawn - at) * np.array([[law.widening or 1.0] for law in known])
    alone = [np.diff(one, axis=-1) for one in (at, drawn)]
    return Families(told, _same(at, drawn, paired), _same(alone[0], alone[1], paired))


def _family(n: int, law: Fitted) -> FamilyLaw:
    columns = {"alpha": law.draws[:, 3], "beta": law.draws[:, 4], "exponent": law.exponents()}
    hidden = {*law.at_bound, *(["exponent"] if _lost(law) else [])}
    told = {n: None if n in hidden else law.interval(drawn) for n, drawn in columns.items()}
    values = {name: None if name in hidden else getattr(law.law, name) for name in columns}
    note = f"the runs do not tell {', '.join(law.at_bound)}" if law.at_bound else None
    return FamilyLaw(n, values["alpha"], values["beta"], values["exponent"], told, note)


def _lost(law: Fitted) -> bool:
    return bool({"alpha", "beta"} & set(law.at_bound))


def _same(at: Floats, drawn: Floats, paired: bool) -> float | None:
    """Wald's test that the rows of `at` `[f, k]` are one, by their resamples `[b, f, k]`, which are
    of the same units where they are `paired`.
    """
    from scipy import special

    f, k = at.shape
    spread = np.cov(drawn.reshape(len(drawn), f * k).T).reshape(f, k, f, k)
    if not paired:
        spread = spread * np.eye(f)[:, None, :, None]
    ahead = at[1:] - at[0]
    of = spread[1:, :, 1:] - spread[1:, :, :1] - spread[:1, :, 1:] + spread[:1, :, :1]
    of = of.reshape((f - 1) * k, (f - 1) * k) + 1e-12 * np.eye((f - 1) * k)
    total = float(ahead.ravel() @ np.linalg.solve(of, ahead.ravel()))
    return float(special.chdtrc(ahead.size, total))
