"""lm-eval's aggregations as functions of sums over items, which is what a bootstrap resamples."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pomona.errors import PomonaError
from pomona.tasks._metrics import metric

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Sums:
    """`rows` turns the values of the items that have one into statistics `[n, k]`, and `value`
    their sums `[..., k]` into the number `[...]`.
    """

    rows: Callable[[Sequence[Any]], Array]
    value: Callable[[Array], Array]


def name_of(aggregation: Callable[..., Any]) -> str:
    """What lm-eval calls one of its aggregations, and a function of a task's own is called."""
    registry = import_module("lm_eval.api.registry").AGGREGATION_REGISTRY
    names = (name for name, function in registry.items() if function is aggregation)
    return next(names, getattr(aggregation, "__qualname__", type(aggregation).__name__))


def _ratio(sums: Array) -> Array:
    with np.errstate(invalid="ignore", divide="ignore"):  # no item has a value: unknown
        return sums[..., 0] / sums[..., 1]


def _ones(values: Sequence[ArrayLike]) -> Array:
    column = np.asarray(values, dtype=np.float64)
    return np.column_stack([column, np.ones(len(column))])


def _known(values: Sequence[ArrayLike]) -> Array:
    column = np.asarray(values, dtype=np.float64)
    return np.column_stack([np.nan_to_num(column), ~np.isnan(column)])


def _pairs(values: Sequence[ArrayLike]) -> Array:
    return np.asarray(values, dtype=np.float64).reshape(len(values), 2)


def _brier(values: Sequence[tuple[int, ArrayLike]]) -> Array:
    gold = [one for one, _ in values]
    shares = np.array([share for _, share in values])
    errors = ((shares - np.eye(shares.shape[1])[gold]) ** 2).sum(axis=1)
    return _ones(errors)


def _hits(values: Sequence[tuple[int, int]]) -> Array:
    """True positives, and all that are positive by either."""
    gold, said = np.array(values, dtype=np.int64).T
    if not set(np.unique([gold, said])) <= {0, 1}:
        message, remedy = "f1 is for two choices, 0 and 1", "measure acc, or mcc"
        raise PomonaError(message, where="metric_list", remedy=remedy)
    return np.column_stack([gold & said, gold + said]).astype(np.float64)


def _f1(sums: Array) -> Array:
    either = sums[..., 1]
    return 2 * sums[..., 0] / np.where(either == 0, 1, either)


def _confusions(values: Sequence[tuple[int, int]]) -> Array:
    """One in the cell of the gold and the predicted label, `[n, labels²]`."""
    labels, place = np.unique(np.array(values, dtype=np.int64), return_inverse=True)
    gold, said = place.reshape(-1, 2).T
    return np.eye(len(labels) ** 2)[gold * len(labels) + said]


def _mcc(sums: Array) -> Array:
    """Matthews' correlation for several labels (Gorodkin 2004)."""
    size = math.isqrt(sums.shape[-1])
    table = sums.reshape(*sums.shape[:-1], size, size)
    gold, said = table.sum(-1), table.sum(-2)
    total, right = gold.sum(-1), np.trace(table, axis1=-2, axis2=-1)
    spread = (total**2 - (said**2).sum(-1)) * (total**2 - (gold**2).sum(-1))
    above = right * total - (gold * said).sum(-1)
    return np.where(spread > 0, above / np.sqrt(np.where(spread > 0, spread, 1)), 0.0)


def _corpus(name: str) -> Sums:
    """A metric of a whole corpus, which lm-eval asks sacreBLEU for: ours are equal to that."""
    ours = metric(name, references=None)

    def rows(values: Sequence[tuple[Any, Any]]) -> Array:
        references, outputs = zip(*values, strict=True)
        several = [[one] if isinstance(one, str) else list(one) for one in references]
        few = min(map(len, several))  # lm-eval drops what not every item has
        texts = [one if isinstance(one, str) else one[0] for one in outputs]
        return ours.statistics(texts, [one[:few] for one in several])

    return Sums(rows, ours.aggregate)


# Without a median and functions of a task's own: they are no functions of sums.
SUMS: dict[str, Sums] = {
    "mean": Sums(_ones, _ratio),
    "nanmean": Sums(_known, _ratio),
    "perplexity": Sums(_ones, lambda sums: np.exp(-_ratio(sums))),
    "weighted_perplexity": Sums(_pairs, lambda sums: np.exp(-_ratio(sums))),
    "bits_per_byte": Sums(_pairs, lambda sums: -_ratio(sums) / math.log(2)),
    "brier_score": Sums(_brier, _ratio),
    "f1": Sums(_hits, _f1),
    "matthews_corrcoef": Sums(_confusions, _mcc),
    **{name: _corpus(name) for name in ("bleu", "chrf", "chrf++", "ter")},
}
