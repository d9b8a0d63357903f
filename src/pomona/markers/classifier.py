"""Values learned from the rows that a column says them of, and said of the others: multinomial
logistic regression on hashed n-grams of the texts, or on what a model embeds them as.

How often it is right is measured on rows whose clusters it has not seen.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pomona.answers import Progress
from pomona.stats import softmax_regression
from pomona.text import character_grams, hashed_columns

Embed = Callable[[Sequence[str]], NDArray[np.float32]]
_ORDERS, _BITS = (1, 2, 3, 4), 16
_PROMPTS = np.uint64(0x5851F42D4C957F2D)  # n-grams of a prompt are others than those of a text
_LONGEST = 4000  # characters of a text that are looked at
_MOST, _BATCH = 8000, 8192  # rows that are learned from, and of which features are made at once
_FOLDS, _FEWEST = 5, 5  # clusters that a value must have
_PENALTIES = (3e-3, 1e-3, 3e-4, 1e-4)
_FITS = _FOLDS * len(_PENALTIES) + 1
_TEMPERATURES = np.geomspace(0.25, 4, 33)
_BINS = 10


@dataclass(frozen=True)
class Learned:
    """What a classifier was learned from, and how well it does on rows of clusters it has not seen.

    accuracy: of all of these. usual: of always saying the most frequent value. ece: the expected
    calibration error, in 10 bins. said, right: the share of which it is sure enough to say
    something, and how often that is right; None where it says nothing.
    """

    rows: int
    clusters: int
    values: dict[str, int]
    too_rare: dict[str, int]
    penalty: float
    temperature: float
    accuracy: float
    usual: float
    ece: float
    least_sure: float
    said: float
    right: float | None
    bins: list[dict[str, float]]

    @property
    def told(self) -> str:
        """In a line."""
        right = "" if self.right is None else f", of these {self.right:.1%} right"
        return (
            f"{self.accuracy:.1%} right on rows of unseen sources, the most frequent value "
            f"{self.usual:.1%}; at {self.least_sure:g} it says {self.said:.1%}{right}"
        )


@dataclass(frozen=True)
class Rows:
    """Texts, what they answer where that is known, and the cluster of each, all `[n]`."""

    texts: Sequence[str | None]
    prompts: Sequence[str | None] | None
    clusters: Sequence[str]

    def features(self, rows: NDArray[np.int64], embed: Embed | None) -> Any:
        """A sparse matrix `[rows, columns]`; each row depends on its texts alone."""
        from scipy import sparse

        texts = [(self.texts[at] or "")[:_LONGEST] for at in rows.tolist()]
        sides = [texts]
        if self.prompts is not None:
            sides.append([(self.prompts[at] or "")[:_LONGEST] for at in rows.tolist()])
        always = sparse.csr_matrix(np.ones((len(rows), 1), np.float32))
        if embed is not None:
            return sparse.hstack([*(sparse.csr_matrix(_unit(embed(one))) for one in sides), always])
        parts = [_grams(one, _PROMPTS * np.uint64(at)) for at, one in enumerate(sides)]
        return sparse.hstack([*parts, always]).tocsr()


def _grams(texts: Sequence[str], salt: np.uint64) -> Any:
    from scipy import sparse

    owners, keys = character_grams([f" {text} " for text in texts], _ORDERS)
    values = 1 / np.sqrt(np.bincount(owners, minlength=len(texts)))[owners]
    places = (owners, hashed_columns(keys ^ salt, _BITS))
    return sparse.csr_matrix((values.astype(np.float32), places), (len(texts), 1 << _BITS))


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def learn(
    rows: Rows,
    labels: Sequence[str | None],
    *,
    least_sure: float,
    seed: int = 0,
    embed: Embed | None = None,
    progress: Progress | None = None,
) -> tuple[Learned, pa.Array, pa.Array] | str:
    """Learn values from the rows that have one, and say them of the others.

    Returns what was learned, the values `[n]`, null where one is known already or none is at least
    `least_sure`, and the probability of each. In place of that a word why nothing can be learned.
    `progress` is called with the fits that are done, and how many there are.
    """
    chosen, names, rare = _chosen(rows, labels, seed)
    if len(names) < 2:
        need = f"two values need rows of {_FEWEST} sources or more each"
        return f"too few rows say it to learn from: {need}"
    data = _Data.of(rows, labels, chosen, names, seed, embed)
    penalty, held = min(data.held(progress), key=lambda pair: _loss(pair[1], data.targets, 1.0))
    temperature = float(min(_TEMPERATURES, key=lambda t: _loss(held, data.targets, t)))
    learned = _judged(data, held, penalty, temperature, least_sure, names, rare)
    weights = softmax_regression(data.x, data.targets, data.there, penalty)
    if progress is not None:
        progress(_FITS, _FITS)
    values: list[str | None] = [None] * len(labels)
    sure: list[float | None] = [None] * len(labels)
    asked = zip(labels, rows.texts, strict=True)
    unsaid = [
        at for at, (label, text) in enumerate(asked) if label is None and (text or "").strip()
    ]
    open_ = np.array(unsaid, np.int64)
    for start in range(0, len(open_), _BATCH):
        part = open_[start : start + _BATCH]
        x = rows.features(part, embed).tocsr()[:, data.used]
        likely = _likely(x @ weights, temperature)
        for at, best, probability in zip(
            part.tolist(), likely.argmax(1).tolist(), likely.max(1).tolist(), strict=True
        ):
            if probability >= least_sure:
                values[at], sure[at] = names[best], probability
    return learned, pa.array(values, pa.string()), pa.array(sure, pa.float64())


def _chosen(
    rows: Rows, labels: Sequence[str | None], seed: int
) -> tuple[NDArray[np.int64], list[str], dict[str, int]]:
    """The rows that are learned from, no more than so many; the values, and those of too few
    clusters.
    """
    clusters: dict[str, set[str]] = {}
    known = []
    for at, label in enumerate(labels):
        if label is not None and (rows.texts[at] or "").strip():
            clusters.setdefault(label, set()).add(rows.clusters[at])
            known.append(at)
    counts = Counter(labels[at] for at in known)
    names = sorted(name for name, own in clusters.items() if len(own) >= _FEWEST)
    rare = {str(name): counts[name] for name in sorted(clusters) if name not in names}
    taken = [at for at in known if labels[at] in names]
    lots = {at: _lot(f"{rows.clusters[at]}\0{rows.texts[at]}", seed) for at in taken}
    taken = sorted(taken, key=lambda at: (lots[at], at))[:_MOST]
    return np.array(sorted(taken), np.int64), names, rare


@dataclass(frozen=True)
class _Data:
    """Features `[n, used]` of the rows that teach, targets `[n, k]`, and folds of clusters `[n]`.
    Columns of one row alone tell nothing of others, and are left out.
    """

    x: Any
    used: NDArray[np.int64]
    targets: NDArray[np.float64]
    there: NDArray[np.bool_]
    fold: NDArray[np.int64]
    clusters: int

    @classmethod
    def of(
        cls,
        rows: Rows,
        labels: Sequence[str | None],
        chosen: NDArray[np.int64],
        names: Sequence[str],
        seed: int,
        embed: Embed | None,
    ) -> _Data:
        """Of these rows."""
        whole = rows.features(chosen, embed).tocsr()
        used = np.flatnonzero(np.bincount(whole.indices, minlength=whole.shape[1]) > 1)
        number = {name: at for at, name in enumerate(names)}
        targets = np.eye(len(names))[[number[str(labels[at])] for at in chosen.tolist()]]
        own: list[str] = [rows.clusters[int(at)] for at in chosen]
        several = sorted(set(own), key=lambda one: (_lot(one, seed), one))
        folds = {one: at % _FOLDS for at, one in enumerate(several)}
        fold = np.array([folds[one] for one in own])
        x = whole[:, used].astype(np.float64)
        return cls(x, used, targets, np.ones(targets.shape, bool), fold, len(several))

    def held(self, progress: Progress | None) -> list[tuple[float, NDArray[np.float64]]]:
        """For each penalty the logits `[n, k]` of each row by what has not seen its fold."""
        told = {penalty: np.zeros(self.targets.shape) for penalty in _PENALTIES}
        for fold in range(_FOLDS):
            seen, out, weights = self.fold != fold, self.fold == fold, None
            for place, penalty in enumerate(_PENALTIES):  # each starts from the one before
                if progress is not None:
                    progress(fold * len(_PENALTIES) + place, _FITS)
                weights = softmax_regression(
                    self.x[seen], self.targets[seen], self.there[seen], penalty, weights
                )
                told[penalty][out] = self.x[out] @ weights
        return list(told.items())


def _judged(
    data: _Data,
    held: NDArray[np.float64],
    penalty: float,
    temperature: float,
    least_sure: float,
    names: Sequence[str],
    rare: dict[str, int],
) -> Learned:
    likely = _likely(held, temperature)
    sure, right = likely.max(1), likely.argmax(1) == data.targets.argmax(1)
    place = np.minimum((sure * _BINS).astype(int), _BINS - 1)
    bins = [
        {"rows": int(own.sum()), "sure": float(sure[own].mean()), "right": float(right[own].mean())}
        for at in range(_BINS)
        if (own := place == at).any()
    ]
    ece = sum(one["rows"] * abs(one["sure"] - one["right"]) for one in bins) / len(sure)
    said = sure >= least_sure
    counts = data.targets.sum(0).astype(int).tolist()
    return Learned(
        len(sure), data.clusters, dict(zip(names, counts, strict=True)), rare, penalty, temperature,
        float(right.mean()), max(counts) / len(sure), ece, least_sure, float(said.mean()),
        float(right[said].mean()) if said.any() else None, bins,
    )  # fmt: skip


def _likely(logits: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    told = np.exp((logits - logits.max(1, keepdims=True)) / temperature)
    return told / told.sum(1, keepdims=True)


def _loss(logits: NDArray[np.float64], targets: NDArray[np.float64], temperature: float) -> float:
    own = (_likely(logits, temperature) * targets).sum(1)
    return -float(np.log(np.maximum(own, 1e-12)).mean())


def _lot(name: str, seed: int) -> bytes:
    return hashlib.blake2b(
        name.encode("utf-8", "surrogatepass"), digest_size=8, salt=seed.to_bytes(16, "little")
    ).digest()
