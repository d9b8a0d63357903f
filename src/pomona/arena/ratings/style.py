"""Ratings with style held equal: what length and markdown are worth is fitted beside the strengths
(Li et al. 2024, "Does style matter?", of Chatbot Arena).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow.compute import MatchSubstringOptions, call_function

from pomona.arena.ratings.bradley_terry import (
    Counts,
    Solution,
    Ties,
    cells,
    counts_of,
    inverse,
    newton_step,
    pairs_of,
    solve,
    sums,
)
from pomona.arena.ratings.clusters import row_codes
from pomona.arena.ratings.intervals import Errors, laplacian, small_sample
from pomona.arena.votes import Votes
from pomona.errors import PomonaError, nearest

LENGTH, MARKDOWN = "length", "markdown"
_MARKS = {  # what is counted in a text
    "headers": r"(?m)^ {0,3}#{1,6} ",
    "lists": r"(?m)^ *(?:[-*+]|\d{1,9}[.)]) ",
    "bold": r"\*\*[^*\n]+\*\*|__[^_\n]+__",
}
_BLOCK = 1 << 16  # rows at once
_STEPS, _TOLERANCE = 50, 1e-10
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Covariates:
    """What of two answers may sway a vote, whatever they say.

    names: length, headers, lists, bold, or what columns are called.
    values: [n, q] (a - b) / (a + b) of each vote, in standard deviations of all.
    rows: the votes of which all of them are known.
    """

    names: tuple[str, ...]
    values: Floats
    rows: NDArray[np.intp]


@dataclass(frozen=True)
class Styled:
    """Strengths at equal style, and by how much the log odds rise with a standard deviation of each
    covariate. `errors` has the coefficients in its last rows.
    """

    solution: Solution
    names: tuple[str, ...]
    coefficients: Floats
    errors: Errors | None
    n: int

    @property
    def coefficient_errors(self) -> Floats | None:
        """[q] standard errors."""
        if self.errors is None:
            return None
        return np.sqrt(np.diag(self.errors.covariance)[-len(self.names) :])


def covariates(votes: Votes, style: Sequence[str]) -> Covariates:
    """Differences of style: length (characters, or the columns length_a and length_b), markdown
    (headers, lists, bold), or any NAME of which there are columns NAME_a and NAME_b.

    Raises:
        PomonaError: the votes have neither completions nor such columns, or they are no numbers, or
            are the same in all votes.
    """
    names = [one for name in style for one in (_MARKS if name == MARKDOWN else [name])]
    sides = [[measured(votes, name, side) for side in "ab"] for name in dict.fromkeys(names)]
    values = np.stack([_difference(a, b) for a, b in sides], 1)
    rows = np.flatnonzero(np.isfinite(values).all(1))
    values, weights = values[rows], votes.count[rows]
    found = []
    for place, name in enumerate(dict.fromkeys(names)):
        column = values[:, place]
        mean = np.average(column, weights=weights) if len(rows) else 0.0
        spread = np.sqrt(np.average((column - mean) ** 2, weights=weights)) if len(rows) else 0.0
        if not spread > 0:
            if name in _MARKS and MARKDOWN in style:
                continue  # answers without any list are no mistake
            message = f'"{name}" is the same of both sides in all votes'
            raise PomonaError(message, where=votes.where, remedy="leave it out of --style")
        found.append((name, column / spread))
    if not found:
        message = "no answer has any markdown"
        raise PomonaError(message, where=votes.where, remedy="leave it out of --style")
    return Covariates(tuple(n for n, _ in found), np.stack([v for _, v in found], 1), rows)


def _difference(a: Floats, b: Floats) -> Floats:
    total = a + b
    return np.where(total == 0, 0.0, (a - b) / np.where(total == 0, 1.0, total))


def measured(votes: Votes, name: str, side: str) -> Floats:
    """A column of numbers NAME_a or NAME_b [n], or what it is of the completions; NaN where that is
    not known.
    """
    columns, text, own = votes.columns, f"completion_{side}", f"{name}_{side}"
    if own in columns.column_names:
        return _numbers(votes, own)
    if text not in columns.column_names or name not in (LENGTH, *_MARKS):
        known = [one.removesuffix("_a") for one in columns.column_names if one.endswith("_a")]
        remedy = f"give the columns {own} and the other side's"
        if name in (LENGTH, *_MARKS):
            remedy += ", or completion_a and completion_b"
        elif known:
            remedy = f"{nearest(name, [LENGTH, MARKDOWN, *known])}"
        raise PomonaError(f'there is no column "{own}"', where=votes.where, remedy=remedy)
    texts = columns[text].cast(pa.string())
    if name == LENGTH:
        found = call_function("utf8_length", [texts])
    else:
        options = MatchSubstringOptions(_MARKS[name])
        found = call_function("count_substring_regex", [texts], options)
    return found.cast(pa.float64()).fill_null(np.nan).to_numpy()


def _numbers(votes: Votes, name: str) -> Floats:
    column = votes.columns[name]
    try:
        found = column.cast(pa.float64()).fill_null(np.nan).to_numpy()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        message, remedy = f'"{name}" holds what is no number', "give numbers from 0 on"
        raise PomonaError(message, where=votes.where, remedy=remedy) from None
    if len(wrong := np.flatnonzero((found < 0) | np.isinf(found))):
        place = votes.row_name(int(wrong[0]))
        message = f'"{name}" is {found[wrong[0]]:g}'
        raise PomonaError(message, where=place, remedy="give numbers from 0 on")
    return found


def styled(votes: Votes, style: Covariates, ties: Ties, by: str | None) -> Styled:
    """Strengths and coefficients by Newton's method over the votes, with errors clustered `by`
    (see `intervals.errors`). `votes` are those of the rows of the covariates.
    """
    problem = _Problem(votes, style.values, ties)
    solution, beta = problem.solved()
    return Styled(solution, style.names, beta, problem.errors(solution, beta, by), votes.n)


class _Problem:
    """The likelihood of votes with covariates, [k] strengths, the parameter of ties where there is
    one, and [q] coefficients, in this order.
    """

    def __init__(self, votes: Votes, values: Floats, ties: Ties) -> None:
        self.votes, self.values = votes, values
        self.ties: Ties = ties
        self.plain = counts_of(votes)
        self.k, self.q = len(votes.models), values.shape[1]
        self.pair, self.turned, _, _ = pairs_of(votes)
        self.weights = votes.count.astype(np.float64)

    def solved(self) -> tuple[Solution, Floats]:
        """Strengths and what each covariate is worth [q], both at the maximum of the likelihood."""
        k, at = self.k, solve(self.plain, self.ties)
        free = at.tie is not None
        beta = np.zeros(self.q)
        votes = np.abs(self.weights).sum()
        value, gradient, hessian = self._at(at, beta)
        norm, steps = float(np.abs(gradient).max() / votes), 0
        while norm > _TOLERANCE and steps < _STEPS:
            move, steps = newton_step(hessian, gradient, k), steps + 1
            for _ in range(30):
                tie = None if at.tie is None else at.tie + float(move[k])
                moved = Solution(at.strengths + move[:k], self.ties, tie, 0.0, 0.0, True, steps)
                if not (self.ties == "rao_kupper" and tie is not None and tie <= 0):
                    found = self._at(moved, beta + move[k + free :])
                    if found[0] >= value - 1e-12 * abs(value):
                        break
                move = move / 2
            else:
                break
            at, beta, (value, gradient, hessian) = moved, beta + move[k + free :], found
            norm = float(np.abs(gradient).max() / votes)
        strengths = at.strengths - at.strengths.mean()
        converged = norm <= _TOLERANCE
        return Solution(strengths, self.ties, at.tie, value, norm, converged, steps), beta

    def _rows(self, at: Solution, beta: Floats) -> tuple[Floats, ...]:
        """Of each vote the log-likelihood, scores by the difference and the parameter of ties, and
        minus the second derivatives.
        """
        votes, parts = self.votes, []
        for start in range(0, len(votes), _BLOCK):
            some = slice(start, start + _BLOCK)
            d = at.strengths[votes.a[some]] - at.strengths[votes.b[some]]
            d = d + self.values[some] @ beta
            outcome = np.minimum(votes.outcome[some], 2).astype(np.intp)[:, None]
            found = cells(d, *at.model)
            each = (found.logs, found.d, found.t, found.dd, found.dt, found.tt)
            parts.append([np.take_along_axis(one, outcome, -1)[:, 0] for one in each])
        return tuple(np.concatenate(one) for one in zip(*parts, strict=True))

    def _at(self, at: Solution, beta: Floats) -> tuple[float, Floats, Floats]:
        logs, d, t, dd, dt, tt = self._rows(at, beta)
        w, votes, k = self.weights, self.votes, self.k
        free = [np.array([w @ t])] if at.tie is not None else []
        along = sums(votes.a, w * d, k) - sums(votes.b, w * d, k)
        gradient = np.concatenate([along, *free, self.values.T @ (w * d)])
        return float(w @ logs), gradient, self._moments(w * dd, w * dt, w * tt, at.tie is not None)

    def _moments(self, dd: Floats, dt: Floats, tt: Floats, free: bool) -> Floats:
        """The sum over votes of a quadratic form in the directions of a vote: strengths and
        covariates together (dd), with the parameter of ties (dt, tt).
        """
        k, q, votes = self.k, self.q, self.votes
        p = len(self.plain.first)
        by_pair = sums(self.pair, dd, p)
        turned = sums(self.pair, np.where(self.turned, -dt, dt), p)
        whole = np.zeros((k + free + q, k + free + q))
        whole[: k + free, : k + free] = laplacian(
            self.plain, by_pair, turned, float(tt.sum()), free=free
        )
        for place in range(q):
            x = self.values[:, place]
            column = sums(votes.a, dd * x, k) - sums(votes.b, dd * x, k)
            whole[:k, k + free + place] = whole[k + free + place, :k] = column
            if free:
                whole[k, k + 1 + place] = whole[k + 1 + place, k] = dt @ x
        whole[k + free :, k + free :] = self.values.T @ (dd[:, None] * self.values)
        return whole

    def errors(self, at: Solution, beta: Floats, by: str | None) -> Errors | None:
        """The sandwich, over the votes or over clusters."""
        free, k = at.tie is not None, self.k
        _, d, t, dd, dt, tt = self._rows(at, beta)
        w, n = self.weights, float(self.weights.sum())
        bread = inverse(self._moments(w * dd, w * dt, w * tt, free), k)
        alone, units = w, round(n)
        meat = np.zeros_like(bread)
        if by is not None:
            codes = row_codes(self.votes, by)
            known = codes >= 0
            alone = np.where(known, 0.0, w)
            units = int(codes.max()) + 1 + round(alone.sum())
            meat += self._clustered(codes, known, w * d, w * t, free)
        meat += self._moments(alone * d * d, alone * d * t, alone * t * t, free)
        factor = small_sample(units, n, k - 1 + free + self.q)
        if factor is None:
            return None
        degrees = np.full(k, np.inf if by is None else units - 1.0)
        return Errors(factor * (bread @ meat @ bread), by or "vote", units, k, degrees)

    def _clustered(
        self, codes: NDArray[np.int64], known: NDArray[np.bool_], d: Floats, t: Floats, free: bool
    ) -> Floats:
        from scipy.sparse import csr_matrix

        k, rows = self.k, np.flatnonzero(known)
        d, t, codes = d[rows], t[rows], codes[rows]
        entries = [d, -d, *([t] if free else []), *(d * x for x in self.values[rows].T)]
        columns = [self.votes.a[rows], self.votes.b[rows], *([np.full(len(rows), k)] * free)]
        columns += [np.full(len(rows), k + free + place) for place in range(self.q)]
        places = (np.tile(codes, len(entries)), np.concatenate(columns))
        shape = (int(codes.max()) + 1, k + free + self.q)
        summed = csr_matrix((np.concatenate(entries), places), shape)
        return (summed.T @ summed).toarray()


def plain_counts(votes: Votes, style: Covariates) -> tuple[Votes, Counts]:
    """The votes of which the style is known, and their counts."""
    some = votes if len(style.rows) == len(votes) else votes.take(style.rows)
    return some, counts_of(some)
