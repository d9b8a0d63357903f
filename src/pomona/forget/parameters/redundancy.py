"""A model rebuilt from a part of its weights, and measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona import stats
from pomona._version import __version__
from pomona.errors import PomonaError
from pomona.forget.compression.calibration import (
    digest_of,
    read_texts,
    refuse_overlap,
    second_moments,
)
from pomona.forget.compression.planning import floats_of, layer_matrices
from pomona.forget.parameters.kernels import KINDS, Kind, Matrix, predicted
from pomona.models import fingerprint, load, locate, read_config
from pomona.models.tensors import FLOATS, View, is_flipped
from pomona.records import Where, read
from pomona.tasks import Items, items_from, metric as metric_named

Progress = Callable[[int, int], None]
FRACTIONS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
_LOSSES = (1.0, 5.0)  # per cent of the whole model's score


@dataclass(frozen=True)
class RebuiltModel:
    """A model of which `fraction` of each matrix was known, and the rest predicted by `kind`.

    error: ‖W − W'‖ / ‖W‖ over all matrices. value: its score; difference: to that of the whole
    model, with a paired 95 % interval over items or clusters of them, None
    where nothing is known of it.
    """

    kind: str
    fraction: float
    error: float
    value: float
    difference: float
    ci_low: float | None
    ci_high: float | None


@dataclass(frozen=True)
class Redundancy:
    """What part of a model's matrices can be predicted.

    value: score of the whole model. weights: in the matrices. predictable: by kind and loss in per
    cent of the score, the largest share that was predicted at no more loss; None where there is
    none among the fractions.
    """

    signature: str
    metric: str
    value: float
    items: int
    weights: int
    points: tuple[RebuiltModel, ...]
    predictable: Mapping[str, Mapping[str, float | None]]

    def rows(self) -> list[dict[str, Any]]:
        """A row for each kind and fraction."""
        return [asdict(point) for point in self.points]

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


def redundancy(
    model: str | Path,
    items: Where,
    *,
    texts: str | Path | None = None,
    metric: str = "chrf",
    fractions: Sequence[float] = FRACTIONS,
    ridge: float = 1e-3,
    max_new_tokens: int = 64,
    cluster: str | None = None,
    resamples: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
) -> Redundancy:
    """Measure how far a model's matrices can be predicted from a random part of them (Denil et al.
    2013).

    Of each matrix of the layers, the weights of a random part of its inputs are kept, and those of
    the others predicted by kernel ridge regression: from the covariance of what goes into them, or
    a squared exponential over their places. Beside it stand the others set to 0 (random), and the
    nearest matrices with as many parameters (svd), which sees all weights. The model is rebuilt at
    each fraction and answers the items, greedily. Embeddings and the output head stay.

    Args:
        model: The model: a folder, a name of `pomona models`, or a Hugging Face id.
        items: Table with the columns prompt and completion.
        texts: Texts whose states give the covariance, none of the items: a table with a column
            text, or prompt and completion, or a .txt file. Without it that kernel is left out.
        metric: Metric of the answers.
        fractions: Shares of each matrix that are known.
        ridge: Penalty, as a part of the kernel's mean diagonal.
        max_new_tokens: Longest answer in tokens.
        cluster: Column of what items share, such as their source: these are resampled together.
            "cluster" if left out, where there is one.
        resamples: Resamples behind each interval.
        seed: Seed of the random parts and the resamples.

    Raises:
        PomonaError: a model, table or fraction that does not fit, texts that overlap the items.
    """
    _check(fractions, ridge)
    fractions = sorted(set(fractions))
    records = read(items)
    needed = ("prompt", "completion")
    records = records.complete(*(one for one in needed if one in records.column_names))
    if cluster is None and "cluster" in records.column_names:
        cluster = "cluster"
    asked = items_from(records, "{prompt}", "{completion}", None, cluster=cluster)
    held = HeldModel.of(locate(str(model)))
    draws = stats.Resamples(len(asked), resamples, seed, asked.clusters if cluster else None)
    measure = _Measure(held, asked, metric, max_new_tokens, draws)
    advance = progress or _silent
    kinds: list[Kind] = [kind for kind in KINDS if texts is not None or kind != "covariance"]
    moments: Mapping[str, Matrix] = {}
    said = "no"
    if texts is not None:
        given = read_texts(texts)
        pairs = zip(asked.prompts, asked.completions, strict=True)
        own = [text for pair in pairs for text in (*pair, "".join(pair))]
        refuse_overlap(given, own, texts, "the items")
        moments = second_moments(held.folder, given, list(held.matrices), advance)
        said = digest_of(given)
    base = measure.statistics({})
    points: list[RebuiltModel] = []
    for kind in kinds:
        for fraction in fractions:
            made = dict(held.rebuilt(kind, fraction, moments, ridge, seed))
            points.append(measure.point(kind, fraction, made, base))
            advance(len(points), len(kinds) * len(fractions))
    return Redundancy(
        measure.signature(said, ridge, seed, cluster or "no"),
        measure.metric.name,
        stats.value_of(measure.metric, base),
        len(asked),
        sum(weights.size for weights in held.matrices.values()),
        tuple(points),
        {kind: measure.predictable([p for p in points if p.kind == kind]) for kind in kinds},
    )


def _silent(done: int, total: int) -> None: ...


def _check(fractions: Sequence[float], ridge: float) -> None:
    if not fractions or not all(0 < fraction < 1 for fraction in fractions):
        message = f"fractions are {', '.join(map(str, fractions)) or 'none'}"
        raise PomonaError(message, where="redundancy", remedy="give shares between 0 and 1")
    if not 0 < ridge < 1:
        remedy = "give a small number above 0, such as 0.001"
        raise PomonaError(f"ridge is {ridge}", where="redundancy", remedy=remedy)


@dataclass(frozen=True)
class HeldModel:
    """A checkpoint's tensors in memory; `matrices` are those of its layers, outputs × inputs."""

    folder: Path
    tensors: Mapping[str, NDArray[np.float32]]
    matrices: Mapping[str, Matrix]
    flipped: bool

    @classmethod
    def of(cls, folder: Path) -> HeldModel:
        """Read a checkpoint. Raises PomonaError where it is quantised, or has no matrix."""
        view = View.of(folder)
        tensors = {
            name: floats_of(stored)
            for name, stored in view.tensors.items()
            if stored.dtype in FLOATS
        }
        flipped = is_flipped(read_config(folder))
        matrices = {
            name: (tensors[name].T if flipped else tensors[name]).astype(np.float64)
            for name in layer_matrices(folder, view)
        }
        return cls(folder, tensors, matrices, flipped)

    def rebuilt(
        self,
        kind: Kind,
        fraction: float,
        moments: Mapping[str, Matrix],
        ridge: float,
        seed: int,
    ) -> Iterator[tuple[str, Matrix]]:
        """Each matrix from `fraction` of it."""
        for name, weights in self.matrices.items():
            yield (
                name,
                predicted(
                    kind, name, weights, fraction, moments=moments.get(name), ridge=ridge, seed=seed
                ),
            )

    def error(self, made: Mapping[str, Matrix]) -> float:
        """‖W − W'‖ / ‖W‖ over all matrices."""
        off = sum(float(np.square(made[n] - w).sum()) for n, w in self.matrices.items())
        return float(np.sqrt(off / sum(float(np.square(w).sum()) for w in self.matrices.values())))

    def with_matrices(
        self, made: Mapping[str, Matrix]
    ) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """All tensors, with these matrices among them."""
        for name, values in self.tensors.items():
            changed = made.get(name)
            if changed is None:
                yield name, values
            else:
                turned = changed.T if self.flipped else changed
                yield name, np.ascontiguousarray(turned, np.float32)


class _Measure:
    """The items, and the model that answers them with the weights it is given."""

    def __init__(
        self, held: HeldModel, items: Items, metric: str, longest: int, draws: stats.Resamples
    ) -> None:
        self.held, self.items, self.draws, self.longest = held, items, draws, longest
        self.metric = metric_named(metric, references=items.reference_count, reads="text")
        self.model: Any = load(str(held.folder), dtype="float32")

    def statistics(self, made: Mapping[str, Matrix]) -> NDArray[np.float64]:
        """What the metric says of each item."""
        self.model.replace(self.held.with_matrices(made))
        answers = self.model.generate(self.items.prompts, max_new_tokens=self.longest)
        texts = [pool[0].text for pool in answers]
        return self.metric.statistics(texts, self.items.references)

    def point(
        self, kind: Kind, fraction: float, made: Mapping[str, Matrix], base: NDArray[np.float64]
    ) -> RebuiltModel:
        """A rebuilt model beside the whole one."""
        told = stats.compare(self.metric, self.statistics(made), base, self.draws)
        error = self.held.error(made)
        ends = (told.ci_low, told.ci_high) if self.draws.units > 1 else (None, None)
        return RebuiltModel(kind, fraction, error, told.value, told.delta, *ends)

    def predictable(self, points: Sequence[RebuiltModel]) -> dict[str, float | None]:
        """The largest predicted share by loss, in per cent of the whole model's score."""
        sign = -1 if self.metric.higher_is_better else 1

        def lost(point: RebuiltModel) -> float:
            whole, more = abs(point.value - point.difference), sign * point.difference
            # Of a score of 0 nothing is lost, or more than any share of it.
            return 100 * more / whole if whole else (math.inf if more > 0 else 0.0)

        return {
            f"{limit:g} %": max(
                (round(1 - p.fraction, 6) for p in points if lost(p) <= limit), default=None
            )
            for limit in _LOSSES
        }

    def signature(self, texts: str, ridge: float, seed: int, cluster: str) -> str:
        """All that the numbers depend on."""
        parts = [
            "redundancy",
            f"model:{fingerprint(self.held.folder)}",
            f"items:{digest_of([*self.items.prompts, *self.items.completions])}",
            f"texts:{texts}",
            f"metric:{self.metric.name}",
            self.metric.signature,
            f"tokens:{self.longest}",
            f"ridge:{ridge:g}",
            f"cluster:{cluster}",
            f"resamples:{self.draws.resamples}",
            f"seed:{seed}",
            f"version:{__version__}",
        ]
        return "|".join(parts)
