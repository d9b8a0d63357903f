"""From what became of each token to the figures of a group, with intervals over documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona import stats
from pomona.forget.change import note_of, unseen_rate
from pomona.forget.divergence.measures import Tokens
from pomona.forget.divergence.texts import Document

Column = NDArray[np.float64]
_KL_LEVELS = {"median": 0.5, "90": 0.9, "95": 0.95, "99": 0.99, "99.9": 0.999}
_LEVELS = {"0.1": 0.001, "1": 0.01, "5": 0.05, "10": 0.1, "25": 0.25, "median": 0.5, "75": 0.75}
_LEVELS |= {"90": 0.9, "95": 0.95, "99": 0.99, "99.9": 0.999}
_SHOWN = 160  # letters of a document that are kept
_LN2 = float(np.log(2))


@dataclass(frozen=True)
class TokenFigure:
    """A value with its 95 % interval over documents; None where it, or its error, is not known. Of
    a KL of which only bounds are known the value is None, `at_least` and `at_most` are its bounds,
    and the interval is from the lower end of the one to the upper end of the other.
    """

    value: float | None
    ci_low: float | None = None
    ci_high: float | None = None
    at_least: float | None = None
    at_most: float | None = None


@dataclass(frozen=True)
class ModelChange:
    """What became of `n` true tokens from A to B, or None of all of these where the two have other
    tokenizers; shares are in [0, 1], and a difference is B − A.

    accuracy_a, accuracy_b: share of tokens that are the model's likeliest; `difference` with its
        interval. lost, gained, changed: tokens that were on top and are not, are and were not, and
        positions with another token on top. flips: (lost + gained) / n.
    p_mcnemar: exact, tokens taken as independent; p_bootstrap: of the difference, over documents.
        p_holm, p_bh: p_mcnemar corrected over all groups.
    metric_a, metric_b, metric_difference, metric_low, metric_high: bits per byte, in which less is
        better; p_metric: Student's t over documents or clusters, which resamples could not tell so
        far from chance that a correction for many groups leaves anything; p_metric_holm,
        p_metric_bh.
    loss_a, loss_b: mean −ln p of the true token, nats.
    kl: mean of KL(A‖B) over tokens, nats; kl_quantiles by percentile, kl_maximum.
    delta_p: mean of p_B − p_A of the true token; delta_p_rms; delta_p_quantiles, and both ends.
    same_top: share of positions where both have the same token on top.
    unseen: where no token flipped, the share below which flips are with 95 % confidence, by the
        number of documents or clusters, as the interval then has no width; None else.
    """

    n: int | None
    documents: int
    bytes: int
    accuracy_a: float | None
    accuracy_b: float | None
    difference: float | None
    ci_low: float | None
    ci_high: float | None
    lost: int | None
    gained: int | None
    changed: int | None
    flips: float | None
    flips_low: float | None
    flips_high: float | None
    p_mcnemar: float | None
    p_bootstrap: float | None
    p_holm: float | None
    p_bh: float | None
    metric_a: float
    metric_b: float
    metric_difference: float
    metric_low: float | None
    metric_high: float | None
    p_metric: float | None
    p_metric_holm: float | None
    p_metric_bh: float | None
    loss_a: float | None
    loss_b: float | None
    kl: TokenFigure | None
    kl_quantiles: Mapping[str, TokenFigure] | None
    kl_maximum: TokenFigure | None
    delta_p: TokenFigure | None
    delta_p_rms: TokenFigure | None
    delta_p_quantiles: Mapping[str, TokenFigure] | None
    delta_p_minimum: float | None
    delta_p_maximum: float | None
    same_top: TokenFigure | None
    unseen: float | None = None
    note: str | None = None


@dataclass(frozen=True)
class _Ratio:
    """The sum of one statistic by that of another, or the root of it."""

    root: bool = False

    def aggregate(self, sums: Column) -> Column:
        """The quotient of two sums, or its root."""
        ratio = sums[..., 0] / sums[..., 1]
        return np.sqrt(ratio) if self.root else ratio


class Log:
    """What was measured: items (documents, or chunks of a text) with group, cluster, bytes and
    losses, and the tokens of each.
    """

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.groups: list[str | None] = []
        self.texts: list[str] = []
        self.clusters: list[str | None] = []
        self.bytes: list[tuple[int, int]] = []
        self._losses: list[tuple[int, int, float, int]] = []
        self._tokens: list[Tokens] = []
        self._items: list[NDArray[np.int64]] = []

    def open(self, document: Document, cluster: str | None, size: tuple[int, int]) -> int:
        """A new item, of so many scored bytes under A and B: its number."""
        self.rows.append(document.row)
        self.groups.append(document.group)
        self.texts.append(document.text[:_SHOWN])
        self.clusters.append(cluster)
        self.bytes.append(size)
        return len(self.rows) - 1

    def add(self, item: int, tokens: Tokens) -> None:
        """Tokens of an item under both models."""
        self._tokens.append(tokens)
        self._items.append(np.full(len(tokens.kl_low), item))
        for side, logprobs in enumerate((tokens.logprob_a, tokens.logprob_b)):
            self.add_loss(item, side, -float(logprobs.sum()), len(logprobs))

    def add_loss(self, item: int, side: int, loss: float, tokens: int) -> None:
        """The summed loss of tokens of an item under A (0) or B (1)."""
        self._losses.append((item, side, loss, tokens))

    def losses(self) -> Column:
        """Summed loss and tokens under A, then B, `[items, 4]`."""
        table = np.zeros((len(self.rows), 4))
        for item, side, loss, tokens in self._losses:
            table[item, 2 * side : 2 * side + 2] += loss, tokens
        return table

    def tokens(self) -> tuple[Tokens, NDArray[np.int64]]:
        """All tokens, and the item of each."""
        return Tokens.joined(self._tokens), np.concatenate(self._items)


class Figures:
    """The figures of any items of a log; with `paired` those too for which both models must have
    the same tokens.
    """

    def __init__(self, log: Log, *, paired: bool, resamples: int, seed: int) -> None:
        self._losses, self._bytes = log.losses(), np.array(log.bytes, np.float64)
        # Items without one are clusters by themselves, so that few of them widen the interval
        self.clusters = np.array(
            [f"\0{i}" if name is None else name for i, name in enumerate(log.clusters)], object
        )
        self._unit = "document" if all(name is None for name in log.clusters) else "cluster"
        self._resamples, self._seed, self._paired = resamples, seed, paired
        if not paired:
            return
        self._tokens, self._item = log.tokens()
        t = self._tokens
        self._delta = np.exp(t.logprob_b) - np.exp(t.logprob_a)
        self.exact = bool(np.all(t.kl_low == t.kl_high))
        lost, gained = t.right_a & ~t.right_b, t.right_b & ~t.right_a
        columns = {"n": np.ones(len(lost)), "right_a": t.right_a, "right_b": t.right_b}
        columns |= {"lost": lost, "gained": gained, "flips": lost | gained, "same": t.same_top}
        columns |= {"delta": self._delta, "squares": self._delta**2}
        columns |= {"kl_low": t.kl_low, "kl_high": t.kl_high}
        self.sums: Mapping[str, NDArray[Any]] = {
            name: np.bincount(self._item, values.astype(np.float64), len(log.rows))
            for name, values in columns.items()
        }

    def of(self, items: NDArray[np.intp]) -> ModelChange:
        """The figures of the items at these places, p-values not corrected."""
        draws = stats.Resamples(len(items), self._resamples, self._seed, self.clusters[items])
        known = draws.units > 1
        bits = [
            np.column_stack([self._losses[items, 2 * side] / _LN2, self._bytes[items, side]])
            for side in (0, 1)
        ]
        told = stats.compare(_Ratio(), bits[1], bits[0], draws)
        return ModelChange(
            documents=len(items),
            bytes=int(self._bytes[items, 0].sum()),
            metric_a=told.baseline_value,
            metric_b=told.value,
            metric_difference=told.delta,
            metric_low=told.ci_low if known else None,
            metric_high=told.ci_high if known else None,
            p_metric=_p_of_ratios(bits[0], bits[1], self.clusters[items]) if known else None,
            p_metric_holm=None,
            p_metric_bh=None,
            **(
                self._of_tokens(items, draws)
                if self._paired
                else {
                    **dict.fromkeys(_OF_TOKENS),
                    "note": note_of(draws.units, 1, self._unit, "token"),
                }
            ),
        )

    def _of_tokens(self, items: NDArray[np.intp], draws: stats.Resamples) -> dict[str, Any]:
        sums = {name: float(column[items].sum()) for name, column in self.sums.items()}
        lost, gained, n = int(sums["lost"]), int(sums["gained"]), int(sums["n"])
        known, p_value = draws.units > 1, stats.mcnemar(lost, gained)
        right = [self._pair(items, name, "n") for name in ("right_a", "right_b")]
        told = stats.compare(_Ratio(), right[1], right[0], draws)
        flips = self._share(items, draws, "flips")
        tokens = np.isin(self._item, items)
        spread = _Spread(self._item[tokens], self.clusters)
        delta = self._delta[tokens]
        losses = self._losses[items].sum(0)
        return {
            "n": n,
            "accuracy_a": told.baseline_value,
            "accuracy_b": told.value,
            "difference": told.delta,
            "ci_low": told.ci_low if known else None,
            "ci_high": told.ci_high if known else None,
            "lost": lost,
            "gained": gained,
            "changed": n - int(sums["same"]),
            "flips": flips.value,
            "flips_low": flips.ci_low,
            "flips_high": flips.ci_high,
            "p_mcnemar": p_value,
            "p_bootstrap": told.p_value if known else None,
            "p_holm": p_value,
            "p_bh": p_value,
            "loss_a": losses[0] / n,
            "loss_b": losses[2] / n,
            "delta_p": self._share(items, draws, "delta"),
            "delta_p_rms": self._share(items, draws, "squares", root=True),
            "delta_p_quantiles": spread.quantiles(delta, _LEVELS),
            "delta_p_minimum": float(delta.min()),
            "delta_p_maximum": float(delta.max()),
            "same_top": self._share(items, draws, "same"),
            "unseen": unseen_rate(draws.units) if known and lost + gained == 0 else None,
            "note": note_of(draws.units, lost + gained, self._unit, "token"),
            **self._divergence(items, draws, tokens, spread),
        }

    def _divergence(
        self,
        items: NDArray[np.intp],
        draws: stats.Resamples,
        tokens: NDArray[np.bool_],
        spread: _Spread,
    ) -> dict[str, Any]:
        low, high = (column[tokens] for column in (self._tokens.kl_low, self._tokens.kl_high))
        least = self._share(items, draws, "kl_low")
        quantiles = spread.quantiles(low, _KL_LEVELS)
        maximum = TokenFigure(float(low.max()))
        if not self.exact:
            bounded = bool(np.isfinite(high).all())
            most = self._share(items, draws, "kl_high") if bounded else TokenFigure(None)
            highest = spread.quantiles(high, _KL_LEVELS) if bounded else {}
            least, unknown = _between(least, most), TokenFigure(None)
            quantiles = {n: _between(q, highest.get(n, unknown)) for n, q in quantiles.items()}
            top = TokenFigure(float(high.max()) if bounded else None)
            maximum = _between(maximum, top)
        return {"kl": least, "kl_quantiles": quantiles, "kl_maximum": maximum}

    def _pair(self, items: NDArray[np.intp], name: str, by: str) -> Column:
        return np.column_stack([self.sums[name][items], self.sums[by][items]])

    def _share(
        self, items: NDArray[np.intp], draws: stats.Resamples, name: str, *, root: bool = False
    ) -> TokenFigure:
        """A mean over tokens, or its root."""
        pairs, ratio = self._pair(items, name, "n"), _Ratio(root)
        value = stats.value_of(ratio, pairs)
        if draws.units < 2:
            return TokenFigure(value)
        return TokenFigure(value, *stats.interval(ratio, pairs, draws))


_OF_TOKENS = [
    "n",
    "accuracy_a",
    "accuracy_b",
    "difference",
    "ci_low",
    "ci_high",
    "lost",
    "gained",
    "changed",
    "flips",
    "flips_low",
    "flips_high",
    "p_mcnemar",
    "p_bootstrap",
    "p_holm",
    "p_bh",
    "loss_a",
    "loss_b",
    "kl",
    "kl_quantiles",
    "kl_maximum",
    "delta_p",
    "delta_p_rms",
    "delta_p_quantiles",
    "delta_p_minimum",
    "delta_p_maximum",
    "same_top",
    "unseen",
]


def _between(least: TokenFigure, most: TokenFigure) -> TokenFigure:
    return TokenFigure(None, least.ci_low, most.ci_high, least.value, most.value)


class _Spread:
    """Quantiles over tokens that come in clusters, with intervals by Woodruff (1952, "Confidence
    intervals for medians and other position measures"): the share of tokens up to the quantile has
    an error by its clusters, and the quantiles at both ends of that share are the interval.
    """

    def __init__(self, item: NDArray[np.int64], clusters: NDArray[Any]) -> None:
        _, within = np.unique(clusters[item], return_inverse=True)
        self._cluster = within
        self._units = int(within.max()) + 1
        self._sizes = np.bincount(within)

    def quantiles(self, values: Column, levels: Mapping[str, float]) -> dict[str, TokenFigure]:
        """The quantile of each level; an end that lies beyond all tokens is not known."""
        ordered = np.sort(values)
        points = np.quantile(ordered, list(levels.values()))
        return {
            name: self._with_error(ordered, values, level, float(point))
            for (name, level), point in zip(levels.items(), points, strict=True)
        }

    def _with_error(
        self, ordered: Column, values: Column, level: float, point: float
    ) -> TokenFigure:
        if self._units < 2:
            return TokenFigure(point)
        below = np.bincount(self._cluster, (values <= point).astype(np.float64), self._units)
        residual = below - below.sum() / len(values) * self._sizes
        scale = self._units / (self._units - 1)
        half = _student(self._units) * float(np.sqrt(scale * (residual**2).sum())) / len(values)
        ends = [level - half, level + half]
        told = [float(np.quantile(ordered, end)) if 0 <= end <= 1 else None for end in ends]
        return TokenFigure(point, *told)


def _p_of_ratios(a: Column, b: Column, clusters: NDArray[Any]) -> float:
    """Two-sided p of the difference of two ratios, each of sums of columns `[n, 2]`, by the
    residuals of clusters (Taylor's linearisation; Cochran 1977, §6.3) and Student's t.
    """
    from scipy import special

    _, member = np.unique(clusters, return_inverse=True)
    units, residual, difference = int(member.max()) + 1, np.zeros(len(a)), 0.0
    for sign, side in ((1, b), (-1, a)):
        total = side.sum(0)
        ratio = total[0] / total[1]
        difference += sign * ratio
        residual += sign * (side[:, 0] - ratio * side[:, 1]) / total[1]
    squares = np.bincount(member, residual) ** 2
    error = float(np.sqrt(units / (units - 1) * squares.sum()))
    if error == 0:
        return 1.0 if difference == 0 else 0.0
    return float(2 * special.stdtr(units - 1, -abs(difference) / error))


def _student(units: int) -> float:
    from scipy import special

    return float(special.stdtrit(units - 1, 0.975))


def corrected(changes: Sequence[ModelChange]) -> list[dict[str, float | None]]:
    """The corrected p-values of each group, by the fields they belong in."""
    told: list[dict[str, float | None]] = [{} for _ in changes]
    for name, short in (("p_mcnemar", "p"), ("p_metric", "p_metric")):
        at = [i for i, change in enumerate(changes) if getattr(change, name) is not None]
        values = [getattr(changes[i], name) for i in at]
        for kind, correct in (("holm", stats.holm), ("bh", stats.benjamini_hochberg)):
            for i, value in zip(at, correct(values), strict=True):
                told[i][f"{short}_{kind}"] = float(value)
    return told
