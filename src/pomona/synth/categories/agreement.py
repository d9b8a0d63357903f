"""How far an annotation agrees with people, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pomona.answers.categories import NONE, TOGETHER, Definitions
from pomona.stats import FEWEST, Resamples, Share, cohen_kappa, interval, value_of
from pomona.synth.categories.human import HumanLabels, several_in
from pomona.synth.categories.results import Agreement, CategoryAgreement
from pomona.synth.profile import FEW, Estimate

_EXAMPLES = 20
_CUT = 160
_CONSTANT = "one of both says the same everywhere"


@dataclass(frozen=True)
class Drawing:
    """How intervals come about: `clusters` `[rows]` of the table are drawn whole, rows where it is
    None.
    """

    clusters: Sequence[str] | None
    resamples: int
    seed: int
    level: float

    def of(self, places: NDArray[np.intp]) -> Resamples:
        """Resamples of labels of these rows; those of one row hang together."""
        named = places if self.clusters is None else np.array(self.clusters, dtype=object)[places]
        labels = np.array([str(one) for one in named], dtype=object)
        single = self.clusters is None and len(set(places.tolist())) == len(places)
        return Resamples(len(places), self.resamples, self.seed, None if single else labels)


def agree(
    table: pa.Table, definitions: Definitions, column: str, human: HumanLabels, drawing: Drawing
) -> Agreement:
    """The annotation in a table beside what people said."""
    said = table[definitions.name].to_pylist()
    pairs = [
        (place, label, said[place])
        for place, label in zip(human.places, human.labels, strict=True)
        if said[place] is not None
    ]
    texts = table[column]
    if definitions.several:
        told = _several(pairs, definitions, drawing)
    else:
        told = _single(pairs, definitions, drawing)
    kappa, shared, categories, names, confusion, differ = told
    examples = [
        (str(texts[place].as_py())[:_CUT], label, found)
        for (place, label, found), apart in zip(pairs, differ, strict=True)
        if apart
    ][:_EXAMPLES]
    left = len(human.labels) - len(pairs)
    return Agreement(
        len(human.labels), left, human.unmatched, kappa, shared, categories, names, confusion,
        examples, human.ambiguous,
    )  # fmt: skip


_Pair = tuple[int, str, str]
_Told = tuple[
    Estimate,
    Estimate,
    list[CategoryAgreement],
    list[str],
    list[list[int]] | None,
    list[bool],
]


def _single(pairs: Sequence[_Pair], definitions: Definitions, drawing: Drawing) -> _Told:
    others = sorted({label for _, label, _ in pairs} - set(definitions.names))
    names = [*definitions.names, *others]
    at = {name: place for place, name in enumerate(names)}
    people = np.array([at[label] for _, label, _ in pairs], np.intp)
    ours = np.array([at[found] for *_, found in pairs], np.intp)
    tables = np.zeros((len(pairs), len(names), len(names)))
    tables[np.arange(len(pairs)), people, ours] = 1
    places = np.array([place for place, *_ in pairs], np.intp)
    categories = [
        _category(name, people == place, ours == place, places, drawing)
        for name, place in at.items()
    ]
    confusion = tables.sum(0).astype(int).tolist()
    differ = (people != ours).tolist()
    return *_overall(tables, places, drawing), categories, names, confusion, differ


def _several(pairs: Sequence[_Pair], definitions: Definitions, drawing: Drawing) -> _Told:
    people = [several_in(label, definitions) for _, label, _ in pairs]
    ours = [frozenset(found.split(TOGETHER)) - {NONE} for *_, found in pairs]
    others = sorted(frozenset().union(*people) - set(definitions.categories))
    names = [*definitions.categories, *others]
    one = np.array([[name in row for name in names] for row in people], bool)
    other = np.array([[name in row for name in names] for row in ours], bool)
    one, other = one.reshape(-1, len(names)), other.reshape(-1, len(names))
    places = np.array([place for place, *_ in pairs], np.intp)
    categories = [
        _category(name, one[:, at], other[:, at], places, drawing) for at, name in enumerate(names)
    ]
    tables = sum((_two(one[:, at], other[:, at]) for at in range(len(names))), np.zeros((1, 2, 2)))
    differ = (one != other).any(1).tolist()
    return *_overall(tables, places, drawing), categories, names, None, differ


def _two(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Tables `[n, 2, 2]` of in and not in a category."""
    tables = np.zeros((len(one), 2, 2))
    tables[np.arange(len(one)), one.astype(int), other.astype(int)] = 1
    return tables


def _overall(
    tables: NDArray[np.float64], places: NDArray[np.intp], drawing: Drawing
) -> tuple[Estimate, Estimate]:
    if not len(places):
        none = Estimate(None, None, None, 0, "row", "no row has both")
        return none, none
    drawn = drawing.of(places)
    told = np.stack([np.trace(tables, axis1=1, axis2=2), tables.sum((1, 2))], 1)
    few = drawn.units < FEWEST
    ends = (None, None) if few else interval(Share(), told, drawn, drawing.level)
    shared = Estimate(value_of(Share(), told), *ends, len(places), "row", FEW if few else None)
    return _kappa(tables, drawn, drawing), shared


def _kappa(tables: NDArray[np.float64], drawn: Resamples, drawing: Drawing) -> Estimate:
    value, low, high = cohen_kappa(tables, drawn, drawing.level)
    reason = _CONSTANT if value is None else FEW if drawn.units < FEWEST else None
    return Estimate(value, low, high, len(tables), "row", reason)


def _category(
    name: str,
    one: NDArray[np.bool_],
    other: NDArray[np.bool_],
    places: NDArray[np.intp],
    drawing: Drawing,
) -> CategoryAgreement:
    counts = (int(one.sum()), int(other.sum()), int((one & other).sum()))
    if not len(one):
        return CategoryAgreement(name, *counts, Estimate(None, None, None, 0, "row", _CONSTANT))
    return CategoryAgreement(name, *counts, _kappa(_two(one, other), drawing.of(places), drawing))
