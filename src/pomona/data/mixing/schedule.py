"""Schedules: mixtures over the progress of training, the epochs they mean, and the plans that leave
one dataset out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.data.mixing.mixture import Mixture, Shares, mixture_of
from pomona.data.value import FREE_EPOCHS, effective_data
from pomona.errors import PomonaError, nearest


@dataclass(frozen=True)
class Phase:
    """A mixture that holds from `start` to `end`, both shares of the training's tokens."""

    start: float
    end: float
    mixture: Mixture


@dataclass(frozen=True)
class Schedule:
    """Phases in order, without gaps, from 0 to 1, all over the same datasets (share 0 where one is
    not shown).
    """

    phases: tuple[Phase, ...]

    def __post_init__(self) -> None:
        reached = 0.0
        for number, phase in enumerate(self.phases, 1):
            if phase.start != reached or not phase.end > phase.start:
                message = f"goes from {phase.start:g} to {phase.end:g} where {reached:g} is reached"
                raise PomonaError(
                    message,
                    where=f"phase {number}",
                    remedy="let each phase start where the one before ends, and end later",
                )
            reached = phase.end
        if reached != 1:
            raise PomonaError(
                f"the phases end at {reached:g}",
                where="schedule",
                remedy="let the last one end at 1",
            )
        names = list(dict.fromkeys(name for phase in self.phases for name in phase.mixture.shares))
        full = tuple(
            replace(p, mixture=Mixture({name: p.mixture.shares.get(name, 0.0) for name in names}))
            for p in self.phases
        )
        object.__setattr__(self, "phases", full)

    @property
    def names(self) -> tuple[str, ...]:
        """The datasets, in order."""
        return tuple(self.phases[0].mixture.shares)

    @property
    def shares(self) -> Shares:
        """The share of each dataset in the whole training."""
        spans, table = np.diff(self.bounds), self.table
        return dict(zip(self.names, (spans @ table).tolist(), strict=True))

    @property
    def bounds(self) -> NDArray[np.float64]:
        """Where the phases meet, float64 `[phases + 1]`: 0, …, 1."""
        return np.array([0.0, *(phase.end for phase in self.phases)])

    @property
    def table(self) -> NDArray[np.float64]:
        """Shares, float64 `[phases, datasets]`."""
        return np.array(
            [[phase.mixture.shares[name] for name in self.names] for phase in self.phases]
        )

    def to_list(self) -> list[dict[str, Any]]:
        """The schedule as YAML and JSON write it; `schedule_of` reads it back."""
        return [
            {"from": p.start, "to": p.end, "weights": dict(p.mixture.shares)} for p in self.phases
        ]


@dataclass(frozen=True)
class Exposure:
    """How a training uses one dataset: its `share` of the tokens, those `tokens`, its `unique`
    ones, and how often these are seen.

    `worth` is how many times its unique tokens that equals by the repetition law (see
    `pomona.data.value` for its caveat); `warning` is text for the user past four epochs, else None.
    """

    name: str
    share: float
    tokens: float
    unique: float
    epochs: float
    worth: float
    warning: str | None


def constant(mixture: Mixture) -> Schedule:
    """The same mixture throughout."""
    return Schedule((Phase(0.0, 1.0, mixture),))


def upsample_end(base: Mixture, final: Mixture, share: float = 0.2) -> Schedule:
    """`base`, and for the last `share` of training `final` (Blakeney et al. 2024, arXiv 2406.03476:
    10 to 20 % serve best).

    Raises PomonaError when `share` is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise PomonaError(
            f"{share} is not a share between 0 and 1",
            where="share",
            remedy="use 0.2 for the last 20 % of training",
        )
    return Schedule((Phase(0.0, 1 - share, base), Phase(1 - share, 1.0, final)))


def schedule_of(spec: Sequence[Mapping[str, Any]] | Mapping[str, Any], sizes: Shares) -> Schedule:
    """A schedule as YAML writes it: a list of `{from: 0, to: 0.8, …}`, each with a mixture as
    `mixture_of` reads it, or one mixture.

    `from` may be left out (where the one before ends), and `to` in the last (1). Raises PomonaError
    naming the phase that is wrong.
    """
    if isinstance(spec, Mapping):
        return constant(mixture_of(spec, sizes))
    phases: list[Phase] = []
    for number, item in enumerate(spec, 1):
        if not isinstance(item, Mapping):
            raise PomonaError(
                f"{item!r} is not a mapping",
                where=f"phase {number}",
                remedy="write from, to, and weights or temperature",
            )
        start = item.get("from", phases[-1].end if phases else 0.0)
        end = item.get("to", 1.0 if number == len(spec) else None)
        if not all(isinstance(edge, Real) for edge in (start, end)):
            raise PomonaError(
                f"goes from {start!r} to {end!r}",
                where=f"phase {number}",
                remedy="give shares of training, such as 0.8",
            )
        rest = {key: value for key, value in item.items() if key not in ("from", "to")}
        try:
            phases.append(Phase(float(start), float(end), mixture_of(rest, sizes)))
        except PomonaError as error:
            raise PomonaError(
                error.message, where=f"phase {number}, {error.where}", remedy=error.remedy
            ) from None
    return Schedule(tuple(phases))


def exposures(schedule: Schedule, sizes: Shares, tokens: float) -> tuple[Exposure, ...]:
    """Epochs over the unique tokens of each dataset (`sizes`) in a training of `tokens` in all,
    with a warning past four.

    Raises PomonaError when a dataset that is to be shown has no size, or `tokens` is not positive.
    """
    if not tokens > 0:
        raise PomonaError(
            f"{tokens} is not a number of tokens",
            where="tokens",
            remedy="give how many the training sees in all",
        )
    check_sizes(schedule, sizes)
    return tuple(
        _exposure(name, share, share * float(tokens), float(sizes.get(name, 0)))
        for name, share in schedule.shares.items()
    )


def leave_one_out(schedule: Schedule) -> dict[str, Schedule]:
    """For each dataset of the last phase, the same schedule without it there, the others scaled up
    (Blakeney et al. 2024).

    The difference in quality to the whole schedule is what the dataset is worth at the end of
    training. Raises PomonaError when the last phase has only one dataset.
    """
    *before, last = schedule.phases
    shown = [name for name, share in last.mixture.shares.items() if share > 0]
    return {
        name: Schedule((*before, replace(last, mixture=last.mixture.without(name))))
        for name in shown
    }


def curve(schedule: Schedule, sizes: Shares, tokens: float) -> list[dict[str, Any]]:
    """Rows for a chart: at both ends of every phase, each dataset's share there and the epochs over
    it so far (linear in between).
    """
    check_sizes(schedule, sizes)
    spans, table = np.diff(schedule.bounds), schedule.table
    seen = (
        np.vstack([np.zeros(len(schedule.names)), np.cumsum(spans[:, None] * table, axis=0)])
        * tokens
    )
    return [
        {
            "progress": edge,
            "phase": index + 1,
            "dataset": name,
            "share": float(table[index, column]),
            "epochs": float(seen[index + last, column] / sizes[name]) if sizes.get(name) else 0.0,
        }
        for index, phase in enumerate(schedule.phases)
        for last, edge in enumerate((phase.start, phase.end))
        for column, name in enumerate(schedule.names)
    ]


def check_sizes(schedule: Schedule, sizes: Mapping[str, float]) -> None:
    """Raise PomonaError when a dataset with a share above 0 is missing from `sizes`, or has size
    0.
    """
    for name, share in schedule.shares.items():
        if share > 0 and name not in sizes:
            raise PomonaError(
                f'no dataset is named "{name}"', where="schedule", remedy=nearest(name, sizes)
            )
        if share > 0 and not sizes[name] > 0:
            raise PomonaError(
                f'"{name}" has {share:.1%} of the training and is empty',
                where="schedule",
                remedy="give it weight 0, or data",
            )


def _exposure(name: str, share: float, tokens: float, unique: float) -> Exposure:
    epochs = tokens / unique if unique else 0.0
    worth = effective_data(epochs)
    warning = None
    if epochs > FREE_EPOCHS:
        warning = (
            f'"{name}" is seen {epochs:.1f} times; past {FREE_EPOCHS:g} epochs repeated '
            f"data loses its worth (these count as {worth:.1f}), "
            "and the model may learn it by heart — lower its weight, or add data"
        )
    return Exposure(name, share, tokens, unique, epochs, worth, warning)
