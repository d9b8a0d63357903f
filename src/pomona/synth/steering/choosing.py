"""Of several answers to a row, which are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pomona.errors import PomonaError
from pomona.synth.steering.objectives import Floats, How, Objective, measured
from pomona.synth.steering.shares import drawn
from pomona.synth.teachers import Candidate


@dataclass(frozen=True)
class Chosen:
    """An answer that is kept, the `rank`-th of its row from 0, and how it does by each objective:
    null where that does not apply. `of` different answers it was chosen among.
    """

    candidate: Candidate
    rank: int
    of: int
    values: Mapping[str, float | None]

    @property
    def decided(self) -> bool:
        """Whether any objective says anything of it: if not, it was drawn."""
        return any(value is not None for value in self.values.values())


def choose(
    candidates: Sequence[Candidate],
    objectives: Sequence[Objective],
    how: How = "best",
    *,
    keep: int | Mapping[str, int] = 1,
    seed: int = 0,
) -> list[Chosen]:
    """The answers to keep of each row, best first, rows in the order in which they come: best of k,
    within a teacher or across teachers (Shimabucoro et al. 2024, arXiv 2407.01490, §4).

    By each objective the worst answer of a row is 0 and the best 1, so that what is chosen depends
    on the row alone and on no unit; where an objective does not apply, an answer is as the worst.
    "best" takes the highest weighted sum. Of several objectives that are at odds it prefers what is
    extreme in one; "pareto" takes of the answers that no other is better than by one objective and
    as good by all others the one whose largest weighted loss against the best is the smallest
    (Chebyshev's distance to the ideal point), which is a compromise. Further answers of a row are
    chosen in the same way among the rest. Ties fall to the seed, row and answer, not to the order.

    keep: different answers that are kept of a row, or how many by its id: none of rows that are not
    named. Without objectives answers are drawn at random: the control.
    Raises PomonaError for another `how`, or less than one to keep.
    """
    if how not in ("best", "pareto"):
        raise PomonaError(f'"{how}" is no choice', where="how", remedy="give best or pareto")
    if isinstance(keep, int) and keep < 1:
        raise PomonaError(f"{keep} are too few", where="keep", remedy="give 1 or more")
    rows: dict[str, dict[str, Candidate]] = {}
    for one in candidates:
        texts = rows.setdefault(one.row.id, {})
        known = texts.get(one.lesson.text)
        # Of answers with one text that of the first teacher by name: the order must not matter
        if known is None or _source(one) < _source(known):
            texts[one.lesson.text] = one
    each = [one for texts in rows.values() for one in texts.values()]
    values, told, start = measured(each, objectives), list[Chosen](), 0
    weights = np.array([one.weight for one in objectives])
    for name, texts in rows.items():
        part = slice(start, start + len(texts))
        start += len(texts)
        wanted = keep if isinstance(keep, int) else keep.get(name, 0)
        if wanted < 1:
            continue
        utilities = [
            one.utility(column)
            for one, column in zip(objectives, values[part].T, strict=True)
        ]  # fmt: skip
        among = np.stack([*utilities], axis=1) if utilities else np.zeros((len(texts), 0))
        ties = np.array([drawn(seed, name, one.lesson.text) for one in each[part]])
        for rank, at in enumerate(_order(among, weights, ties, how, wanted)):
            known = zip(objectives, values[part][at], strict=True)
            figures = {one.name: None if np.isnan(v) else float(v) for one, v in known}
            told.append(Chosen(each[part][at], rank, len(texts), figures))
    return told


def _source(one: Candidate) -> tuple[str, int]:
    return one.lesson.teacher, one.lesson.sample


def _order(
    utilities: Floats, weights: Floats, ties: NDArray[np.int64], how: How, wanted: int
) -> list[int]:
    """The places of the answers to keep, best first."""
    left, told = np.arange(len(utilities)), list[int]()
    while len(left) and len(told) < wanted:
        loss = (1 - _normalised(utilities[left])) * weights
        total = loss.sum(1)
        keys = (ties[left], total)
        if how == "pareto":
            keys = (ties[left], total, loss.max(1, initial=0), ~_front(utilities[left]))
        # Sums of the same losses in another order may differ by a rounding, which must not decide
        best = np.lexsort([np.round(key, 12) if key.dtype.kind == "f" else key for key in keys])[0]
        told.append(int(left[best]))
        left = np.delete(left, best)
    return told


def _normalised(utilities: Floats) -> Floats:
    """From 0, the worst of the row, to 1, the best; all 1 where they are the same; 0 where there is
    none.
    """
    known = np.isfinite(utilities)
    lowest = np.where(known, utilities, np.inf).min(0, initial=np.inf)
    highest = np.where(known, utilities, -np.inf).max(0, initial=-np.inf)
    spread = np.where(highest > lowest, highest - lowest, 1.0)
    level = np.where(known, utilities, lowest) - np.where(np.isfinite(lowest), lowest, 0)
    scaled = np.where(highest > lowest, level / spread, 1.0)
    return np.where(known, scaled, 0.0)


def _front(utilities: Floats) -> NDArray[np.bool_]:
    """Which answers no other dominates, bool `[n]`; what is not known is below all that is."""
    told = np.where(np.isnan(utilities), -np.inf, utilities)
    no_worse = (told[:, None] >= told[None]).all(2)
    better = (told[:, None] > told[None]).any(2)
    return np.logical_not((no_worse & better).any(0))
